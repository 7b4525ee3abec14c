"""Answers that take their time: events as they happen, long polling, and backends that hear of clients that left."""

from __future__ import annotations

import socket
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator

import pytest

from tests.e2e.certificate import section
from tests.e2e.client import Client
from tests.e2e.harness import Pingap, site
from tests.e2e.origins import Exchange, Origin
from tests.kit.waiting import free_port, until

pytestmark = pytest.mark.alone

EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
SOON = 0.4
"""Seconds within which what was sent is there, on a machine that does other things too."""

PLUGINS = """
[locations.changed]
upstream = "origin"
path = "/changed"
plugins = ["zip", "sub", "headers"]
[locations.zipped]
upstream = "origin"
path = "/zipped"
plugins = ["zip"]
[plugins.zip]
category = "compression"
gzip_level = 6
br_level = 4
zstd_level = 3
[plugins.sub]
category = "sub_filter"
filters = ["sub_filter 'secret' 'public' g"]
[plugins.headers]
category = "response_headers"
add_headers = ["X-Seen: yes"]
"""


@pytest.fixture(scope="module")
def tls_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def proxy(placement: str, shared_origin: Origin, tls_port: int) -> Iterator[Pingap]:
    log = 'access_log = "{dir}/access.log {uri} {status}"\nprometheus_metrics = "/metrics"'
    secure = f"""
[servers.secure]
addr = "127.0.0.1:{tls_port}"
locations = ["all", "changed", "zipped"]
global_certificates = true
{log}
{section("test", "test.local")}"""
    text = site([shared_origin.port], server=log, more=PLUGINS + secure, locations='["all", "changed", "zipped"]')
    with Pingap(text, placement) as instance:
        yield instance


Connect = Callable[[], Client]


@pytest.fixture(params=["plain", "tls"])
def connect(request: pytest.FixtureRequest, proxy: Pingap, tls_port: int) -> Connect:
    if request.param == "tls":
        return lambda: Client(tls_port, tls=True)
    return proxy.client


def read_until(client: Client, mark: bytes, unpack: Callable[[bytes], bytes] = bytes) -> bytes:
    """What came of the body up to and with `mark`, at once."""
    end = time.monotonic() + SOON
    seen = b""
    while mark not in seen:
        seen += unpack(chunk(client, end))
    return seen


def chunk(client: Client, end: float) -> bytes:
    line = b""
    while not line.endswith(b"\r\n"):
        line += client.exactly(1, end)
    return client.exactly(int(line, 16) + 2, end)[:-2]


@pytest.mark.parametrize("path", ["/events", "/changed/events"])
def test_head_and_events_pass_at_once_whatever_plugins_there_are(connect: Connect, shared_origin: Origin, path: str) -> None:
    allowed = threading.Semaphore(0)

    def events(exchange: Exchange) -> None:
        exchange.send(EVENTS)
        for number in range(5):
            assert allowed.acquire(timeout=10)
            exchange.send(b"data: %d secret\n\n" % number)
        exchange.close()

    shared_origin.on[path] = events
    with connect() as client:
        client.request(path, headers={"Accept": "text/event-stream", "Accept-Encoding": "gzip, br, zstd"})
        head = client.head(time.monotonic() + SOON)
        assert (head.status, head.get("content-encoding")) == (200, None)
        assert head.get("x-seen") == ("yes" if path.startswith("/changed") else None)
        word = b"public" if path.startswith("/changed") else b"secret"
        for number in range(5):
            allowed.release()
            assert read_until(client, b"\n\n") == b"data: %d %b\n\n" % (number, word)


