"""Decides when an instance upgrades itself: `--autorestart`, for changes that running stages do not take over."""

from __future__ import annotations

from collections.abc import Sequence


class Autorestart:
    """The configuration is to be left alone for a while first: an edit is rarely the last one."""

    def __init__(self, interval: float) -> None:
        """interval: seconds that what waits must have been the same (basic.auto_restart_check_interval)."""
        self._interval = interval
        self._waiting: tuple[str, ...] = ()
        self._due: float | None = None

    def told(self, waiting: Sequence[str], now: float) -> None:
        """Paths of keys that a restart would apply, after the configuration was read; none when it is as it was started."""
        if tuple(waiting) != self._waiting:
            self._waiting = tuple(waiting)
            self._due = now + self._interval if waiting else None

    def due(self, now: float) -> tuple[str, ...]:
        """What it is to be done for now; () most of the time. Told once: what fails is not tried again until it changes."""
        if self._due is None or now < self._due:
            return ()
        self._due = None
        return self._waiting
