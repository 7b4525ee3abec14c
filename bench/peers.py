"""pingap beside other proxies on the same work, in one run: README's table.

    python -m bench.peers [--work small,tls] [--only nginx,pingap] [--connections 16,64] [--seconds 4] [--table]

small     a GET of 112 bytes of JSON, kept alive, with the same head each time
varied    the same with 1,000 targets and cookies, so that no head comes again soon: what real traffic looks like
gzip      10 KB of JSON, which the proxy compresses
static    a file of 10 KB from the proxy's own disk
script    small through a script of the user's: a header to the request, one to the answer (Lua there, Python here)
gateway   small with an API key that is checked, a limit for each client, a header line set, and a request id
limit     small with that limit alone; store: the same, counted by a redis-server (pingap only)
tls, h2   small over TLS; over HTTP/2 as 4 connections of 16 streams each
close     small, and a connection for each
download, upload   100 MB

All stand in front of one nginx on loopback. For each work it prints what was done a second, latencies, and the CPU time that all
processes of the proxy took for one (user and system, from /proc): the figure that a noisy machine disturbs least. Quote that one,
as a ratio to another row of the same run.

Programs: nginx, wrk, haproxy, h2load, curl, openssl (Debian: nginx wrk haproxy nghttp2-client curl openssl); envoy, traefik, caddy
from their makers, on PATH or named by ENVOY, TRAEFIK and CADDY. Who is not there is named and left out.
"""

from __future__ import annotations

import argparse
import http.client
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.peer_files import PROXIES, CannotDo, Site
from bench.processes import cpu_seconds, tree
from tests.kit.waiting import free_port

