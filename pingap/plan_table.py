"""The table of actors that every process is told (MEMBERS, bus/PROTOCOL.md section 4), its number and the ids in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pingap.bus.members import DRAINING, READY, STARTING
from pingap.plan_state import STOPPING, Incarnation
from pingap.plan_words import Announce

Rows = tuple[tuple[int, str, int, str, str], ...]


class Table:
    def __init__(self, endpoint_of: Callable[[str, int, int], str]) -> None:
        """endpoint_of: stage, replica, actor id → where its inbox is."""
        self._endpoint_of = endpoint_of
        self._newest = 0
        self._seq = 0
        self._rows: Rows = ()

    def new_ids(self, count: int) -> tuple[int, ...]:
        """Ids for actors that no earlier one has had."""
        first = self._newest + 1
        self._newest += count
        return tuple(range(first, self._newest + 1))

    def update(self, processes: Iterable[Incarnation]) -> bool:
        """Takes over who runs now; whether that is anything new."""
        rows = self._rows_of(processes)
        if rows == self._rows:
            return False
        self._rows = rows
        self._seq += 1
        return True

    def _rows_of(self, processes: Iterable[Incarnation]) -> Rows:
        rows: list[tuple[int, str, int, str, str]] = []
        for process in processes:
            if process.state == STOPPING:
                continue
            for actor, stage in zip(process.ids, process.role.stages, strict=True):
                state = DRAINING if process.state == DRAINING else READY if actor in process.ready else STARTING
                rows.append((actor, stage, process.replica, self._endpoint_of(stage, process.replica, actor), state))
        return tuple(rows)

    @property
    def announcement(self) -> Announce:
        """The table as it was last announced, also for a process that says HELLO."""
        return Announce(self._seq, self._newest, self._rows)
