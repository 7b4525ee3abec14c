"""How HTTP/2 is agreed on: ALPN, prior knowledge and Upgrade (RFC 9113 section 3, RFC 7540 section 3.2)."""

from __future__ import annotations

import base64
import socket
import ssl

import pytest

from pingap.stages.http2.engine import FRAME_SIZE_ERROR, PREFACE, PROTOCOL_ERROR
from tests.conformance.conftest import Server
from tests.conformance.peer import Peer, speaking
from tests.conformance.steps import answers, dies, get, sends, window
from tests.e2e.client import Client
from tests.e2e.harness import Pingap
from tests.http2.wire import SETTINGS, frame, u32

SMALL_WINDOW = base64.urlsafe_b64encode(b"\0\3" + u32(100) + b"\0\4" + u32(1)).rstrip(b"=").decode()
GOOD = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQAAP__"}


def ask(peer: Peer, headers: dict[str, str], method: str = "GET", more: str = "") -> bytes:
    """Sends a request of HTTP/1.1; the head of its answer."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    peer.send(f"{method} / HTTP/1.1\r\nHost: test.local\r\n{lines}\r\n{more}".encode())
    return peer.http1_head()


def upgraded(peer: Peer, headers: dict[str, str] = GOOD, method: str = "GET") -> None:
    head = ask(peer, headers, method)
    assert head.startswith(b"HTTP/1.1 101 "), head
    assert b"\r\nupgrade: h2c" in head.lower()
    peer.send(PREFACE + frame(SETTINGS))


def test_a_request_may_ask_for_h2c_and_is_stream_1(server: Server) -> None:
    with server.peer(raw=True) as peer:
        upgraded(peer)
        answers(1, body=b"hello\n")(peer)
        assert peer.seen[0].kind == SETTINGS
        peer.send(get(3))
        answers(3)(peer)


def test_the_settings_of_an_upgrade_count(server: Server) -> None:
    with server.peer(raw=True) as peer:
        upgraded(peer, GOOD | {"HTTP2-Settings": SMALL_WINDOW})
        sends(1, 1)(peer)
        peer.send(window(1, 100))
        answers(1, body=b"hello\n")(peer)


def test_head_is_answered_without_a_body_after_an_upgrade(server: Server) -> None:
    with server.peer(raw=True) as peer:
        upgraded(peer, method="HEAD")
        answers(1, body=b"")(peer)
        peer.send(get(3))
        answers(3, body=b"hello\n")(peer)


def test_a_second_request_of_a_connection_may_ask(server: Server) -> None:
    with server.peer(raw=True) as peer:
        head = ask(peer, {})
        assert head.startswith(b"HTTP/1.1 200 ")
        while b"hello\n" not in peer.buffer:
            peer.buffer += peer.sock.recv(100)
        peer.buffer = b""
        upgraded(peer)
        answers(1)(peer)


def test_after_an_upgrade_the_preface_is_due(server: Server) -> None:
    with server.peer(raw=True) as peer:
        assert ask(peer, GOOD).startswith(b"HTTP/1.1 101 ")
        peer.send(b"GET / HTTP/1.1\r\nHost: test.local\r\n\r\n")
        dies(PROTOCOL_ERROR, FRAME_SIZE_ERROR)(peer)


def test_settings_of_an_upgrade_with_a_value_that_may_not_be(server: Server) -> None:
    """They are refused as no upgrade (h2), or as the connection error that they are in SETTINGS (libnghttp2)."""
    with server.peer(raw=True) as peer:
        head = ask(peer, GOOD | {"HTTP2-Settings": "AAUAAAAA"})
        if not head.startswith(b"HTTP/1.1 200 "):
            assert head.startswith(b"HTTP/1.1 101 ")
            peer.send(PREFACE + frame(SETTINGS))
            dies(PROTOCOL_ERROR)(peer)


@pytest.mark.parametrize(
    ("headers", "method", "body"),
    [
        pytest.param(GOOD | {"HTTP2-Settings": "AAMAAABk*"}, "GET", "", id="settings that are not base64url"),
        pytest.param(GOOD | {"HTTP2-Settings": "AAMAAA"}, "GET", "", id="settings cut short"),
        pytest.param({name: value for name, value in GOOD.items() if name != "HTTP2-Settings"}, "GET", "", id="no settings"),
        pytest.param(GOOD | {"Http2-settings": ""}, "GET", "", id="settings twice"),
        pytest.param(GOOD | {"Connection": "Upgrade"}, "GET", "", id="settings that Connection does not name"),
        pytest.param(GOOD | {"Connection": "HTTP2-Settings"}, "GET", "", id="Connection does not say Upgrade"),
        pytest.param(GOOD | {"Upgrade": "h2"}, "GET", "", id="h2 is for TLS"),
        pytest.param(GOOD | {"Content-Length": "4"}, "POST", "body", id="a request with a body"),
    ],
)
def test_an_upgrade_that_is_not_as_it_should_be_is_ignored(server: Server, headers: dict[str, str], method: str, body: str) -> None:
    with server.peer(raw=True) as peer:
        head = ask(peer, headers, method, body)
        assert head.startswith(b"HTTP/1.1 200 "), head
        assert b"\r\nupgrade:" not in head.lower()


def test_http1_goes_on_where_http2_is_spoken(server: Server) -> None:
    with Client(server.port) as client:
        assert client.get("/").body == b"hello\n"
        assert client.get("/", body=b"some").status == 200


def test_an_upgrade_over_tls_is_ignored(server: Server) -> None:
    with Client(server.tls, tls=True) as client:
        answer = client.get("/", headers=GOOD)
        assert (answer.status, answer.version) == (200, "HTTP/1.1")


def test_prior_knowledge_under_tls_is_a_matter_of_alpn(server: Server) -> None:
    """Section 3.2: over TLS, h2 is agreed on in the handshake and in no other way."""
    with Client(server.tls, tls=True) as client:
        client.send(PREFACE + frame(SETTINGS))
        assert client.head().status in (400, 505)


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [(("h2", "http/1.1"), "h2"), (("http/1.1", "h2"), "h2"), (("http/1.1",), "http/1.1"), ((), None), (("spdy/3",), None)],
)
def test_alpn(server: Server, offered: tuple[str, ...], chosen: str | None) -> None:
    context = speaking(*offered) if offered else _without_alpn()
    with context.wrap_socket(socket.create_connection(("127.0.0.1", server.tls), 5), server_hostname="test.local") as sock:
        assert sock.selected_alpn_protocol() == chosen
        if chosen != "h2":
            sock.sendall(b"GET / HTTP/1.1\r\nHost: test.local\r\nConnection: close\r\n\r\n")
            assert sock.recv(100).startswith(b"HTTP/1.1 200 ")


def _without_alpn() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


# -- listeners without enabled_h2 -----------------------------------------------------


def test_a_listener_without_http2_answers_its_preface_in_http1(instance: Pingap) -> None:
    with Client(instance.port) as client:
        client.send(PREFACE + frame(SETTINGS))
        assert client.response().status in (400, 505)
        assert client.is_closed()


def test_a_listener_without_http2_ignores_an_upgrade(instance: Pingap) -> None:
    with Client(instance.port) as client:
        assert client.get("/", headers=GOOD).body == b"hello\n"


def test_a_listener_without_http2_does_not_offer_it(instance: Pingap, ports: dict[str, int]) -> None:
    context = speaking("h2", "http/1.1")
    with context.wrap_socket(socket.create_connection(("127.0.0.1", ports["old-tls"]), 5), server_hostname="test.local") as sock:
        assert sock.selected_alpn_protocol() in ("http/1.1", None)
