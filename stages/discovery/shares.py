"""Decides whose check may begin when not all can: no upstream's checks that hang keep those of others waiting.

An upstream may have as many checks under way as are still free (dynamic thresholds: Choudhury and Hahne, 1998); an eighth
is for those that have none under way. So one that has thousands of dead backends gets less than half of all, two get less
than a third each, and others find room at once until hundreds of upstreams hang. Within an upstream, backends that are
known to be ill, and so most of those that hang, make room for the others.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from enum import IntEnum
from typing import Final, Generic, TypeVar

T = TypeVar("T")


class Rank(IntEnum):
    """What a check has to say; the higher goes first."""

    ILL = 0
    """Whether a backend has come back."""
    ROUND = 1
    """Whether one that gets requests still should."""
    URGENT = 2
    """The same, of one that requests do not reach."""


_FACTORS: Final = {Rank.ILL: 0.5, Rank.ROUND: 1.0, Rank.URGENT: 2.0}
"""How many an upstream may have under way with such a check, by what is free."""


class CheckShares(Generic[T]):
    """T: what stands for a check that waits; it can be hashed."""

    def __init__(self, most: int) -> None:
        """most: checks under way at the same time, at least 1."""
        self._most = most
        self._kept_free = most // 8
        self._held: Counter[str] = Counter()
        """Under way, by upstream."""
        self._lines: dict[Rank, OrderedDict[str, OrderedDict[T, None]]] = {rank: OrderedDict() for rank in sorted(Rank, reverse=True)}
        """Those that wait, by upstream, in the order in which upstreams get their turns."""
        self.used = 0
        """Under way."""

    @property
    def waiting(self) -> int:
        return sum(len(line) for lines in self._lines.values() for line in lines.values())

    def take(self, upstream: str, ticket: T, rank: Rank = Rank.ROUND) -> bool:
        """True if it may begin now; else `free` names the ticket when it may."""
        if upstream not in self._lines[rank] and self._may(upstream, rank):
            self._hold(upstream)
            return True
        self._lines[rank].setdefault(upstream, OrderedDict())[ticket] = None
        return False

    def free(self, upstream: str) -> list[T]:
        """A check has ended; the tickets of those that may begin now, in its place."""
        self.used -= 1
        self._held[upstream] -= 1
        if not self._held[upstream]:
            del self._held[upstream]
        return [ticket for rank in self._lines for ticket in self._grant(rank)]

    def withdraw(self, upstream: str, ticket: T) -> bool:
        """It waits no longer. False if it did not: it is under way, and is to be freed."""
        for lines in self._lines.values():
            line = lines.get(upstream)
            if line is not None and ticket in line:
                del line[ticket]
                if not line:
                    del lines[upstream]
                return True
        return False

    def _may(self, upstream: str, rank: Rank) -> bool:
        free, held = self._most - self.used, self._held.get(upstream, 0)
        if not held:
            return free > 0
        return held < (free - self._kept_free) * _FACTORS[rank]

    def _hold(self, upstream: str) -> None:
        self.used += 1
        self._held[upstream] += 1

    def _grant(self, rank: Rank) -> list[T]:
        lines, granted = self._lines[rank], []
        for _ in range(len(lines)):
            if self.used >= self._most:
                break
            upstream = next(iter(lines))
            lines.move_to_end(upstream)
            if self._may(upstream, rank):
                self._hold(upstream)
                granted.append(lines[upstream].popitem(last=False)[0])
                if not lines[upstream]:
                    del lines[upstream]
        return granted
