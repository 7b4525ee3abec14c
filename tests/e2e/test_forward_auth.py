"""forward_auth with services that answer well, badly, and not at all: only what they clearly let pass reaches the backend."""

from __future__ import annotations

import contextlib
import gzip
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.e2e.client import Client
from tests.e2e.harness import Pingap, site
from tests.e2e.origins import Exchange, Origin
from tests.kit.waiting import free_port

RESET = struct.pack("ii", 1, 0)
UPGRADE = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
FAILED = (502, b"Forward auth request failed")
KINDS = ("upstream", "url")
"""Of `auth_url`."""


class Place:
    """One instance, a service that a test says what it does, and the backend behind."""

    def __init__(self, placement: str) -> None:
        self.over = threading.Event()
        """No service hangs any longer than its test."""
        self.service, self.origin = Origin(), Origin()
        locations = "".join(
            f'[locations.{name}]\npath = "/{name}"\nupstream = "origin"\nplugins = ["{name}"]\n'
            f'[plugins.{name}]\ncategory = "forward_auth"\nauth_url = "{url}"\nadd_headers = ["X-User"]\n'
            f'response_headers = ["Set-Cookie"]\ntimeout = "{timeout}"\n'
            for name, url, timeout in (
                ("upstream", "upstream://auth/verify", "20s"),
                ("url", f"http://127.0.0.1:{self.service.port}/verify", "20s"),
                ("brief", "upstream://auth/verify", "300ms"),
                ("nobody", f"http://127.0.0.1:{free_port()}/verify", "20s"),
                ("around", "http://127.0.0.1:{port}/around/verify", "20s"),
            )
        )
        more = f'{locations}[upstreams.auth]\naddrs = ["127.0.0.1:{self.service.port}"]\n'
        names = '["upstream", "url", "brief", "nobody", "around"]'
        self.pingap = Pingap(site([self.origin.port], more=more, locations=names), placement)

    def does(self, answer: Callable[[Exchange], None]) -> None:
        self.over.set()
        self.over = threading.Event()
        self.service.answer = answer
        self.service.requests.clear()
        self.origin.requests.clear()

    def client(self) -> Client:
        return self.pingap.client()


@pytest.fixture(scope="module")
def place(placement: str) -> Iterator[Place]:
    made = Place(placement)
    with made.pingap:
        yield made
    made.over.set()
    made.service.stop()
    made.origin.stop()
    assert not made.service.errors + made.origin.errors


def raw(*parts: bytes, then: Callable[[Exchange], None] | None = None) -> Callable[[Exchange], None]:
    """Says these bytes, and closes."""

    def answer(exchange: Exchange) -> None:
        for part in parts:
            exchange.send(part)
        if then is not None:
            then(exchange)
        exchange.close()

    return answer


def resets(exchange: Exchange) -> None:
    exchange.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


def for_ever(exchange: Exchange) -> None:
    with contextlib.suppress(OSError):
        while True:
            exchange.send(b"10000\r\n" + bytes(0x10000) + b"\r\n")


def says(status: str = "200 OK", headers: str = "", body: bytes = b"") -> Callable[[Exchange], None]:
    return lambda exchange: exchange.reply(body, status, headers)


# -- who passes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "answer",
    [
        says("204 No Content", "X-User: ada\r\n"),
        says("200 OK", "X-User: ada\r\n", b"page"),
        raw(
            b"HTTP/1.1 103 Early Hints\r\nX-User: eve\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nX-User: ada\r\n\r\nto the end"
        ),
        raw(b"HTTP/1.1 200 OK\r\nX-User: ada\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-User: eve\r\n\r\n"),
    ],
    ids=["204", "200", "1xx before", "trailers"],
)
def test_whom_the_service_lets_pass(place: Place, kind: str, answer: Callable[[Exchange], None]) -> None:
    place.does(answer)
    with place.client() as client:
        assert client.get(f"/{kind}/x?y=1", headers={"X-User": "admin", "X_User": "admin"}).status == 200
    [asked], [passed] = place.service.requests, place.origin.requests
    assert (asked.method, asked.target, asked.get("host")) == ("GET", "/verify", f"127.0.0.1:{place.service.port}")
    assert (asked.get("x-forwarded-uri"), asked.get("x-forwarded-host")) == (f"/{kind}/x?y=1", "test.local")
    assert (passed.get("x-user"), passed.get("x_user"), passed.target) == ("ada", None, f"/{kind}/x?y=1")


