"""How long the hooks of each plugin take: what metrics, `pingap tap` and Server-Timing know of them.

Each call is measured, by one look at the clock more; sums are told with each heartbeat. A call that takes a client's notice is
told with its request as well, in a copy of the context that leaves: what a capture or a plugin has put there under that name is
neither read nor replaced. The time for which a hook waits for its turn is not its own, what it awaits is. Bodies are
not measured here: they take as long as their senders and receivers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

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

    def add(self, exchange: Exchange, seconds: float) -> None:
        """A call for this request has taken so long, or so much longer."""
        self.seconds += seconds
        if seconds < NOTICED:
            return
        times = exchange._seconds
        if times is None:
            times = exchange._seconds = {}
        times[self.name] = times.get(self.name, 0.0) + seconds


def timed_context(exchange: Exchange, context: dict[str, Any]) -> dict[str, Any]:
    """What goes out as the context, with the times of plugins in it if some took long."""
    times = exchange._seconds
    if times is None:
        return context
    own = exchange._routed.variables if exchange._context is None else exchange._context
    return context if PLUGIN_SECONDS in own else {**context, PLUGIN_SECONDS: dict(times)}


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
