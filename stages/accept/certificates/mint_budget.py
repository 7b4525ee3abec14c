"""How many certificates may be made: so many a second, and some more at once after quiet times."""

from __future__ import annotations

from typing import Final


class MintBudget:
    """A token bucket."""

    def __init__(self, rate: float, burst: int) -> None:
        """rate: a second. burst: after as much quiet as it takes."""
        self._rate: Final = rate
        self._burst: Final = float(burst)
        self._left = float(burst)
        self._at = 0.0

    def take(self, now: float) -> bool:
        """Whether there is one more. now: seconds on a clock that never goes back."""
        self._left = min(self._burst, self._left + max(0.0, now - self._at) * self._rate)
        self._at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