def test_its_cookies_come_beside_those_of_the_backend(place: Place) -> None:
    place.does(says("200 OK", "Set-Cookie: a=1\r\nSet-Cookie: b=2; Path=/\r\n"))
    place.origin.on["/url/cookie"] = says(headers="Set-Cookie: c=3\r\n")
    with place.client() as client:
        assert client.get("/url/cookie").all("set-cookie") == ["c=3", "a=1", "b=2; Path=/"]


# -- who does not -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("location", ["/login?rd=%2F", "https://login.example.org/"])
def test_redirects_are_for_the_client(place: Place, kind: str, location: str) -> None:
    place.does(says("302 Found", f"Location: {location}\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n", b"over there"))
    with place.client() as client:
        answer = client.get(f"/{kind}/x")
    assert (answer.status, answer.body, answer.get("location")) == (302, b"over there", location)
    assert answer.all("set-cookie") == ["a=1", "b=2"]
    assert len(place.service.requests) == 1 and not place.origin.requests


@pytest.mark.parametrize("kind", KINDS)
def test_a_refusal_is_relayed_without_what_is_about_its_connection(place: Place, kind: str) -> None:
    body = gzip.compress(b"no" * 1000)
    place.does(
        raw(
            b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 401 Unauthorized\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\n"
            b"Keep-Alive: timeout=5\r\nProxy-Connection: close\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\nContent-Encoding: gzip\r\n"
            b"WWW-Authenticate: Basic realm=a\r\nWWW-Authenticate: Bearer\r\n\r\n%x\r\n%b\r\n0\r\nX-T: 1\r\n\r\n" % (len(body), body)
        )
    )
    with place.client() as client:
        for method, got in (("GET", body), ("HEAD", b""), ("POST", body)):
            answer = client.get(f"/{kind}/x", method, body=b"abc" if method == "POST" else None)
            assert (answer.status, answer.body, answer.get("content-length")) == (401, got, str(len(body)))
            assert answer.all("www-authenticate") == ["Basic realm=a", "Bearer"]
            assert answer.get("content-encoding") == "gzip"
            for name in ("x-hop", "keep-alive", "proxy-connection", "transfer-encoding", "trailer", "x-t"):
                assert answer.all(name) == [], name
    assert not place.origin.requests


