"""Backends over TLS that prefer HTTP/2 and do not carry everything there: nginx, and one that sends requests back for HTTP/1.1."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator

import pytest
from h2.settings import SettingCodes
from websockets.asyncio.client import ClientConnection, connect

from tests.conformance.peer import Peer
from tests.e2e.client import Client, Response
from tests.e2e.harness import PLACEMENTS, Pingap
from tests.e2e.http2_origin import Http2Origin
from tests.e2e.origins import Exchange, Origin
from tests.e2e.test_backends_tls import Certificates
from tests.e2e.test_flow import MB
from tests.e2e.ws_origin import WsOrigin
from tests.http2.wire import data, headers
from tests.kit.peers import needs
from tests.kit.waiting import free_port, until

UPGRADE = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
ECHO = bytes(range(256)) * (3 * 4096)


class EitherOrigin(Http2Origin):
    """HTTP/2 for whom it is offered by, and HTTP/1.1 by `http1` for the others."""

    def __init__(self, context: ssl.SSLContext, settings: dict[SettingCodes, int] | None = None) -> None:
        self.http1 = Origin()
        self.spoken: list[str | None] = []
        """What was agreed on for each connection."""
        self.http1.on["/ws"] = echo_in_a_tunnel
        super().__init__(context, settings)

    def _speak(self, sock: socket.socket, number: int) -> None:
        assert isinstance(sock, ssl.SSLSocket)
        agreed = sock.selected_alpn_protocol()
        self.spoken.append(agreed)
        if agreed == "h2":
            super()._speak(sock, number)
        else:
            with self.http1._lock:
                self.http1._sockets.add(sock)
                self.http1.open += 1
            self.http1._serve(sock)

    def stop(self) -> None:
        self.http1.stop()
        super().stop()
        self.errors += self.http1.errors


def echo_in_a_tunnel(exchange: Exchange) -> None:
    """Answers the key that it was given, whoever made that, and then sends back what comes."""
    key = exchange.get("sec-websocket-key") or ""
    digest = hashlib.sha1(key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    accept = base64.b64encode(digest).decode()
    upgrade = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    exchange.send(f"{upgrade}Sec-WebSocket-Accept: {accept}\r\n\r\n".encode())
    while part := exchange.receive():
        exchange.send(part)
    with contextlib.suppress(OSError):
        exchange.sock.unwrap()  # type: ignore[attr-defined]
    exchange.close()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def either(certificates: Certificates) -> Iterator[EitherOrigin]:
    server = EitherOrigin(certificates.context("good", "h2", "http/1.1"))
    yield server
    server.stop()
    assert not server.errors, server.errors


@pytest.fixture(scope="module")
def able(certificates: Certificates) -> Iterator[EitherOrigin]:
    """One that takes extended CONNECT."""
    server = EitherOrigin(certificates.context("good", "h2", "http/1.1"), {SettingCodes.ENABLE_CONNECT_PROTOCOL: 1})
    yield server
    server.stop()
    assert not server.errors, server.errors


@pytest.fixture(scope="module")
def ws_origin() -> Iterator[WsOrigin]:
    server = WsOrigin()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def nginx_port(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates, ws_origin: WsOrigin) -> Iterator[int]:
    """nginx with HTTP/2 and HTTP/1.1 over TLS, which has `ws_origin` behind /ws/ and says elsewhere what is spoken."""
    needs("nginx")
    root, port = tmp_path_factory.mktemp("nginx-either"), free_port()
    version = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=True).stderr.rpartition("/")[2].split()[0]
    is_old = tuple(map(int, version.split(".")[:2])) < (1, 25)  # "http2" was a word of the listen line
    config = root / "nginx.conf"
    config.write_text(f"""{"user root;" if os.getuid() == 0 else ""} worker_processes 1; daemon off; pid {root}/pid;
error_log {root}/error.log; events {{ worker_connections 512; }}
http {{
  access_log off; client_body_temp_path {root}/b; proxy_temp_path {root}/p; fastcgi_temp_path {root}/f;
  uwsgi_temp_path {root}/u; scgi_temp_path {root}/s; keepalive_timeout 600s;
  server {{
    listen 127.0.0.1:{port} ssl{" http2" if is_old else ""}; {"" if is_old else "http2 on;"} {certificates.lines("good")}
    location / {{ return 200 $server_protocol; }}
    location /ws/ {{
      proxy_pass http://127.0.0.1:{ws_origin.port}; proxy_http_version 1.1; proxy_set_header Host $host;
      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;
    }}
  }}
}}""")
    process = subprocess.Popen(["nginx", "-c", config, "-e", root / "error.log"])

    def accepts() -> bool:
        try:
            with Client(port, tls=True):
                return True
        except OSError:
            return False

    until(accepts, 10, "nginx accepts connections")
    yield port
    process.terminate()
    process.wait(10)


@pytest.fixture(scope="module", params=[(name, "h2") for name in PLACEMENTS] + [("split", "ngh2")], ids="-".join)
def proxy(
    request: pytest.FixtureRequest, certificates: Certificates, either: EitherOrigin, able: EitherOrigin, nginx_port: int
) -> Iterator[Pingap]:
    placement, engine = request.param
    if engine == "ngh2":
        pytest.importorskip("ngh2")
    upstreams = {
        "nginx": (nginx_port, "h2h1", ""),
        "able": (able.port, "h2h1", ""),
        "capped": (either.port, "h2h1", "max_connections = 1"),
        "only-h2": (either.port, "h2", ""),
        "either": (either.port, "h2h1", ""),
    }
    locations = "".join(f'[locations.{name}]\nhost = "{name}.test"\nupstream = "{name}"\nmax_retries = 0\n' for name in upstreams)
    sections = "".join(
        f'[upstreams.{name}]\naddrs = ["127.0.0.1:{port}"]\nsni = "backend.test"\nalpn = "{alpn}"\nhttp2_engine = "{engine}"\n'
        f'health_check = "tcp://x?failure=1000"\n{more}\n'
        for name, (port, alpn, more) in upstreams.items()
    )
    names = ", ".join(f'"{name}"' for name in upstreams)
    config = f"""[servers.plain]
