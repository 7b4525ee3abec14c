"""Decides whether a backend may be checked at once, out of turn, because requests find nobody there."""

from __future__ import annotations

from typing import Final

EACH: Final = 1.0
"""Seconds between two such checks of one backend."""

MOST: Final = 200
"""Such checks a second, of all backends: a rack that dies must not crowd out the rounds."""


class UrgentChecks:
    """Those of the last second."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, str], float] = {}
        """(upstream, address) → when it was let through, the oldest first."""

    def let(self, upstream: str, address: str, now: float) -> bool:
        """Whether it may be checked now, which then counts. now: monotonic seconds."""
        last = self._last
        while last and next(iter(last.values())) <= now - EACH:
            del last[next(iter(last))]
        if (upstream, address) in last or len(last) >= MOST * EACH:
            return False
        last[upstream, address] = now
        return True
