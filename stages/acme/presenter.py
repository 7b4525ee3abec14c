"""How the proof that a name is ours comes to be seen by an authority."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from pingap.stages.acme.wanted import ChallengeKind


class Challenge(NamedTuple):
    """What an authority wants to see (RFC 8555 section 8, RFC 8737)."""

    kind: ChallengeKind
    domain: str
    """Without `*.`."""
    token: str
    """base64url letters only."""
    key_authorization: str
    record: str = ""
    """dns-01: the name of the TXT record, `_acme-challenge.DOMAIN`."""
    value: str = ""
    """dns-01: its value, base64url of the SHA-256 of `key_authorization`."""


class NotPresented(Exception):
    """The proof could not be put where it is looked for; the text says why, without secrets."""


class Presenter(Protocol):
    """Of one kind of challenge, for one try. Called in the thread that issues."""

    def present(self, challenges: Sequence[Challenge]) -> None:
        """All of an order at once: returns when the authority would find each. Raises NotPresented."""

    def remove(self, challenge: Challenge) -> None:
        """After the authority has looked, or given up; also of one that was not presented as a whole. Never raises."""

    def close(self) -> None:
        """The try has ended, whatever came of it."""
