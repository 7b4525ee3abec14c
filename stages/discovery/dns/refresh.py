"""Decides when an entry is looked up again."""

from __future__ import annotations

from typing import Final

LEAST_TTL: Final = 5.0
MOST_TTL: Final = 300.0
"""Seconds, into which the time to live of an answer is clamped: 0 does not hammer, and a week is not waited for."""

LEAST: Final = 0.1
"""Seconds between two lookups, whatever `update_frequency` says."""

FIRST: Final = 1.0
"""Seconds until the first retry after a failure; doubled each time."""

LONGEST: Final = 30.0
"""Seconds between two retries at the most, and never more than between two lookups that succeed."""

LOST: Final = 2.0
"""Seconds until a lookup when none of the backends is healthy; doubled each time, up to LONGEST."""

SPREAD: Final = 0.1
"""This share of a pause is left to chance, so that names which were looked up together are not so for ever."""


class Refresh:
    """The pauses of one entry. frequency: seconds, instead of the time to live."""

    def __init__(self, frequency: float | None = None) -> None:
        self._frequency = max(LEAST, frequency) if frequency else None
        self._failures = 0
        self._losses = 0
        self._usual = self._frequency or LEAST_TTL

    def after_success(self, ttl: float, roll: float) -> float:
        """Seconds until the next lookup. ttl: of what was found, in seconds. roll: 0 to 1, by chance."""
        self._failures = 0
        self._usual = self._frequency or min(MOST_TTL, max(LEAST_TTL, ttl))
        return self._usual * (1 + SPREAD * roll)

    def after_failure(self, roll: float) -> float:
        """Seconds until the retry."""
        longest = min(LONGEST, self._usual)
        pause = min(longest, FIRST * 2.0 ** min(self._failures, 16))
        self._failures += 1
        return pause * (1 - roll / 2)

    def while_lost(self, roll: float) -> float:
        """Seconds until the next lookup, instead of those until the usual one, as none of the backends that were found is healthy."""
        pause = min(LONGEST, LOST * 2.0 ** min(self._losses, 16))
        self._losses += 1
        return pause * (1 - roll / 2)

    def rested(self) -> None:
        """A whole pause went by in which some backend was healthy. (One that comes and goes must not bring ever new first tries.)"""
        self._losses = 0
