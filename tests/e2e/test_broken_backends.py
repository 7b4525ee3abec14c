"""Backends that break the rules: 502, or an answer that the client sees break off; never a whole answer that is wrong.

Each case is asked for over HTTP/1.1 and 1.0 on a connection that wants to be kept. The request after it must get its own
answer, and the event of the broken one must say whose fault it was.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from pingap import events
from tests.e2e.client import Client, Closed
from tests.e2e.harness import Pingap, site
from tests.e2e.origins import Exchange, Origin
from tests.kit.waiting import free_port, until

WITHIN = 10.0
RESET = struct.pack("ii", 1, 0)
_numbers = itertools.count()


@dataclass
class Ports:
    quick: int = field(default_factory=free_port)
    """Closes each connection as soon as it has taken it."""
    stub: int = field(default_factory=free_port)
    """The same with a reset."""


@pytest.fixture(scope="module")
def ports() -> Iterator[Ports]:
    ports = Ports()
    listeners = [socket.create_server(("127.0.0.1", port), backlog=64) for port in (ports.quick, ports.stub)]
    threads = [threading.Thread(target=close_all, args=(listener, bool(at)), daemon=True) for at, listener in enumerate(listeners)]
    for thread in threads:
        thread.start()
    yield ports
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
    for thread in threads:
        thread.join(5)


def close_all(listener: socket.socket, resets: bool) -> None:
    with contextlib.suppress(OSError):
        while True:
            sock, _ = listener.accept()
            if resets:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            sock.close()


class Watcher:
    """The events of finished requests, as any consumer gets them."""

    def __init__(self, proxy: Pingap) -> None:
        self._seen: dict[str, events.AccessEvent] = {}
        self._thread = threading.Thread(target=self._watch, args=(str(proxy.run_dir),), daemon=True)
        self._thread.start()

        def is_attached() -> bool:
            proxy.get("/attached")
            return "/attached" in self._seen

        until(is_attached, WITHIN, "the consumer is attached", every=0.1)

    def _watch(self, run_dir: str) -> None:
        for event in events.stream(topics=("access",), run_dir=run_dir):
            assert isinstance(event, events.AccessEvent)
            self._seen[event.path] = event

    def saw(self, path: str, version: str, status: int, *errors: str) -> None:
        """Checks the event of a request. Of 1.0 it is not waited for: events come in batches, and the version is no matter to them."""
        if version == "1.1":
            event = until(lambda: self._seen.get(path), WITHIN, f"the event of {path}")
            assert event.status == status
            assert event.error in errors


@pytest.fixture(scope="module")
def proxy(placement: str, shared_origin: Origin, ports: Ports) -> Iterator[Pingap]:
    # A reset that is quick enough fails a check of the health, too: two of those, and the answers would be 503.
    never_judged = 'health_check = "tcp://x?failure=1000"'
    more = f"""
