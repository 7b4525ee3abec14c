"""When each of many things is due, such that asking costs little however many there are."""

from __future__ import annotations

from heapq import heappop, heappush
from math import ceil
from typing import Final, Generic, TypeVar

GRAINS: Final = 10
"""Of a second: what is due within one of them is due at its end, so that what comes at almost the same time comes at once."""

ALMOST: Final = 1e-6
"""Seconds that are no time."""

_Thing = TypeVar("_Thing", bound=tuple[str, ...])


class Dues(Generic[_Thing]):
    """Times are seconds on one clock."""

    def __init__(self) -> None:
        self._due: dict[_Thing, float] = {}
        self._heap: list[tuple[float, _Thing]] = []
        """The same, and times that hold no more."""

    @property
    def first(self) -> float | None:
        """When the first of them is due; None while none is."""
        return self._heap[0][0] if self._heap else None

    def set(self, thing: _Thing, due: float | None) -> None:
        """due: from now on; None: never."""
        if due is None:
            self._due.pop(thing, None)
        else:
            due = ceil((due - ALMOST) * GRAINS) / GRAINS
            if self._due.get(thing) != due:
                self._due[thing] = due
                heappush(self._heap, (due, thing))
        self._drop_old()

    def take(self, now: float) -> list[_Thing]:
        """Those that are due; they are no more, then. First come first."""
        taken = []
        while self._heap and self._heap[0][0] <= now + ALMOST:
            _, thing = heappop(self._heap)
            del self._due[thing]
            taken.append(thing)
            self._drop_old()
        return taken

    def _drop_old(self) -> None:
        """So that the first one holds, and those that do not are no more than a part."""
        if len(self._heap) > 2 * len(self._due) + 16:
            self._heap = sorted((due, thing) for thing, due in self._due.items())
        while self._heap and self._due.get(self._heap[0][1]) != self._heap[0][0]:
            heappop(self._heap)
