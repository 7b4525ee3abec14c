"""Backends, their connections with room for more, and the exchanges that wait for one.

No I/O here: connections are opened and closed by others; this file knows which there are.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Final, overload
from urllib.parse import unquote_plus

from pingap.config.model import Upstream
from pingap.config.parts import Backend
from pingap.stages.grpc import is_call
from pingap.stages.headers import value_of, values_of
from pingap.stages.http2 import engines
from pingap.stages.messages import Routed
from pingap.stages.upstream.balance import Balancer, HashRing, LeastConnections, PowerOfTwo, RoundRobin
from pingap.stages.upstream.risky import announces_trailers, is_large
from pingap.stages.upstream.secure import Sessions, context_for

if TYPE_CHECKING:
    import ssl

    from pingap.stages.upstream.attempts import Attempts
    from pingap.stages.upstream.connecting import Connecting
    from pingap.stages.upstream.http1 import BackendConnection
    from pingap.stages.upstream.http2 import Http2Connection


LONGEST_WAIT: Final = 300.0
"""Seconds; no wait is without an end even where the configuration sets none."""

USUAL_STREAMS: Final = 100
"""Streams that a backend is taken to allow on a connection until it has said (RFC 9113 section 5.1.2)."""

HTTP1_FOR: Final = 300.0
"""Seconds for which a backend that asks for HTTP/1.1 gets nothing else: then HTTP/2 is tried again, at the price of one refusal."""


class BackendState:
    """One backend of one upstream, as this process sees it."""

    __slots__ = (
        "active",
        "address",
        "apart",
        "connecting",
        "entry",
        "group",
        "healthy",
        "host",
        "http1_sessions",
        "http1_until",
        "idle",
        "is_http1",
        "keeps_case",
        "keeps_idle",
        "name",
        "open",
        "pending",
        "port",
        "sessions",
        "shared",
        "streams",
        "takes_trailers",
        "takes_tunnels",
        "weight",
    )

    def __init__(self, group: Group, host: str, entry: Backend) -> None:
        """entry: what `addrs` says. host: an IP address of that, or itself."""
        self.group = group
        self.host, self.port, self.weight = host, entry.port, entry.weight
        self.address = Backend(host, entry.port).address
        self.entry = entry.address
        self.name = entry.host
        """As configured: what certificates are for."""
        self.healthy = True
        self.keeps_idle = group.keeps_idle
        """Connections that have done their part wait here for the next request."""
        self.keeps_case = group.settings.preserve_header_case
        """Over HTTP/1.1 it gets header names as they were written."""
        self.active = 0
        """Exchanges at it now."""
        self.open = 0
        """Connections, idle ones and those being opened included."""
        self.idle: list[BackendConnection] = []
        """HTTP/1.1, most recently used last: that one is taken, so the others can age and close."""
        self.shared: list[Http2Connection] = []
        """HTTP/2 with room for another stream."""
        self.apart: list[Http2Connection] = []
        """HTTP/2 for one request at a time, of those over which a backend may end its connection (risky.py); used by none now."""
        self.connecting: dict[Connecting, None] = {}
        """Being opened, oldest first."""
        self.is_http1 = not group.may_share
        """By its protocol, or by what it agreed to the last time: a connection is good for one exchange at a time."""
        self.streams = min(group.settings.max_h2_streams, USUAL_STREAMS)
        """How many it let us have on an HTTP/2 connection the last time."""
        self.pending: deque[Attempts] = deque()
        """Waiting for a connection, when max_connections is reached."""
        self.sessions = Sessions()
        self.http1_sessions = Sessions()
        """Of connections for which nothing but HTTP/1.1 was offered: a session goes on only under the offer that it began with."""
        self.takes_tunnels = True
        """Its HTTP/2 allows extended CONNECT (RFC 8441), by what it said the last time."""
        self.takes_trailers = False
        """It has read trailers of a request over HTTP/2, and its connection lived on."""
        self.http1_until = 0.0
        """Monotonic seconds until which it gets HTTP/1.1, because it has asked for that; 0.0 = it has not."""

    def may_fall_back(self, routed: Routed) -> bool:
        """A request that its HTTP/2 does not carry may come over HTTP/1.1. gRPC may not: there is none over HTTP/1.1."""
        return self.group.settings.alpn == "h2h1" and not is_call(routed.headers)

    def wants_http1(self, now: float) -> None:
        """It has reset a stream, or said goodbye, with HTTP_1_1_REQUIRED."""
        self.http1_until = now + HTTP1_FOR

    def is_for_http1(self, routed: Routed, now: float) -> bool:
        """HTTP/2 to this backend will not carry the request, as far as is known, and HTTP/1.1 may."""
        if now >= self.http1_until:
            self.http1_until = 0.0
        # An extended CONNECT has no room for a request's body.
        no_tunnel = routed.upgrade and (routed.length or not self.takes_tunnels)
        return bool(self.http1_until or no_tunnel) and self.may_fall_back(routed)

    def is_at_risk(self, routed: Routed) -> bool:
        """A connection of HTTP/2 to it may end over this request."""
        return is_large(routed.target, routed.headers) or (not self.takes_trailers and announces_trailers(routed))

    @property
    def is_full(self) -> bool:
        """There may be no more connections than there are."""
        limit = self.group.settings.max_connections
        return bool(limit) and self.open >= limit

    def take_idle(self, name: str) -> BackendConnection | None:
        """The idle connection that was used last, for requests of this name."""
        idle = self.idle
        for at in range(len(idle) - 1, -1, -1):
            if idle[at].name == name:
                return idle.pop(at)
        return None

    def with_room(self, name: str, apart: bool = False) -> Http2Connection | None:
        """A shared connection for one more request of this name; or one that nobody else is on, or will be (apart)."""
        for connection in self.apart if apart else self.shared:
            if connection.name == name and not connection.transport.is_closing():  # which it may not have been told yet
                return connection
        return None

    def coming(self, name: str, needs_http1: bool) -> Connecting | None:
        """A connection that is being opened and will, as far as is known, have room for one more of this name."""
        if self.is_http1 or needs_http1:
            return None
        for connecting in self.connecting:
            if connecting.name == name and len(connecting.waiting) < connecting.room:
                return connecting
        return None

    def idle_connections(self) -> Iterator[BackendConnection | Http2Connection]:
        """Those that carry nothing now."""
        yield from self.idle
        for connection in self.shared:
            if connection.is_unused:
                yield connection
        yield from self.apart

    def keep_idle(self, keeps: bool) -> None:
        """Whether connections are kept for the next request from now on."""
        self.keeps_idle = keeps
        if not keeps:
            for connection in list(self.idle_connections()):
                self.forget(connection)
                connection.close()

    def make_room(self) -> None:
        """The cap is reached: if a connection idles that is of no use to who waits, that gives way."""
        unused = list(self.idle_connections())
        if unused:
            oldest = min(unused, key=lambda connection: connection.idle_since)
            self.forget(oldest)
            oldest.close()

    def forget(self, connection: BackendConnection | Http2Connection) -> None:
        """A connection is not to be used for anything new."""
        known: list[BackendConnection] | list[Http2Connection] = self.shelf(connection)
        if connection in known:
            known.remove(connection)  # type: ignore[arg-type]

    @overload
    def shelf(self, connection: BackendConnection) -> list[BackendConnection]: ...

    @overload
    def shelf(self, connection: Http2Connection) -> list[Http2Connection]: ...

    def shelf(self, connection: BackendConnection | Http2Connection) -> list[BackendConnection] | list[Http2Connection]:
        """Where it stands while it may be used for something new."""
        return self.idle if connection.is_single else self.apart if connection.is_apart else self.shared

    def next_waiting(self) -> Attempts:
        """Takes the first exchange out of the line."""
        self.group.pending -= 1
        return self.pending.popleft()

    def leave(self, exchange: Attempts) -> None:
        """One that waited does so no longer."""
        self.group.pending -= 1
        self.pending.remove(exchange)

    def lost_one(self) -> None:
        """A connection is gone (or never came to be): whoever waits may open another."""
        self.open -= 1
        if self.pending:
            self.serve_line()

    def serve_line(self) -> None:
        """There may be room: those who wait are let in as far as it goes."""
        by_host = self.group.by_host
        for exchange in tuple(self.pending):
            if exchange.waits and not self._let_in(exchange) and not (by_host or exchange.needs_http1):
                return

    def _let_in(self, exchange: Attempts) -> bool:
        needs_http1 = exchange.needs_http1
        connection = self.with_room(exchange.name) if self.shared and not needs_http1 else None
        if connection is None and self.is_full and self.coming(exchange.name, needs_http1) is None:
            return False
        self.leave(exchange)
        exchange.next_in_line(None if connection is None else connection.channel())
        return True


class Group:
    """One upstream section with its backends and balancer."""

    def __init__(self, name: str, settings: Upstream) -> None:
        self.name = name
        self.settings = settings
        self.is_tls = bool(settings.sni)
        self.may_share = settings.alpn == "h2" or (settings.alpn == "h2h1" and self.is_tls)
        """HTTP/2: connections may be for many exchanges at a time."""
        self.by_host = settings.sni == "$host"
        """A connection is for requests of one name only."""
        self.is_plain_pool = not self.may_share and not self.by_host
        """Any idle connection will do for any request, and there are no others."""
        self.read_timeout = settings.read_timeout or LONGEST_WAIT
        self.write_timeout = settings.write_timeout or LONGEST_WAIT
        self.keeps_idle = True
        self.pending = 0
        """Exchanges that wait for a connection, over all backends."""
        self.needs_key = settings.algo.kind == "hash"
        self.backends: list[BackendState] = []
        self.leaving: list[BackendState] = []
        """No longer backends, but not yet without requests."""
        self._balance()
        self.set_addresses({})

    def set_addresses(self, addresses: Mapping[str, Sequence[str]]) -> None:
        """Takes discovery's word: an entry with a host name → its IP addresses. An entry of which nothing is known is itself a backend.

        Who stays keeps everything; who leaves ends what it has begun, and gets nothing new.
        """
        known = {(backend.address, backend.entry): backend for backend in self.backends}
        places: dict[str, tuple[BackendState, int]] = {}
        for entry in self.settings.addrs:
            for host in addresses.get(entry.address) or (entry.host,):
                address = Backend(host, entry.port).address
                if address in places:  # by two names: one backend with the weight of both
                    first, weight = places[address]
                    places[address] = first, weight + entry.weight
                else:
                    places[address] = known.get((address, entry.address)) or BackendState(self, host, entry), entry.weight
        backends = [backend for backend, _ in places.values()]
        if backends == self.backends and all(backend.weight == weight for backend, weight in places.values()):
            return
        for backend, weight in places.values():
            backend.weight = weight
        gone = [backend for backend in self.backends if backend not in backends]
        self.backends = backends
        self._balance()
        self.leaving = [backend for backend in (*self.leaving, *gone) if backend.open or backend.pending]
        for backend in gone:
            backend.keep_idle(False)
            for exchange in tuple(backend.pending):
                if exchange.waits:
                    exchange.go_elsewhere()

    def _balance(self) -> None:
        backends, algo = self.backends, self.settings.algo
        self.all_healthy = all(backend.healthy for backend in backends)
        self._only = backends[0] if len(backends) == 1 and backends[0].weight else None
        weights = [backend.weight for backend in backends]
        self._balancer: Balancer
        if algo.kind == "hash":
            self._balancer = HashRing([backend.address for backend in backends], weights)
        elif algo.kind == "least_conn":
            self._balancer = LeastConnections(backends)
        elif algo.kind == "p2c":
            self._balancer = PowerOfTwo(backends, random.randrange)
        else:
            # Processes start at different places, or N of them would march in step.
            self._balancer = RoundRobin(weights, random.randrange(4096))

    def pick(self, routed: Routed, tried: set[BackendState] | None) -> BackendState | None:
        """The backend for a request, or None when no healthy one is left untried."""
        if self._only is not None and self._only.healthy and not tried:
            return self._only
        key = self._key(routed) if self.needs_key else ""
        if self.all_healthy and not tried:
            index = self._balancer.pick(key, None)
        else:
            backends = self.backends
            index = self._balancer.pick(key, lambda i: backends[i].healthy and not (tried and backends[i] in tried))
        return self.backends[index] if index >= 0 else None

    def others(self, tried: set[BackendState]) -> int:
        """Healthy backends that were not tried."""
        return sum(1 for backend in self.backends if backend.healthy and backend.weight and backend not in tried)

    def set_health(self, health: dict[str, bool]) -> None:
        """Takes discovery's word: address → healthy; one that is not named is healthy."""
        for backend in self.backends:
            backend.healthy = health.get(backend.address, True)
        self.all_healthy = all(backend.healthy for backend in self.backends)

    @cached_property
    def tls(self) -> ssl.SSLContext:
        """Made when it is first needed: reading the system's authorities takes some 20 ms."""
        return context_for(self.settings, self.settings.alpn)

    @cached_property
    def http1_tls(self) -> ssl.SSLContext:
        """Offers HTTP/1.1 alone, where HTTP/2 would be preferred and will not do."""
        return context_for(self.settings, "h1")

    @cached_property
    def make_engine(self) -> engines.MakeEngine:
        return engines.engine(self.settings.http2_engine)

    def name_for(self, routed: Routed, backend: BackendState) -> str:
        """Whom a backend has to prove to be for this request; "" without TLS."""
        if not self.by_host:
            return self.settings.sni
        host = routed.host.decode("latin-1").lower()
        if host.startswith("["):
            return host[1:].partition("]")[0]
        return host.partition(":")[0].rstrip(".") or backend.name  # certificates and SNI are without the dot of the root (RFC 6066)

    def idle_connections(self) -> Iterator[BackendConnection | Http2Connection]:
        for backend in self.backends:
            yield from backend.idle_connections()

    def keep_idle(self, keeps: bool) -> None:
        """Whether connections are kept for the next request from now on."""
        self.keeps_idle = keeps
        for backend in self.backends:
            backend.keep_idle(keeps)

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
            cookies = b";".join(values_of(routed.headers, b"cookie")).decode("latin-1")
            return _pair([part.strip() for part in cookies.split(";")], algo.hash_key, decode=False)
        return (value_of(routed.headers, algo.hash_key.encode()) or b"").decode("latin-1")


def _pair(pairs: list[str], name: str, decode: bool = True) -> str:
    for pair in pairs:
        key, _, value = pair.partition("=")
        if (unquote_plus(key) if decode else key) == name:
            return unquote_plus(value) if decode else value
    return ""
