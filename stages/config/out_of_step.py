"""When to say that nobody knows whether the configuration has changed: at once, once a minute while it lasts, and when it is over."""

from __future__ import annotations

from typing import Final

EVERY: Final = 60.0
"""Seconds between two lines on the same trouble."""


class OutOfStep:
    """Fed with what `Storage.trouble` says. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._told: float | None = None

    def line(self, trouble: str, now: float) -> tuple[str, str] | None:
        """(level, message) for the log, None for nothing to say; it then counts as said."""
        if not trouble:
            was_told, self._told = self._told is not None, None
            return ("info", "changes of the configuration are seen again") if was_told else None
        if self._told is not None and now - self._told < EVERY:
            return None
        self._told = now
        return "warn", "changes of the configuration cannot be seen, and what runs goes on"
