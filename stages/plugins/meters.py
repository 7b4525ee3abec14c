"""How long the hooks of each plugin take: what metrics, `pingap tap` and Server-Timing know of them.

Each call is measured, by one look at the clock more; sums are told with each heartbeat. A call that takes a client's notice is
told with its request as well. The time for which a hook waits for its turn is not its own, what it awaits is. Bodies are
not measured here: they take as long as their senders and receivers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from pingap.observability.timings import PLUGIN_SECONDS
from pingap.stages.plugins.exchange import Exchange

NOTICED: Final = 0.001
"""Seconds from which on a call is told with its request."""


class Meter:
    """Of one plugin."""

    __slots__ = ("calls", "name", "seconds")

    def __init__(self, name: str) -> None:
        self.name = name
        """Of its section."""
        self.calls = 0
        self.seconds = 0.0

    def note(self, exchange: Exchange, seconds: float) -> None:
        """A call that took so long is told with the request."""
        context = exchange.context
        times = dict(context.get(PLUGIN_SECONDS) or {})
        times[self.name] = times.get(self.name, 0.0) + seconds
        context[PLUGIN_SECONDS] = times


class Meters:
    """Of all plugins of a process."""

    def __init__(self) -> None:
        self._by_name: dict[str, Meter] = {}

    def of(self, name: str) -> Meter:
        """The meter of a plugin, whichever generation it is of."""
        meter = self._by_name.get(name)
        if meter is None:
            meter = self._by_name[name] = Meter(name)
        return meter

    def keep(self, names: Iterable[str]) -> None:
        """Plugins of other names are gone."""
        wanted = frozenset(names)
        for name in [name for name in self._by_name if name not in wanted]:
            del self._by_name[name]

    def tell(self, count: Callable[..., None]) -> None:
        """What has come together since the last time."""
        for name, meter in self._by_name.items():
            if meter.calls or meter.seconds:
                count("plugin_calls", meter.calls, plugin=name)
                count("plugin_seconds", meter.seconds, plugin=name)
                meter.calls, meter.seconds = 0, 0.0
