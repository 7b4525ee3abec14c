"""What waits for somebody else's answer, each for the same time: one timer, which runs only while something waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from pingap.bus.actor import Context

Key = TypeVar("Key", bound=Hashable)
Waiting = TypeVar("Waiting")


class Waits(Generic[Key, Waiting]):
    """A table in the order of its deadlines. Times are monotonic seconds."""

    def __init__(self, context: Context, seconds: float, clock: Callable[[], float], over: Callable[[Key, Waiting], None]) -> None:
        """over: is told of what has waited for `seconds` in vain; it is not in the table any more."""
        self.seconds = seconds
        self._context = context
        self._clock = clock
        self._over = over
        self._table: dict[Key, tuple[float, Waiting]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._table)

    def add(self, key: Key, waiting: Waiting) -> None:
        """From now on. A key that waits already waits anew."""
        self._table.pop(key, None)
        self._table[key] = (self._clock() + self.seconds, waiting)
        if self._timer is None:
            self._timer = self._context.loop.call_later(self.seconds, self._timed)

    def take(self, key: Key) -> Waiting | None:
        """It waits no more; None when it did not."""
        entry = self._table.pop(key, None)
        return entry[1] if entry is not None else None

    def those(self) -> list[tuple[Key, Waiting]]:
        """All that wait now."""
        return [(key, waiting) for key, (_, waiting) in self._table.items()]

    def _timed(self) -> None:
        self._timer = None
        try:
            self.sweep()
        finally:  # who is told may fail: the others are told all the same
            if self._table:
                first, _ = next(iter(self._table.values()))
                self._timer = self._context.loop.call_later(max(0.0, first - self._clock()), self._timed)

    def sweep(self) -> None:
        """Ends what has waited for too long."""
        now = self._clock()
        while self._table:
            key, (deadline, waiting) = next(iter(self._table.items()))
            if deadline > now:
                break
            del self._table[key]
            self._over(key, waiting)

    def stop(self) -> None:
        """No deadline is kept any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
