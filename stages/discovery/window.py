"""A window that slides: how many requests there were in the last so many seconds, and how many of them failed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

SLICES: Final = 10
"""Of a window: it slides by one of them, so what it tells is of the last nine to ten tenths of its interval."""


class Totals(NamedTuple):
    requests: int
    failures: int

    @property
    def percent(self) -> float:
        """Of the requests that failed; 0 when there were none."""
        return 100 * self.failures / self.requests if self.requests else 0.0


NOTHING: Final = Totals(0, 0)


@dataclass(slots=True)
class _Slice:
    number: int
    """Its beginning, in widths of a slice since time 0."""
    requests: int
    failures: int


class Window:
    """Times are seconds on one clock, and do not go backwards."""

    __slots__ = ("_failures", "_requests", "_slices", "_width")

    def __init__(self, interval: float) -> None:
        """interval: seconds, more than 0."""
        self._width = interval / SLICES
        self._slices: list[_Slice] = []
        """Oldest first, those with nothing in them left out."""
        self._requests = self._failures = 0

    def add(self, requests: int, failures: int, now: float) -> None:
        """So many more, some of which failed."""
        number = self._slide(now)
        if not self._slices or self._slices[-1].number < number:
            self._slices.append(_Slice(number, 0, 0))
        newest = self._slices[-1]
        newest.requests += requests
        newest.failures += failures
        self._requests += requests
        self._failures += failures

    def totals(self, now: float) -> Totals:
        """An answer may be cut long after its request was counted: failures are given for no more than there were requests."""
        self._slide(now)
        return Totals(self._requests, min(self._failures, self._requests))

    def resize(self, interval: float, now: float) -> None:
        """Another interval from now on: what is held and not too old for it stays."""
        width = interval / SLICES
        if width == self._width:
            return
        held, before = tuple(self._slices), self._width
        self.clear()
        self._width = width
        for one in held:
            # Each goes where its end lies, so that what was just counted is the newest.
            number = int(min(now, (one.number + 1) * before) // width)
            if self._slices and self._slices[-1].number == number:
                self._slices[-1].requests += one.requests
                self._slices[-1].failures += one.failures
            else:
                self._slices.append(_Slice(number, one.requests, one.failures))
            self._requests += one.requests
            self._failures += one.failures
        self._slide(now)

    def clear(self) -> None:
        self._slices.clear()
        self._requests = self._failures = 0

    def _slide(self, now: float) -> int:
        """Leaves out what has become too old. Returns the number of the slice of now."""
        number = int(now // self._width)
        while self._slices and self._slices[0].number <= number - SLICES:
            gone = self._slices.pop(0)
            self._requests -= gone.requests
            self._failures -= gone.failures
        return number
