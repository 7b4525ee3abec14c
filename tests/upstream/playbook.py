"""Playbooks for upstream: a real UpstreamActor with real BackendConnections, between fake stages and fake backends.

`Backend` is one address, `Link` the backend's end of one connection to it, with the kernel's buffers in between; the
other stages are the test itself. All envelopes go through MessagePack, as between processes. Time stands still unless
`passes` moves it.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any, Final

import pytest

from pingap.bus.members import Members
from pingap.config import parts
from pingap.config.model import Basic, Location, Server, Snapshot, Upstream
from pingap.config.parts import Balance
from pingap.stages import states
from pingap.stages.http2 import engine, engines
from pingap.stages.http2.engine import LocalSettings
from pingap.stages.messages import (
    UNKNOWN,
    Affinity,
    BackendReport,
    Cancel,
    Credit,
    Data,
    Interim,
    Peer,
    Recall,
    Recalled,
    Report,
    Response,
    Routed,
    Taken,
)
from pingap.stages.upstream import exchange as exchange_module
from pingap.stages.upstream import pools as pools_module
from pingap.stages.upstream.actor import SWEEP, UpstreamActor
from pingap.stages.upstream.backend import BackendState
from pingap.stages.upstream.dial import Connection
from pingap.stages.upstream.group import Group
from pingap.stages.upstream.http1 import BackendConnection
from pingap.stages.upstream.http2 import SharedConnection
from pingap.stages.upstream.keeper import Keeper
from pingap.stages.upstream.states import check_states
from tests.kit.clock import Clock
from tests.kit.context import FakeContext
from tests.kit.generations import Generation, say_config
from tests.kit.transport import FakeTransport
from tests.kit.wire import over_the_wire

PENDING_TIMEOUT: Final = Upstream(addrs=()).pending_timeout
ACCEPT: Final = 9
ROUTING, PLUGINS, UPSTREAM = 11, 12, 13
CREW: Final = ((ACCEPT, "accept"), (ROUTING, "routing"), (PLUGINS, "plugins"), (UPSTREAM, "upstream"))
KERNEL_READ: Final = 256 * 1024
"""Most bytes that one data_received brings, as in asyncio and uvloop."""

check_states(exchange_module.UpstreamExchange)

OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def report_of(response: Response) -> Report:
    assert response.report is not None
    return response.report


class BackendTransport(FakeTransport):
    """What upstream has of a connection to a backend."""

    def __init__(self, protocol: Connection, link: Link) -> None:
        super().__init__(protocol)
        self.link = link

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self.was_reset:
            return  # as a real one does until it has told its protocol
        assert not self._closing, "a write to a connection that was given up"
        super().write(data)

    def resume_reading(self) -> None:
        if not self._reading:
            self._reading = True
            asyncio.get_running_loop().call_soon(self.link.pump)


class FakeSocket:
    """The socket itself, past the transport: to look at it, or to read what is left after a failed write."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def recv(self, size: int, flags: int) -> bytes:
        unread = self._link.unread
        if unread:
            return unread[0][:size] if flags & socket.MSG_PEEK else unread.pop(0)
        if self._link.eof:
            return b""
        raise BlockingIOError

    def has_unread(self) -> bool:
        return bool(self._link.unread)


class Link:
    """One backend connection, seen from the backend."""

    def __init__(self, keeper: Keeper, state: BackendState, name: str = "", is_http2: bool = False) -> None:
        self.unread: list[bytes] = []
        """What the kernel has and the proxy has not read."""
        self.eof = False
        self._heard = 0
        own: Any = FakeSocket(self)
        self.connection: Any = SharedConnection(keeper, state, name) if is_http2 else BackendConnection(keeper, state, own, name)
        self.transport = BackendTransport(self.connection, self)

    def hears(self) -> bytes:
        """What came since the last time."""
        heard, self._heard = self.transport.out[self._heard :], len(self.transport.out)
        return heard

    def says(self, data: bytes, *, now: bool = True) -> None:
        """The bytes arrive: at the proxy at once as far as it reads, or in the kernel only."""
        self.unread += [data[at : at + KERNEL_READ] for at in range(0, len(data), KERNEL_READ)]
        if now:
            self.pump()

    def closes(self, *, now: bool = True) -> None:
        """FIN."""
        self.eof = True
        if now:
            self.pump()

    def resets(self) -> None:
        if not self.transport.is_closing():
            self.transport.was_reset = True
            self.transport.lose(ConnectionResetError("reset by peer"))

    def pump(self) -> None:
        """The event loop of the proxy looks at the socket."""
        transport = self.transport
        while self.unread and transport.is_reading() and not transport.is_closing():
            self.connection.data_received(self.unread.pop(0))
        if self.eof and not self.unread and transport.is_reading() and not transport.is_closing():
            self.eof = False
            if not self.connection.eof_received():
                transport.close()

    def stops_reading(self) -> None:
        self.transport.is_stuck = True

    def reads(self, size: int | None = None) -> None:
        """Takes so many bytes, or from now on everything."""
        if size is None:
            self.transport.is_stuck = False
        self.transport.drain(len(self.transport.unsent) if size is None else size)

    @property
    def is_closed(self) -> bool:
        """The proxy has let go of it."""
        return self.transport.is_closing()