@pytest.mark.parametrize("path", ["/changed/lines", "/zipped/lines"], ids=["plugins", "upstream"])
def test_pieces_of_other_streams_pass_at_once_too_even_compressed(connect: Connect, shared_origin: Origin, path: str) -> None:
    """Whichever stage compresses them."""
    allowed = threading.Semaphore(0)

    def lines(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
        for number in range(4):
            assert allowed.acquire(timeout=10)
            exchange.send(b'{"number": %d}\n' % number)
        exchange.close()

    shared_origin.on[path] = lines
    with connect() as client:
        client.request(path, headers={"Accept-Encoding": "gzip"})
        assert client.head(time.monotonic() + SOON).get("content-encoding") == "gzip"
        unpack = zlib.decompressobj(31).decompress
        for number in range(4):
            allowed.release()
            assert read_until(client, b"\n", unpack) == b'{"number": %d}\n' % number


def test_a_long_poll_is_answered_when_there_is_something_to_say(connect: Connect, shared_origin: Origin) -> None:
    happened = threading.Event()

    def poll(exchange: Exchange) -> None:
        assert happened.wait(10)
        exchange.reply(b"news")

    shared_origin.on["/poll"] = poll
    with connect() as client:
        for _ in range(3):
            happened.clear()
            client.request("/poll")
            with pytest.raises(TimeoutError):
                client.head(time.monotonic() + 0.3)
            happened.set()
            assert client.response().body == b"news"


def reset(client: Client) -> None:
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


LEAVES = {"closes": Client.close, "resets": reset}


@pytest.mark.parametrize("how", LEAVES)
@pytest.mark.parametrize("path", ["/gone", "/changed/gone"])
@pytest.mark.parametrize("when", ["before the answer", "between two events"])
def test_the_backend_hears_within_a_second_that_the_client_left(
    proxy: Pingap, connect: Connect, shared_origin: Origin, path: str, how: str, when: str
) -> None:
    heard = threading.Event()
    path = f"{path}/{how}/{when.replace(' ', '-')}"

    def wait(exchange: Exchange) -> None:
        if when != "before the answer":
            exchange.send(EVENTS + b"data: 1\n\n")
        if exchange.is_gone(5):
            heard.set()
        exchange.close()

    shared_origin.on[path] = wait
    shared_origin.requests.clear()
    log = proxy.dir / "access.log"
    with connect() as client:
        client.request(path, headers={"Accept-Encoding": "gzip"})
        shared_origin.wait(path)
        status = 499
        if when != "before the answer":
            status = client.head(time.monotonic() + SOON).status
            read_until(client, b"\n\n")
        count = log.read_text().count(path) if log.exists() else 0
        LEAVES[how](client)
        assert heard.wait(1.0)
    until(lambda: log.read_text().count(f"{path} {status}\n") > count, 3, f"the request is logged with {status}")
    assert len(shared_origin.seen(path)) == 1, "nobody is left to try again for"


def test_clients_that_leave_say_nothing_about_the_backend(proxy: Pingap, connect: Connect, shared_origin: Origin) -> None:
    def wait(exchange: Exchange) -> None:
        exchange.is_gone(5)
        exchange.close()

    shared_origin.on["/impatient"] = wait
    shared_origin.requests.clear()
    before = failures(proxy)
    clients = [connect() for _ in range(20)]
    for client in clients:
        client.request("/impatient")
    shared_origin.wait("/impatient", 20)
    for client in clients:
        client.close()
    until(lambda: proxy.row("upstream").in_flight == 0, 3, "all of them are given up")
    with connect() as client:
        for _ in range(10):
            assert client.get("/served").status == 200
    assert len(shared_origin.seen("/impatient")) == 20
    assert failures(proxy) == before


def failures(proxy: Pingap) -> list[str]:
    """What the metrics say went wrong."""
    lines = proxy.get("/metrics").body.decode().splitlines()
    return [line for line in lines if not line.startswith("#") and ("5xx" in line or "fail" in line or "unhealthy" in line)]


def test_a_stream_outlives_the_time_outs_that_are_for_others(placement: str, origin: Origin) -> None:
    """A client that only listens has nothing to send: neither the head's time nor the idle connection's is its."""

    def events(exchange: Exchange) -> None:
        exchange.send(EVENTS)
        for _ in range(4):
            time.sleep(0.6)
            exchange.send(b"data: x\n\n")
        exchange.close()

    origin.on["/long"] = events
    server = 'header_timeout = "1s"\nkeepalive_timeout = "1s"\ndownstream_read_timeout = "1s"\ndownstream_write_timeout = "1s"'
    with Pingap(site([origin.port], server=server), placement) as proxy, proxy.client() as client:
        assert client.get("/long").body == b"data: x\n\n" * 4
