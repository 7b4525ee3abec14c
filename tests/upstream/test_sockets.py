"""Real sockets, real time, both event loops: what a fake transport could get wrong."""

from __future__ import annotations

import asyncio
import inspect
import os
import socket
import struct
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop

from pingap.config.model import Upstream
from pingap.config.parts import Backend
from pingap.stages.lookups import Address, Lookups
from pingap.stages.messages import WINDOW, Credit, Data, Response
from pingap.stages.upstream.dial import TCP_FASTOPEN_CONNECT, socket_options
from tests.kit.waiting import free_port
from tests.upstream.playbook import OK, Play

RESET = struct.pack("ii", 1, 0)
Reply = Callable[["Origin", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Wire(Play):
    """A playbook with real connections."""

    def __init__(self) -> None:
        super().__init__(None)
        self.heard: dict[int, list[Any]] = {}

    def listen(self) -> None:
        for _, envelope in self.hears():
            self.heard.setdefault(envelope.sid, []).append(envelope)

    async def until(self, condition: Callable[[], Any], seconds: float = 5.0) -> Any:
        """Waits for something to come true."""
        end = time.monotonic() + seconds
        while True:
            self.listen()
            result = condition()
            if result:
                return result
            assert time.monotonic() < end, "it never came true"
            await asyncio.sleep(0.001)

    async def answer(self, sid: int) -> tuple[int, bytes, str]:
        """(status, body, error) once it is over; credit is given as it comes."""
        given = 0

        def more() -> bool:
            return len(self.heard.get(sid, ())) > given

        while True:
            await self.until(more)
            parts = [part for part in self.heard[sid] if isinstance(part, Response | Data)]
            for part in self.heard[sid][given:]:
                if isinstance(part, Data):
                    self.credits(sid, len(part.payload))
            given = len(self.heard[sid])
            if parts and (parts[-1].ended or (isinstance(parts[-1], Data) and parts[-1].error)):
                head, *rest = parts
                assert isinstance(head, Response)
                body, error = head.body, ""
                for part in rest:
                    assert isinstance(part, Data)
                    body, error = body + part.payload, part.error
                return head.status, body, error

    async def gets(self, method: bytes = b"GET", **more: Any) -> tuple[int, bytes, str]:
        return await self.answer(self.asks(method, **more))


@asynccontextmanager
async def wired() -> AsyncIterator[Wire]:
    """A ready upstream actor; whatever the test did, no socket of it may be left at its end."""
    before = descriptors()
    wire = Wire()
    await wire.begin()
    yield wire
    await wire.end()
    await wire.until(lambda: descriptors() <= before)


def on_both_loops(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Runs a test of `wire` on asyncio's own loop and on uvloop."""

    async def body(**more: Any) -> None:
        async with wired() as wire:
            await test(wire, **more)

    def run(new_loop: Callable[[], asyncio.AbstractEventLoop], **more: Any) -> None:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(body(**more))

    parameters = [inspect.Parameter("new_loop", inspect.Parameter.KEYWORD_ONLY)]
    for parameter in inspect.signature(test).parameters.values():
        if parameter.name != "wire":
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__name__, run.__module__ = test.__name__, test.__module__
    loops = [asyncio.new_event_loop, uvloop.new_event_loop]
    marked: Callable[..., None] = pytest.mark.parametrize("new_loop", loops, ids=["asyncio", "uvloop"])(run)
    return marked


def descriptors() -> int:
    """Sockets that this process has open."""
    count = 0
    for fd in os.listdir("/proc/self/fd"):
        try:
            count += os.readlink(f"/proc/self/fd/{fd}").startswith("socket:")
        except OSError:
            continue
    return count


class Origin:
    """A raw backend: `handler` gets each connection."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.connections = 0
        self.requests: list[bytes] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.writers: list[asyncio.StreamWriter] = []
        self.port = 0

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self.tasks.add(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self.handler(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def head(self, reader: asyncio.StreamReader) -> bytes:
        head = await reader.readuntil(b"\r\n\r\n")
        self.requests.append(head)
        return head


@asynccontextmanager
async def origin(reply: Reply, host: str = "127.0.0.1") -> AsyncIterator[Origin]:
    """host: an IP address, or the path of a UNIX socket."""
    it = Origin(lambda reader, writer: reply(it, reader, writer))
    server: asyncio.Server
    if host.startswith("/"):
        server = await asyncio.start_unix_server(it.accept, host)
    else:
        # A kernel left to itself may take 32 MB for a backend that takes nothing; some tests are about that one.
        listener = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 256 * 1024)
        server = await asyncio.start_server(it.accept, sock=listener)
        it.port = server.sockets[0].getsockname()[1]
    try:
        yield it
    finally:
        await asyncio.sleep(0)
        server.close()
        for task in it.tasks:
            task.cancel()
        await asyncio.gather(*it.tasks, return_exceptions=True)
        for writer in it.writers:
            writer.close()
        for _ in range(5):
            await asyncio.sleep(0)


async def keeps(it: Origin, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers every request on its connection."""
    while True:
        head = await it.head(reader)
        if b"content-length" in head:
            await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
        writer.write(OK)


def abort(writer: asyncio.StreamWriter) -> None:
    """Closes with a reset."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()


# -- reuse ----------------------------------------------------------------------------------


@on_both_loops
async def test_one_connection_serves_many_requests(wire: Wire) -> None:
    async with origin(keeps) as it:
        wire.serves(f"127.0.0.1:{it.port}")
        for _ in range(20):
            assert await wire.gets() == (200, b"ok", "")
            assert await wire.gets(b"POST", body=b"order") == (200, b"ok", "")
        assert it.connections == 1
        await wire.actor.stop()


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("method", [b"GET", b"POST"])
@on_both_loops
async def test_a_connection_that_closed_while_idle_costs_no_request(wire: Wire, method: bytes, how: str) -> None:
    async with origin(keeps) as it:
        wire.serves(f"127.0.0.1:{it.port}")
        for number in range(1, 6):
            assert await wire.gets(method, body=b"") == (200, b"ok", "")
            assert it.connections == number
            if how == "reset":
                abort(it.writers[-1])
                await asyncio.sleep(0)
            else:
                with socket.socket(fileno=os.dup(it.writers[-1].get_extra_info("socket").fileno())) as twin:
                    twin.shutdown(socket.SHUT_RDWR)
            if number % 2:
                await wire.until(lambda: not wire.group().backends[0].open)
            # else the kernel knows it, and the loop does not: look, or send once more
        await wire.actor.stop()


@on_both_loops
async def test_a_get_on_a_connection_that_closes_under_it_is_sent_again_and_a_post_is_not(wire: Wire) -> None:
    async def second_request_dies(it: Origin, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await it.head(reader)
        writer.write(OK)
        await it.head(reader)

    async with origin(second_request_dies) as it:
        wire.serves(f"127.0.0.1:{it.port}")
        assert await wire.gets() == (200, b"ok", "")
        assert await wire.gets() == (200, b"ok", "")
        assert (it.connections, len(it.requests)) == (2, 3)
        status, _, _ = await wire.gets(b"POST")
        assert status == 502
        assert (it.connections, len(it.requests)) == (2, 4)


# -- UNIX sockets -----------------------------------------------------------------------------


@pytest.fixture
def path() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="pingap") as folder:
        yield f"{folder}/s"


@on_both_loops
async def test_a_unix_socket_is_used_like_any_other(wire: Wire, path: str) -> None:
    async def at_length(it: Origin, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await it.head(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n" + bytes(3_000_000))
            await writer.drain()

    async with origin(at_length, path) as it:
        group = wire.serves(f"unix:{path}", tcp_idle=10.0, tcp_recv_buf=65536)
        for _ in range(3):
            status, body, error = await wire.gets()
            assert (status, len(body), error) == (200, 3_000_000, "")
        assert it.connections == 1
        it.writers[-1].close()  # while it is idle, which costs no request
        await wire.until(lambda: not group.backends[0].open)
        assert (await wire.gets(b"POST", body=b""))[0] == 200
        assert it.connections == 2
        await wire.actor.stop()


@pytest.mark.parametrize("method", [b"GET", b"POST"])
@on_both_loops
async def test_a_unix_socket_that_is_not_there_is_passed_over(wire: Wire, path: str, method: bytes) -> None:
    async with origin(keeps, path):
        wire.serves(f"unix:{path}.none unix:{path}", algo="round_robin")
        for _ in range(4):
            assert await wire.gets(method, body=b"") == (200, b"ok", "")
        wire.serves(f"unix:{path}.none")
        assert (await wire.gets(method, body=b""))[0] == 502
        assert wire.heard.popitem()[1][0].report.reason == "[Errno 2] there is no such socket"
        await wire.actor.stop()


# -- connecting -------------------------------------------------------------------------------


@asynccontextmanager
async def deaf(host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[int]:
    """A port whose queue is full: connects get no answer."""
    with socket.socket() as server:
        server.bind((host, port))
        server.listen(0)
        port = server.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex((host, port))
        try:
            yield port
        finally:
            for filler in fillers:
                filler.close()


@pytest.mark.parametrize("method", [b"GET", b"POST"])
@on_both_loops
async def test_a_refused_connect_goes_to_the_next_backend(wire: Wire, method: bytes) -> None:
    async with origin(keeps) as it:
        wire.serves(f"127.0.0.1:{free_port()} 127.0.0.1:{it.port}", algo="round_robin")
        for _ in range(4):
            assert await wire.gets(method, body=b"") == (200, b"ok", "")
        await wire.actor.stop()


@on_both_loops
async def test_when_all_refuse_it_is_502(wire: Wire) -> None:
    wire.serves(f"127.0.0.1:{free_port()} 127.0.0.1:{free_port()}")
    status, _, _ = await wire.gets()
    assert status == 502
    assert wire.heard.popitem()[1][0].report.error == "connect_failed"


@pytest.mark.parametrize("key", ["connection_timeout", "total_connection_timeout"])
@on_both_loops
async def test_a_connect_without_an_answer_is_504_when_its_time_is_up(wire: Wire, key: str) -> None:
    async with deaf() as port:
        wire.serves(f"127.0.0.1:{port}", **dict[str, Any]({key: 0.1}))
        began = time.monotonic()
        status, _, _ = await wire.gets()
        assert status == 504
        assert 0.09 < time.monotonic() - began < 2


@on_both_loops
async def test_a_connect_without_an_answer_is_made_elsewhere(wire: Wire) -> None:
    async with deaf() as port, origin(keeps) as it:
        wire.serves(f"127.0.0.1:{port} 127.0.0.1:{it.port}", algo="round_robin", connection_timeout=0.1)
        for _ in range(2):
            assert await wire.gets(b"POST") == (200, b"ok", "")
        await wire.actor.stop()


@on_both_loops
async def test_cancelled_while_connecting_the_socket_is_closed(wire: Wire) -> None:
    async with deaf() as port:
        before = descriptors()
        wire.serves(f"127.0.0.1:{port}")
        sid = wire.asks()
        await wire.until(lambda: descriptors() > before)
        wire.cancels(sid)
        await wire.until(lambda: descriptors() == before)
        assert wire.group().backends[0].open == 0


@on_both_loops
async def test_cancelled_at_any_turn_of_a_connect_nothing_is_left(wire: Wire) -> None:
    async with origin(keeps) as it:
        wire.serves(f"127.0.0.1:{it.port}")
        for turns in range(12):
            sid = wire.asks()
            for _ in range(turns):
                await asyncio.sleep(0)
            wire.cancels(sid)
            await wire.until(lambda: wire.group().backends[0].open == len(wire.group().backends[0].idle))
            assert wire.group().backends[0].active == 0
        await wire.actor.stop()


@on_both_loops
async def test_a_name_is_looked_up(wire: Wire) -> None:
    """localhost is often ::1 first, where nobody listens: then the next address is tried."""
    async with origin(keeps) as it:
        wire.serves(f"localhost:{it.port}")
        assert await wire.gets() == (200, b"ok", "")
        wire.serves(f"localhost:{it.port}", ipv4_only=True)
        assert await wire.gets() == (200, b"ok", "")
        await wire.actor.stop()


@on_both_loops
async def test_of_a_names_addresses_the_first_that_answers_is_taken(wire: Wire) -> None:
    async with origin(keeps) as it, deaf("127.0.0.3", it.port):
        hosts = ["127.0.0.2", "127.0.0.3", "127.0.0.1"]
        wire.actor.pools.lookups = Lookups(asyncio.get_running_loop(), lambda host, family: [Address(2, (ip, 0)) for ip in hosts])
        wire.serves(f"many.example:{it.port}", connection_timeout=0.3)
        assert await wire.gets() == (200, b"ok", "")
        await wire.actor.stop()


@pytest.mark.parametrize("key", ["connection_timeout", "total_connection_timeout"])
@on_both_loops
async def test_a_name_that_nobody_answers_costs_its_own_requests_their_time_and_others_nothing(wire: Wire, key: str) -> None:
    """Many of them at once: libuv's pool, which uvloop asks of even for addresses, has four threads."""
    asked: list[str] = []
    over = threading.Event()

    def silent(host: str, family: int) -> list[Address]:
        asked.append(host)
        over.wait(10)
        raise socket.gaierror(socket.EAI_AGAIN, "nobody answered")

    try:
        async with origin(keeps) as it:
            wire.actor.pools.lookups = Lookups(asyncio.get_running_loop(), silent)
            dead = {f"dead{n}": Upstream(addrs=(Backend(f"dead{n}.example", 80),), **dict[str, Any]({key: 0.3})) for n in range(12)}
            wire.serves(f"127.0.0.1:{it.port}", more=dead)
            began = time.monotonic()
            hopeless = [wire.asks(upstream=name) for name in dead for _ in range(3)]
            for _ in range(5):
                assert await wire.gets(b"POST") == (200, b"ok", "")
                it.writers[-1].close()
                await wire.until(lambda: not wire.group().backends[0].open)
            assert it.connections == 5
            assert time.monotonic() - began < 0.3, "it waited for others"
            for sid in hopeless:
                assert (await wire.answer(sid))[0] == 504
            assert sorted(asked) == sorted(f"dead{n}.example" for n in range(12)), "a thread for each name, not for each request"
            await wire.actor.stop()
    finally:
        over.set()


@on_both_loops
async def test_a_name_that_could_not_be_looked_up_for_want_of_a_thread_is_503(wire: Wire) -> None:
    over = threading.Event()

    def silent(host: str, family: int) -> list[Address]:
        over.wait(10)
        return []

    try:
        wire.actor.pools.lookups = Lookups(asyncio.get_running_loop(), silent, most=1)
        late_one = Upstream(addrs=(Backend("x.example", 80),), connection_timeout=0.1)
        wire.serves("first.example:80", connection_timeout=5.0, more={"late": late_one})
        first = wire.asks()
        await asyncio.sleep(0)
        late = wire.asks(upstream="late")
        assert (await wire.answer(late))[0] == 503
        wire.cancels(first)
        await wire.actor.stop()
    finally:
        over.set()


@pytest.mark.parametrize("name", ["no-such-host.invalid", "x" * 64 + ".example", "a..b", "1.2.3.4.5.invalid"])
@on_both_loops
async def test_a_name_that_is_not_known_is_502(wire: Wire, name: str) -> None:
    wire.serves(f"{name}:80", total_connection_timeout=4.0)
    status, _, _ = await wire.gets()
    assert status in (502, 504), "504 where the name server does not answer"


@on_both_loops
async def test_a_backend_may_have_an_ipv6_address(wire: Wire) -> None:
    if not socket.has_ipv6 or not os.path.exists("/proc/net/if_inet6"):
        pytest.skip("no IPv6 here")
    try:
        async with origin(keeps, "::1") as it:
            wire.serves(f"::1:{it.port}")
            assert wire.group().backends[0].address == f"[::1]:{it.port}"
            assert await wire.gets(host=b"", headers=b"") == (200, b"ok", "")
            assert f"host: [::1]:{it.port}\r\n".encode() in it.requests[0]
            await wire.actor.stop()
    except OSError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("banner", [b"", b"220 mail.example ESMTP\r\n", OK])
@on_both_loops
async def test_a_backend_that_closes_or_speaks_before_it_is_asked_leaves_nobody_waiting(wire: Wire, banner: bytes) -> None:
    async def hasty(it: Origin, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(banner)

    async with origin(hasty) as it:
        wire.serves(f"127.0.0.1:{it.port}", read_timeout=2.0)
        answers = [await wire.gets(method) for method in (b"GET", b"POST") * 5]
        # Said early enough to be taken for the answer it is none: nobody could tell.
        assert {status for status, _, _ in answers} <= ({502, 200} if banner == OK else {502})


@on_both_loops
async def test_the_keys_of_a_connection_become_options_of_its_socket(wire: Wire) -> None:
    async with origin(keeps) as it:
        wire.serves(f"127.0.0.1:{it.port}", tcp_idle=7.0, tcp_interval=3.0, tcp_probe_count=5, tcp_user_timeout=2.5, tcp_recv_buf=65536)
        assert await wire.gets() == (200, b"ok", "")
        kept: Any = wire.group().backends[0].idle[0]
        sock = kept._socket
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 7
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 3
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 5
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 2500
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) >= 65536
        await wire.actor.stop()


def test_without_keys_a_socket_keeps_the_systems_options() -> None:
    assert socket_options(Upstream(addrs=())) == [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
    assert (socket.IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1) in socket_options(Upstream(addrs=(), tcp_fast_open=True))


# -- bodies ------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["close", "reset"])
@on_both_loops
async def test_a_body_that_ends_with_the_connection_is_complete_after_a_close_and_broken_after_a_reset(wire: Wire, how: str) -> None:
    go = asyncio.Event()

    async def until_close(it: Origin, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await it.head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1000)
        await go.wait()
        if how == "reset":
            abort(writer)

    async with origin(until_close) as it:
        wire.serves(f"127.0.0.1:{it.port}")
        sid = wire.asks()
        await wire.until(lambda: sum(len(p.body if isinstance(p, Response) else p.payload) for p in wire.heard.get(sid, ())) == 1000)
        go.set()
        assert await wire.answer(sid) == (200, b"x" * 1000, "" if how == "close" else "bad_gateway")


@on_both_loops
async def test_a_silent_backend_is_504(wire: Wire) -> None:
    async def silent(it: Origin, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await it.head(reader)
        await reader.read()

    async with origin(silent) as it:
        wire.serves(f"127.0.0.1:{it.port}", read_timeout=0.1)
        assert (await wire.gets())[0] == 504
        await wire.until(lambda: all(task.done() for task in it.tasks))


@pytest.mark.parametrize("framing", [b"content-length: %d\r\n", b"transfer-encoding: chunked\r\n", b""])
@on_both_loops
async def test_a_long_download_arrives_whole_and_waits_for_credit(wire: Wire, framing: bytes) -> None:
    piece = bytes(range(256)) * 256
    pieces = 160
    written = 0

    async def long(it: Origin, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await it.head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n" + (framing % (pieces * len(piece)) if b"%" in framing else framing) + b"\r\n")
        for _ in range(pieces):
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if b"chunked" in framing else piece)
            written += len(piece)
            await writer.drain()
        if b"chunked" in framing:
            writer.write(b"0\r\n\r\n")
        await writer.drain()

    async with origin(long) as it:
        wire.serves(f"127.0.0.1:{it.port}")
        sid = wire.asks()

        def got() -> int:
            return sum(len(part.body if isinstance(part, Response) else part.payload) for part in wire.heard.get(sid, ()))

        await wire.until(lambda: got() >= WINDOW)
        for _ in range(20):
            await asyncio.sleep(0.001)
        wire.listen()
        assert got() <= WINDOW + 256 * 1024
        assert written < pieces * len(piece), "the backend feels that the client does not read"
        wire.credits(sid, 64 * 1024)
        status, body, error = await wire.answer(sid)
        assert (status, error) == (200, "")
        assert body == piece * pieces
        await wire.actor.stop()


@pytest.mark.parametrize("length", [10 * 1024 * 1024, -1])
@on_both_loops
async def test_a_long_upload_arrives_whole_at_the_backends_pace(wire: Wire, length: int) -> None:
    total = 10 * 1024 * 1024
    go = asyncio.Event()
    received: list[bytes] = []

    async def slow(it: Origin, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await it.head(reader)
        await go.wait()
        left = total
        while left:
            if length < 0:
                size = int(await reader.readline(), 16)
                received.append(await reader.readexactly(size))
                await reader.readexactly(2)
            else:
                received.append(await reader.read(100_000))
            left -= len(received[-1])
        if length < 0:
            assert await reader.readexactly(5) == b"0\r\n\r\n"
        writer.write(OK)
        await reader.read()

    async with origin(slow) as it:
        wire.serves(f"127.0.0.1:{it.port}")
        sid = wire.uploads(length=length)
        body = os.urandom(total)
        sent = 0

        def credit() -> int:
            return sum(part.bytes for part in wire.heard.get(sid, ()) if isinstance(part, Credit)) - sent

        def send() -> None:
            nonlocal sent
            size = min(credit(), 200_000, total - sent)
            if size:
                wire.sends(sid, body[sent : sent + size], ended=sent + size == total)
                sent += size

        for _ in range(200):
            wire.listen()
            send()
            await asyncio.sleep(0)
        assert sent < total, "who takes nothing gets no more than fits into the buffers"
        go.set()
        while sent < total:
            await wire.until(credit)
            send()
        assert await wire.answer(sid) == (200, b"ok", "")
        assert b"".join(received) == body
        await wire.actor.stop()


@on_both_loops
async def test_an_answer_before_the_end_of_the_upload_is_heard_and_the_connection_closed(wire: Wire) -> None:
    async def early(it: Origin, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await it.head(reader)
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
        await reader.read()

    async with origin(early) as it:
        wire.serves(f"127.0.0.1:{it.port}")
        sid = wire.uploads()
        await wire.until(lambda: wire.heard.get(sid))
        wire.sends(sid, b"x" * 1000)
        assert (await wire.answer(sid))[:2] == (403, b"no")
        await wire.until(lambda: all(task.done() for task in it.tasks))


ENOUGH = {"length": b"Content-Length: 2\r\n\r\nno", "chunked": b"Transfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n"}


@pytest.mark.parametrize("size", [10_000, 100_000], ids=["small writes", "large writes"])
@pytest.mark.parametrize("framing", ENOUGH)
@on_both_loops
async def test_what_a_backend_said_before_it_stopped_listening_is_heard(wire: Wire, framing: str, size: int) -> None:
    """It answers 413 and closes with some of the upload unread: our next write fails before we have read the answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        wire.serves(f"127.0.0.1:{server.getsockname()[1]}")
        sid = wire.uploads()
        await wire.until(lambda: wire.heard.get(sid))
        wire.sends(sid, b"x" * 10_000)
        await asyncio.sleep(0)
        with server.accept()[0] as connection:  # from here on the loop does not run
            connection.recv(100)
            connection.sendall(b"HTTP/1.1 413 Too Large\r\n" + ENOUGH[framing])
        for _ in range(3):
            wire.sends(sid, b"x" * size)
        assert await wire.answer(sid) == (413, b"no", "")


@on_both_loops
async def test_a_backend_that_resets_in_mid_upload_is_502(wire: Wire) -> None:
    async def resets(it: Origin, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await it.head(reader)
        await reader.readexactly(1000)
        abort(writer)

    async with origin(resets) as it:
        wire.serves(f"127.0.0.1:{it.port}")
        sid = wire.uploads(b"PUT")
        await wire.until(lambda: wire.heard.get(sid))
        for _ in range(10):
            wire.sends(sid, b"x" * 50_000)
            await asyncio.sleep(0.001)
        assert (await wire.answer(sid))[0] == 502


@on_both_loops
async def test_cancelled_in_mid_body_the_backend_hears_of_it(wire: Wire) -> None:
    gone = asyncio.Event()

    async def stream(it: Origin, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await it.head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
        try:
            await reader.read()
        finally:
            gone.set()

    async with origin(stream) as it:
        wire.serves(f"127.0.0.1:{it.port}")
        sid = wire.asks()
        await wire.until(lambda: wire.heard.get(sid))
        assert wire.heard[sid][0].body == b"data: 1\n\n", "an event is passed on at once"
        wire.cancels(sid)
        await asyncio.wait_for(gone.wait(), 2)


@on_both_loops
async def test_at_the_cap_many_requests_share_the_connections(wire: Wire) -> None:
    async with origin(keeps) as it:
        wire.serves(f"127.0.0.1:{it.port}", max_connections=3)
        sids = [wire.asks(b"POST" if number % 3 else b"GET") for number in range(60)]
        for sid in sids:
            assert await wire.answer(sid) == (200, b"ok", "")
        assert it.connections == 3
        await wire.actor.stop()


@on_both_loops
async def test_who_waits_in_line_is_told_when_its_time_is_up_each_in_its_turn(wire: Wire) -> None:
    async def hangs(it: Origin, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await it.head(reader)
        await asyncio.sleep(60)

    async with origin(hangs) as it:
        wire.serves(f"127.0.0.1:{it.port}", max_connections=1, pending_timeout=0.1)
        holder = wire.asks()
        await wire.until(lambda: it.connections)
        began = time.monotonic()
        waits: list[float] = []
        for _ in range(2):
            sid = wire.asks()
            await asyncio.sleep(0.05)
        for sid in (holder + 1, holder + 2):
            assert (await wire.answer(sid))[0] == 503
            waits.append(time.monotonic() - began)
        assert waits[0] >= 0.1
        assert waits[1] >= 0.15, "who came later waits until its own time is up"
        assert holder not in wire.heard
        wire.cancels(holder)
        await wire.actor.stop()


@on_both_loops
async def test_a_connection_that_is_told_of_has_the_port_that_its_packets_have(wire: Wire) -> None:
    ports: list[int] = []

    async def seen(it: Origin, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ports.append(writer.get_extra_info("peername")[1])
        await keeps(it, reader, writer)

    async with origin(seen) as it:
        wire.serves(f"127.0.0.1:{it.port}", enable_tracer=True)
        assert (await wire.answer(wire.asks()))[0] == 200
        await wire.actor.stop()
        await wire.until(lambda: len(wire.context.logged) == 2)
    (_, _, opened), (_, _, closed) = wire.context.logged
    assert opened["local_port"] == closed["local_port"] == ports[0]
    assert opened["tcp_seconds"] > 0
