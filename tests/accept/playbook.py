"""Playbooks for accept: a real AcceptActor and real connections, between fake clients and fake stages.

`Client` stands for the other end of a TCP connection with its buffers in between; the stages are the test itself, which
reads what accept has sent and answers. All envelopes go through MessagePack, as between processes. Time stands still
unless `passes` moves it.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Iterable
from typing import Any, Final

import msgpack
import pytest

from pingap.bus.envelope import WireError
from pingap.bus.members import Members
from pingap.config.model import Basic, Server, Snapshot
from pingap.observability.records import Access
from pingap.stages import date, states
from pingap.stages.accept.actor import AcceptActor
from pingap.stages.accept.checks import check_states
from pingap.stages.accept.door import Door, limits_of
from pingap.stages.accept.entry import ConnectionEntry
from pingap.stages.accept.http1 import Http1ClientConnection
from pingap.stages.forwarded import Trust
from pingap.stages.http1.engine import ENGINES
from pingap.stages.messages import UNKNOWN, Cancel, Credit, Data, Recalled, Report, Request, Response
from tests.kit.clock import Clock
from tests.kit.context import FakeContext
from tests.kit.generations import say_config
from tests.kit.transport import FakeTransport
from tests.kit.wire import over_the_wire

ACCEPT: Final = 9
ROUTING, PLUGINS, UPSTREAM = 11, 12, 13
CREW: Final = ((ROUTING, "routing"), (PLUGINS, "plugins"), (UPSTREAM, "upstream"))
DATE: Final = b"date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
KERNEL_READ: Final = 256 * 1024
"""Most bytes that one data_received brings, as in asyncio and uvloop."""


check_states()


class ClientTransport(FakeTransport):
    """What accept has of a client's connection."""

    def __init__(self, protocol: Any) -> None:
        super().__init__(protocol)
        self._info: dict[str, Any] = {"peername": ("192.0.2.7", 5000), "sockname": ("192.0.2.1", 80)}

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert data, "an empty write"
        if not self.is_lost:
            super().write(data)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self if name == "socket" else self._info.get(name, default)

    # -- its socket ---------------------------------------------------------------

    def fileno(self) -> int:
        return -1  # no socket behind it: what is written comes to `write`

    def getsockopt(self, *option: int) -> bytes:
        assert option[:2] == (socket.IPPROTO_TCP, socket.TCP_INFO)
        return bytes(120) + len(self.out).to_bytes(8, sys.byteorder)

    def setsockopt(self, *option: Any) -> None:
        self.was_reset = True  # SO_LINGER of zero, before abort


class Client:
    """One client connection, seen from the client."""

    def __init__(self, play: Play, door: Door) -> None:
        self.play = play
        begin = ConnectionEntry if door.settings.proxy_protocol else Http1ClientConnection
        self.transport = ClientTransport(begin(play.actor.connections, door))
        self._heard = 0
        self._unread: list[bytes] = []
        self.connection.connection_made(self.transport)

    @property
    def connection(self) -> Any:
        """What holds it now."""
        return self.transport.protocol

    def says(self, data: bytes) -> None:
        """The bytes arrive, as far as the server reads."""
        self._unread += [data[at : at + KERNEL_READ] for at in range(0, len(data), KERNEL_READ)]
        self.pump()

    def pump(self) -> None:
        while self._unread and self.transport.is_reading() and not self.transport.is_closing():
            self.connection.data_received(self._unread.pop(0))

    @property
    def unread(self) -> int:
        """Bytes that the server has not taken from the kernel yet."""
        return sum(map(len, self._unread))

    def hears(self) -> bytes:
        """What came since the last time, without the Date lines of accept: most tests are about something else."""
        return self.hears_all().replace(DATE, b"")

    def hears_all(self) -> bytes:
        """The same with them."""
        heard, self._heard = self.transport.out[self._heard :], len(self.transport.out)
        return heard

    def stops_reading(self) -> None:
        self.transport.is_stuck = True

    def reads(self, size: int | None = None) -> None:
        """Takes so many bytes, or from now on everything."""
        if size is None:
            self.transport.is_stuck = False
        self.transport.drain(len(self.transport.unsent) if size is None else size)
        self.pump()

    def shuts_its_side(self) -> None:
        """FIN: a half close, or the first sign of a closed browser."""
        if not self.transport.is_closing() and not self.connection.eof_received():
            self.transport.close()

    def resets(self) -> None:
        self.transport.lose(ConnectionResetError())

    @property
    def is_closed(self) -> bool:
        """The server has closed, or ended its side."""
        return self.transport.is_closing() or self.transport.eof_sent