class Http2Link(Link):
    """A connection on which the backend speaks HTTP/2, with an engine of its own."""

    def __init__(self, keeper: Keeper, state: BackendState, name: str, settings: LocalSettings) -> None:
        super().__init__(keeper, state, name, True)
        self.engine = engines.engine(engines.DEFAULT)(False, settings)
        self.engine.start()
        self.streams: dict[int, dict[bytes, bytes]] = {}
        """Stream → the fields of its request."""
        self.bodies: dict[int, bytes] = {}
        self.ended: set[int] = set()
        """Streams whose request is complete."""
        self.trailers: dict[int, Any] = {}
        self.reset: dict[int, int] = {}
        """Stream → the code with which the proxy reset it."""
        self.goodbye: int | None = None
        """The code of the proxy's GOAWAY."""
        self.acknowledges = True
        """Takes bodies as they come; else the proxy's window to us stays as it is."""

    def listens(self) -> list[int]:
        """Reads what has come. The streams that are new."""
        known = len(self.streams)
        while heard := self.hears():
            for event in self.engine.receive(heard):
                if isinstance(event, engine.Head):
                    self.streams[event.stream_id] = dict(event.fields)
                    self.bodies[event.stream_id] = b""
                elif isinstance(event, engine.Body):
                    self.bodies[event.stream_id] += event.data
                    if self.acknowledges:
                        self.engine.acknowledge(event.stream_id, event.flow_length)
                elif isinstance(event, engine.Trailers):
                    self.trailers[event.stream_id] = event.fields
                    self.ended.add(event.stream_id)
                elif isinstance(event, engine.Reset):
                    self.reset[event.stream_id] = event.code
                elif isinstance(event, engine.GoAway):
                    self.goodbye = event.code
                if isinstance(event, engine.Head | engine.Body) and event.ended:
                    self.ended.add(event.stream_id)
            self.speaks()
        return list(self.streams)[known:]

    def speaks(self) -> None:
        """What the engine has queued arrives at the proxy."""
        data = self.engine.outgoing()
        if data and not self.transport.is_closing():
            self.says(data)

    def starts(self, stream: int, status: int = 200, *more: tuple[bytes, bytes], ended: bool = False) -> None:
        """A response head."""
        self.engine.send_head(stream, ((b":status", b"%d" % status), *more), ended)
        self.speaks()

    def sends(self, stream: int, data: bytes, ended: bool = False) -> int:
        """As much of a response body as there is room for."""
        size = min(len(data), self.engine.room(stream))
        self.engine.send_data(stream, data[:size], ended and size == len(data))
        self.speaks()
        return size

    def answers(self, stream: int, body: bytes = b"ok", status: int = 200, *more: tuple[bytes, bytes]) -> None:
        """A whole answer, in one read."""
        self.engine.send_head(stream, ((b":status", b"%d" % status), *more), False)
        self.engine.send_data(stream, body, True)
        self.speaks()

    def drops(self, stream: int, code: int) -> None:
        self.engine.reset(stream, code)
        self.speaks()

    def leaves(self, last: int, code: int = 0) -> None:
        self.engine.goaway(code, last)
        self.speaks()