addr = "127.0.0.1:{{port}}"
enabled_h2 = true
locations = [{names}]
{locations}{sections}"""
    with Pingap(config, placement, env={"SSL_CERT_FILE": str(certificates.trusted)}) as instance:
        yield instance


@pytest.fixture(autouse=True)
def from_the_start(either: EitherOrigin, able: EitherOrigin) -> None:
    for origin in (either, able):
        origin.requests.clear()
        origin.http1.requests.clear()


def ask(proxy: Pingap, path: str, host: str, method: str = "GET", body: bytes | None = None) -> Response:
    with proxy.client(timeout=20) as client:
        client.request(path, method, body=body, host=host)
        return client.response(method)


def tunnels(proxy: Pingap, host: str) -> None:
    """A client of HTTP/1.1 has a tunnel to whoever answers for the host, and gets back what it sends."""
    with proxy.client(timeout=20) as client:
        client.request("/ws", headers=UPGRADE, host=host)
        answer = client.response()
        assert (answer.status, answer.get("sec-websocket-accept")) == (101, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        thread = threading.Thread(target=client.send, args=(ECHO,))
        thread.start()
        assert client.exactly(len(ECHO)) == ECHO
        thread.join(10)


# -- tunnels ----------------------------------------------------------------------------------------


def open_through_nginx(proxy: Pingap, path: str) -> connect:
    where = f"ws://nginx.test:{proxy.port}{path}"
    return connect(where, proxy=None, host="127.0.0.1", port=proxy.port, max_size=None, ping_interval=None)


async def echoes(socket: ClientConnection, message: str | bytes) -> bool:
    await socket.send(message)
    return await socket.recv() == message


async def test_a_websocket_reaches_what_nginx_has_behind_it_while_others_are_on_http2(proxy: Pingap) -> None:
    assert ask(proxy, "/", "nginx.test").body == b"HTTP/2.0"
    async with open_through_nginx(proxy, "/ws/echo") as first, open_through_nginx(proxy, "/ws/echo") as second:
        for socket in (first, second):
            for message in ("grüße", b"\0" * 70_000, "x" * (2 * MB)):
                assert await echoes(socket, message)
        assert ask(proxy, "/", "nginx.test").body == b"HTTP/2.0"


def test_a_client_on_http2_gets_its_tunnel_too(proxy: Pingap, either: EitherOrigin) -> None:
    fields = ((b":method", b"CONNECT"), (b":protocol", b"websocket"), (b":scheme", b"http"), (b":authority", b"either.test"))
    with Peer(proxy.port) as peer:
        peer.send(headers(1, (*fields, (b":path", b"/ws"), (b"sec-websocket-version", b"13"))))
        peer.send(data(1, b"and back"))
        peer.until(lambda _: bytes(peer.answers[1].body) == b"and back" if 1 in peer.answers else False, "what was sent comes back")
        assert (peer.answers[1].status, peer.answers[1].get(b"sec-websocket-accept")) == (200, None)
        peer.send(data(1, b"", ended=True))
        assert peer.answer(1).body == b"and back"
    assert either.http1.wait("/ws").get("upgrade") == "websocket"


def test_one_that_can_gets_it_over_http2(proxy: Pingap, able: EitherOrigin) -> None:
    before = able.spoken.count("http/1.1")
    tunnels(proxy, "able.test")
    assert able.wait("/ws").fields[":protocol"] == "websocket"
    assert able.spoken.count("http/1.1") == before


def test_where_there_may_be_one_connection_it_changes_hands(proxy: Pingap) -> None:
    for _ in range(2):
        assert ask(proxy, "/", "capped.test").status == 200
        tunnels(proxy, "capped.test")


def test_where_only_http2_is_allowed_the_log_says_why_there_is_no_tunnel(proxy: Pingap, either: EitherOrigin) -> None:
    with proxy.client() as client:
        client.request("/ws", headers=UPGRADE, host="only-h2.test")
        assert client.response().status == 502
    proxy.wait_output('upstream=only-h2 .*RFC 8441.*and alpn = .*"h2.*" rules out HTTP/1.1')
    assert either.http1.seen("/ws") == []


# -- HTTP_1_1_REQUIRED ------------------------------------------------------------------------------------


def test_a_post_that_the_backend_wants_over_http1_arrives_there_once_and_what_follows_goes_there_at_once(
    proxy: Pingap, either: EitherOrigin
) -> None:
    answer = ask(proxy, "/wants-http1", "either.test", "POST", b"order")
    assert (answer.status, answer.body) == (200, b"/wants-http1")
    assert [request.size for request in either.seen("/wants-http1")] == [5]
    assert [exchange.body for exchange in either.http1.seen("/wants-http1")] == [b"order"]
    for path in ("/wants-http1", "/other"):
        assert ask(proxy, path, "either.test").body == path.encode()
    assert (len(either.seen("/wants-http1")), either.seen("/other")) == (1, [])


def test_where_only_http2_is_allowed_that_is_a_bad_gateway(proxy: Pingap, either: EitherOrigin) -> None:
    assert ask(proxy, "/wants-http1", "only-h2.test").status == 502
    proxy.wait_output("upstream=only-h2 .*HTTP_1_1_REQUIRED., which alpn, or gRPC, rules out")
    assert either.http1.seen("/wants-http1") == []
    assert len(either.seen("/wants-http1")) == 1