NO_ANSWERS = {
    "304": says("304 Not Modified"),
    "101": raw(SWITCHED),
    "streams-2xx": raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", then=for_ever),
    "streams-403": raw(b"HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n", then=for_ever),
    "10MB-403": says("403 Forbidden", body=bytes(10_000_000)),
    "10MB-200": says("200 OK", body=bytes(10_000_000)),
    "short": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nless"),
    "reset-in-body": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nless", then=resets),
    "lengths": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
    "chunks": raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnothing of the kind"),
    "999": raw(b"HTTP/1.1 999 What\r\nContent-Length: 0\r\n\r\n"),
    "099": raw(b"HTTP/1.1 099 What\r\nContent-Length: 0\r\n\r\n"),
    "long-line": raw(b"HTTP/1.1 200 OK\r\nX-User: " + b"a" * 2_000_000 + b"\r\n\r\n"),
    "ssh": raw(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "closes": raw(),
    "resets": raw(then=resets),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("answer", NO_ANSWERS.values(), ids=NO_ANSWERS)
def test_what_is_no_answer_lets_nobody_pass(place: Place, kind: str, answer: Callable[[Exchange], None]) -> None:
    place.does(answer)
    with place.client() as client:
        got = client.get(f"/{kind}/x")
        assert (got.status, got.body) == FAILED
        place.service.answer = says("204 No Content")
        assert client.get(f"/{kind}/x").status == 200, "the next is asked anew"
    assert len(place.origin.requests) == 1


@pytest.mark.parametrize(
    "begins", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"], ids=["silent", "head", "body"]
)
def test_a_service_that_hangs_lets_nobody_pass(place: Place, begins: bytes) -> None:
    def hangs(exchange: Exchange) -> None:
        exchange.send(begins)
        for _ in iter(lambda: place.over.wait(0.05), True):
            exchange.send(b"x" if begins else b"")

    place.does(hangs)
    with place.client() as client:
        got = client.get("/brief/x")
        assert (got.status, got.body) == FAILED
    assert not place.origin.requests
    place.does(says())


def test_a_service_that_is_not_there_lets_nobody_pass(place: Place) -> None:
    place.does(says())
    with place.client() as client:
        for more in ({}, {"method": "POST", "body": b"abc"}, {"headers": UPGRADE}):
            options: dict[str, Any] = more
            got = client.get("/nobody/x", **options)
            assert (got.status, got.body) == FAILED
    assert not place.origin.requests


def test_a_url_that_leads_back_is_no_storm(place: Place) -> None:
    place.does(says())
    with place.client() as client:
        got = client.get("/around/x")
        assert (got.status, got.body) == FAILED
    place.pingap.wait_output("leads back to a location with this plugin")
    assert not place.origin.requests


# -- bodies and upgrades -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_body_goes_to_the_backend_and_not_to_the_service(place: Place, kind: str) -> None:
    place.does(says("204 No Content"))
    place.origin.on[f"/{kind}/body"] = lambda exchange: exchange.reply(exchange.read_body())
    with place.client() as client:
        for body in (b"abc", bytes(3_000_000)):
            assert client.get(f"/{kind}/body", "POST", {"Content-Type": "a/b"}, body).body == body
    for asked in place.service.requests:
        assert (asked.method, asked.get("x-forwarded-method"), asked.get("content-type")) == ("GET", "POST", "a/b")
        assert asked.all("transfer-encoding") == [] and asked.get("content-length") in (None, "0") and not asked.rest


def test_who_expects_100_hears_it_when_the_service_has_let_pass(place: Place) -> None:
    place.does(lambda exchange: exchange.reply(b"", "204 No Content" if exchange.get("authorization") else "401 Unauthorized"))
    place.origin.on["/url/expects"] = lambda exchange: exchange.reply(exchange.read_body())
    with place.client() as client:
        expects = {"Expect": "100-continue", "Content-Length": "3"}
        client.request("/url/expects", "POST", {**expects, "Authorization": "a"})
        assert client.head().status == 100
        client.send(b"abc")
        assert client.response().body == b"abc"
        client.request("/url/expects", "POST", expects)
        refused = client.response()
        assert (refused.status, refused.informational) == (401, [])
    assert all(asked.all("expect") == [] for asked in place.service.requests)
    assert len(place.origin.requests) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_an_upgrade_is_asked_for_as_well(place: Place, kind: str) -> None:
    place.does(
        lambda exchange: exchange.reply(b"", "204 No Content" if exchange.get("cookie") == "a=b" else "403 Forbidden", "X-User: ada\r\n")
    )
    place.origin.on[f"/{kind}/socket"] = raw(SWITCHED, b"hello", then=lambda exchange: exchange.send(exchange.receive()))
    with place.client() as client:
        assert client.get(f"/{kind}/socket", headers=UPGRADE).status == 403
        client.request(f"/{kind}/socket", headers={**UPGRADE, "Cookie": "a=b"})
        assert client.head().status == 101
        client.send(b" world")
        assert client.exactly(11) == b"hello world"
    assert len(place.origin.requests) == 1
    assert place.origin.requests[0].get("x-user") == "ada"
    for asked in place.service.requests:
        assert [name for name, _ in asked.headers() if name in ("upgrade", "sec-websocket-key", "sec-websocket-version")] == []
