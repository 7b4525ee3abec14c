"""The whole proxy: what one request costs in both placements, beside nginx, and where in it the time goes."""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench.processes import cpu_seconds, tree
from tests.e2e.client import Client
from tests.e2e.harness import Pingap, site
from tests.e2e.origins import Nginx
from tests.kit.waiting import free_port, until

MB = 1024 * 1024


@dataclass(slots=True)
class Result:
    name: str
    connections: int
    rate: float
    """Requests per second."""
    cost: float
    """CPU microseconds of all processes per request."""
    median: str
    slowest: str
    errors: str
    stages: dict[str, float] = field(default_factory=dict)
    """CPU microseconds per request of each process."""


def wrk(port: int, connections: int, seconds: float, path: str = "/small") -> tuple[int, float, str, str, str]:
    """(requests, per second, median, 99th percentile, errors)."""
    argv = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--latency", f"http://127.0.0.1:{port}{path}"]
    out = subprocess.run(argv, capture_output=True, text=True, check=True).stdout

    def of(pattern: str) -> str:
        found = re.search(pattern, out)
        return found.group(1) if found else ""

    return (
        int(of(r"(\d+) requests in")),
        float(of(r"Requests/sec:\s+([\d.]+)")),
        of(r"\n\s+50%\s+(\S+)"),
        of(r"\n\s+99%\s+(\S+)"),
        of(r"(Non-2xx.*|Socket errors.*)"),
    )


def _measure(name: str, port: int, pids: dict[str, int], connections: int, seconds: float) -> Result:
    wrk(port, connections, 1)
    before = {title: cpu_seconds([pid]) for title, pid in pids.items()}
    requests, rate, median, slowest, errors = wrk(port, connections, seconds)
    used = {title: (cpu_seconds([pid]) - before[title]) / requests * 1e6 for title, pid in pids.items()}
    return Result(name, connections, rate, sum(used.values()), median, slowest, errors, used)


def _nginx_proxy(root: Path, origin: int, port: int) -> subprocess.Popen[bytes]:
    config = root / "proxy.conf"
    config.write_text(f"""worker_processes 1; daemon off; pid {root}/proxy.pid; error_log /dev/null;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 100000000; client_body_temp_path {root}/t1; proxy_temp_path {root}/t2;
  fastcgi_temp_path {root}/t3; uwsgi_temp_path {root}/t4; scgi_temp_path {root}/t5;
  upstream u {{ server 127.0.0.1:{origin}; keepalive 512; keepalive_requests 100000000; }}
  server {{ listen 127.0.0.1:{port} backlog=4096;
    location / {{ proxy_pass http://u; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host; }} }} }}""")
    return subprocess.Popen(["nginx", "-c", config, "-e", "/dev/null"])


def compare(connections: tuple[int, ...] = (1, 64), seconds: float = 3) -> Iterator[Result]:
    """nginx, then pingap in each placement, in front of the same origin."""
    with tempfile.TemporaryDirectory(prefix="pg-", dir="/tmp") as directory:
        root = Path(directory)
        origin = Nginx(root / "origin")
        try:
            for count in connections:
                port = free_port()
                proxy = _nginx_proxy(root, origin.port, port)
                try:
                    until(lambda: _answers(port), 5, "nginx proxies")  # noqa: B023 - called at once
                    yield _measure("nginx", port, {f"nginx {pid}": pid for pid in tree(proxy.pid)}, count, seconds)
                finally:
                    proxy.terminate()
                    proxy.wait(5)
                for placement in ("split", "colocated"):
                    with Pingap(site([origin.port], location="enable_reverse_proxy_headers = true"), placement) as pingap:
                        pids = {row.raw["process"]: row.pid for row in pingap.ps()}  # actors of one worker count once
                        yield _measure(f"pingap {placement}", pingap.port, pids, count, seconds)
        finally:
            origin.stop()


def _answers(port: int) -> bool:
    try:
        with Client(port, timeout=1) as client:
            return client.get("/small").status == 200
    except OSError:
        return False


def memory() -> Iterator[tuple[str, str]]:
    """(what, figure): time to ready, PSS at rest, by process, with 500 idle connections, after a load."""
    with tempfile.TemporaryDirectory(prefix="pg-", dir="/tmp") as directory:
        origin = Nginx(Path(directory) / "origin")
        try:
            for placement in ("split", "colocated"):
                with Pingap(site([origin.port]), placement) as pingap:
                    yield f"{placement}: ready after", f"{pingap.took:.2f} s"
                    time.sleep(1)
                    rest = pingap.memory()
                    yield f"{placement}: at rest", f"{rest / MB:.1f} MB PSS in {len(pingap.processes())} processes"
                    for row in pingap.ps():
                        yield f"  {row.name}", f"{row.raw['pss'] / MB:.1f} MB"
                    clients = [Client(pingap.port) for _ in range(500)]
                    for client in clients:
                        client.request("/small")
                    for client in clients:
                        client.response()
                    time.sleep(1)
                    yield f"{placement}: 500 idle connections", f"{(pingap.memory() - rest) / MB:+.1f} MB"
                    for client in clients:
                        client.close()
        finally:
            origin.stop()
