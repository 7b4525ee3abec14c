"""What thousands of locations cost: start, reload under load, memory, and a request. `python -m bench.many_locations [locations]`."""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.ends import MB, wrk
from bench.processes import cpu_seconds
from tests.e2e.harness import Pingap
from tests.e2e.origins import Nginx
from tests.kit.waiting import free_port

FEW = 10
CONNECTIONS = 32
PAUSE = 100
"""Milliseconds that each connection waits between its requests: a bounded rate, so that what is slow is seen and not queued up."""

SETTLE: Final = 1.0
"""Seconds until what a start, or the begin of a load, leaves to do is done, so that it is not measured."""


@dataclass(slots=True)
class Figures:
    locations: int
    start: float
    """Seconds until all serve."""
    pss: float
    """MiB of all processes."""
    usual: float
    """ms of the slowest request without a reload."""
    reload: float
    """Seconds from the edit of one location to its commit, under load."""
    slowest: float
    """ms of the slowest request meanwhile."""
    second: float
    """As `slowest`, of one more reload."""
    restarts: int
    failed: int


def config(locations: int, origin: int, port: int, edit: str) -> str:
    """Each location has a host, a path and a rule of its own; `edit` goes into the middle one."""
    lines = [f'[upstreams.u]\naddrs = ["127.0.0.1:{origin}"]\n']
    for number in range(locations):
        value = edit if number == locations // 2 else "usual"
        lines.append(
            f'[locations.l{number}]\nupstream = "u"\nhost = "h{number}.example.com"\npath = "/small"\n'
            f'proxy_set_headers = ["x-location:{number} {value}"]\n'
        )
    names = ", ".join(f'"l{number}"' for number in range(locations))
    lines.append(f'[servers.web]\naddr = "127.0.0.1:{port}"\nlocations = [{names}]\n')
    return "\n".join(lines)


class Load:
    """wrk with all connections and a bounded rate, over all locations."""

    def __init__(self, root: Path, port: int, locations: int, seconds: float) -> None:
        script = root / "load.lua"
        script.write_text(f"""
local n = 0
function request() n = n + 1; return wrk.format("GET", "/small", {{["Host"] = "h" .. (n * 7919 % {locations}) .. ".example.com"}}) end
function delay() return {PAUSE} end
function done(summary, latency, requests)
  local e = summary.errors
  io.write("slowest ", latency.max, " failed ", e.connect + e.read + e.write + e.status + e.timeout, " requests ", summary.requests, "\\n")
end
""")
        argv = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds:g}s", "-s", str(script), f"http://127.0.0.1:{port}"]
        self._process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)

    def result(self) -> tuple[float, int]:
        """(ms of the slowest request, failed ones)."""
        out = self._process.communicate()[0]
        found = re.search(r"slowest (\d+).* failed (\d+)", out)
        assert found is not None, out
        return int(found[1]) / 1000, int(found[2])


def reload(pingap: Pingap, root: Path, port: int, locations: int, text: str) -> tuple[float, float, int]:
    """(seconds, ms of the slowest request, failed requests)."""
    load = Load(root, port, locations, 9)
    time.sleep(SETTLE)
    pingap.write_config(text)
    began = time.monotonic()
    done = pingap.command("reload", timeout=60)
    took = time.monotonic() - began
    if done.returncode:
        print(f"  reload: {done.stdout}{done.stderr}".rstrip())
    slowest, failed = load.result()
    return took, slowest, failed


def measure(root: Path, locations: int, origin: int, placement: str = "split") -> Figures:
    port = free_port()
    pingap = Pingap(config(locations, origin, port, "first"), placement, port=port)
    with pingap:  # which starts it
        start = pingap.took
        time.sleep(SETTLE)
        usual, failed = Load(root, port, locations, 5).result()
        pss = pingap.memory() / MB
        figures = Figures(locations, start, pss, usual, 0, 0, 0, 0, failed)
        figures.reload, figures.slowest, more = reload(pingap, root, port, locations, config(locations, origin, port, "second"))
        _, figures.second, again = reload(pingap, root, port, locations, config(locations, origin, port, "third"))
        figures.failed += more + again
        figures.restarts = sum(row.restarts for row in pingap.ps())
        return figures


def cost(locations: int, origin: int, seconds: float = 4) -> float:
    """CPU µs of a request to one of so many locations, all processes."""
    port = free_port()
    text = config(locations, origin, port, "x").replace(f"h{locations // 2}.example.com", f"127.0.0.1, h{locations // 2}.example.com")
    with Pingap(text, port=port) as pingap:
        time.sleep(2 * SETTLE)
        best = 1e9
        for _ in range(3):
            before = cpu_seconds(pingap.processes())
            requests = wrk(port, CONNECTIONS, seconds)[0]
            best = min(best, (cpu_seconds(pingap.processes()) - before) / requests * 1e6)
        return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("locations", nargs="?", type=int, default=20_000)
    parser.add_argument("--placement", choices=("split", "colocated"), default="split")
    parser.add_argument("--no-cost", action="store_true", help="leave out the cost of a request")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pg-", dir="/tmp") as directory:
        origin = Nginx(Path(directory) / "origin")
        try:
            for locations in (FEW, asked.locations):
                one = measure(Path(directory), locations, origin.port, asked.placement)
                print(
                    f"{locations:6d} locations: start {one.start:.2f} s, PSS {one.pss:.0f} MiB, reload {one.reload:.2f} s; slowest request"
                    f" usually {one.usual:.0f} ms, while reloading {one.slowest:.0f} and {one.second:.0f} ms;"
                    f" {one.restarts} restarts, {one.failed} failed",
                    flush=True,
                )
            if not asked.no_cost:
                one_location, many = cost(1, origin.port), cost(10_000, origin.port)
                print(f"a request: {one_location:.1f} µs with 1 location, {many:.1f} µs with 10,000 ({many / one_location - 1:+.1%})")
        finally:
            origin.stop()


if __name__ == "__main__":
    main()
