"""The table of actors, as the supervisor announces it (PROTOCOL.md section 4, MEMBERS)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

STARTING: Final = "starting"
READY: Final = "ready"
DRAINING: Final = "draining"


class Member(NamedTuple):
    id: int
    stage: str
    replica: int
    endpoint: str
    state: str


@dataclass(frozen=True, slots=True)
class Members:
    """One announced table. `newest` is the highest id ever given: a lower one that is missing is dead."""

    seq: int = 0
    newest: int = 0
    by_id: dict[int, Member] = field(default_factory=dict)
    _ready: dict[str, tuple[Member, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, seq: int, newest: int, rows: Iterable[Any]) -> Members:
        """From the rows of MEMBERS: (id, stage, replica, endpoint, state)."""
        members = [Member(*row) for row in rows]
        ready: dict[str, list[Member]] = {}
        for member in sorted(members, key=lambda m: m.replica):
            if member.state == READY:
                ready.setdefault(member.stage, []).append(member)
        return cls(seq, newest, {m.id: m for m in members}, {stage: tuple(who) for stage, who in ready.items()})

    def ready(self, stage: str) -> tuple[Member, ...]:
        """Actors of a stage that take new streams, by replica number."""
        return self._ready.get(stage, ())

    def of_stage(self, stage: str) -> list[Member]:
        """All actors of a stage, whatever their state."""
        return [m for m in self.by_id.values() if m.stage == stage]

    def is_dead(self, actor: int) -> bool:
        """Known to be gone; an id newer than the table is not dead but not yet announced."""
        return actor <= self.newest and actor not in self.by_id
