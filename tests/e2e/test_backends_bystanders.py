"""One client's request must not cost the others on a connection of HTTP/2 theirs: nginx and HAProxy end it over what they find too large.

Sixteen requests are held by the origin behind the backend while another comes of which the backend ends its connection.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.client import Client
from tests.e2e.harness import Pingap, site
from tests.e2e.origins import Exchange, Origin
from tests.kit.peers import needs
from tests.kit.waiting import free_port, until

CLIENTS = 16
ADDED = b"".join(b"x-%d: 1\r\n" % number for number in range(150))
"""More lines than HAProxy takes."""


class Gate:
    """An origin that holds what is asked of it until it is opened."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.origin = Origin(self._answer)

    def _answer(self, exchange: Exchange) -> None:
        exchange.read_body()
        if exchange.path == "/held":
            self.open.wait(20)
        exchange.reply(exchange.path.encode())

    def holds(self, count: int) -> bool:
        return len(self.origin.seen("/held")) >= count

    def shut(self) -> None:
        self.open.clear()
        self.origin.requests.clear()


@pytest.fixture(scope="module")
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open.set()
    gate.origin.stop()
    assert not gate.origin.errors, gate.origin.errors


def accepts(port: int) -> bool:
    try:
        with Client(port):
            return True
    except OSError:
        return False


def run(argv: list[str], port: int) -> Iterator[int]:
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: accepts(port), 10, f"{argv[0]} accepts connections")
    yield port
    process.terminate()
    process.wait(10)


@pytest.fixture(scope="module")
def nginx_port(tmp_path_factory: pytest.TempPathFactory, gate: Gate) -> Iterator[int]:
    needs("nginx")
    root, port = tmp_path_factory.mktemp("nginx-h2"), free_port()
    version = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=True).stderr.rpartition("/")[2].split()[0]
    is_old = tuple(map(int, version.split(".")[:2])) < (1, 25)  # "http2" was a word of the listen line
    config = root / "nginx.conf"
    config.write_text(f"""{"user root;" if os.getuid() == 0 else ""} worker_processes 1; daemon off; pid {root}/pid;
error_log {root}/error.log; events {{ worker_connections 512; }}
http {{
  access_log off; client_body_temp_path {root}/b; proxy_temp_path {root}/p; fastcgi_temp_path {root}/f;
  uwsgi_temp_path {root}/u; scgi_temp_path {root}/s; keepalive_timeout 600s;
  server {{
    listen 127.0.0.1:{port}{" http2" if is_old else ""}; {"" if is_old else "http2 on;"}
    location / {{ proxy_pass http://127.0.0.1:{gate.origin.port}; }}
  }}
}}""")
    yield from run(["nginx", "-c", str(config), "-e", str(root / "error.log")], port)


@pytest.fixture(scope="module")
def haproxy_port(tmp_path_factory: pytest.TempPathFactory, gate: Gate) -> Iterator[int]:
    needs("haproxy")
    port = free_port()
    config: Path = tmp_path_factory.mktemp("haproxy-h2") / "haproxy.cfg"
    config.write_text(f"""defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
frontend f
  bind 127.0.0.1:{port} proto h2
  default_backend b
backend b
  server s 127.0.0.1:{gate.origin.port}
""")
    yield from run(["haproxy", "-db", "-f", str(config)], port)


@pytest.fixture(scope="module", params=["h2", "ngh2"])
def proxy(request: pytest.FixtureRequest, nginx_port: int, haproxy_port: int) -> Iterator[Pingap]:
    pytest.importorskip(request.param)
    upstream = f'alpn = "h2"\nhttp2_engine = "{request.param}"'
    with Pingap(
        site(
            [nginx_port],
            upstream=upstream,
            server='max_headers = 200\nmax_target_bytes = "32KiB"',
            locations='["haproxy", "all"]',
            more=f"""
[locations.haproxy]
host = "haproxy.test"
upstream = "haproxy"
[upstreams.haproxy]
addrs = ["127.0.0.1:{haproxy_port}"]
{upstream}
""",
        )
    ) as instance:
        yield instance


def head(host: str, more: bytes = b"", target: bytes = b"/free", method: bytes = b"GET") -> bytes:
    return b"%b %b HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (method, target, host.encode(), more)


OFFENDERS: dict[str, Callable[[str], bytes]] = {
    "header": lambda host: head(host, b"x-long: %b\r\n" % (b"x" * 12_000)),
    "headers": lambda host: head(host, b"".join(b"x-%d: %b\r\n" % (n, b"x" * 3000) for n in range(20))),
    "lines": lambda host: head(host, ADDED),
    "query": lambda host: head(host, target=b"/free?" + b"q" * 20_000),
    "trailers": lambda host: (
        head(host, b"Transfer-Encoding: chunked\r\nTE: trailers\r\n", method=b"POST") + b"2\r\nok\r\n0\r\nx-sum: 1\r\n\r\n"
    ),
    "announced": lambda host: (
        head(host, b"Transfer-Encoding: chunked\r\nTrailer: x-sum\r\n", method=b"POST") + b"2\r\nok\r\n0\r\nx-sum: 1\r\n\r\n"
    ),
}


EXPECTED = {
    ("header", "nginx.test"): 431,
    ("headers", "nginx.test"): 431,
    ("query", "nginx.test"): 431,
    ("query", "haproxy.test"): 502,
    ("headers", "haproxy.test"): 502,  # GOAWAY with INTERNAL_ERROR
    ("announced", "nginx.test"): 502,  # GOAWAY with PROTOCOL_ERROR: nginx has no idea of trailers
}
"""Not 200. Trailers that nobody has announced are dropped, for others are on the connection."""


@pytest.mark.parametrize("host", ["nginx.test", "haproxy.test"])
@pytest.mark.parametrize("what", list(OFFENDERS))
def test_a_request_that_its_backend_ends_the_connection_over_costs_nobody_else_theirs(
    proxy: Pingap, gate: Gate, host: str, what: str
) -> None:
    gate.shut()
    clients = [proxy.client() for _ in range(CLIENTS)]
    try:
        for client in clients:
            client.request("/held", "POST", body=b"order", host=host)
        until(lambda: gate.holds(CLIENTS), 10, "the origin holds all of them")
        with proxy.client() as offender:
            offender.send(OFFENDERS[what](host))
            status = offender.response().status
        gate.open.set()
        assert [client.response("POST").status for client in clients] == [200] * CLIENTS
        assert len(gate.origin.seen("/held")) == CLIENTS, "a request was repeated"
        assert status == EXPECTED.get((what, host), 200)
        with proxy.client() as later:
            later.send(head(host))
            assert later.response().status == 200
    finally:
        gate.open.set()
        for client in clients:
            client.close()