class Backend:
    """One address."""

    def __init__(self) -> None:
        self.links: list[Link] = []
        self.refuses: BaseException | None = None
        self.hangs = False
        self.asked = 0
        """Connects, whatever became of them."""
        self.agrees_to = "h2"
        """By ALPN, where it is asked."""
        self.settings = LocalSettings()
        """Of its HTTP/2."""
        self.greeting = b""
        """What it says in their place."""
        self._dialing: list[asyncio.Future[None]] = []

    async def connect(self, keeper: Keeper, state: BackendState, name: str = "", only_http1: bool = False) -> Connection:
        self.asked += 1
        if self.hangs:
            waiting = asyncio.get_running_loop().create_future()
            self._dialing.append(waiting)
            try:
                await waiting
            finally:
                self._dialing.remove(waiting)
        else:
            await asyncio.sleep(0)
        if self.refuses is not None:
            raise self.refuses
        if state.group.may_share and self.agrees_to == "h2" and not only_http1:
            link: Link = Http2Link(keeper, state, name, self.settings)
        else:
            link = Link(keeper, state, name)
        self.links.append(link)
        link.connection.connection_made(link.transport)
        if isinstance(link, Http2Link):
            link.says(self.greeting) if self.greeting else link.speaks()
            await link.connection.greeted
        made: Connection = link.connection
        return made

    @property
    def dialing(self) -> int:
        """Connects that have had no answer yet."""
        return len(self._dialing)

    def answers_dials(self) -> None:
        """Those that hang are accepted (or refused, if it refuses by now)."""
        self.hangs = False
        for waiting in self._dialing:
            if not waiting.done():
                waiting.set_result(None)

    @property
    def link(self) -> Link:
        """The newest connection."""
        return self.links[-1]

    @property
    def open(self) -> list[Link]:
        return [link for link in self.links if not link.is_closed]