COLUMNS = {
    "small": "small", "varied": "varied", "gzip": "gzip, 10 KB", "static": "a file", "script": "a script", "gateway": "API gateway",
    "limit": "a limit", "store": "a limit by a store", "tls": "TLS", "h2": "HTTP/2",
    "close": "a connection a request", "download": "download", "upload": "upload",
}  # fmt: skip
BODIES = ("download", "upload")
NO_FIELDS: Mapping[str, str] = {}
START = 30.0
"""Seconds that a proxy may take until it answers."""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one work."""

    count: float
    """Requests, or GB of bodies."""
    rate: float
    """The same a second."""
    latency: str
    errors: str


def answers(port: int, path: str, process: subprocess.Popen[bytes] | None = None, fields: Mapping[str, str] = NO_FIELDS) -> bool:
    """Whether it answers with 200 in time."""
    end = time.monotonic() + START
    while time.monotonic() < end and (process is None or process.poll() is None):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        try:
            connection.request("GET", path, headers=dict(fields))
            if connection.getresponse().status == 200:
                return True
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        time.sleep(0.1)
    return False


def output(argv: list[str]) -> str:
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    return match[1] if match else ""


def wrk(url: str, connections: int, seconds: int, *arguments: str) -> Result:
    said = output(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", *arguments, url])
    rate = float(found(r"Requests/sec:\s+([\d.]+)", said) or 0)
    half, most = found(r"\n\s+50%\s+(\S+)", said), found(r"\n\s+99%\s+(\S+)", said)
    return Result(int(found(r"(\d+) requests in", said) or 0), rate, f"p50 {half} p99 {most}", found(r"(Non-2xx.*|Socket errors.*)", said))


def h2load(url: str, connections: int, requests: int) -> Result:
    said = output(["h2load", f"-n{requests}", f"-c{max(1, connections // 16)}", "-m16", url])
    done = int(found(r"(\d+) succeeded", said) or 0)
    mean = found(r"time for request:\s+\S+\s+\S+\s+(\S+)", said)
    errors = "" if done == requests else f"{requests - done} failed"
    return Result(done, float(found(r"([\d.]+) req/s", said) or 0), f"mean {mean}", errors)


def curl(seconds: int, counted: str, *arguments: str) -> Result:
    argv = ["curl", "-s", "-o", "/dev/null", "-w", f"%{{{counted}}} %{{time_total}} %{{http_code}}", *arguments]
    size = took = 0.0
    codes = set()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        moved, lasted, code = output(argv).split()
        size, took = size + float(moved), took + float(lasted)
        codes.add(code)
    return Result(size / 1e9, size / 1e9 / took if took else 0.0, "", "" if codes == {"200"} else f"status {codes}")


def measure(site: Site, port: int, tls: int, connections: int, seconds: int) -> Result:
    plain = f"http://127.0.0.1:{port}"
    match site.work:
        case "small" | "static" | "script" | "gateway" | "limit" | "store":
            words = [word for name, value in site.fields.items() for word in ("-H", f"{name}: {value}")]
            return wrk(plain + site.path, connections, seconds, *words)
        case "varied":
            return wrk(plain + "/", connections, seconds, "-s", str(site.varied))
        case "gzip":
            return wrk(plain + site.path, connections, seconds, "-H", "Accept-Encoding: gzip")
        case "close":
            return wrk(plain + "/", connections, seconds, "-H", "Connection: close")
        case "tls":
            return wrk(f"https://localhost:{tls}/", connections, seconds)
        case "h2":
            return h2load(f"https://localhost:{tls}/", connections, 3000 * seconds)
        case "download":
            return curl(seconds, "size_download", plain + "/big/100m")
        case _:
            return curl(seconds, "size_upload", "-H", "Expect:", "-T", str(site.root / "www/big/100m"), plain + "/")


def run(name: str, site: Site, connections: int, seconds: int) -> float | None:
    """One proxy at one work: prints a line; CPU µs for a request, or ms for a GB. None when it could not be measured."""
    port, tls = free_port(), free_port()
    start = f"{site.work:9} {name:28}"
    try:
        process = subprocess.Popen(PROXIES[name](site, port, tls), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    except (CannotDo, FileNotFoundError) as error:
        print(start, "left out:", f"{error.filename} is not installed" if isinstance(error, FileNotFoundError) else error, flush=True)
        return None
    try:
        if not answers(port, site.path, process, site.fields):
            print(start, "does not answer", flush=True)
            return None
        measure(site, port, tls, connections, 1)
        pids = tree(process.pid)
        before = cpu_seconds(pids)
        result = measure(site, port, tls, connections, seconds)
        used = cpu_seconds(pids) - before
        if not result.count:
            print(start, "has done nothing", result.errors, flush=True)
            return None
        is_body = site.work in BODIES
        cost = used / result.count * (1e3 if is_body else 1e6)
        figures = f"c={connections:<4} {result.rate:10.1f} {'GB' if is_body else ''}/s {cost:8.1f} {'ms CPU/GB' if is_body else 'µs CPU'}"
        print(start, figures, result.latency, f"{len(pids)} processes", result.errors, flush=True)
        return cost
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        for pid in tree(process.pid):
            os.kill(pid, 9)
        process.wait()


def table(costs: dict[tuple[str, str], float], works: list[str]) -> str:
    """README's table: a row a proxy, a column a work."""
    rows = [["CPU time of all processes", *(COLUMNS[work] for work in works)], ["---"] * (len(works) + 1)]
    for name in PROXIES:
        cells = [costs.get((name, work)) for work in works]
        if any(cells):
            units = ["ms/GB" if work in BODIES else "µs" for work in works]
            shown = [f"{cell:.0f} {unit}" if cell else "—" for cell, unit in zip(cells, units, strict=True)]
            rows.append([f"**{name}**" if name.startswith("pingap") else name, *shown])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", default="small,tls,h2,close,download,upload", help="%(default)s")
    parser.add_argument("--only", default="", help="beginnings of names: nginx,haproxy,Envoy,Traefik,Caddy,pingap")
    parser.add_argument("--connections", default="64")
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--table", action="store_true", help="ends with the figures as README has them")
    arguments = parser.parse_args()
    works, counts = arguments.work.split(","), [int(count) for count in arguments.connections.split(",")]
    if unknown := set(works) - COLUMNS.keys():
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    names = [name for name in PROXIES if name.lower().startswith(tuple(arguments.only.lower().split(",")))]
    costs: dict[tuple[str, str], float] = {}
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)  # the origin's workers run as another user
        site = Site(Path(folder))
        origin = subprocess.Popen(["nginx", "-c", str(site.root / "origin.conf"), "-e", "/dev/null"])
        helpers = [origin]
        try:
            if not answers(site.origin, "/", origin):
                print("the origin does not answer: is nginx installed?", file=sys.stderr)
                return 1
            if "store" in works:
                site.store = free_port()
                words = ["--port", str(site.store), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
                helpers.append(subprocess.Popen(["redis-server", *words], stdout=subprocess.DEVNULL))
            for site.work in works:
                for count in [1] if site.work in BODIES else counts:
                    for name in names:
                        cost = run(name, site, count, arguments.seconds)
                        if cost is not None:
                            costs[name, site.work] = cost
        finally:
            for helper in helpers:
                end(helper)
    if arguments.table:
        print(table(costs, works))
    return 0


if __name__ == "__main__":
    sys.exit(main())
