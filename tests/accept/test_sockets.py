"""The same on real sockets, on uvloop and on asyncio's own loop: what only a kernel can show."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvloop

from pingap.bus.members import Members
from pingap.config.model import Server, Snapshot
from pingap.stages.accept.actor import AcceptActor
from pingap.stages.accept.outlet import WRITE_BUFFER
from pingap.stages.http1.body import ChunkedBody
from pingap.stages.messages import UNKNOWN, WINDOW, Cancel, Credit, Data, Request, Response
from tests.accept.playbook import CREW, UPSTREAM, get, post
from tests.kit.context import FakeContext
from tests.kit.generations import say_config

LOOPS = pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
PATIENCE = 10


class Stages(FakeContext):
    """A context whose stages answer by `script(request)` and note what else they hear."""

    def __init__(self, script: Callable[[Stages, Request], None], listener: socket.socket) -> None:
        super().__init__("accept", 9, {"listeners": [{"server": "web", "fd": listener.detach()}]})
        self.script = script
        self.changed = asyncio.Event()
        self.members = Members.of(1, 99, [(i, stage, 0, "", "ready") for i, stage in CREW])

    def send(self, to: int, envelope: Any) -> None:
        super().send(to, envelope)
        self.changed.set()
        if isinstance(envelope, Request):
            self.loop.call_soon(self.script, self, envelope)

    def ready(self) -> None:
        super().ready()
        self.changed.set()

    def tell(self, envelope: Any) -> None:
        self.actor.receivers()[type(envelope)](envelope)

    def answer(self, request: Request, status: int = 200, body: bytes = b"", length: int | None = None, ended: bool = True) -> None:
        length = (len(body) if ended else UNKNOWN) if length is None else length
        self.tell(Response(request.sid, UPSTREAM, status, b"", length, body, ended, None, ()))

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    actor: AcceptActor


Client = Callable[[Stages, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def play(new_loop: Callable[[], asyncio.AbstractEventLoop], script: Callable[[Stages, Request], None], client: Client) -> None:
    """Runs one client against an accept actor that listens on loopback."""

    async def main() -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        stages = Stages(script, listener)
        actor = stages.actor = AcceptActor(stages)
        await actor.start()
        actor.members_changed(stages.members, frozenset())
        say_config(stages, (1, Snapshot(servers={"web": Server(addr=())}), {}), oldest=1)
        await stages.until(lambda: stages.is_ready)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            async with asyncio.timeout(PATIENCE):
                await client(stages, reader, writer)
        finally:
            writer.close()
            await actor.stop()
            while actor.connections.held:
                await asyncio.sleep(0)
            assert actor.streams.by_sid == {}

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())


@LOOPS
def test_a_thousand_pipelined_requests_are_answered_in_order(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def client(stages: Stages, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"".join(get(b"/%04d" % number) for number in range(1000)))
        for number in range(1000):
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            assert await reader.readexactly(5) == b"/%04d" % number

    play(new_loop, lambda stages, request: stages.answer(request, body=request.target), client)


@LOOPS
def test_an_error_before_the_end_of_a_large_body_reaches_the_client_whole(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def client(stages: Stages, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = 8 * 1024 * 1024
        writer.write(post(b"Content-Length: %d" % size, body=b"x" * size))
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert answer.endswith(b"y" * 100_000)

    play(new_loop, lambda stages, request: stages.answer(request, 413, b"y" * 100_000), client)


@LOOPS
def test_a_cut_answer_that_ends_with_its_connection_is_no_orderly_end(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def client(stages: Stages, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(get(version=b"1.0"))
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"\r\nconnection: close\r\n" in head
        (request,) = [envelope for _, envelope in stages.sent if isinstance(envelope, Request)]
        stages.tell(Data(request.sid, b"", False, "bad_gateway"))
        with pytest.raises(ConnectionResetError):
            await reader.read()

    play(new_loop, lambda stages, request: stages.answer(request, ended=False), client)


@LOOPS
@pytest.mark.parametrize("size", [3, 100_000])
def test_a_cut_chunked_answer_ends_without_its_last_chunk(new_loop: Callable[[], asyncio.AbstractEventLoop], size: int) -> None:
    async def client(stages: Stages, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(get())
        await reader.readuntil(b"\r\n\r\n")
        (request,) = [envelope for _, envelope in stages.sent if isinstance(envelope, Request)]
        stages.tell(Data(request.sid, b"x" * size, False, ""))
        stages.tell(Data(request.sid, b"", False, "bad_gateway"))
        assert await reader.read() == b"%x\r\n%b\r\n" % (size, b"x" * size)

    play(new_loop, lambda stages, request: stages.answer(request, ended=False), client)


@LOOPS
@pytest.mark.parametrize("way", ["close", "eof", "abort"])
def test_a_client_that_leaves_an_endless_answer_stops_it(new_loop: Callable[[], asyncio.AbstractEventLoop], way: str) -> None:
    async def client(stages: Stages, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(get())
        await reader.readuntil(b"\r\n\r\n")
        if way == "close":
            writer.close()
        elif way == "eof":
            writer.write_eof()
        else:
            writer.transport.abort()
        await stages.until(lambda: len([1 for _, envelope in stages.sent if isinstance(envelope, Cancel)]) == 3)

    play(new_loop, lambda stages, request: stages.answer(request, ended=False), client)


@LOOPS
def test_a_client_that_does_not_read_holds_its_sender_back(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    payload = b"x" * 65536

    async def client(stages: Stages, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = 64 * 1024 * 1024
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(get())
        await stages.until(lambda: any(isinstance(envelope, Request) for _, envelope in stages.sent))
        (request,) = [envelope for _, envelope in stages.sent if isinstance(envelope, Request)]
        await asyncio.sleep(0)
        sent, granted, seen = 0, WINDOW, len(stages.sent)
        held_back = False
        received = bytearray()
        while sent < size:
            if sent + len(payload) <= granted:
                sent += len(payload)
                stages.tell(Data(request.sid, payload, sent == size, ""))
            else:
                await asyncio.sleep(0)
            new, seen = stages.sent[seen:], len(stages.sent)
            more = sum(envelope.bytes for _, envelope in new if isinstance(envelope, Credit))
            granted += more
            if not more and sent + len(payload) > granted and not held_back:
                held_back = True
                (connection,) = stages.actor.connections.held
                assert connection.transport.get_write_buffer_size() <= WRITE_BUFFER + WINDOW
                writer.transport.resume_reading()  # type: ignore[attr-defined]
            if held_back:
                received += await reader.read(1 << 20)
        while len(received) < size:
            received += await reader.read(1 << 20)
        assert held_back
        assert len(received.partition(b"\r\n\r\n")[2]) == size

    play(new_loop, lambda stages, request: stages.answer(request, length=64 * 1024 * 1024, ended=False), client)


@LOOPS
def test_an_upload_of_many_megabytes_arrives_whole_under_credit(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    size = 16 * 1024 * 1024

    def script(stages: Stages, request: Request) -> None:
        stages.tell(Credit(request.sid, 100_000, UPSTREAM))

    async def client(stages: Stages, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(post(b"Content-Length: %d" % size, body=b"x" * size))
        arrived = seen = 0
        ended = False
        sid = 0
        while not ended:
            await stages.until(lambda: len(stages.sent) > seen)  # noqa: B023
            new, seen = stages.sent[seen:], len(stages.sent)
            for _, envelope in new:
                sid = envelope.sid
                if isinstance(envelope, Data):
                    arrived += len(envelope.payload)
                    ended = envelope.ended
                    stages.tell(Credit(sid, len(envelope.payload), UPSTREAM))
        assert arrived == size
        stages.tell(Response(sid, UPSTREAM, 200, b"", 0, b"", True, None, ()))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")

    play(new_loop, script, client)


@LOOPS
def test_a_drained_port_takes_no_more_connections(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def client(stages: Stages, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(get())
        await reader.readuntil(b"\r\n\r\n")
        port = writer.get_extra_info("peername")[1]
        stages.actor.begin_drain(0.0)
        assert await reader.read() == b""
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)

    play(new_loop, lambda stages, request: stages.answer(request), client)


@LOOPS
def test_pieces_of_all_sizes_keep_their_order_when_the_client_reads_slowly(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Small pieces go straight to the socket, large ones through the transport: none may overtake another."""
    sizes = [3, 20_000, 10, 300_000, 1, 17_000, 16_384, 5, 262_144, 100]
    pieces = [bytes([number % 251]) * sizes[number % len(sizes)] for number in range(400)]

    async def client(stages: Stages, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(get())
        await stages.until(lambda: any(isinstance(envelope, Request) for _, envelope in stages.sent))
        (request,) = [envelope for _, envelope in stages.sent if isinstance(envelope, Request)]
        await asyncio.sleep(0)
        (connection,) = stages.actor.connections.held
        descriptor = writer.get_extra_info("socket").fileno()
        wire, waited = bytearray(), 0
        for number, piece in enumerate(pieces):
            if connection.transport.get_write_buffer_size():
                waited += 1
                # Read behind the back of the loop: there is room in the socket before the transport hears of it.
                with contextlib.suppress(BlockingIOError):
                    wire += os.read(descriptor, 1 << 20)
            stages.tell(Data(request.sid, piece, number == len(pieces) - 1, ""))
        while not wire.endswith(b"\r\n0\r\n\r\n"):
            await asyncio.sleep(0)
            with contextlib.suppress(BlockingIOError):
                wire += os.read(descriptor, 1 << 20)
        body = ChunkedBody()
        assert body.feed(bytes(wire.partition(b"\r\n\r\n")[2])) == b"".join(pieces)
        assert body.done
        assert waited > 10

    play(new_loop, lambda stages, request: stages.answer(request, ended=False), client)
