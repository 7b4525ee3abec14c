"""When changed files are worth reading: once they have stood still for a moment, for editors write in several steps."""

from __future__ import annotations

from typing import Any, Final

from pingap.config.storage.notice import SHARE

LOOK: Final = 1.0
"""Seconds between two looks at the files, for what nobody tells of: network file systems, bind mounts of containers."""

SETTLE: Final = 0.2
"""Seconds for which they must not change before they are read."""

PATIENCE: Final = 2.0
"""Seconds after which files that never stand still are read as they are."""


class Watch:
    """Fed with fingerprints, says when to read. Times are monotonic seconds."""

    def __init__(self, seen: Any) -> None:
        self._read = seen
        self._last = seen
        self._since = 0.0
        self._moved = 0.0
        self._cost = 0.0
        self._looked = 0.0

    def look(self, seen: Any, now: float, cost: float = 0.0) -> bool:
        """True when what is there now is to be read; it then counts as read. cost: seconds that it took to see it."""
        self._cost, self._looked = cost, now
        if seen == self._read:
            self._last = seen
            return False
        if self._last == self._read:
            self._moved = now
        if seen != self._last:
            self._last, self._since = seen, now
        if now - self._since < SETTLE and now - self._moved < PATIENCE:
            return False
        self._read = seen
        return True

    def read(self, seen: Any) -> None:
        """It was read for another reason; `seen` is the fingerprint from before."""
        self._read = self._last = seen

    def rest(self, now: float) -> float:
        """Seconds until the next look even for who hears that something has changed: not every change is one of the configuration."""
        return max(0.0, self._looked + self._cost / SHARE - now) if self._last == self._read else 0.0

    @property
    def wait(self) -> float:
        """Seconds until the next look."""
        return max(LOOK, self._cost / SHARE) if self._last == self._read else SETTLE
