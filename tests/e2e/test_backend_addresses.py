"""Backends at UNIX sockets and IPv6 addresses: a real nginx, grpcio, and an origin that comes later than the proxy."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.certificate import self_signed
from tests.e2e.client import Client
from tests.e2e.grpc_peer import Peer, Stub
from tests.e2e.harness import PLACEMENTS, Pingap
from tests.e2e.origins import Exchange, Origin
from tests.kit.peers import needs
from tests.kit.waiting import free_port, until

SAYS = "'$request_method $request_uri host=$http_host $server_protocol tls=$ssl_server_name'"
CHECK = 'health_check = "tcp://x?check_frequency=200ms&failure=1"'


class Nginx:
    """One server for each kind of address."""

    def __init__(self, root: Path) -> None:
        certificate, key = self_signed("backend.test")
        (root / "crt").write_text(certificate)
        (root / "key").write_text(key)
        (root / "www").mkdir()
        (root / "www" / "file").write_bytes(bytes(4 << 20))
        self.port = free_port()
        tls = f"ssl_certificate {root}/crt; ssl_certificate_key {root}/key;"
        config = root / "nginx.conf"
        config.write_text(f"""{"user root;" if os.getuid() == 0 else ""} worker_processes 1; daemon off; pid {root}/pid;
error_log {root}/error.log; events {{ worker_connections 512; }}
http {{
  access_log off; client_body_temp_path {root}/b; proxy_temp_path {root}/p; fastcgi_temp_path {root}/f;
  uwsgi_temp_path {root}/u; scgi_temp_path {root}/s; keepalive_timeout 600s;
  server {{ listen unix:{root}/plain.sock; listen [::1]:{self.port}; location / {{ return 200 {SAYS}; }}
    location /plain/file {{ alias {root}/www/file; }} }}
  server {{ listen unix:{root}/tls.sock ssl http2; {tls} location / {{ return 200 {SAYS}; }} }}
}}""")
        self.process = subprocess.Popen(["nginx", "-c", config, "-e", root / "error.log"])
        until(lambda: all((root / f"{name}.sock").is_socket() for name in ("plain", "tls")), 10, "nginx listens")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    """Short, as the path of a socket has to be."""
    with tempfile.TemporaryDirectory(prefix="pg-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def nginx(root: Path) -> Iterator[Nginx]:
    needs("nginx")
    server = Nginx(root)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def peer(root: Path) -> Iterator[Peer]:
    server = Peer(path=str(root / "grpc.sock"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def origin(root: Path) -> Iterator[Origin]:
    server = Origin(path=root / "origin.sock")
    yield server
    server.stop()
    assert not server.errors, server.errors


@pytest.fixture(scope="module", params=PLACEMENTS)
def proxy(request: pytest.FixtureRequest, root: Path, nginx: Nginx, peer: Peer, origin: Origin) -> Iterator[Pingap]:
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(root / f"left-{request.param}.sock"))
    kinds = {
        "plain": f'addrs = ["unix:{root}/plain.sock"]',
        "tls": f'addrs = ["unix:{root}/tls.sock"]\nsni = "backend.test"\nalpn = "h2h1"',
        "six": f'addrs = ["[::1]:{nginx.port}"]\nipv4_only = false',
        "calls": f'addrs = ["unix:{root}/grpc.sock"]\nalpn = "h2"',
        "python": f'addrs = ["unix:{root}/origin.sock 2"]\nhealth_check = "http://app.test/healthy?check_frequency=200ms"',
        "half": f'addrs = ["unix:{root}/missing.sock", "unix:{root}/plain.sock"]\nhealth_check = "tcp://x?failure=1000"',
        "missing": f'addrs = ["unix:{root}/missing.sock"]\nhealth_check = "tcp://x?failure=1000"',
        "left": f'addrs = ["unix:{root}/left-{request.param}.sock"]\nhealth_check = "tcp://x?failure=1000"',
        "later": f'addrs = ["unix:{root}/later-{request.param}.sock"]\n{CHECK}',
        "hashed": f'addrs = ["unix:{root}/plain.sock", "unix:{root}/origin.sock", "[::1]:{nginx.port}"]\nalgo = "hash:query:user"',
    }
    text = "".join(
        f'[locations.{name}]\nupstream = "{name}"\npath = "/{name}"\n[upstreams.{name}]\n{lines}\n' for name, lines in kinds.items()
    )
    text = text.replace('path = "/calls"', 'path = "/pingap.test.Peer/"')
    text += f"""[servers.plain]
