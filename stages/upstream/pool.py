"""Backends, their idle connections and the exchanges that wait for one.

No I/O here: connections are opened and closed by exchange.py and connection.py;
this file knows which there are.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_plus

from config.model import Upstream
from stages.headers import value_of
from stages.messages import Routed
from stages.upstream.balance import Balancer, HashRing, LeastConnections, PowerOfTwo, RoundRobin

if TYPE_CHECKING:
    from stages.upstream.exchange import Exchange
    from stages.upstream.http1 import BackendConnection


LONGEST_WAIT: Final = 300.0
"""Seconds; no wait is without an end even where the configuration sets none."""


class BackendState:
    """One backend of one upstream, as this process sees it."""

    __slots__ = ("active", "address", "group", "healthy", "host", "idle", "open", "pending", "port", "weight")

    def __init__(self, group: Group, host: str, port: int, weight: int, address: str) -> None:
        self.group = group
        self.host, self.port, self.weight, self.address = host, port, weight, address
        self.healthy = True
        self.active = 0
        """Exchanges at it now."""
        self.open = 0
        """Connections, idle ones and those being opened included."""
        self.idle: list[BackendConnection] = []
        """Most recently used last: that one is taken, so the others can age and close."""
        self.pending: deque[Exchange] = deque()
        """Waiting for a connection, when max_connections is reached."""

    def forget(self, connection: BackendConnection) -> None:
        """An idle connection is not to be used any more."""
        if connection in self.idle:
            self.idle.remove(connection)

    def next_waiting(self) -> Exchange:
        """Takes the first exchange out of the line."""
        self.group.pending -= 1
        return self.pending.popleft()

    def leave(self, exchange: Exchange) -> None:
        """One that waited does so no longer."""
        self.group.pending -= 1
        self.pending.remove(exchange)

    def lost_one(self) -> None:
        """A connection is gone (or never came to be): whoever waits may open another."""
        self.open -= 1
        if self.pending and self.open < self.group.settings.max_connections:
            self.next_waiting().next_in_line(None)


class Group:
    """One upstream section with its backends and balancer."""

    def __init__(self, name: str, settings: Upstream) -> None:
        self.name = name
        self.settings = settings
        self.backends = [BackendState(self, b.host, b.port, b.weight, b.address) for b in settings.addrs]
        self.all_healthy = True
        self.read_timeout = settings.read_timeout or LONGEST_WAIT
        self.write_timeout = settings.write_timeout or LONGEST_WAIT
        self.keeps_idle = True
        """Connections that have done their part wait here for the next request."""
        self._only = self.backends[0] if len(self.backends) == 1 and self.backends[0].weight else None
        self.pending = 0
        """Exchanges that wait for a connection, over all backends."""
        weights = [backend.weight for backend in self.backends]
        algo = settings.algo
        self.needs_key = algo.kind == "hash"
        self._balancer: Balancer
        if algo.kind == "hash":
            self._balancer = HashRing([backend.address for backend in self.backends], weights)
        elif algo.kind == "least_conn":
            self._balancer = LeastConnections(self.backends)
        elif algo.kind == "p2c":
            self._balancer = PowerOfTwo(self.backends, random.randrange)
        else:
            # Processes start at different places, or N of them would march in step.
            self._balancer = RoundRobin(weights, random.randrange(4096))

    def pick(self, routed: Routed, tried: set[int] | None) -> BackendState | None:
        """The backend for a request, or None when no healthy one is left untried."""
        if self._only is not None and self._only.healthy and not tried:
            return self._only
        key = self._key(routed) if self.needs_key else ""
        if self.all_healthy and not tried:
            index = self._balancer.pick(key, None)
        else:
            backends = self.backends
            index = self._balancer.pick(key, lambda i: backends[i].healthy and not (tried and i in tried))
        return self.backends[index] if index >= 0 else None

    def others(self, tried: set[int]) -> int:
        """Healthy backends that were not tried."""
        return sum(1 for i, b in enumerate(self.backends) if b.healthy and b.weight and i not in tried)

    def set_health(self, health: dict[str, bool]) -> None:
        """Takes discovery's word: address → healthy; one that is not named is healthy."""
        for backend in self.backends:
            backend.healthy = health.get(backend.address, True)
        self.all_healthy = all(backend.healthy for backend in self.backends)

    def idle_connections(self) -> Iterator[BackendConnection]:
        for backend in self.backends:
            yield from backend.idle

    def keep_idle(self, keeps: bool) -> None:
        """Whether connections are kept for the next request from now on."""
        self.keeps_idle = keeps
        if not keeps:
            for connection in list(self.idle_connections()):
                connection.backend.forget(connection)
                connection.close()

    def _key(self, routed: Routed) -> str:
        algo = self.settings.algo
        by = algo.hash_by
        if by == "ip":
            return routed.client_ip
        target = routed.target.decode("latin-1")
        if by == "url":
            return target
        path, _, query = target.partition("?")
        if by == "path":
            return path
        if by == "query":
            return _pair(query.split("&"), algo.hash_key)
        if by == "cookie":
            cookies = (value_of(routed.headers, b"cookie") or b"").decode("latin-1")
            return _pair([part.strip() for part in cookies.split(";")], algo.hash_key, decode=False)
        return (value_of(routed.headers, algo.hash_key.encode()) or b"").decode("latin-1")


def _pair(pairs: list[str], name: str, decode: bool = True) -> str:
    for pair in pairs:
        key, _, value = pair.partition("=")
        if (unquote_plus(key) if decode else key) == name:
            return unquote_plus(value) if decode else value
    return ""
