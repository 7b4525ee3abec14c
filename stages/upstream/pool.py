"""Backends, their connections with room for more, and the exchanges that wait for one.

It decides and does no I/O: what is to be closed or served it says to whom it was asked by (pools.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol
from urllib.parse import unquote_plus

from pingap.config.model import Upstream
from pingap.config.parts import Backend
from pingap.stages.grpc import is_call
from pingap.stages.headers import value_of, values_of
from pingap.stages.http2 import engines
from pingap.stages.http2.engine import Http2Engine, LocalSettings
from pingap.stages.messages import Routed
from pingap.stages.upstream.balance import Balancer, HashRing, LeastConnections, PowerOfTwo, RoundRobin
from pingap.stages.upstream.budget import RetryBudget
from pingap.stages.upstream.channel import Channel, Shared, Single
from pingap.stages.upstream.core import Outcome
from pingap.stages.upstream.risky import announces_trailers, is_large

LONGEST_WAIT: Final = 300.0
"""Seconds; no wait is without an end even where the configuration sets none."""

USUAL_STREAMS: Final = 100
"""Streams that a backend is taken to allow on a connection until it has said (RFC 9113 section 5.1.2)."""

HTTP1_FOR: Final = 300.0
"""Seconds for which a backend that asks for HTTP/1.1 gets nothing else: then HTTP/2 is tried again, at the price of one refusal."""


Found = tuple[str, int, int]
"""Host, port and weight of a backend, as discovery has found it."""


class Waiter(Protocol):
    """One who waits for a connection: an exchange."""

    routed: Routed
    method: bytes

    def served(self, channel: Channel | None) -> None:
        """A connection came free (or room for one) for one that was in line, and is there no more."""

    def go_elsewhere(self) -> None:
        """The backend at which it was in line is none any more."""

    def waited_too_long(self) -> None:
        """No connection came free in time; it is in line no more."""

    def connected(self, channel: Channel, seconds: tuple[float, ...]) -> None:
        """seconds: TCP connect, TLS handshake; none when it is another exchange for which the connection was opened."""

    def connect_failed(self, outcome: Outcome, detail: str) -> None: ...

    def connect_once_more(self) -> None:
        """The connection came, but has no room for this one."""


class Place:
    """In the line for a connection to one backend."""

    __slots__ = ("name", "needs_http1", "since", "waiter")

    def __init__(self, waiter: Waiter, name: str, needs_http1: bool, since: float) -> None:
        """since: monotonic seconds."""
        self.waiter = waiter
        self.name = name
        self.needs_http1 = needs_http1
        self.since = since


class Opening(Protocol):
    """A connection that is being opened (connecting.py)."""

    name: str
    room: int
    """Exchanges that it will have room for, as far as is known."""
    waiting: list[Waiter]

    def leave(self, waiter: Waiter) -> None:
        """One that waited does so no longer."""


class BackendState:
    """One backend of one upstream, as this process sees it."""

    __slots__ = (
        "active",
        "address",
        "apart",
        "connecting",
        "connections",
        "entry",
        "group",
        "healthy",
        "host",
        "http1_until",
        "idle",
        "is_http1",
        "keeps_case",
        "keeps_idle",
        "name",
        "pending",
        "port",
        "shared",
        "streams",
        "takes_trailers",
        "takes_tunnels",
        "tls_sessions",
        "weight",
    )

    def __init__(self, group: Group, backend: Backend, entry: Backend) -> None:
        """entry: what `addrs` says. backend: what that stands for, perhaps itself."""
        self.group = group
        self.host, self.port, self.weight = backend.host, backend.port, backend.weight
        self.address = backend.address
        self.entry = entry.address
        self.tls_sessions: dict[bool, Any] = {}
        """What secure.py keeps of it: sessions to go on with, by whether HTTP/1.1 alone is offered."""
        self.name = entry.host
        """As configured: what certificates are for."""
        self.healthy = True
        self.keeps_idle = group.keeps_idle
        """Connections that have done their part wait here for the next request."""
        self.keeps_case = group.settings.preserve_header_case
        """Over HTTP/1.1 it gets header names as they were written."""
        self.active = 0
        """Attempts that are made at it now."""
        self.connections: set[object] = set()
        """That stand, whatever they do."""
        self.connecting: dict[Opening, None] = {}
        """Being opened, oldest first."""
        self.idle: list[Single] = []
        """HTTP/1.1, most recently used last: that one is taken, so the others can age and close."""
        self.shared: list[Shared] = []
        """HTTP/2 with room for another stream."""
        self.apart: list[Shared] = []
        """HTTP/2 for one request at a time, of those over which a backend may end its connection (risky.py); used by none now."""
        self.is_http1 = not group.may_share
        """By its protocol, or by what it agreed to the last time: a connection is good for one exchange at a time."""
        self.streams = min(group.settings.max_h2_streams, USUAL_STREAMS)
        """How many it let us have on an HTTP/2 connection the last time."""
        self.pending: dict[Place, None] = {}
        """The line for a connection when max_connections is reached, in its order."""
        self.takes_tunnels = True
        """Its HTTP/2 allows extended CONNECT (RFC 8441), by what it said the last time."""
        self.takes_trailers = False
        """It has read trailers of a request over HTTP/2, and its connection lived on."""
        self.http1_until = 0.0
        """Monotonic seconds until which it gets HTTP/1.1, because it has asked for that; 0.0 = it has not."""

    def may_fall_back(self, routed: Routed) -> bool:
        """A request that its HTTP/2 does not carry may come over HTTP/1.1. gRPC may not: there is none over HTTP/1.1."""
        return self.group.settings.alpn == "h2h1" and not is_call(routed.headers)

    def asked_for_http1(self, now: float) -> None:
        """It has reset a stream, or said goodbye, with HTTP_1_1_REQUIRED."""
        self.http1_until = now + HTTP1_FOR

    def is_for_http1(self, routed: Routed, now: float) -> bool:
        """HTTP/2 to this backend will not carry the request, as far as is known, and HTTP/1.1 may."""
        # An extended CONNECT has no room for a request's body.
        no_tunnel = routed.upgrade and (routed.length or not self.takes_tunnels)
        return bool(now < self.http1_until or no_tunnel) and self.may_fall_back(routed)

    def is_at_risk(self, routed: Routed) -> bool:
        """A connection of HTTP/2 to it may end over this request."""
        return is_large(routed.target, routed.headers) or (not self.takes_trailers and announces_trailers(routed))

    # -- attempts -------------------------------------------------------------------

    def settled(self, outcome: Outcome, status: int) -> None:
        """An attempt at it has ended. Each that was counted in `active` comes here once. status: of its answer; 0 if none came."""
        self.active -= 1

    # -- connections ------------------------------------------------------------------

    @property
    def open(self) -> int:
        """Connections, idle ones and those being opened included."""
        return len(self.connections) + len(self.connecting)

    @property
    def is_full(self) -> bool:
        """There may be no more connections than there are."""
        limit = self.group.settings.max_connections
        return bool(limit) and self.open >= limit

    def take_idle(self, name: str) -> Single | None:
        """The idle connection that was used last, for requests of this name."""
        idle = self.idle
        for at in range(len(idle) - 1, -1, -1):
            if idle[at].name == name:
                return idle.pop(at)
        return None

    def with_room(self, name: str, apart: bool = False) -> Shared | None:
        """A shared connection for one more request of this name; or one that nobody else is on, or will be (apart)."""
        for connection in self.apart if apart else self.shared:
            if connection.name == name and not connection.transport.is_closing():  # which it may not have been told yet
                return connection
        return None

    def coming(self, name: str, needs_http1: bool) -> Opening | None:
        """A connection that is being opened and will, as far as is known, have room for one more of this name."""
        if self.is_http1 or needs_http1:
            return None
        for connecting in self.connecting:
            if connecting.name == name and len(connecting.waiting) < connecting.room:
                return connecting
        return None

    def idle_connections(self) -> Iterator[Single | Shared]:
        """Those that carry nothing now."""
        yield from self.idle
        for connection in self.shared:
            if connection.is_unused:
                yield connection
        yield from self.apart

    def keep_idle(self, keeps: bool) -> list[Single | Shared]:
        """Whether connections are kept for the next request from now on. Returns those to be closed."""
        self.keeps_idle = keeps
        unwanted = [] if keeps else list(self.idle_connections())
        for connection in unwanted:
            self.forget(connection)
        return unwanted

    def give_way(self) -> Single | Shared | None:
        """The cap is reached, and somebody waits to whom those that idle are of no use: the oldest of them, to be closed."""
        oldest = min(self.idle_connections(), key=lambda connection: connection.idle_since, default=None)
        if oldest is not None:
            self.forget(oldest)
        return oldest

    def forget(self, connection: Single | Shared) -> None:
        """A connection is not to be used for anything new."""
        shelf: list[Single] | list[Shared]
        for shelf in (self.idle, self.shared, self.apart):
            if connection in shelf:
                shelf.remove(connection)  # type: ignore[arg-type]
                return

    # -- the line ---------------------------------------------------------------------

    def assign(self) -> Iterator[tuple[Waiter, Channel | None]]:
        """Lets those in line in as far as there is room: with a channel, or with None for a new connection.

        Each is out of the line then, and to be served before the next is asked for.
        """
        by_host = self.group.by_host
        for place in tuple(self.pending):
            if place not in self.pending:
                continue
            shared = self.with_room(place.name) if self.shared and not place.needs_http1 else None
            if shared is None and self.is_full and self.coming(place.name, place.needs_http1) is None:
                if not (by_host or place.needs_http1):
                    return
                continue
            del self.pending[place]
            yield place.waiter, None if shared is None else shared.channel()

    def first_in_line(self) -> Place:
        return next(iter(self.pending))

    def waited_since(self, limit: float) -> list[Waiter]:
        """Takes those out of the line that have been in it since `limit`, in monotonic seconds, or longer."""
        late = []
        for place in self.pending:
            if place.since > limit:
                break
            late.append(place)
        for place in late:
            del self.pending[place]
        return [place.waiter for place in late]


class Group:
    """One upstream section with its backends and balancer."""

    def __init__(self, name: str, settings: Upstream, below: Callable[[int], int]) -> None:
        """below(n): a random integer from 0 to n - 1."""
        self.name = name
        self.settings = settings
        self._below = below
        self.is_tls = bool(settings.sni)
        self.tls_contexts: dict[bool, Any] = {}
        """What secure.py keeps of it, by whether HTTP/1.1 alone is offered."""
        self.may_share = settings.alpn == "h2" or (settings.alpn == "h2h1" and self.is_tls)
        """HTTP/2: connections may be for many exchanges at a time."""
        self.by_host = settings.sni == "$host"
        """A connection is for requests of one name only."""
        self.is_plain_pool = not self.may_share and not self.by_host
        """Any idle connection will do for any request, and there are no others."""
        self.read_timeout = settings.read_timeout or LONGEST_WAIT
        self.write_timeout = settings.write_timeout or LONGEST_WAIT
        self.keeps_idle = True
        self.needs_key = settings.algo.kind == "hash"
        self.budget = RetryBudget(settings.retry_budget)
        self.backends: list[BackendState] = []
        self.leaving: list[BackendState] = []
        """No longer backends, but not yet without requests."""
        self._balance()
        self.set_addresses({})

    @property
    def pending(self) -> int:
        """Places in the lines of all backends."""
        return sum(len(backend.pending) for backend in self.backends)

    def set_addresses(self, addresses: Mapping[str, Sequence[Found]]) -> tuple[list[Single | Shared], list[Waiter]]:
        """Takes discovery's word: entry → the backends that it stands for. An entry of which nothing is known is itself a backend.

        Who stays keeps everything; who leaves ends what it has begun, and gets nothing new. Returns the connections to be closed,
        and those who waited for one and have to go elsewhere.
        """
        known = {(backend.address, backend.entry): backend for backend in self.backends}
        places: dict[str, tuple[BackendState, int]] = {}
        told: set[str] = set()
        for entry in self.settings.addrs:
            found = addresses.get(entry.address)
            if found is not None and entry.address in told:
                continue  # written twice: its backends have the weight of both already
            told.add(entry.address)
            for host, port, weight in [(entry.host, entry.port, entry.weight)] if found is None else found:
                one = Backend(host, port, weight)
                address = one.address
                if address in places:  # by two names: one backend with the weight of both
                    first, before = places[address]
                    places[address] = first, before + weight
                else:
                    places[address] = known.get((address, entry.address)) or BackendState(self, one, entry), weight
        backends = [backend for backend, _ in places.values()]
        if backends == self.backends and all(backend.weight == weight for backend, weight in places.values()):
            return [], []
        for backend, weight in places.values():
            backend.weight = weight
        gone = [backend for backend in self.backends if backend not in backends]
        self.backends = backends
        self._balance()
        unwanted: list[Single | Shared] = []
        waiters: list[Waiter] = []
        for backend in gone:
            unwanted += backend.keep_idle(False)
            waiters += [place.waiter for place in backend.pending]
            backend.pending.clear()
        self.leaving = [backend for backend in (*self.leaving, *gone) if backend.open]
        return unwanted, waiters

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
            self._balancer = PowerOfTwo(backends, self._below)
        else:
            # Processes start at different places, or N of them would march in step.
            self._balancer = RoundRobin(weights, self._below(4096))

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

    def set_health(self, health: Mapping[str, bool]) -> None:
        """Takes discovery's word: address → healthy; one that is not named is healthy."""
        for backend in self.backends:
            backend.healthy = health.get(backend.address, True)
        self.all_healthy = all(backend.healthy for backend in self.backends)

    def new_engine(self, settings: LocalSettings) -> Http2Engine:
        """For one connection over HTTP/2."""
        make = engines.engine(self.settings.http2_engine)
        return make(True, settings)

    def name_for(self, routed: Routed, backend: BackendState) -> str:
        """Whom a backend has to prove to be for this request; "" without TLS."""
        if not self.by_host:
            return self.settings.sni
        host = routed.host.decode("latin-1").lower()
        if host.startswith("["):
            return host[1:].partition("]")[0]
        return host.partition(":")[0].rstrip(".") or backend.name  # certificates and SNI are without the dot of the root (RFC 6066)

    def keep_idle(self, keeps: bool) -> list[Single | Shared]:
        """Whether connections are kept for the next request from now on. Returns those to be closed."""
        self.keeps_idle = keeps
        return [connection for backend in self.backends for connection in backend.keep_idle(keeps)]

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