class Play:
    """The stage on which a playbook runs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        states.broken.clear()
        self.clock = Clock()
        self.clock.rules(monkeypatch, "pingap.stages")
        monkeypatch.setattr(date._now, "_clock", lambda: 0.0)
        monkeypatch.setattr(date._now, "_line", b"")
        monkeypatch.setattr(date._now, "_until", 0.0)
        monkeypatch.setattr("pingap.stages.accept.intake.PAUSE", 3600.0)  # real time: a slow machine must not make clients pause
        monkeypatch.setattr("pingap.stages.bulk.TURN", 1 << 40)  # who pauses for others is in tests/upstream/test_bulk.py
        self.context = FakeContext("accept", ACCEPT)
        self.actor = AcceptActor(self.context)
        self.receivers = self.actor.receivers()
        self.clients: list[Client] = []
        self.doors: list[Door] = []
        self._read = 0
        self._table = 0

    async def begin(self, crew: bool = True, template: str = "") -> None:
        await self.actor.start()
        self.commits(1, template)
        await self.turn()
        assert self.context.is_ready
        if crew:
            self.members(*CREW)
        self.stages_hear()

    def commits(
        self,
        generation: int,
        template: str = "",
        servers: dict[str, Server] | None = None,
        oldest: int = 0,
        snapshot: Snapshot | None = None,
    ) -> None:
        """The configuration actor commits a generation: `snapshot`, or one of these servers only."""
        snapshot = snapshot or Snapshot(basic=Basic(error_template=template), servers=servers or {})
        say_config(self.context, (generation, snapshot, {}), oldest=oldest or generation)

    def members(self, *rows: tuple[int, str], draining: Iterable[int] = ()) -> None:
        """The supervisor announces who lives."""
        before = self.context.members
        self._table += 1
        table = [(i, stage, 0, "", "draining" if i in draining else "ready") for i, stage in rows]
        newest = max([before.newest, *(i for i, _ in rows)])
        self.context.members = members = Members.of(self._table, newest, [*table, (ACCEPT, "accept", 0, "", "ready")])
        self.actor.members_changed(members, frozenset(before.by_id) - frozenset(members.by_id))

    def connects(
        self, engine: str = "httptools", door: Door | None = None, trust: tuple[str, ...] = (), keeps_case: bool = False, **settings: Any
    ) -> Client:
        if door is None:
            server = Server(addr=(), **settings)
            door = Door("web", ENGINES[engine], server, limits_of(server, keeps_case), None, Trust(trust))
            self.doors.append(door)
        client = Client(self, door)
        self.clients.append(client)
        return client

    # -- the stages -----------------------------------------------------------------

    def stages_hear(self) -> list[tuple[int, Any]]:
        """(to, envelope) of all that accept has sent since the last time."""
        new = self.context.sent[self._read :]
        self._read = len(self.context.sent)
        return [(to, over_the_wire(envelope)) for to, envelope in new]

    def hears_request(self) -> Request:
        """The one REQUEST that was sent, and nothing else."""
        ((to, request),) = self.stages_hear()
        assert isinstance(request, Request)
        assert to == request.affinity.routing
        return request

    def hears_whole_request(self) -> tuple[Request, bytes]:
        """The one request and its body, however it comes; credit is given for all of it."""
        request = self.hears_request()
        if request.ended:
            return request, request.body
        self.grants(request, request.length)
        return request, b"".join(payload for payload, _ in self.hears_data(request))

    def hears_data(self, request: Request) -> list[tuple[bytes, bool]]:
        """(payload, ended) of the DATA that was sent, and nothing else."""
        heard = self.stages_hear()
        assert all(isinstance(data, Data) and data.is_upload and data.sid == request.sid for _, data in heard), heard
        return [(data.payload, data.ended) for _, data in heard]

    def hears_credit(self) -> int:
        """Bytes of credit that were given back; nothing else was sent."""
        heard = self.stages_hear()
        assert all(isinstance(credit, Credit) and credit.wanter == ACCEPT for _, credit in heard), heard
        return sum(credit.bytes for _, credit in heard)

    def hears_cancels(self) -> set[int]:
        """Who was told to forget it; nothing else was sent."""
        heard = self.stages_hear()
        assert all(isinstance(cancel, Cancel) for _, cancel in heard), heard
        return {to for to, _ in heard}

    def hears_nothing(self) -> bool:
        return self.stages_hear() == []

    def tell(self, envelope: Any) -> None:
        """An envelope reaches accept."""
        try:
            arrived = over_the_wire(envelope)
        except WireError as error:
            self.actor.unreadable(error)
        else:
            self.receivers[type(envelope)](arrived)

    def answers(
        self,
        request: Request,
        status: int = 200,
        headers: bytes = b"",
        body: bytes = b"",
        *,
        length: int | None = None,
        ended: bool = True,
        source: int = UPSTREAM,
        report: Report | None = None,
        watchers: tuple[int, ...] = (),
        reason: bytes = b"",
        spelled: tuple[bytes, ...] = (),
    ) -> None:
        if length is None:
            length = len(body) if ended else UNKNOWN
        self.tell(Response(request.sid, source, status, headers, length, body, ended, report, watchers, reason, spelled))

    def streams(self, request: Request, payload: bytes, ended: bool = False, error: str = "") -> None:
        """Body bytes of the answer arrive."""
        self.tell(Data(request.sid, payload, ended, error))

    def grants(self, request: Request, size: int, wanter: int = UPSTREAM) -> None:
        """Somebody wants so many bytes of the request body."""
        self.tell(Credit(request.sid, size, wanter))

    def recalled(self, request: Request, actor: int, state: int) -> None:
        self.tell(Recalled(request.sid, actor, state))

    # -- time and the log ---------------------------------------------------------------

    async def turn(self) -> None:
        """What was put off to a later turn of the loop is done, and clients send on when they may."""
        for _ in range(4):
            await asyncio.sleep(0)
            for client in self.clients:
                client.pump()

    async def passes(self, seconds: float) -> None:
        """Time passes; the actor looks at its deadlines twice a second."""
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.clock.now = min(end, self.clock.now + 0.5)
            self._sweep()
            await self.turn()

    def _sweep(self) -> None:
        if self.actor._sweeper is not None:
            self.actor._sweeper.cancel()
        self.actor._sweep()

    @property
    def events(self) -> list[Access]:
        return [Access(*msgpack.unpackb(msgpack.packb(event), use_list=False)) for event in self.context.emitted]

    @property
    def event(self) -> Access:
        (event,) = self.events
        return event

    @property
    def is_holding(self) -> int:
        return len(self.actor.streams.by_sid)

    async def end(self) -> None:
        """All clients leave; nothing may be left of them."""
        for client in self.clients:
            if not client.transport.is_lost:
                client.resets()
        await self.turn()
        actor = self.actor
        if actor._sweeper is not None:
            actor._sweeper.cancel()
        assert states.broken == [], "a move that no table has"
        assert actor.streams.by_sid == {}, "a stream was left behind"
        assert not actor.connections.held, "a connection was left behind"
        assert not actor.streams._recovery._recalling, "a recall was left behind"
        assert all(door.connections == 0 for door in self.doors)
        connections = [client.connection for client in self.clients if isinstance(client.connection, Http1ClientConnection)]
        assert not any(one._buffer or one._intake is not None for one in connections), "bytes were left behind"


def get(target: bytes = b"/", *lines: bytes, version: bytes = b"1.1") -> bytes:
    """A GET with these header lines."""
    return b"\r\n".join((b"GET %b HTTP/%b" % (target, version), b"Host: a.example", *lines, b"", b""))


def post(*lines: bytes, body: bytes = b"", version: bytes = b"1.1") -> bytes:
    """A POST with these header lines and this body."""
    return b"\r\n".join((b"POST / HTTP/%b" % version, b"Host: a.example", *lines, b"", b"")) + body
