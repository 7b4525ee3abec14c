"""Decides whose check may begin when not all can: no upstream's checks that hang keep those of others waiting.

An upstream may have as many checks under way as are still free (dynamic thresholds: Choudhury and Hahne, 1998); an eighth
is for those that have none under way. So one that has thousands of dead backends gets less than half of all, two get less
than a third each, and others find room at once until hundreds of upstreams hang.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from typing import Generic, TypeVar

T = TypeVar("T")


class CheckShares(Generic[T]):
    """T: what stands for a check that waits."""

    def __init__(self, most: int) -> None:
        """most: checks under way at the same time, at least 1."""
        self._most = most
        self._kept_free = most // 8
        self._held: Counter[str] = Counter()
        """Under way, by upstream."""
        self._lines: tuple[OrderedDict[str, deque[T]], OrderedDict[str, deque[T]]] = (OrderedDict(), OrderedDict())
        """Those that wait, by upstream, in the order in which upstreams get their turns: ordinary ones, urgent ones."""
        self.used = 0
        """Under way."""

    @property
    def waiting(self) -> int:
        return sum(len(line) for lines in self._lines for line in lines.values())

    def take(self, upstream: str, ticket: T, is_urgent: bool = False) -> bool:
        """True if it may begin now; else `free` names the ticket when it may."""
        if upstream not in self._lines[is_urgent] and self._may(upstream, is_urgent):
            self._hold(upstream)
            return True
        self._lines[is_urgent].setdefault(upstream, deque()).append(ticket)
        return False

    def free(self, upstream: str) -> list[T]:
        """A check has ended; the tickets of those that may begin now, in its place."""
        self.used -= 1
        self._held[upstream] -= 1
        if not self._held[upstream]:
            del self._held[upstream]
        return [*self._grant(True), *self._grant(False)]

    def withdraw(self, upstream: str, ticket: T) -> None:
        """It waits no longer."""
        for lines in self._lines:
            line = lines.get(upstream)
            if line is not None and ticket in line:
                line.remove(ticket)
                if not line:
                    del lines[upstream]

    def _may(self, upstream: str, is_urgent: bool) -> bool:
        free, held = self._most - self.used, self._held.get(upstream, 0)
        if not held:
            return free > 0
        return held < (free - self._kept_free) * (2 if is_urgent else 1)

    def _hold(self, upstream: str) -> None:
        self.used += 1
        self._held[upstream] += 1

    def _grant(self, is_urgent: bool) -> list[T]:
        lines, granted = self._lines[is_urgent], []
        for _ in range(len(lines)):
            if self.used >= self._most:
                break
            upstream = next(iter(lines))
            lines.move_to_end(upstream)
            if self._may(upstream, is_urgent):
                self._hold(upstream)
                granted.append(lines[upstream].popleft())
                if not lines[upstream]:
                    del lines[upstream]
        return granted
