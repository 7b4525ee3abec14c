"""Hostile and broken input: each gets a 4xx or a close, and nothing reaches the origin that the client did not send."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.e2e.client import Client, Closed
from tests.e2e.harness import Pingap, site
from tests.e2e.origins import Origin

LIMITS = """
header_timeout = "1s"
keepalive_timeout = "1s"
downstream_read_timeout = "1s"
max_header_bytes = "8kib"
max_headers = 50
max_target_bytes = "4kib"
"""


@pytest.fixture(scope="module", params=[("split", "httptools"), ("colocated", "httptools"), ("split", "h11")], ids="-".join)
def proxy(request: pytest.FixtureRequest, shared_origin: Origin) -> Iterator[Pingap]:
    """Both placements, and both engines: what is refused must not depend on the parser."""
    placement, engine = request.param
    more = """
[locations.small]
upstream = "origin"
path = "/small-bodies"
client_max_body_size = "10kb"
"""
    server = f'{LIMITS}http1_engine = "{engine}"'
    text = site([shared_origin.port], server=server, more=more, locations='["all", "small"]')
    with Pingap(text, placement) as instance:
        yield instance


@pytest.fixture
def origin(shared_origin: Origin) -> Origin:
    """The recording origin with a clean record."""
    shared_origin.requests.clear()
    shared_origin.strays.clear()
    return shared_origin


@pytest.fixture
def smuggled() -> str:
    """A path of its own: behind a body that is only too large it is a good request, which may arrive when the test is over."""
    return f"/smuggled/{next(_numbers)}"


_numbers = itertools.count()
LATE: set[str] = set()
"""Those of them that may arrive."""

H = b"Host: a\r\n"

REFUSED: dict[str, bytes] = {
    "no host in 1.1": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "the same host twice": b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    "a host with a space": b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
    "a host with a path": b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "a host with a user": b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
    "an empty host in 1.1": b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
    "a host list": b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
    "version 1.2": b"GET / HTTP/1.2\r\n" + H + b"\r\n",
    "version 2.0": b"GET / HTTP/2.0\r\n" + H + b"\r\n",
    "version 0.9": b"GET /\r\n\r\n",
    "version in lower case": b"GET / http/1.1\r\n" + H + b"\r\n",
    "a version of two digits": b"GET / HTTP/1.10\r\n" + H + b"\r\n",
    "length and chunked": b"POST / HTTP/1.1\r\n" + H + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and length": b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    "differing lengths": b"POST / HTTP/1.1\r\n" + H + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcd",
    "the same length twice": b"POST / HTTP/1.1\r\n" + H + b"Content-Length: 4\r\nContent-Length: 4\r\n\r\nabcd",
    "a list of lengths": b"POST / HTTP/1.1\r\n" + H + b"Content-Length: 4, 4\r\n\r\nabcd",
    "a length with a plus": b"POST / HTTP/1.1\r\n" + H + b"Content-Length: +4\r\n\r\nabcd",
    "a negative length": b"POST / HTTP/1.1\r\n" + H + b"Content-Length: -4\r\n\r\nabcd",
    "a hexadecimal length": b"POST / HTTP/1.1\r\n" + H + b"Content-Length: 0x4\r\n\r\nabcd",
    "an empty length": b"POST / HTTP/1.1\r\n" + H + b"Content-Length:\r\n\r\nabcd",
    "a length beyond 64 bits": b"POST / HTTP/1.1\r\n" + H + b"Content-Length: 99999999999999999999\r\n\r\nabcd",
    "gzip, chunked": b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked, gzip": b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "chunked twice": b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "identity": b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: identity\r\nContent-Length: 4\r\n\r\nabcd",
    "a coding that only looks chunked": b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "a coding behind a vertical tab": b"POST / HTTP/1.1\r\n" + H + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "chunked in 1.0": b"POST / HTTP/1.0\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "obsolete folding": b"GET / HTTP/1.1\r\n" + H + b"X-A: 1\r\n 2\r\n\r\n",
    "folding of the first line": b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
    "a bare LF after the request line": b"GET / HTTP/1.1\nHost: a\r\n\r\n",
    "a bare LF after a header": b"GET / HTTP/1.1\r\nHost: a\nX-A: 1\r\n\r\n",
    "bare LFs everywhere": b"GET / HTTP/1.1\nHost: a\n\n",
    "a bare CR in a value": b"GET / HTTP/1.1\r\n" + H + b"X-A: 1\rX-B: 2\r\n\r\n",
    "NUL in a value": b"GET / HTTP/1.1\r\n" + H + b"X-A: a\0b\r\n\r\n",
    "NUL in a name": b"GET / HTTP/1.1\r\n" + H + b"X\0A: b\r\n\r\n",
    "NUL in the target": b"GET /a\0b HTTP/1.1\r\n" + H + b"\r\n",
    "white space before a colon": b"GET / HTTP/1.1\r\n" + H + b"X-A : 1\r\n\r\n",
    "white space before the colon of the length": b"POST / HTTP/1.1\r\n" + H + b"Content-Length : 4\r\n\r\nabcd",
    "a tab before a colon": b"GET / HTTP/1.1\r\n" + H + b"X-A\t: 1\r\n\r\n",
    "a header without a colon": b"GET / HTTP/1.1\r\n" + H + b"X-A\r\n\r\n",
    "a header without a name": b"GET / HTTP/1.1\r\n" + H + b": 1\r\n\r\n",
    "a name that is no token": b"GET / HTTP/1.1\r\n" + H + b"X(A): 1\r\n\r\n",
    "a name that is not ASCII": b"GET / HTTP/1.1\r\n" + H + b"X\xe9: 1\r\n\r\n",
    "two spaces in the request line": b"GET  / HTTP/1.1\r\n" + H + b"\r\n",
    "a space at the end of the request line": b"GET / HTTP/1.1 \r\n" + H + b"\r\n",
    "a tab in the request line": b"GET\t/ HTTP/1.1\r\n" + H + b"\r\n",
    "no target": b"GET HTTP/1.1\r\n" + H + b"\r\n",
    "a space in the target": b"GET /a b HTTP/1.1\r\n" + H + b"\r\n",
    "a control character in the target": b"GET /a\x01 HTTP/1.1\r\n" + H + b"\r\n",
    "a fragment": b"GET /a#b HTTP/1.1\r\n" + H + b"\r\n",
    "a target without a slash": b"GET a HTTP/1.1\r\n" + H + b"\r\n",
    "a method that is no token": b"GE(T / HTTP/1.1\r\n" + H + b"\r\n",
    "CONNECT": b"CONNECT a:443 HTTP/1.1\r\n" + H + b"\r\n",
    "a star that is not OPTIONS": b"GET * HTTP/1.1\r\n" + H + b"\r\n",
    "a target of another scheme": b"GET ftp://a/ HTTP/1.1\r\n" + H + b"\r\n",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x07" * 200 + b"\r\n\r\n",
    "garbage": b"\xff\xfe\xfd\r\n\r\n",
    "an oversized head": b"GET / HTTP/1.1\r\n" + H + b"X-A: " + b"a" * 9000 + b"\r\n\r\n",
    "a head that never ends": b"GET / HTTP/1.1\r\n" + H + b"X-A: " + b"a" * 20000,
    "too many headers": b"GET / HTTP/1.1\r\n" + H + b"".join(b"X-%d: 1\r\n" % n for n in range(60)) + b"\r\n",
    "an oversized target": b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\n" + H + b"\r\n",
    "an expectation of something else": b"POST / HTTP/1.1\r\n" + H + b"Expect: 200-maybe\r\nContent-Length: 1\r\n\r\na",
    "a body over the location's limit": b"POST /small-bodies HTTP/1.1\r\n" + H + b"Content-Length: 20000\r\n\r\n" + b"a" * 20000,
}

BAD_BODIES: dict[str, bytes] = {
    "a chunk size that is no number": b"zz\r\nabc\r\n0\r\n\r\n",
    "a negative chunk size": b"-3\r\nabc\r\n0\r\n\r\n",
    "a chunk size with 0x": b"0x3\r\nabc\r\n0\r\n\r\n",
    "a chunk size beyond 64 bits": b"fffffffffffffffff\r\nabc\r\n0\r\n\r\n",
    "a chunk longer than it says": b"2\r\nabc\r\n0\r\n\r\n",
    "a bare LF after a chunk size": b"3\nabc\r\n0\r\n\r\n",
    "a bare LF after a chunk": b"3\r\nabc\n0\r\n\r\n",
    "white space before a chunk size": b" 3\r\nabc\r\n0\r\n\r\n",
    "an endless chunk extension": b"3;" + b"a" * 100_000 + b"\r\nabc\r\n0\r\n\r\n",
    "an endless trailer": b"3\r\nabc\r\n0\r\nX: " + b"a" * 200_000 + b"\r\n\r\n",
}


def refusal(client: Client) -> int:
    """The status with which a request was refused, 0 when the connection was closed without an answer."""
    try:
        response = client.response(timeout=5)
    except (Closed, ConnectionError):
        return 0
    assert response.status == 101 or 400 <= response.status < 600, response
    return response.status


@pytest.mark.parametrize("name", REFUSED)
def test_a_request_that_breaks_the_rules_is_refused_and_never_reaches_the_origin(
    proxy: Pingap, origin: Origin, smuggled: str, name: str
) -> None:
    with proxy.client() as client:
        # What follows it on the same connection must not be taken for a request either.
        client.send(REFUSED[name] + f"GET {smuggled} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        status = refusal(client)
        assert status == 0 or 400 <= status < 500 or status in (501, 505), status
        if status != 413:  # a body that is only too large leaves no doubt about where it ends
            assert client.is_closed(), "after such a request nothing on the connection can be trusted"
    assert proxy.get("/fine").status == 200
    reached = {exchange.path for exchange in origin.requests} - LATE
    if status == 413:
        reached.discard(smuggled)
        LATE.add(smuggled)
    assert reached == {"/fine"}
    assert not origin.strays


@pytest.mark.parametrize("name", BAD_BODIES)
def test_a_body_that_breaks_the_rules_ends_the_request_and_is_not_passed_on(
    proxy: Pingap, origin: Origin, smuggled: str, name: str
) -> None:
    with proxy.client() as client:
        client.send(b"POST /bad-body HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        with_suppressed_reset(client, BAD_BODIES[name] + f"GET {smuggled} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        status = refusal(client)
        assert status in (0, 400, 413, 431, 502), status
        assert client.is_closed()
    assert proxy.get("/fine").status == 200
    assert not [exchange for exchange in origin.requests if exchange.path == smuggled]
    for exchange in origin.seen("/bad-body"):
        assert not exchange.body, "the origin must never take such a body for complete"


def with_suppressed_reset(client: Client, data: bytes) -> None:
    with contextlib.suppress(ConnectionError):  # refused before all of it was read
        client.send(data)


def test_statuses_say_what_was_wrong(proxy: Pingap) -> None:
    for name, status in {
        "no host in 1.1": 400,
        "length and chunked": 400,
        "an oversized head": 431,
        "too many headers": 431,
        "an oversized target": 414,
        "version 2.0": 505,
        "gzip, chunked": 501,
        "an expectation of something else": 417,
        "a body over the location's limit": 413,
    }.items():
        with proxy.client() as client:
            client.send(REFUSED[name])
            assert refusal(client) == status, name


def test_a_chunked_body_over_the_limit_is_cut_off(proxy: Pingap, origin: Origin) -> None:
    with proxy.client() as client:
        client.send(b"POST /small-bodies HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        with_suppressed_reset(client, b"".join(b"1000\r\n" + b"a" * 0x1000 + b"\r\n" for _ in range(10)) + b"0\r\n\r\n")
        assert refusal(client) == 413
    for exchange in origin.seen("/small-bodies"):
        assert not exchange.body, "the origin must never take it for complete"


def test_valid_oddities_are_served(proxy: Pingap) -> None:
    for head in (
        b"\r\nGET /odd HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /odd HTTP/1.1\r\nhOsT:a\r\nX-Empty:\r\n\r\n",
        b"GET /odd HTTP/1.1\r\nHost: \t a \t \r\n\r\n",
        b"GET /odd HTTP/1.1\r\nHost: [::1]:80\r\nX-High: \xe9\r\n\r\n",
        b"PROPFIND /odd HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /odd HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n000003;a=b\r\nabc\r\n0;x\r\nT: 1\r\n\r\n",
        b"POST /odd HTTP/1.1\r\nHost: a\r\nContent-Length: 0003\r\n\r\nabc",
    ):
        with proxy.client() as client:
            client.send(head)
            response = client.response()
            assert (response.status, response.body) == (200, b"/odd"), head


def test_pipelined_garbage_after_a_good_request_costs_only_itself(proxy: Pingap, origin: Origin) -> None:
    with proxy.client() as client:
        client.send(b"GET /good HTTP/1.1\r\nHost: a\r\n\r\n\x00\x01garbage\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.response().body == b"/good"
        assert refusal(client) in (0, 400)
        assert client.is_closed()
    assert [exchange.path for exchange in origin.requests] == ["/good"]


def test_a_head_that_comes_too_slowly_is_given_up(proxy: Pingap, origin: Origin) -> None:
    with proxy.client() as client:
        began = time.monotonic()
        stop = threading.Event()

        def trickle() -> None:
            with_suppressed_reset(client, b"GET /slow HTTP/1.1\r\nHost: a\r\nX-A: ")
            while not stop.wait(0.1):
                try:
                    client.sock.send(b"a")
                except OSError:
                    return

        thread = threading.Thread(target=trickle)
        thread.start()
        status = refusal(client)
        stop.set()
        thread.join(5)
        assert status in (0, 408)
        assert 0.8 < time.monotonic() - began < 4, "each further byte must not buy more time"
    assert not origin.requests


def test_a_connection_that_says_nothing_is_closed(proxy: Pingap) -> None:
    with proxy.client() as client:
        assert client.is_closed(4)


def test_an_idle_keep_alive_connection_is_closed_after_its_time(proxy: Pingap) -> None:
    with proxy.client() as client:
        assert client.get("/fine").status == 200
        assert client.is_closed(4)


def test_a_body_that_stops_coming_is_given_up_and_the_origin_hears_of_it(proxy: Pingap, origin: Origin) -> None:
    with proxy.client() as client:
        client.send(b"POST /stalled HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + b"a" * 100_000)
        assert refusal(client) in (0, 408)
    exchange = origin.wait("/stalled")
    assert exchange.is_gone(5)
    assert not exchange.body


def test_a_slow_but_steady_upload_is_not_cut_off(proxy: Pingap) -> None:
    with proxy.client() as client:
        client.send(b"POST /steady HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
        for _ in range(10):
            client.send(b"a" * 10_000)
            time.sleep(0.2)
        assert client.response().status == 200, "the deadline is on silence, never on the whole body"


def test_a_client_that_leaves_in_mid_head_leaves_no_trace(proxy: Pingap, origin: Origin) -> None:
    for _ in range(20):
        with proxy.client() as client:
            client.send(b"GET /never HTTP/1.1\r\nHo")
    assert proxy.get("/fine").status == 200
    assert [exchange.path for exchange in origin.requests] == ["/fine"]


def test_a_client_that_resets_in_mid_body_leaves_the_proxy_well(proxy: Pingap, origin: Origin) -> None:
    for _ in range(10):
        with proxy.client() as client:
            client.send(b"POST /reset HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + b"a" * 70_000)
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert proxy.get("/fine").status == 200
    for exchange in origin.seen("/reset"):
        assert not exchange.body
