"""Bodies under way: bounded memory, and word of an end that went away."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.e2e.client import Client, Closed
from tests.e2e.harness import Pingap, site
from tests.e2e.origins import Exchange, Nginx, Origin
from tests.kit.waiting import until

pytestmark = pytest.mark.alone

MB = 1024 * 1024
PACE = 8 * MB
"""Bytes a second of the slow sides here."""


@pytest.fixture(scope="module")
def proxy(placement: str, nginx: Nginx, shared_origin: Origin) -> Iterator[Pingap]:
    more = f"""
[locations.static]
upstream = "static"
path = "/big"
[upstreams.static]
addrs = ["127.0.0.1:{nginx.port}"]
"""
    log = 'access_log = "{dir}/access.log {uri} {status} {payload_size}"'
    text = site([shared_origin.port], more=more, locations='["all", "static"]', server=log)
    with Pingap(text, placement) as instance:
        for _ in range(50):
            instance.get("/warm")  # pools and buffers that stay are no growth
        instance.get("/big/file")
        yield instance


class Pace:
    """Sleeps so that the bytes so far took as long as PACE says."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def __call__(self, so_far: int) -> None:
        ahead = so_far / PACE - (time.monotonic() - self._began)
        if ahead > 0:
            time.sleep(ahead)


class Peak:
    """The most memory that the instance used while the block ran, over what it used before."""

    def __init__(self, proxy: Pingap) -> None:
        self._proxy = proxy
        self._stop = threading.Event()
        self._before = proxy.data()
        self.peak = 0
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.2):
            self.peak = max(self.peak, self._proxy.data())

    @property
    def grown(self) -> int:
        return self.peak - self._before


def test_a_slow_client_of_a_large_download_costs_little_memory(proxy: Pingap, big_file: bytes) -> None:
    with Peak(proxy) as memory, proxy.client(receive_buffer=65536, timeout=60) as client:
        client.request("/big/file")
        length = int(client.head().get("content-length") or "0")
        assert length == len(big_file)
        pace, have = Pace(), 0
        while have < length:
            part = client.exactly(min(65536, length - have))
            assert part == big_file[have : have + len(part)]
            have += len(part)
            pace(have)
    assert memory.grown < 16 * MB, f"grew by {memory.grown / MB:.1f} MB"


def test_a_slow_backend_of_a_large_upload_costs_little_memory(proxy: Pingap, shared_origin: Origin, big_file: bytes) -> None:
    def slow_reader(exchange: Exchange) -> None:
        exchange.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        same = exchange.read_body(Pace()) == big_file
        exchange.reply(b"same" if same else b"different")

    shared_origin.on["/slow-upload"] = slow_reader
    with Peak(proxy) as memory, proxy.client(timeout=60) as client:
        assert client.get("/slow-upload", method="POST", body=big_file).body == b"same"
    assert memory.grown < 16 * MB, f"grew by {memory.grown / MB:.1f} MB"


def test_a_client_that_reads_nothing_stops_its_backend_and_nobody_else(proxy: Pingap, shared_origin: Origin) -> None:
    sent = [0]
    done = threading.Event()

    def endless(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        exchange.sock.settimeout(1.5)
        try:
            while sent[0] < 200 * MB:
                sent[0] += exchange.sock.send(b"x" * 65536)
        except TimeoutError:
            pass  # nobody takes any more: that is the point
        finally:
            done.set()
        exchange.close()

    shared_origin.on["/endless"] = endless
    with proxy.client(receive_buffer=65536) as client:
        client.request("/endless")
        assert client.head().status == 200
        assert done.wait(20)
        # Between backend and proxy the kernel alone takes as much as tcp_rmem and tcp_wmem say: 36 MB on some machines.
        assert sent[0] < 64 * MB, f"{sent[0] / MB:.1f} MB left the backend although nobody read"
        assert proxy.get("/other").status == 200


DOWNLOADS = 40
SHARE = 25 * MB
"""Bytes of downloads that may come for each small request: 5 to 11 MB, and 35 to 80 when downloads could fill loops and pipes."""


def test_small_requests_do_not_wait_for_many_downloads(proxy: Pingap, big_file: bytes) -> None:
    """Measured in what the downloads get meanwhile, not in seconds: both go as fast as the machine is."""
    taken = 0
    stop = threading.Event()

    def take(clients: list[Client]) -> None:
        nonlocal taken
        with selectors.DefaultSelector() as selector:
            for client in clients:
                client.sock.setblocking(False)
                selector.register(client.sock, selectors.EVENT_READ, client)
            while not stop.is_set():
                for key, _ in selector.select(0.1):
                    taken += len(key.data.sock.recv(1 << 20))

    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(proxy.client()) for _ in range(DOWNLOADS)]
        for client in clients:
            client.request("/big/file")
        taker = threading.Thread(target=take, args=(clients,))
        taker.start()
        stack.callback(taker.join, 5)
        stack.callback(stop.set)
        small = stack.enter_context(proxy.client(timeout=20))
        until(lambda: taken > 100 * MB, 20, "the downloads are under way")
        before, asked, end = taken, 0, time.monotonic() + 20
        while taken < DOWNLOADS * len(big_file) * 0.8 and time.monotonic() < end:
            assert small.get("/small").status == 200
            asked += 1
        assert (taken - before) / asked < SHARE, f"{(taken - before) / asked / MB:.0f} MB for each of {asked} small requests"


