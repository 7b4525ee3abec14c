"""What happens to the fleet of processes, and what is to be done about it: the words of `pingap.plan`.

Events are in the past tense and go in, commands are in the imperative and come
out. A process is named by its **key**, the id of its first actor, which is never
used again. Times are monotonic seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple


@dataclass(frozen=True, slots=True)
class Role:
    """One kind of process: what it is called, which actors it hosts, how many there are and when it leaves."""

    name: str
    """As `pingap scale` and `pingap ps` call it: a stage, or `worker` when placement is colocated."""
    stages: tuple[str, ...]
    replicas: int = 1
    is_scalable: bool = False
    drained: tuple[str, ...] = ()
    """The stages that get DRAIN before the process is stopped; empty stops it at once."""
    leaves: int = 1
    """On a stop: 0 drains first (clients hang on it), 1 goes when those are gone, 2 last (it writes down the rest)."""
    cpus: tuple[int, ...] = ()
    """CPUs to run on; empty is any."""
    before: int | None = None
    """What is configured, where `replicas` is what an operator had scaled the instance before to."""
    is_last: bool = False
    """It is started when all others serve: while it does not, clients are served by the instance before."""

    @property
    def configured(self) -> int:
        """Replicas that the configuration or the command line asks for."""
        return self.replicas if self.before is None else self.before


class Timings(NamedTuple):
    """Seconds that a drain may take."""

    fast: float
    """On TERM and INT (`graceful_shutdown_timeout`)."""
    graceful: float
    """On QUIT and when scaling down (`grace_period`)."""


# -- events ---------------------------------------------------------------------


class Began(NamedTuple):
    """`pingap up` wants its processes."""


class Forked(NamedTuple):
    process: int
    pid: int


class Exited(NamedTuple):
    process: int
    reason: str
    """For people: `was killed by signal 9`, `exited with status 1: …`."""


class SpawnerLost(NamedTuple):
    """Forks that were asked for and not confirmed will never happen."""


class Heard(NamedTuple):
    process: int


class BecameReady(NamedTuple):
    ids: tuple[int, ...]


class BootFailed(NamedTuple):
    process: int
    reason: str


class Drained(NamedTuple):
    ids: tuple[int, ...]
    left: int
    """Streams that the deadline cut off."""


class ScaleAsked(NamedTuple):
    ticket: int
    """Comes back in Answer."""
    role: str
    replicas: int


class StopAsked(NamedTuple):
    """By a signal, or with a ticket by the command line. A second TERM or INT ends everything at once; no command does."""

    graceful: bool
    ticket: int = 0
    """Comes back in Answer, with the seconds that requests in flight still have."""
    seconds: float | None = None
    """As asked for; None for what is configured."""
    is_restart: bool = False
    has_successor: bool = False
    """Another instance has taken over and serves."""


class GivenUp(NamedTuple):
    """The instance in whose place this one was to serve goes on serving."""

    reason: str


class TimingsChanged(NamedTuple):
    timings: Timings


class TimePassed(NamedTuple):
    """Time has passed; `Fleet.deadline` says when this is wanted next."""


Event = (
    Began
    | Forked
    | Exited
    | SpawnerLost
    | Heard
    | BecameReady
    | BootFailed
    | Drained
    | ScaleAsked
    | StopAsked
    | GivenUp
    | TimingsChanged
    | TimePassed
)

# -- commands -------------------------------------------------------------------


class Fork(NamedTuple):
    process: int
    role: Role
    replica: int
    ids: tuple[int, ...]
    """One for each of `role.stages`."""


class Announce(NamedTuple):
    """MEMBERS for every process."""

    seq: int
    newest: int
    rows: tuple[tuple[int, str, int, str, str], ...]
    """id, stage, replica, endpoint, state."""


class Drain(NamedTuple):
    process: int
    ids: tuple[int, ...]
    seconds: float
    reprieve: float
    """Seconds that a connection may wait for one more request; 0 when nobody else would take the next one."""


class Retire(NamedTuple):
    """Close what this replica alone was given to listen on: it takes no new connections."""

    role: str
    replica: int


class CloseListeners(NamedTuple):
    """New connections are to be refused from now on."""


class Stop(NamedTuple):
    process: int


class Kill(NamedTuple):
    process: int


class KillSpawner(NamedTuple):
    """It was asked for a process and never made one."""


class TellReady(NamedTuple):
    """Every process serves, for the first time."""


class Say(NamedTuple):
    level: str
    message: str
    fields: dict[str, Any]


class Answer(NamedTuple):
    ticket: int
    ok: bool
    value: Any


class Finish(NamedTuple):
    """Nothing is left to do: end with this exit code."""

    code: int
    reason: str


Command = Fork | Announce | Drain | Retire | CloseListeners | Stop | Kill | KillSpawner | TellReady | Say | Answer | Finish