[locations.quick]
upstream = "quick"
path = "/closes"
[upstreams.quick]
addrs = ["127.0.0.1:{ports.quick}"]
{never_judged}
[locations.stub]
upstream = "stub"
path = "/resets"
[upstreams.stub]
addrs = ["127.0.0.1:{ports.stub}"]
{never_judged}
"""
    # Much longer than our backend, which is threads of this process, is ever held up on a busy machine.
    text = site([shared_origin.port], upstream='read_timeout = "4s"', more=more, locations='["all", "quick", "stub"]')
    with Pingap(text, placement) as instance:
        yield instance


@pytest.fixture(scope="module")
def watcher(proxy: Pingap) -> Watcher:
    return Watcher(proxy)


@dataclass
class Got:
    """An answer as its client has to take it."""

    status: int
    body: bytes
    is_whole: bool
    etype: str = field(default="", compare=False)
    stays: bool = field(default=False, compare=False)
    """The connection may be used again, by what the head says."""


class Asker(Client):
    """A client that reads as strictly as it may, and wants to keep its connection."""

    def __init__(self, proxy: Pingap, version: str) -> None:
        super().__init__(proxy.port)
        self._proxy, self._version = proxy, version

    def ask(self, path: str, method: str = "GET") -> None:
        self.send(f"{method} {path} HTTP/{self._version}\r\nHost: a\r\nConnection: keep-alive\r\n\r\n".encode())

    def take(self, method: str = "GET") -> Got:
        """Reads one answer. A body without framing is whole when the connection ends in good order, and not after a reset."""
        end = time.monotonic() + WITHIN
        head = self.head(end)
        while head.status < 200:
            head = self.head(end)
        connection = head.get("connection")
        got = Got(head.status, b"", True, head.get("x-pingap-etype") or "")
        got.stays = connection != "close" if self._version == "1.1" else connection == "keep-alive"
        if method == "HEAD" or head.status in (204, 304):
            return got
        length = head.get("content-length")
        try:
            if head.get("transfer-encoding") == "chunked":
                assert self._version == "1.1"
                while size := int(self._line(end), 16):
                    got.body += self.exactly(size, end)
                    assert self.exactly(2, end) == b"\r\n"
                while self._line(end) != b"\r\n":
                    pass
            elif length is not None:
                got.body = self.exactly(int(length), end)
            else:
                assert not got.stays
                got.body, self.buffer = self.buffer, b""
                while part := self.sock.recv(65536):
                    got.body += part
        except Closed as error:
            got.body += error.args[0]
            got.is_whole = got.stays = False
        except ConnectionResetError:
            got.is_whole = False
        return got

    def _line(self, end: float) -> bytes:
        found = b""
        while not found.endswith(b"\r\n"):
            found += self.exactly(1, end)
        return found

    def asks_again(self, got: Got) -> None:
        """The next requests get their own answers: on this connection if it stays, on a new one anyhow."""
        for _ in range(2):
            path = f"/next/{next(_numbers)}"
            if got.stays:
                self.ask(path)
                assert self.take() == Got(200, path.encode(), True)
            path = f"/next/{next(_numbers)}"
            assert self._proxy.get(path).body == path.encode()


VERSIONS = pytest.mark.parametrize("version", ["1.1", "1.0"])
OK = b"HTTP/1.1 200 OK\r\n"
LENGTH_2 = b"Content-Length: 2\r\n\r\nok"

INVALID: dict[str, bytes] = {
    "two lengths that differ": OK + b"Content-Length: 3\r\n" + LENGTH_2,
    "two lengths that agree": OK + b"Content-Length: 2\r\n" + LENGTH_2,
    "a list of lengths": OK + b"Content-Length: 2, 2\r\n\r\nok",
    "a length of less than nothing": OK + b"Content-Length: -1\r\n\r\n",
    "a length with a sign": OK + b"Content-Length: +2\r\n\r\nok",
    "a hexadecimal length": OK + b"Content-Length: 0x2\r\n\r\nok",
    "a length with a space in it": OK + b"Content-Length: 2 2\r\n\r\nok",
    "an empty length": OK + b"Content-Length:\r\n\r\n",
    "a length beyond all numbers": OK + b"Content-Length: 99999999999999999999\r\n\r\nok",
    "a length and chunks": OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "chunks and a length": OK + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "another coding": OK + b"Transfer-Encoding: gzip\r\n\r\nok",
    "a coding before chunked": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "chunked twice": OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "chunks in 1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "no status line": b"\x00\x01garbage\r\n\r\n",
    "another protocol": b"220 mail.example ESMTP ready\r\n\r\n",
    "HTTP/0.9": b"<html>hello</html>\r\n\r\n",
    "version 2": b"HTTP/2.0 200 OK\r\n" + LENGTH_2,
    "no version": b"HTTP/ 200 OK\r\n" + LENGTH_2,
    "status 099": b"HTTP/1.1 099 OK\r\n" + LENGTH_2,
    "status 20": b"HTTP/1.1 20 OK\r\n" + LENGTH_2,
    "status 1000": b"HTTP/1.1 1000 OK\r\n" + LENGTH_2,
    "status abc": b"HTTP/1.1 abc OK\r\n" + LENGTH_2,
    "a status with a sign": b"HTTP/1.1 +20 OK\r\n" + LENGTH_2,
    "no status": b"HTTP/1.1\r\n" + LENGTH_2,
    "two spaces before the status": b"HTTP/1.1  200 OK\r\n" + LENGTH_2,
    "NUL in a value": OK + b"X: a\0b\r\n" + LENGTH_2,
    "NUL in the reason": b"HTTP/1.1 200 O\0K\r\n" + LENGTH_2,
    "a bare CR in a value": OK + b"X: a\rY: b\r\n" + LENGTH_2,
    "a bare LF and a folded line": b"HTTP/1.1 200 OK\nX: a\n b\nContent-Length: 2\n\nok",
    "a folded line": OK + b"X: a\r\n b\r\n" + LENGTH_2,
    "a folded first line": OK + b" X: a\r\n" + LENGTH_2,
    "a space before a colon": OK + b"Content-Length : 2\r\n\r\nok",
    "a line without a colon": OK + b"X\r\n" + LENGTH_2,
    "a line without a name": OK + b": x\r\n" + LENGTH_2,
    "a head too large": OK + b"X: " + b"a" * 140_000 + b"\r\n" + LENGTH_2,
    "too many lines": OK + b"X: a\r\n" * 300 + LENGTH_2,
    "101 that nobody asked for": b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nbytes",
    "interim answers without end": b"HTTP/1.1 102 Processing\r\n\r\n" * 200,
    "an interim answer with a body": b"HTTP/1.1 102 Processing\r\nContent-Length: 2\r\n\r\nok" + OK + LENGTH_2,
    "204 with two lengths": b"HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n" + LENGTH_2,
    "a chunk size that is none": OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nok\r\n0\r\n\r\n",
    "a chunk longer than its size": OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\nok\r\n0\r\n\r\n",
    "an empty line first": b"\r\n\r\n" + OK + LENGTH_2,
}
"""What is wrong is in the head, or came with it: nothing has gone to the client yet."""


@VERSIONS
@pytest.mark.parametrize("name", INVALID)
def test_a_head_that_breaks_the_rules_is_502_and_its_connection_is_dropped(
    proxy: Pingap, shared_origin: Origin, watcher: Watcher, name: str, version: str
) -> None:
    path = f"/invalid/{next(_numbers)}"
    dropped = threading.Event()

    def broken(exchange: Exchange) -> None:
        exchange.send(INVALID[name])
        if exchange.is_gone(WITHIN):
            dropped.set()
        exchange.close()

    shared_origin.on[path] = broken
    with Asker(proxy, version) as client:
        client.ask(path)
        got = client.take()
        assert (got.status, got.is_whole, got.stays, got.etype) == (502, True, True, "bad_gateway")
        client.asks_again(got)
    assert dropped.wait(WITHIN), "the connection to such a backend is of no further use"
    watcher.saw(path, version, 502, "bad_gateway")
    assert len(shared_origin.seen(path)) == 1


BROKEN_OFF: dict[str, bytes] = {
    "nothing": b"",
    "half a status line": b"HTTP/1.1 2",
    "half a head": OK + b"Content-Length: 2\r\n",
    "a head without its last line end": OK + b"Content-Length: 0\r\n\r",
    "an interim answer only": b"HTTP/1.1 103 Early Hints\r\n\r\n",
    "HTTP/0.9": b"hello\n",
}


@VERSIONS
@pytest.mark.parametrize("resets", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("name", BROKEN_OFF)
def test_a_head_that_breaks_off_is_502(
    proxy: Pingap, shared_origin: Origin, watcher: Watcher, name: str, resets: bool, version: str
) -> None:
    path = f"/broken-off/{next(_numbers)}"

    def broken(exchange: Exchange) -> None:
        exchange.send(BROKEN_OFF[name])
        end(exchange, resets)

    shared_origin.on[path] = broken
    with Asker(proxy, version) as client:
        client.ask(path)
        got = client.take()
        assert (got.status, got.is_whole, got.stays, got.etype) == (502, True, True, "bad_gateway")
        client.asks_again(got)
    watcher.saw(path, version, 502, "bad_gateway")


def end(exchange: Exchange, resets: bool) -> None:
    if resets:
        exchange.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        exchange.sock.close()
    exchange.close()


@VERSIONS
@pytest.mark.parametrize("path", ["/closes", "/resets"])
def test_a_backend_that_closes_at_once_is_502(proxy: Pingap, watcher: Watcher, path: str, version: str) -> None:
    path = f"{path}/{next(_numbers)}"
    with Asker(proxy, version) as client:
        client.ask(path)
        got = client.take()
        assert (got.status, got.stays) == (502, True)
        client.asks_again(got)
    watcher.saw(path, version, 502, "bad_gateway", "connect_failed")  # it depends on how soon the close is seen


CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n"

CUT: dict[str, tuple[bytes, bytes, bool]] = {
    # name: what comes first, what comes when the client has got that, whether the end is a reset
    "short of its length": (OK + b"Content-Length: 10\r\n\r\nok", b"and", False),
    "short of its length, reset": (OK + b"Content-Length: 10\r\n\r\nok", b"", True),
    "no last chunk": (CHUNKED, b"3\r\nand\r\n", False),
    "no last chunk, reset": (CHUNKED, b"", True),
    "a last chunk without its line end": (CHUNKED, b"0\r\n", False),
    "trailers without end": (CHUNKED, b"0\r\nX: y\r\n", False),
    "half a chunk": (CHUNKED, b"5\r\nan", False),
    "a chunk size that is none": (CHUNKED, b"xyz\r\nand\r\n0\r\n\r\n", False),
    "a chunk size below nothing": (CHUNKED, b"-3\r\nand\r\n0\r\n\r\n", False),
    "a chunk size beyond all numbers": (CHUNKED, b"fffffffffffffffff3\r\nand\r\n0\r\n\r\n", False),
    "an empty chunk size": (CHUNKED, b"\r\nand\r\n0\r\n\r\n", False),
    "a chunk without its line end": (CHUNKED, b"3\r\nand0\r\n\r\n", False),
    "a bare LF after a chunk": (CHUNKED, b"3\r\nand\n0\r\n\r\n", False),
    "a bare LF after a chunk size": (CHUNKED, b"3\nand\r\n0\r\n\r\n", False),
    "a trailer that is none": (CHUNKED, b"0\r\nX\r\n\r\n", False),
    "until close, reset": (OK + b"\r\nok", b"", True),
    "until close in 1.0, reset": (b"HTTP/1.0 200 OK\r\n\r\nok", b"", True),
    "short of its length in 1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 10\r\n\r\nok", b"", False),
}


@VERSIONS
@pytest.mark.parametrize("name", CUT)
def test_a_body_that_breaks_never_looks_whole(proxy: Pingap, shared_origin: Origin, watcher: Watcher, name: str, version: str) -> None:
    first, second, resets = CUT[name]
    path = f"/cut/{next(_numbers)}"
    go = threading.Event()

    def broken(exchange: Exchange) -> None:
        exchange.send(first)
        go.wait(WITHIN)
        exchange.send(second)
        end(exchange, resets)

    shared_origin.on[path] = broken
    with Asker(proxy, version) as client:
        client.ask(path)
        client.buffer = b""
        while b"ok" not in client.buffer.partition(b"\r\n\r\n")[2]:
            part = client.sock.recv(65536)
            assert part, client.buffer
            client.buffer += part
        go.set()
        got = client.take()
        assert got.status == 200
        assert not got.is_whole
        assert b"okand".startswith(got.body)
        client.asks_again(got)
    watcher.saw(path, version, 200, "bad_gateway")


WHOLE: dict[str, tuple[str, bytes, Got]] = {
    # name: method, answer, what the client gets
    "more than its length": ("GET", OK + LENGTH_2, Got(200, b"ok", True)),
    "204 and a body": ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", Got(204, b"", True)),
    "304 and a body": ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\n", Got(304, b"", True)),
    "HEAD and a body": ("HEAD", OK + b"Content-Length: 6\r\n\r\n", Got(200, b"", True)),
    "HEAD and chunks": ("HEAD", OK + b"Transfer-Encoding: chunked\r\n\r\n", Got(200, b"", True)),
    "more than its last chunk": ("GET", CHUNKED + b"0\r\n\r\n", Got(200, b"ok", True)),
    "205 and a body": ("GET", b"HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n", Got(205, b"", True)),
}
POISON = OK + b"Content-Length: 6\r\n\r\npoison"


@VERSIONS
@pytest.mark.parametrize("is_later", [False, True], ids=["with it", "later"])
@pytest.mark.parametrize("name", WHOLE)
def test_what_a_backend_says_after_an_answer_is_nobodys_answer(
    proxy: Pingap, shared_origin: Origin, name: str, is_later: bool, version: str
) -> None:
    """Above all not that of the next one whose request goes to the same backend."""
    method, answer, expected = WHOLE[name]
    path = f"/too-much/{next(_numbers)}"
    go, said, dropped = threading.Event(), threading.Event(), threading.Event()

    def broken(exchange: Exchange) -> None:
        exchange.send(answer if is_later else answer + POISON)
        if is_later:
            go.wait(WITHIN)
            with contextlib.suppress(OSError):
                exchange.send(POISON)
        said.set()
        if exchange.is_gone(WITHIN):
            dropped.set()
        exchange.close()

    shared_origin.on[path] = broken
    with Asker(proxy, version) as client:
        client.ask(path, method)
        got = client.take(method)
        assert got == expected
        go.set()
        assert said.wait(WITHIN)
        client.asks_again(got)
    assert dropped.wait(WITHIN), "nothing more is asked on that connection"


def test_a_head_in_drops_has_its_time_and_no_more(proxy: Pingap, shared_origin: Origin, watcher: Watcher) -> None:
    path = f"/drops/{next(_numbers)}"

    def drip(exchange: Exchange) -> None:
        for byte in OK + b"X: " + b"a" * 1000:
            exchange.send(bytes([byte]))
            time.sleep(0.05)

    shared_origin.on[path] = drip
    with Asker(proxy, "1.1") as client:
        client.ask(path)
        got = client.take()
        assert (got.status, got.stays) == (504, True)
        client.asks_again(got)
    watcher.saw(path, "1.1", 504, "gateway_timeout")


@VERSIONS
@pytest.mark.parametrize("first", [OK + b"\r\nok", b"HTTP/1.0 200 OK\r\n\r\nok"], ids=["1.1", "1.0"])
def test_a_body_that_ends_with_the_connection_in_good_order_is_whole(
    proxy: Pingap, shared_origin: Origin, first: bytes, version: str
) -> None:
    path = f"/until-close/{next(_numbers)}"

    def until_close(exchange: Exchange) -> None:
        exchange.send(first)
        exchange.send(b"and")
        exchange.close()

    shared_origin.on[path] = until_close
    with Asker(proxy, version) as client:
        client.ask(path)
        got = client.take()
        assert (got, got.stays) == (Got(200, b"okand", True), version == "1.1")
        client.asks_again(got)


@VERSIONS
@pytest.mark.parametrize("status", [200, 401, 413, 500])
def test_an_answer_before_the_request_was_read_is_passed_on(proxy: Pingap, shared_origin: Origin, status: int, version: str) -> None:
    path = f"/early/{next(_numbers)}"

    def early(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 %d Early\r\n" % status + LENGTH_2)
        exchange.close()

    shared_origin.on[path] = early
    size = 3_000_000
    with Asker(proxy, version) as client:
        client.send(f"POST {path} HTTP/{version}\r\nHost: a\r\nConnection: keep-alive\r\nContent-Length: {size}\r\n\r\n".encode())
        client.send(b"x" * 100_000)
        got = client.take()
        assert got == Got(status, b"ok", True)
        with contextlib.suppress(ConnectionError):
            client.send(b"x" * (size - 100_000))
        client.asks_again(got)