addr = "127.0.0.1:{{port}}"
locations = {json.dumps(list(kinds))}
enabled_h2 = true
prometheus_metrics = "/metrics"
access_log = "{{dir}}/access.log {{path}} {{:upstream_addr}} {{:upstream_reused}} {{status}}"
"""
    assert "{port}" in text and "{dir}/access.log {path}" in text
    with Pingap(text, request.param, env={"SSL_CERT_FILE": str(root / "crt")}) as instance:
        yield instance


def logged(proxy: Pingap, path: str) -> list[str]:
    log = proxy.dir / "access.log"
    return [line for line in (log.read_text().splitlines() if log.exists() else ()) if line.startswith(f"{path} ")]


def last_logged(proxy: Pingap, path: str) -> str:
    return until(lambda: logged(proxy, path), 5, f"{path} is in the access log")[-1]


def test_a_unix_socket_serves_over_a_connection_that_is_kept(proxy: Pingap, root: Path) -> None:
    with proxy.client() as client:
        for number in range(10):
            assert client.get(f"/plain/{number}").body == b"GET /plain/%d host=test.local HTTP/1.1 tls=" % number
        assert len(client.get("/plain/file").body) == 4 << 20
    assert last_logged(proxy, "/plain/9") == f"/plain/9 unix:{root}/plain.sock true 200"


def test_a_request_without_a_host_is_for_localhost(proxy: Pingap) -> None:
    with proxy.client() as client:
        client.send(b"GET /plain/old HTTP/1.0\r\n\r\n")
        assert client.response().body == b"GET /plain/old host=localhost HTTP/1.1 tls="


def test_a_unix_socket_may_speak_tls_and_http2(proxy: Pingap, root: Path) -> None:
    assert proxy.get("/tls/1").body.endswith(b"HTTP/2.0 tls=backend.test")
    assert last_logged(proxy, "/tls/1").split()[1] == f"unix:{root}/tls.sock"


def test_an_ipv6_address_is_in_brackets_wherever_it_is_named(proxy: Pingap, nginx: Nginx) -> None:
    assert proxy.get("/six").body == b"GET /six host=test.local HTTP/1.1 tls="
    assert last_logged(proxy, "/six").split()[1] == f"[::1]:{nginx.port}"
    with proxy.client() as client:
        client.send(b"GET /six HTTP/1.0\r\n\r\n")
        assert client.response().body == b"GET /six host=[::1]:%d HTTP/1.1 tls=" % nginx.port


def test_calls_of_grpc_pass_through_a_unix_socket(proxy: Pingap) -> None:
    with Stub(f"127.0.0.1:{proxy.port}") as stub:
        assert stub.echo(b"hello", timeout=20) == b"hello"
        assert stub.collect(iter([b"a", b"b" * 300_000]), timeout=20) == b"a|" + b"b" * 300_000


def test_bodies_of_any_length_pass_both_ways(proxy: Pingap, origin: Origin) -> None:
    def echo(exchange: Exchange) -> None:
        exchange.reply(exchange.read_body())

    origin.on["/python/echo"] = echo
    body = os.urandom(3 << 20)
    with proxy.client() as client:
        for _ in range(3):
            client.request("/python/echo", "POST", body=body)
            assert client.response().body == body


def test_health_checks_ask_there(proxy: Pingap, origin: Origin) -> None:
    check = origin.wait("/healthy")
    assert check.get("host") == "app.test"


def test_a_missing_socket_is_passed_over_and_told_with_the_reason(proxy: Pingap, root: Path) -> None:
    for _ in range(4):
        assert proxy.get("/half", method="POST").status == 200
    assert proxy.get("/missing").status == 502
    assert last_logged(proxy, "/missing").endswith(" 502")
    line = proxy.wait_output(r".*backend failed.*upstream=missing.*").group(0)
    assert f"unix:{root}/missing.sock" in line and "there is no such socket" in line
    assert proxy.get("/left").status == 502
    assert "nobody listens at the socket" in proxy.wait_output(r".*backend failed.*upstream=left.*").group(0)


def test_a_socket_that_comes_later_is_used_once_it_is_there(proxy: Pingap, root: Path) -> None:
    path = root / f"later-{proxy.placement}.sock"
    unhealthy = proxy.wait_output(rf".*backend is unhealthy.*addr=unix:{path}.*").group(0)
    assert "cannot connect: there is no such socket" in unhealthy
    assert proxy.get("/later").status == 503
    server = Origin(path=path)
    try:
        until(lambda: proxy.get("/later").status == 200, 10, "the socket is found healthy")
    finally:
        server.stop()


def test_metrics_name_each_address(proxy: Pingap, root: Path, nginx: Nginx) -> None:
    labels = {"plain": f"unix:{root}/plain.sock", "six": f"[::1]:{nginx.port}", "python": f"unix:{root}/origin.sock"}
    lines = {f'pingap_upstream_backend_healthy{{backend="{address}",upstream="{name}"}} 1.0' for name, address in labels.items()}
    until(lambda: lines <= set(proxy.get("/metrics").body.decode().splitlines()), 5, "the page has them")


def test_each_user_has_one_of_the_hashed_sockets(proxy: Pingap, root: Path, nginx: Nginx) -> None:
    for user in range(24):
        for _ in range(2):
            assert proxy.get(f"/hashed?user={user}").status == 200
    addresses = {f"unix:{root}/plain.sock", f"unix:{root}/origin.sock", f"[::1]:{nginx.port}"}
    until(lambda: len(logged(proxy, "/hashed")) == 48, 5, "all are logged")
    used = [line.split()[1] for line in logged(proxy, "/hashed")]
    assert used[::2] == used[1::2]
    assert set(used) == addresses


def test_many_requests_at_the_same_time(proxy: Pingap) -> None:
    failures: list[bytes] = []

    def ask() -> None:
        with Client(proxy.port) as client:
            for number in range(40):
                body = client.get(f"/plain/{number}").body
                if body != b"GET /plain/%d host=test.local HTTP/1.1 tls=" % number:
                    failures.append(body)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_reload_keeps_what_is_connected(proxy: Pingap) -> None:
    assert proxy.get("/plain/a").status == 200
    assert proxy.command("reload").returncode == 0
    assert proxy.get("/plain/b").status == 200
    assert last_logged(proxy, "/plain/b").split()[2] == "true"


def test_the_quick_start_takes_sockets(nginx: Nginx, root: Path) -> None:
    port = free_port()
    with Pingap(None, up=[f"--upstream=unix:{root}/plain.sock", f"--addr=127.0.0.1:{port}"], port=port) as proxy:
        assert proxy.get("/quick").body == b"GET /quick host=test.local HTTP/1.1 tls="