class Play:
    """The stage on which a playbook runs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch | None) -> None:
        """Without monkeypatch: real sockets and real time."""
        if monkeypatch is not None:
            monkeypatch.setattr("pingap.stages.bulk.TURN", 1 << 40)  # who pauses for others is in test_bulk.py
        states.broken.clear()
        self.clock = Clock()
        self.context = FakeContext("upstream", UPSTREAM)
        self.actor = UpstreamActor(self.context)
        if monkeypatch is not None:
            self.clock.rules(monkeypatch, "pingap.stages")
            monkeypatch.setattr(pools_module, "dial", self._dial)
            monkeypatch.setattr("pingap.stages.upstream.http1.has_unread", FakeSocket.has_unread)
        self.receivers = self.actor.receivers()
        self.backends: dict[str, Backend] = {}
        self.generation = 0
        self._sid = ACCEPT << 32
        self._read = 0
        self.interims: list[Interim] = []
        """Interim answers that were passed on; what is heard is without them."""
        self.takens: list[tuple[int, int]] = []
        """(who, stream) of those who were told that there will be no answer to see, but a tunnel; heard as little."""
        self._table = 0

    async def begin(self) -> None:
        await self.actor.start()
        self.members(*CREW)

    async def _dial(self, loop: object, lookups: object, keeper: Keeper, state: BackendState, name: str, only_http1: bool) -> Connection:
        return await self.backend(state.address).connect(keeper, state, name, only_http1)

    def backend(self, address: str = "a:1") -> Backend:
        return self.backends.setdefault(address, Backend())

    # -- configuration, health, members ---------------------------------------------

    def serves(
        self,
        addrs: str = "a:1",
        algo: str = "least_conn",
        *,
        location: dict[str, Any] | None = None,
        basic: dict[str, Any] | None = None,
        more: dict[str, Upstream] | None = None,
        servers: dict[str, Server] | None = None,
        **settings: Any,
    ) -> Group:
        """Commits a generation with the upstream `api`: backends `host:port[*weight]` or `unix:/path` with spaces between."""
        backends = []
        for text in addrs.split():
            if text.startswith(parts.UNIX):
                backends.append(parts.Backend(text.removeprefix(parts.UNIX), 0))
                continue
            address, _, weight = text.partition("*")
            host, _, port = address.rpartition(":")
            backends.append(parts.Backend(host, int(port), int(weight or 1)))
        upstream = Upstream(addrs=tuple(backends), algo=Balance(kind=algo), **settings)  # type: ignore[arg-type]
        snapshot = Snapshot(
            basic=Basic(**(basic or {})),
            servers=servers or {},
            locations={"site": Location(upstream="api", **(location or {}))},
            upstreams={"api": upstream, **(more or {})},
        )
        self.generation += 1
        self.publishes(self.generation, snapshot)
        return self.group()

    def publishes(
        self, committed: int, current: Snapshot, candidate: int = 0, coming: Snapshot | None = None, oldest: int | None = None
    ) -> None:
        """The configuration actor says so."""
        then: Generation | None = None if coming is None else (candidate, coming, {})
        say_config(self.context, (committed, current, {}), then, committed if oldest is None else oldest)

    def group(self, name: str = "api") -> Group:
        return self.actor.pools.groups[name]

    def state(self, address: str = "a:1", name: str = "api") -> BackendState:
        return next(state for state in self.group(name).backends if state.address == address)

    def resolves(self, **names: dict[str, list[str]]) -> None:
        """Discovery publishes the addresses of names: upstream → entry → IP addresses, with the port and the weight of the entry."""
        groups = self.actor.pools.groups
        weights = {(name, entry.address): entry.weight for name, group in groups.items() for entry in group.settings.addrs}

        def found(name: str, entry: str, hosts: list[str]) -> list[tuple[str, int, int]]:
            return [(host, int(entry.rpartition(":")[2]), weights.get((name, entry), 1)) for host in hosts]

        self.finds(**{name: {entry: found(name, entry, hosts) for entry, hosts in told.items()} for name, told in names.items()})

    def finds(self, **upstreams: dict[str, list[tuple[str, int, int]]]) -> None:
        """Discovery publishes backends: upstream → entry → host, port and weight of each."""
        self.context.following["backends"](upstreams)

    def health(self, **upstreams: dict[str, bool]) -> None:
        self.context.following["health"](upstreams)

    def members(self, *rows: tuple[int, str]) -> None:
        """The supervisor announces who lives."""
        before = self.context.members
        self._table += 1
        newest = max([before.newest, *(actor for actor, _ in rows)])
        members = Members.of(self._table, newest, [(actor, stage, 0, "", "ready") for actor, stage in rows])
        self.context.members = members
        self.actor.members_changed(members, frozenset(before.by_id) - frozenset(members.by_id))

    def without(self, *gone: int) -> None:
        """These have died."""
        self.members(*(row for row in CREW if row[0] not in gone))

    # -- the stages -----------------------------------------------------------------------

    def asks(
        self,
        method: bytes = b"GET",
        target: bytes = b"/",
        headers: bytes = b"host: example\r\n",
        *,
        body: bytes = b"",
        length: int | None = None,
        upstream: str = "api",
        location: str = "site",
        plan: int = 0,
        generation: int | None = None,
        host: bytes = b"example",
        client_ip: str = "192.0.2.7",
        variables: dict[str, str] | None = None,
        watchers: tuple[int, ...] = (),
        sid: int | None = None,
        stamps: tuple[float, ...] = (1.0, 2.0),
        upgrade: bytes = b"",
        version: int = 11,
        is_framed: bool = False,
        spelled: tuple[bytes, ...] = (),
    ) -> int:
        """A request arrives; its sid. `length` announces a body that is still to come."""
        if sid is None:
            sid = self._sid = self._sid + 1
        ended = length is None
        self.tell(
            Routed(
                sid,
                self.generation if generation is None else generation,
                Affinity(ROUTING, PLUGINS, UPSTREAM),
                "web",
                Peer("192.0.2.7", 5000, "192.0.2.1", 80, "http", 17),
                method,
                target,
                version,
                host,
                headers,
                len(body) if length is None else length,
                body,
                ended,
                0.5,
                upgrade,
                client_ip,
                location,
                upstream,
                plan,
                variables or {},
                stamps,
                b"",
                watchers,
                is_framed,
                spelled,
            )
        )
        return sid

    def posts(self, body: bytes = b"order", **more: Any) -> int:
        return self.asks(b"POST", body=body, **more)

    def uploads(self, method: bytes = b"POST", length: int = UNKNOWN, **more: Any) -> int:
        """A request whose body is still to come."""
        return self.asks(method, length=length, **more)

    def sends(self, sid: int, payload: bytes, ended: bool = False, error: str = "") -> None:
        """Bytes of the request body."""
        self.tell(Data(sid, payload, ended, error, True))

    def credits(self, sid: int, size: int) -> None:
        self.tell(Credit(sid, size, ACCEPT))

    def cancels(self, sid: int) -> None:
        self.tell(Cancel(sid, "client"))

    def recalls(self, sid: int) -> int:
        """What upstream says to RECALL."""
        self.tell(Recall(sid, ACCEPT))
        to, said = self.hears()[-1]
        assert isinstance(said, Recalled)
        assert (to, said.sid, said.actor) == (ACCEPT, sid, UPSTREAM)
        return said.state

    def tell(self, envelope: Any) -> None:
        """An envelope reaches upstream."""
        self.receivers[type(envelope)](over_the_wire(envelope))

    def hears(self) -> list[tuple[int, Any]]:
        """(to, envelope) of all that upstream has sent about requests since the last time."""
        new = self.context.sent[self._read :]
        self._read = len(self.context.sent)
        heard = [(to, over_the_wire(envelope)) for to, envelope in new]
        self.interims += [envelope for to, envelope in heard if isinstance(envelope, Interim)]
        self.takens += [(to, envelope.sid) for to, envelope in heard if isinstance(envelope, Taken)]
        return [(to, envelope) for to, envelope in heard if not isinstance(envelope, Interim | BackendReport | Taken)]

    def hears_response(self, sid: int, to: int = ACCEPT) -> Response:
        """The one RESPONSE that was sent, and nothing else."""
        ((receiver, response),) = self.hears()
        assert isinstance(response, Response), response
        assert (receiver, response.sid, response.source) == (to, sid, UPSTREAM)
        return response

    def hears_data(self, sid: int, to: int = ACCEPT) -> list[tuple[bytes, bool, str]]:
        """(payload, ended, error) of the DATA that was sent, and nothing else."""
        heard = self.hears()
        assert all(receiver == to and isinstance(data, Data) and data.sid == sid for receiver, data in heard), heard
        return [(data.payload, data.ended, data.error) for _, data in heard]

    def hears_credit(self, sid: int, to: int = ACCEPT) -> int:
        """Bytes of credit that were granted; nothing else was sent."""
        heard = self.hears()
        assert all(receiver == to and isinstance(credit, Credit) and credit.wanter == UPSTREAM for receiver, credit in heard), heard
        assert all(credit.sid == sid for _, credit in heard)
        return sum(credit.bytes for _, credit in heard)

    def hears_nothing(self) -> bool:
        return self.hears() == []

    # -- time and the end ---------------------------------------------------------------------

    async def turn(self) -> None:
        """What was put off to a later turn of the loop is done."""
        for _ in range(8):
            await asyncio.sleep(0)

    async def passes(self, seconds: float) -> None:
        """Time passes; the actor looks at its deadlines."""
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.clock.now = min(end, self.clock.now + SWEEP)
            self._sweep()
            await self.turn()

    def _sweep(self) -> None:
        if self.actor._sweeper is not None:
            self.actor._sweeper.cancel()
        self.actor._sweep()
        self.actor.pauses.sweep()
        for group in tuple(self.actor.pools._lines):
            self.actor.pools.end_waits(group, self.clock.now)

    async def fetches(self, method: bytes = b"GET", address: str = "a:1", **more: Any) -> Link:
        """One whole exchange; the connection that served it."""
        sid = self.asks(method, **more)
        await self.turn()
        link = next(link for link in reversed(self.backend(address).open) if link.connection.exchange is not None)
        assert link.hears().startswith(method)
        link.says(OK)
        assert self.hears_response(sid).status == 200
        return link

    def is_idle(self) -> None:
        """Nothing of any exchange is left: neither here nor at a backend."""
        assert self.actor._exchanges == {}, "an exchange was left behind"
        assert self.actor.held() == 0
        groups = {id(group): group for compiled in self.actor._generations._compiled.values() for group in compiled.groups.values()}
        for group in groups.values():
            assert group.pending == 0
            for state in group.serving():
                assert state.active == 0, f"{state.address}: {state.active} requests were never counted off"
                assert not state.pending
                lines: tuple[Any, ...] = (*state.idle, *state.shared, *state.apart)
                kept = [connection for connection in lines if not connection.is_closed]
                assert state.open == len(kept), f"{state.address}: {state.open} connections counted, {len(kept)} kept"
                idle: list[Any] = state.idle
                assert all(connection.exchange is None for connection in idle)
                assert all(connection.is_unused for connection in state.shared)
                assert not state.connecting
        for address, backend in self.backends.items():
            assert not backend.dialing, f"{address} is still being dialled"
            states = [state for group in groups.values() for state in group.serving() if state.address == address]
            kept = [connection for state in states for connection in (*state.idle, *state.shared, *state.apart)]
            assert {id(link.connection) for link in backend.open} == {id(c) for c in kept}, f"a connection to {address} was left open"

    async def end(self) -> None:
        await self.turn()
        self.is_idle()
        await self.actor.stop()
        await self.turn()
        assert not any(backend.open for backend in self.backends.values())
        assert states.broken == [], "a move that no table has"
        problems = [logged for logged in self.context.logged if logged[0] == "error"]
        assert not problems, problems
