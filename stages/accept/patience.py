"""How long a stream may wait for its answer with nothing heard of it: the backstop behind the time-outs of those who serve it.

They know better when enough is enough, and as a rule say so long before. This is for what nobody is at work on any more, by a
fault of ours. So it is what they may take at the longest, by the time-outs of its generation, all of them in a row. None of those
can be switched off: 0 is refused, and where a key is left out upstream sets a limit itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pingap.config.model import Location, Server, Snapshot, Upstream
from pingap.config.problems import BadValue
from pingap.config.quantities import parse_duration

# Seconds; tests/accept/test_patience.py holds the first four to what they come from.
CONNECT: Final = 10.0
"""For each of the three parts of a connect, where the upstream does not say."""
LONGEST_WAIT: Final = 300.0
"""Where a limit is left out, and for a request that has not left for its backend in whole."""
RETRIES: Final = 3
HOOK: Final = 30.0
"""For one call of a user's hook, where its section does not say."""
MARGIN: Final = 60.0
"""For what has its own limits of 5 s and less: claims, internal destinations, and the bus under load."""

WAITS: Final = ("delay", "max_wait")
"""Keys of plugins that say how long a hook waits."""

SLOW: Final = 16
"""So many times as long where what moves is not seen here: a backend takes the last window of an upload little by little, or gives
little by little of an answer that plugins collect; a hook stands in line for a thread. Each of those steps has its time-out."""

REMOVED: Final = 86400.0
"""Seconds, for a server that its generation does not name any more: it listens until a restart."""

Patience = Mapping[str, float]
"""Seconds by server."""


class PatienceOf:
    """What the locations of one generation may take, one after the other."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._attempts = {name: _attempt(upstream) for name, upstream in snapshot.upstreams.items()}
        self._longest = max(self._attempts.values(), default=0.0)
        self._plugins = snapshot.plugins
        self._by_plugin: dict[str, float] = {}
        self._by_location: dict[str, float] = {}

    def add(self, name: str, location: Location) -> None:
        # A capture may name any upstream, and so may a plugin.
        attempt = self._longest if location.plugins else self._attempts.get(location.upstream, self._longest)
        seconds = attempt * (1 + (RETRIES if location.max_retries is None else location.max_retries))
        if location.max_retry_window is not None:
            seconds = min(seconds, location.max_retry_window + attempt)
        if location.plugins:
            seconds = SLOW * (seconds + sum(map(self._hooks, location.plugins)))
        self._by_location[name] = seconds

    def _hooks(self, plugin: str) -> float:
        """A hook on the way there and one on the way back, and what it was told to wait."""
        seconds = self._by_plugin.get(plugin)
        if seconds is None:
            section = self._plugins.get(plugin, {})
            told = sum(_seconds(section, key) for key in WAITS)
            seconds = self._by_plugin[plugin] = 2 * max(HOOK, _seconds(section, "timeout")) + told
        return seconds

    def by_server(self, servers: Mapping[str, Server]) -> Patience:
        known = self._by_location
        return {
            name: MARGIN + server.downstream_read_timeout + max((known.get(one, 0.0) for one in server.locations), default=0.0)
            for name, server in servers.items()
        }


def _attempt(upstream: Upstream) -> float:
    connect = min(upstream.total_connection_timeout or LONGEST_WAIT, 3 * (upstream.connection_timeout or CONNECT))
    return upstream.pending_timeout + connect + upstream.write_timeout + max(upstream.read_timeout, LONGEST_WAIT)


def _seconds(section: Mapping[str, Any], key: str) -> float:
    try:
        return parse_duration(section.get(key, "0"))
    except BadValue:  # a key of the plugin's own, which means something else
        return 0.0