def test_five_hundred_idle_connections_cost_little_memory(proxy: Pingap) -> None:
    before = proxy.memory()
    clients = [Client(proxy.port) for _ in range(500)]
    try:
        for client in clients:
            client.request("/idle")
        for client in clients:
            assert client.response().status == 200
        grown = until_settled(proxy) - before
        assert grown < 10 * MB, f"grew by {grown / MB:.1f} MB"
    finally:
        for client in clients:
            client.close()


def until_settled(proxy: Pingap) -> int:
    """Memory once it no longer changes by more than 1 MB in half a second."""
    last = proxy.memory()
    for _ in range(10):
        time.sleep(0.5)
        now = proxy.memory()
        if abs(now - last) < MB:
            return now
        last = now
    return last


def test_the_backend_hears_at_once_that_the_client_left_before_the_answer(proxy: Pingap, shared_origin: Origin) -> None:
    gone = threading.Event()

    def wait_for_end(exchange: Exchange) -> None:
        if exchange.is_gone(5):
            gone.set()
        exchange.close()

    shared_origin.on["/left-before"] = wait_for_end
    with proxy.client() as client:
        client.request("/left-before")
        shared_origin.wait("/left-before")
    assert gone.wait(1.0)
    log = proxy.dir / "access.log"
    until(lambda: "/left-before 499" in log.read_text(), 3, "the request is logged with 499")


def test_the_backend_hears_at_once_that_the_client_left_in_mid_answer(proxy: Pingap, shared_origin: Origin) -> None:
    gone = threading.Event()

    def events(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
        if exchange.is_gone(5):
            gone.set()
        exchange.close()

    shared_origin.on["/left-during"] = events
    with proxy.client() as client:
        client.request("/left-during")
        assert client.head().status == 200
    assert gone.wait(1.0)


def test_the_backend_hears_that_the_client_left_in_mid_upload(proxy: Pingap, shared_origin: Origin) -> None:
    ended = threading.Event()

    def upload(exchange: Exchange) -> None:
        try:
            exchange.read_body()
        except ConnectionError:
            ended.set()
            raise

    shared_origin.on["/left-upload"] = upload
    with proxy.client() as client:
        client.send(b"POST /left-upload HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n" + b"a" * 200_000)
        shared_origin.wait("/left-upload")
    assert ended.wait(1.5)


def test_a_client_that_left_says_nothing_about_the_backend(proxy: Pingap, shared_origin: Origin) -> None:
    def wait_for_end(exchange: Exchange) -> None:
        exchange.is_gone(3)
        exchange.close()

    shared_origin.on["/impatient"] = wait_for_end
    for _ in range(10):
        with proxy.client() as client:
            client.request("/impatient")
    assert proxy.get("/still-healthy").status == 200


@pytest.mark.parametrize(
    ("what", "head", "expected"),
    [
        ("short", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc", None),
        ("short-chunked", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", None),
        ("garbage", b"\x00\x01garbage\r\n\r\n", 502),
        ("nothing", b"", 502),
        ("half-a-head", b"HTTP/1.1 200 OK\r\nContent-Le", 502),
        ("two-lengths", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 502),
        ("length-and-chunked", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 502),
        ("folded", b"HTTP/1.1 200 OK\r\nX: 1\r\n 2\r\nContent-Length: 0\r\n\r\n", 502),
        ("nul", b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n", 502),
        ("version", b"HTTP/3.0 200 OK\r\nContent-Length: 0\r\n\r\n", 502),
        ("status", b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n", 502),
        ("huge-head", b"HTTP/1.1 200 OK\r\nX: " + b"a" * 300_000 + b"\r\nContent-Length: 0\r\n\r\n", 502),
    ],
)
def test_a_broken_answer_never_looks_whole(proxy: Pingap, shared_origin: Origin, what: str, head: bytes, expected: int | None) -> None:
    def broken(exchange: Exchange) -> None:
        exchange.send(head)
        exchange.close()

    shared_origin.on[f"/broken/{what}"] = broken
    with proxy.client() as client:
        if expected is None:
            with pytest.raises((Closed, ConnectionError)):
                client.get(f"/broken/{what}")
        else:
            assert client.get(f"/broken/{what}").status == expected
    assert proxy.get("/after-broken").status == 200


def test_bytes_after_an_answer_are_nobody_elses_answer(proxy: Pingap, shared_origin: Origin) -> None:
    def too_much(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")

    shared_origin.on["/too-much"] = too_much
    with proxy.client() as client:
        for number in range(5):
            assert client.get("/too-much").body == b"ok"
            assert client.get(f"/mine/{number}").body == f"/mine/{number}".encode()
