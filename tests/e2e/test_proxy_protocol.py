"""The PROXY protocol from those who speak it: haproxy in both versions, curl, and whoever has no right to."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.e2e.certificate import section
from tests.e2e.client import Client
from tests.e2e.harness import Pingap, site
from tests.e2e.origins import Origin
from tests.kit.peers import needs
from tests.kit.waiting import free_port, until

CLIENT = "127.0.0.77"
"""The address of clients; haproxy connects from 127.0.0.1, which alone is trusted."""


@pytest.fixture(scope="module")
def tls_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def proxy(placement: str, shared_origin: Origin, tls_port: int) -> Iterator[Pingap]:
    secure = f"""
[servers.secure]
addr = "127.0.0.1:{tls_port}"
locations = ["all"]
proxy_protocol = true
global_certificates = true
{section("test", "test.local")}
"""
    log = 'proxy_protocol = true\nheader_timeout = "1s"\naccess_log = "{dir}/access.log {remote} {client_ip} {uri} {status}"'
    text = site(
        [shared_origin.port],
        server=log,
        location="enable_reverse_proxy_headers = true",
        basic='trusted_proxies = ["127.0.0.1/32"]\nlog_level = "warn"',
        more=secure,
    )
    with Pingap(text, placement) as instance:
        yield instance


@pytest.fixture(scope="module")
def haproxy(proxy: Pingap, tls_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    """Ports of haproxy by what it sends on."""
    needs("haproxy")
    senders = {
        "send-proxy": proxy.port,
        "send-proxy-v2": proxy.port,
        "send-proxy-v2 proxy-v2-options crc32c,unique-id": proxy.port,
        "send-proxy tls": tls_port,
        "send-proxy-v2 tls": tls_port,
    }
    ports = {sender: free_port() for sender in senders}
    config = tmp_path_factory.mktemp("haproxy") / "haproxy.cfg"
    lines = ["global", " nbthread 1", "defaults", " mode tcp", " timeout connect 5s", " timeout client 20s", " timeout server 20s"]
    lines.append(" unique-id-format %[uuid()]")
    for number, (sender, target) in enumerate(senders.items()):
        words = sender.removesuffix(" tls")
        # A check is a connection of haproxy's own: LOCAL in version 2.
        lines += [f"listen l{number}", f" bind 127.0.0.1:{ports[sender]}"]
        lines += [f" server s 127.0.0.1:{target} source 127.0.0.1 {words} check inter 200ms"]
    config.write_text("\n".join([*lines, ""]))
    neighbour = subprocess.Popen(["haproxy", "-db", "-f", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for port in ports.values():
            until(lambda port=port: accepts(port), 5, "haproxy accepts")  # type: ignore[misc]
        yield ports
    finally:
        neighbour.terminate()
        neighbour.wait(5)


def accepts(port: int) -> bool:
    with contextlib.suppress(OSError), Client(port, timeout=1):
        return True
    return False


def connect(port: int, source: str = CLIENT, tls: bool = False) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), 10, (source, 0))
    if not tls:
        return sock
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(sock, server_hostname="test.local")


def ask(sock: socket.socket, target: str) -> bytes:
    """The answer to a GET that ends the connection; b"" when there is none."""
    sock.sendall(f"GET {target} HTTP/1.1\r\nHost: test.local\r\nConnection: close\r\n\r\n".encode())
    answer = b""
    with contextlib.suppress(ConnectionError):
        while part := sock.recv(65536):
            answer += part
    return answer


@pytest.mark.parametrize(
    "sender", ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id", "send-proxy tls", "send-proxy-v2 tls"]
)
def test_behind_haproxy_the_client_is_known(proxy: Pingap, haproxy: dict[str, int], shared_origin: Origin, sender: str) -> None:
    shared_origin.requests.clear()
    is_tls = sender.endswith(" tls")
    with connect(haproxy[sender], tls=is_tls) as sock:
        port = sock.getsockname()[1]
        assert ask(sock, "/known").startswith(b"HTTP/1.1 200 OK\r\n")
    (seen,) = shared_origin.seen("/known")
    assert seen.get("x-real-ip") == CLIENT
    assert seen.get("x-forwarded-for") == CLIENT
    assert seen.get("x-forwarded-proto") == ("https" if is_tls else "http")
    assert seen.get("x-forwarded-port") == str(haproxy[sender]), "the port that the client connected to"
    if not is_tls:
        log = proxy.dir / "access.log"
        until(lambda: f"{CLIENT} {CLIENT} /known 200" in log.read_text(), 3, f"the log names the client ({port})")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_curl_says_who_it_is(proxy: Pingap, tls_port: int, scheme: str) -> None:
    needs("curl")
    port = tls_port if scheme == "https" else proxy.port
    argv = ["curl", "-sSk", "--haproxy-protocol", "--max-time", "10", "-w", " %{http_code}", f"{scheme}://127.0.0.1:{port}/curl"]
    assert subprocess.run(argv, capture_output=True, text=True, timeout=20, check=True).stdout == "/curl 200"


def test_a_large_request_right_behind_the_header_is_whole(proxy: Pingap, big_file: bytes) -> None:
    body = big_file[: 1 << 20]
    with Client(proxy.port) as client:
        client.send(
            b"PROXY TCP4 203.0.113.9 198.51.100.1 4711 443\r\nPOST /large HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body)
            + body
        )
        assert client.response().status == 200
        assert client.get("/again").body == b"/again"


def test_who_is_not_trusted_is_closed_without_an_answer_header_or_not(proxy: Pingap, shared_origin: Origin) -> None:
    shared_origin.requests.clear()
    for begin in (b"", b"PROXY TCP4 203.0.113.9 198.51.100.1 4711 443\r\n"):
        with contextlib.suppress(ConnectionError), connect(proxy.port) as sock:
            sock.sendall(begin)
            assert ask(sock, "/stranger") == b""
    assert not shared_origin.seen("/stranger")
    proxy.wait_output("not in basic.trusted_proxies")


def test_a_trusted_proxy_that_forgets_its_header_is_closed_without_an_answer(proxy: Pingap, shared_origin: Origin) -> None:
    with connect(proxy.port, "127.0.0.1") as sock:
        assert ask(sock, "/forgotten") == b""
    assert not shared_origin.seen("/forgotten")
    proxy.wait_output("closed: no sound PROXY header client=127.0.0.1 server=plain reason=.*does not begin with a header")


def test_half_a_header_is_given_up(proxy: Pingap) -> None:
    with connect(proxy.port, "127.0.0.1") as sock:
        sock.sendall(b"PROXY TCP4 203")
        began = time.monotonic()
        sock.settimeout(5)
        with contextlib.suppress(ConnectionError):
            assert sock.recv(100) == b""
        assert 0.8 < time.monotonic() - began < 4
