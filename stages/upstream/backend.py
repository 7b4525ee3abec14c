"""A backend as one upstream process has it: its connections, the line for one, and whether it gets requests.

It decides and does no I/O: what is to be closed or served it says to whom it was asked by (pools.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Protocol

from pingap.config.model import Upstream
from pingap.config.parts import Backend
from pingap.stages.circuit_states import CLOSED, HALF_OPEN
from pingap.stages.grpc import is_call
from pingap.stages.http2.engine import Http2Engine, LocalSettings
from pingap.stages.messages import Routed
from pingap.stages.upstream.channel import Channel, Shared, Single
from pingap.stages.upstream.core import Outcome
from pingap.stages.upstream.risky import announces_trailers, is_large
from pingap.stages.upstream.tally import FAULTS, UNREACHABLE, Tally
from pingap.stages.upstream.waiting import Opening, Place, Waiter, late_in

USUAL_STREAMS: Final = 100
"""Streams that a backend is taken to allow on a connection until it has said (RFC 9113 section 5.1.2)."""

HTTP1_FOR: Final = 300.0
"""Seconds for which a backend that asks for HTTP/1.1 gets nothing else: then HTTP/2 is tried again, at the price of one refusal."""

STEPS: Final = 20
"""Shares in which the weight of a backend grows that starts slowly."""


class Doorkeeper(Protocol):
    """Judges destinations that clients have chosen."""

    def objection(self, host: str, port: int, is_own: bool) -> str:
        """Why a connection to an IP address is not to be made; "" when it may be. is_own: it is an address of this host."""


class BackendGroup(Protocol):
    """The upstream, as its backends and their connections see it."""

    name: str
    settings: Upstream
    is_tls: bool
    may_share: bool
    by_host: bool
    keeps_idle: bool
    read_timeout: float
    write_timeout: float
    tls_contexts: dict[bool, Any]
    failures: frozenset[int]
    """Statuses of answers that are failures."""

    @property
    def doorkeeper(self) -> Doorkeeper | None:
        """To be asked before a connection is opened, if any."""

    def new_engine(self, settings: LocalSettings) -> Http2Engine:
        """For one connection over HTTP/2."""

    def look_at_backends(self) -> None:
        """Whether one of them gets requests has changed."""


class BackendState:
    """One backend of one upstream, as this process sees it."""

    __slots__ = (
        "_failures",
        "_least_failure",
        "active",
        "address",
        "apart",
        "authority",
        "circuit",
        "connecting",
        "connections",
        "elsewhere",
        "entry",
        "full_weight",
        "group",
        "host",
        "http1_until",
        "idle",
        "is_drained",
        "is_healthy",
        "is_http1",
        "is_usable",
        "keeps_case",
        "keeps_idle",
        "name",
        "pending",
        "port",
        "probes",
        "round",
        "shared",
        "since",
        "streams",
        "takes_trailers",
        "takes_tunnels",
        "tally",
        "tls_sessions",
        "told_load",
        "weight",
    )

    def __init__(self, group: BackendGroup, backend: Backend, entry: Backend, tally: Tally) -> None:
        """entry: what `addrs` says. backend: what that stands for, perhaps itself."""
        self.group = group
        self.host, self.port, self.full_weight = backend.host, backend.port, backend.weight
        self.weight = backend.weight
        """What balancers go by: less than the full weight, relative to the others, while it starts slowly."""
        self.since = 0.0
        """Monotonic seconds at which it has come back, while it starts slowly; else 0.0."""
        self.address = backend.address
        self.entry = entry.address
        self.tls_sessions: dict[bool, Any] = {}
        """What secure.py keeps of it: sessions to go on with, by whether HTTP/1.1 alone is offered."""
        named = backend if group.settings.discovery == "docker" else entry  # a label names no host
        self.name = named.server_name
        """As configured: what certificates are for."""
        self.authority = named.authority.encode()
        """What a request without a host is sent with."""
        self.is_healthy = True
        """By its checks."""
        self.is_drained = False
        """Taken out by hand."""
        self.circuit: int = CLOSED
        """In which state; half-open, it gets probes."""
        self.round = 0
        """Of half-open."""
        self.probes = 0
        """Requests that it may get in this round yet."""
        self.is_usable = True
        """By all of these it may get a request."""
        self.count_by(tally)
        self._failures = group.failures
        self._least_failure = min(group.failures, default=1000)
        self.keeps_idle = group.keeps_idle
        """Connections that have done their part wait here for the next request."""
        self.keeps_case = group.settings.preserve_header_case
        """Over HTTP/1.1 it gets header names as they were written."""
        self.active = 0
        """Attempts that are made at it now."""
        self.told_load = (0, 0)
        """Requests and connections when that was looked at."""
        self.elsewhere = 0
        """The same of other replicas, as far as discovery has told."""
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

    def count_by(self, tally: Tally) -> None:
        """What it does from now on is counted there."""
        self.tally = tally
        tally.states.append(self)

    # -- whether it gets requests -----------------------------------------------------

    def judge(self, is_healthy: bool, is_drained: bool, circuit: int, number: int, probes: int) -> bool:
        """Takes discovery's word. True when it has come back, with nothing to keep it from requests any more.

        number: of the round; probes: that are for this replica in it. Probes are requests, but while it gets no others it is not back.
        """
        was_kept = not self.is_healthy or self.is_drained or self.circuit != CLOSED
        self.is_healthy, self.is_drained = is_healthy, is_drained
        if circuit != self.circuit or number != self.round:
            self.circuit, self.round, self.probes = circuit, number, probes
        self._consider()
        return was_kept and self.is_usable and circuit == CLOSED

    def _consider(self) -> None:
        flows = self.circuit == CLOSED or (self.circuit == HALF_OPEN and self.probes > 0)
        self.is_usable = self.is_healthy and flows and not self.is_drained

    def take_probe(self) -> int:
        """The next request is one; the number of its round."""
        self.probes -= 1
        if self.probes <= 0:
            self._consider()
            self.group.look_at_backends()
        return self.round

    def _give_probe_back(self) -> None:
        self.probes += 1
        self._consider()
        self.group.look_at_backends()

    # -- attempts -------------------------------------------------------------------

    def answered(self, status: int, probe: int) -> None:
        """The head of an answer has come, and the rest will be long in coming: it is counted now. probe: as in `settled`."""
        if status >= self._least_failure and status in self._failures:
            self.tally.went_wrong(False)
            if probe:
                self.tally.probe_settled(probe, False)
        else:
            self.tally.has_begun()
            if probe:  # one that waited for its end would keep a backend of WebSockets half-open for hours
                self.tally.probe_settled(probe, True)

    def settled(self, outcome: Outcome, status: int, probe: int, is_counted: bool) -> None:
        """An attempt at it has ended. Each that was counted in `active` comes here once.

        status: of its answer; 0 if none came. probe: the round of half-open whose probe it was; 0 = it was none.
        is_counted: its answer was, when it began.
        """
        self.active -= 1
        if is_counted:
            if status in self._failures:
                self.tally.touch()  # it is one failure already
            elif outcome not in FAULTS:
                self.tally.has_ended()  # by whomever: most streams and all tunnels are called off
            else:
                self.tally.went_wrong(False, True)
                if probe:
                    self.tally.probe_settled(probe, False)
        elif outcome is Outcome.ANSWERED:
            if status >= self._least_failure and status in self._failures:
                self.tally.went_wrong(False)
                if probe:
                    self.tally.probe_settled(probe, False)
            else:
                self.tally.went_well()
                if probe:
                    self.tally.probe_settled(probe, True)
        elif outcome in FAULTS:
            self.tally.went_wrong(outcome in UNREACHABLE)
            if probe:
                self.tally.probe_settled(probe, False)
        else:
            self.tally.touch()
            if probe and probe == self.round and self.circuit == HALF_OPEN:
                self._give_probe_back()  # it has told nothing

    def look_at_load(self) -> None:
        """To be called now and then: what is in flight changes with requests that begin, too."""
        load = (self.active, self.open)
        if load != self.told_load:
            self.told_load = load
            self.tally.touch()

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
        return late_in(self.pending, limit)
