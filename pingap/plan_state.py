"""What the fleet remembers of each replica and each process, and the times that `pingap.plan` goes by."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from pingap.bus.liveness import SILENCE
from pingap.bus.members import DRAINING, STARTING
from pingap.plan_words import Role

STOPPING: Final = "stopping"
WAITING: Final = "waiting"
"""Of a slot without a process: its restart is delayed."""

FIRST_DELAY: Final = 0.1
LONGEST_DELAY: Final = 5.0
STEADY: Final = 10.0
"""A process that lived this long was sound: its slot's next restart is at once."""

BOOT: Final = 10.0
"""Seconds from the fork to READY."""

BOOTS: Final = 3
"""Failed boots in a row that stop `pingap up` while it starts."""

SETTLE: Final = 0.3
"""Seconds between announcing a replica as draining and its DRAIN: what was sent to it before has arrived by then."""

REPRIEVE: Final = 2.0
"""Seconds that a client may take for one more request when its connection is to move to another replica or instance."""

SAME: Final = 0.4
"""Seconds within which a second TERM or INT is the first one again: who signals a whole group reaches us by several ways."""

DRAIN_MARGIN: Final = 0.5
STOP: Final = 2.5
"""Seconds that a process may take to end after STOP; it allows itself 2."""

LAST_WORDS: Final = 1.0
"""Seconds that those who leave last get to take in what the others sent at their end."""

REAP: Final = 2.0
"""Seconds until a killed process that does not go away is no longer waited for."""

SCALE_ANSWER: Final = 4.5
"""Seconds after which `pingap scale` hears that the new replicas are not ready yet."""

MOST_REPLICAS: Final = 1024


@dataclass(slots=True)
class Slot:
    """A replica that should run."""

    role: Role
    replica: int
    process: int = 0
    """Key of its process; 0 while there is none."""
    due: float | None = 0.0
    """When to start one; None while there is one."""
    restarts: int = 0
    boots_failed: int = 0
    delay: float = 0.0


@dataclass(slots=True)
class Incarnation:
    """One incarnation of a replica."""

    role: Role
    replica: int
    ids: tuple[int, ...]
    started: float
    heard: float
    pid: int = 0
    state: str = STARTING
    reason: str = ""
    """Why its boot failed, as far as it said so itself."""
    ready: set[int] = field(default_factory=set)
    undrained: set[int] = field(default_factory=set)
    drain_at: float | None = None
    drain_by: float = 0.0
    reprieve: float = 0.0
    kill_at: float | None = None
    restarts: int = 0

    @property
    def key(self) -> int:
        return self.ids[0]

    @property
    def name(self) -> str:
        return f"{self.role.name}.{self.replica}"

    def failing(self, now: float) -> str:
        """Why it is to be killed now; "" when it is not. For one that is not stopping."""
        patience = SILENCE if self.ready else BOOT
        if self.kill_at is not None and now >= self.kill_at:
            return "did not end after its boot failed"
        if self.pid and now - self.heard > patience:
            return f"was silent for {patience:g} s and was killed"
        if self.pid and self.state == STARTING and now - self.started > BOOT:
            return f"was not ready within {BOOT:g} s and was killed"
        return ""

    def deadlines(self) -> list[float]:
        """When it is to be looked at again."""
        times = [at for at in (self.drain_at, self.kill_at) if at is not None]
        return [*times, self.drain_by] if self.state == DRAINING else times


@dataclass(slots=True)
class Ticket:
    """A scale that somebody waits for."""

    role: str
    before: int
    after: int
    until: float


@dataclass(slots=True)
class Ending:
    """A stop in progress."""

    deadline: float
    graceful: bool
    signalled: float | None = None
    """When TERM or INT came: another ends everything at once, unless it is the same one by another way."""
    is_restart: bool = False
    """When all have stopped, the same command line is run anew."""
    reprieve: float = 0.0
    """Seconds that connections may wait for one more request."""
    code: int = 0
    reason: str = ""
