"""Real programs as clients and neighbours: curl, wrk, h2load in HTTP/1.1 and haproxy in front."""

from __future__ import annotations

import contextlib
import hashlib
import re
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.client import Client
from tests.e2e.harness import Pingap, site
from tests.e2e.origins import Nginx, Origin
from tests.kit.peers import needs
from tests.kit.waiting import free_port, until


@pytest.fixture(scope="module")
def proxy(placement: str, nginx: Nginx, shared_origin: Origin) -> Iterator[Pingap]:
    more = f"""
[locations.python]
upstream = "python"
path = "/python"
enable_reverse_proxy_headers = true
[upstreams.python]
addrs = ["127.0.0.1:{shared_origin.port}"]
"""
    server = 'header_timeout = "1s"\nkeepalive_timeout = "5s"\ndownstream_read_timeout = "2s"\nmax_connections = 400'
    text = site([nginx.port], more=more, locations='["all", "python"]', server=server, basic='trusted_proxies = ["127.0.0.0/8"]')
    with Pingap(text, placement) as instance:
        yield instance


def run(*argv: str | Path, timeout: float = 40) -> str:
    return subprocess.run(argv, capture_output=True, text=True, timeout=timeout, check=True).stdout


def test_curl_downloads_and_uploads(proxy: Pingap, tmp_path: Path, big_file: bytes) -> None:
    needs("curl")
    url = f"http://127.0.0.1:{proxy.port}"
    target = tmp_path / "file"
    run("curl", "-sS", "-o", target, f"{url}/big/file")
    assert hashlib.sha256(target.read_bytes()).digest() == hashlib.sha256(big_file).digest()
    out = run("curl", "-sS", "-T", target, "-w", "%{http_code} %{size_upload}", f"{url}/python/upload")
    assert out == f"/python/upload200 {len(big_file)}", "with Expect: 100-continue, as curl does it by itself"
    out = run("curl", "-sS", "-H", "Transfer-Encoding: chunked", "-d", "a=b", "-w", " %{http_code}", f"{url}/python/chunked")
    assert out == "/python/chunked 200"


@pytest.mark.parametrize("connections", [1, 64, 256])
def test_wrk_meets_no_error(proxy: Pingap, connections: int) -> None:
    needs("wrk")
    out = run("wrk", "-t1", f"-c{connections}", "-d1s", f"http://127.0.0.1:{proxy.port}/small")
    assert "Non-2xx" not in out, out
    assert "Socket errors" not in out, out
    requests = re.search(r"(\d+) requests in", out)
    assert requests is not None
    assert int(requests.group(1)) > 200, out


def test_wrk_meets_no_error_without_keep_alive(proxy: Pingap) -> None:
    needs("wrk")
    out = run("wrk", "-t1", "-c16", "-d1s", "-H", "Connection: close", f"http://127.0.0.1:{proxy.port}/small")
    assert "Non-2xx" not in out, out
    assert not re.search(r"Socket errors: .*(connect|timeout) [1-9]", out), out


def test_h2load_pipelines_over_http_1_1(proxy: Pingap) -> None:
    needs("h2load")
    out = run("h2load", "--h1", "-n2000", "-c8", "-m8", f"http://127.0.0.1:{proxy.port}/small")
    assert "2000 succeeded, 0 failed" in out, out


def test_over_the_cap_of_connections_the_others_go_on(proxy: Pingap) -> None:
    clients: list[Client] = []
    try:
        for _ in range(450):
            clients.append(Client(proxy.port, timeout=3))
        for client in clients[:300]:
            assert client.get("/small").status == 200
    finally:
        for client in clients:
            client.close()
    until(lambda: _served(proxy), 5, "new clients are served once the others have left")


def _served(proxy: Pingap) -> bool:
    with contextlib.suppress(Exception), Client(proxy.port, timeout=1) as client:
        return client.get("/small").status == 200
    return False


def test_behind_haproxy_the_client_is_still_known(proxy: Pingap, shared_origin: Origin, tmp_path: Path) -> None:
    needs("haproxy")
    port = free_port()
    config = tmp_path / "haproxy.cfg"
    config.write_text(f"""global
  nbthread 1
defaults
  mode http
  timeout connect 5s
  timeout client 10s
  timeout server 10s
  http-reuse always
frontend f
  bind 127.0.0.1:{port}
  http-request set-header X-Forwarded-For 203.0.113.9
  default_backend b
backend b
  server s 127.0.0.1:{proxy.port}
""")
    neighbour = subprocess.Popen(["haproxy", "-db", "-f", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: _accepts(port), 5, "haproxy accepts")
        threads = [threading.Thread(target=_many, args=(port, 20)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        seen = shared_origin.wait("/python/behind", 80)
        assert seen.get("x-real-ip") == "203.0.113.9"
        assert (seen.get("x-forwarded-for") or "").split(", ")[0] == "203.0.113.9"
    finally:
        neighbour.terminate()
        neighbour.wait(5)


def _accepts(port: int) -> bool:
    with contextlib.suppress(OSError), Client(port, timeout=1):
        return True
    return False


def _many(port: int, count: int) -> None:
    with Client(port) as client:
        for _ in range(count):
            assert client.get("/python/behind").status == 200
