"""What the actor tells the core (events, in the past tense), and what the core has it do (commands). Times are Unix seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pingap.stages.acme.records import TryRecord
from pingap.stages.acme.wanted import Issued, WantedCertificate


class HeldCertificate(NamedTuple):
    """One that is there."""

    issued: Issued
    names: tuple[str, ...]
    """That it is for, lower case."""
    not_before: float
    not_after: float
    fingerprint: str
    """SHA-256 of its DER, hex."""
    is_self_signed: bool = False
    """Its issuer is itself."""


# -- events ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WishesChanged:
    """A generation was committed. By name of the section."""

    wanted: Mapping[str, WantedCertificate]
    own: Mapping[str, HeldCertificate]
    """Certificates that stand in the entries themselves, as the reference writes them there."""


@dataclass(frozen=True, slots=True)
class ShelfRead:
    """What is on the shelf. By id of what was wanted."""

    held: Mapping[str, HeldCertificate]
    records: Mapping[str, TryRecord]
    """Of all ids that were looked for: those of which there is none, too."""
    as_of: int = 0
    """`AcmeCore.gains` when it was begun to be read."""


@dataclass(frozen=True, slots=True)
class ShelfAway:
    """It cannot be read; the reason is for people."""

    reason: str
    held: Mapping[str, HeldCertificate] = field(default_factory=dict)
    """What could be read all the same, by id."""


@dataclass(frozen=True, slots=True)
class Stepped:
    """A try has come to a step. id: of what is wanted."""

    id: str
    step: str


@dataclass(frozen=True, slots=True)
class TrySucceeded:
    """The certificate was stored, and read back."""

    wanted: WantedCertificate
    held: HeldCertificate
    is_anothers: bool = False
    """Another instance had been quicker."""


@dataclass(frozen=True, slots=True)
class TryFailed:
    """Nothing came of it."""

    wanted: WantedCertificate
    reason: str
    retry_at: float | None = None
    is_final: bool = False
    is_limit: bool = False
    """The authority takes no more of us for a while, whatever the name."""
    is_rate_limited: bool = False
    """`retry_at` is when a limit of the authority ends, not its guess when it is well again."""
    is_unreachable: bool = False
    """The authority could not be asked, so that none of its limits counts this."""


@dataclass(frozen=True, slots=True)
class TryWasAnothers:
    """Another instance is at it."""

    wanted: WantedCertificate
    holder: str


@dataclass(frozen=True, slots=True)
class CertificatesPublished:
    """What the core wanted published was."""

    version: int


@dataclass(frozen=True, slots=True)
class TakenByAll:
    """Every accept process goes by this version."""

    version: int


@dataclass(frozen=True, slots=True)
class HandshakeMade:
    """We have connected to ourselves."""

    name: str
    fingerprint: str
    """What was expected."""
    failure: str = ""
    """"" when it was shown."""


@dataclass(frozen=True, slots=True)
class WindowTold:
    """What an authority suggests for one certificate; None when it does not say."""

    fingerprint: str
    window: tuple[float, float] | None
    ask_again: float


@dataclass(frozen=True, slots=True)
class RevocationsHeard:
    """What responders say of certificates that are served."""

    revoked: Mapping[str, tuple[str, ...]]
    """Fingerprint → names of the sections."""


@dataclass(frozen=True, slots=True)
class RenewAsked:
    """Somebody wants it now, and waits."""

    name: str


@dataclass(frozen=True, slots=True)
class TimeCame:
    """Nothing but that."""


Event = (
    WishesChanged
    | ShelfRead
    | ShelfAway
    | Stepped
    | TrySucceeded
    | TryFailed
    | TryWasAnothers
    | CertificatesPublished
    | TakenByAll
    | HandshakeMade
    | WindowTold
    | RevocationsHeard
    | RenewAsked
    | TimeCame
)


# -- commands ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BeginTry:
    """Get it, in a thread."""

    wanted: WantedCertificate
    seen: str
    """Fingerprint of the one that is to be replaced; if the shelf has another one by then, that is it."""


@dataclass(frozen=True, slots=True)
class EndTry:
    """It is not wanted any more. Another one for the same begins when it has ended."""

    id: str


@dataclass(frozen=True, slots=True)
class LeaveTry:
    """It has not ended in all its time, and is left to itself: its lease is given up, and nothing is heard of it any more."""

    id: str


@dataclass(frozen=True, slots=True)
class PublishCertificates:
    """`AcmeCore.published` is what accept is to have."""


@dataclass(frozen=True, slots=True)
class MakeHandshake:
    """See by a handshake with ourselves whether clients are shown it."""

    name: str
    domains: tuple[str, ...]
    fingerprint: str


@dataclass(frozen=True, slots=True)
class AskWindow:
    """Ask its authority when it is to be renewed."""

    wanted: WantedCertificate
    held: HeldCertificate


@dataclass(frozen=True, slots=True)
class KeepRecord:
    """On the shelf."""

    id: str
    record: TryRecord


@dataclass(frozen=True, slots=True)
class PutBack:
    """On the shelf, where it was, unless something as good is there by then."""

    id: str
    held: HeldCertificate


@dataclass(frozen=True, slots=True)
class SayLine:
    """In the log."""

    level: str
    message: str
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SayNotice:
    """To whoever wants to hear at once. category: of observability/notices.py."""

    level: str
    category: str
    message: str
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Settle:
    """Who asked for it is answered. error: "" when clients are shown the new one."""

    name: str
    error: str


Command = (
    BeginTry | EndTry | LeaveTry | PublishCertificates | MakeHandshake | AskWindow | KeepRecord | PutBack | SayLine | SayNotice | Settle
)
