"""How many requests may be made again at one upstream, so that retries never multiply an outage. Pure."""

from __future__ import annotations

from typing import Final

WINDOW: Final = 10.0
"""Seconds over which requests and retries are compared."""

FLOOR: Final = 10
"""Retries in each window that need no requests beside them: else there were none where traffic is low."""

NO_LIMIT: Final = 100
"""Percent."""

SLICES: Final = 10
SLICE: Final = WINDOW / SLICES
"""Seconds: what is counted together."""


class RetryBudget:
    """Of one upstream in one process, for retries of what a backend may have worked on: the others double nobody's work.

    In any 10 s there are no more of them than FLOOR or so many percent of the requests of that time. Of requests the last nine slices
    and the one that runs are counted, which is never more than 10 s; of retries one slice more, which is never less.
    """

    __slots__ = ("_asked", "_asked_before", "_ends", "_made", "_made_before", "percent")

    def __init__(self, percent: int) -> None:
        """percent: retries of each hundred requests; 0: none at all; 100: without limit."""
        self.percent = percent
        self._ends = 0.0
        """Monotonic seconds at which the slice that runs ends."""
        self._asked = 0
        """Requests in the slice that runs."""
        self._asked_before = [0] * (SLICES - 1)
        """And in those before it, oldest first."""
        self._made = 0
        """The same of retries."""
        self._made_before = [0] * SLICES

    def count(self, now: float) -> None:
        """A request has come, however often it will be tried. now: monotonic seconds, never less than before."""
        # On the way of every request: compiled 7 ns.
        if now >= self._ends:
            self._begin_slice(now)
        self._asked += 1

    def take(self, now: float) -> bool:
        """Takes a retry out of it; False when there is none left."""
        if self.percent >= NO_LIMIT:
            return True
        if now >= self._ends:
            self._begin_slice(now)
        allowed = max(FLOOR, (self._asked + sum(self._asked_before)) * self.percent // 100) if self.percent else 0
        if self._made + sum(self._made_before) >= allowed:
            return False
        self._made += 1
        return True

    def _begin_slice(self, now: float) -> None:
        if now - self._ends >= WINDOW + SLICE:
            self._asked_before = [0] * (SLICES - 1)
            self._made_before = [0] * SLICES
            self._asked = self._made = 0
            self._ends = now + SLICE
            return
        while now >= self._ends:
            self._asked_before.append(self._asked)
            self._made_before.append(self._made)
            del self._asked_before[0], self._made_before[0]
            self._asked = self._made = 0
            self._ends += SLICE
