"""What the actor tells the core (events, in the past tense), and what the core has it do (commands)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from pingap.config.parts import Backend
from pingap.stages.discovery.plan import CheckTarget, Plan


class CheckState(NamedTuple):
    """The last check of a backend."""

    at: float = 0.0
    """When it ended, in Unix seconds; 0 = there was none yet."""
    seconds: float = 0.0
    """How long it took."""
    error: str = ""
    """Why it failed; "" when it passed."""


NO_CHECK: Final = CheckState()

# -- events ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Configured:
    """A generation was committed."""

    plans: Mapping[str, Plan]


@dataclass(frozen=True, slots=True)
class Checked:
    """A check has ended; failure says why it failed, None that it passed."""

    upstream: str
    address: str
    failure: str | None = None
    at: float = 0.0
    """When it ended, in Unix seconds."""
    seconds: float = 0.0
    """How long it took."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """The backends that an entry stands for were found, all of them. None at all is a word that only some sources can say."""

    upstream: str
    entry: str
    """Its address, as in `addrs`."""
    backends: tuple[Backend, ...]
    at: float = 0.0
    """Unix seconds."""


@dataclass(frozen=True, slots=True)
class SourceFailed:
    """Which backends an entry stands for could not be found out: those that were found before stay."""

    upstream: str
    entry: str
    reason: str


Event = Configured | Checked | Resolved | SourceFailed


# -- commands ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StartChecks:
    """Check this upstream from now on, every backend at once, and have its source find backends."""

    upstream: str
    plan: Plan


@dataclass(frozen=True, slots=True)
class StopChecks:
    """Check it no longer."""

    upstream: str


@dataclass(frozen=True, slots=True)
class CheckNew:
    """These were found just now: check each until it is judged."""

    upstream: str
    targets: tuple[CheckTarget, ...]


@dataclass(frozen=True, slots=True)
class PublishBackends:
    """`Discovery.value`, or `Discovery.addresses`, may have changed."""


@dataclass(frozen=True, slots=True)
class Turned:
    """A backend was found healthy or unhealthy, unlike before."""

    upstream: str
    address: str
    is_healthy: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class SourceTurned:
    """The source of an upstream has begun to fail, or does so no longer (reason "")."""

    upstream: str
    entry: str
    reason: str = ""


Command = StartChecks | StopChecks | CheckNew | PublishBackends | Turned | SourceTurned
