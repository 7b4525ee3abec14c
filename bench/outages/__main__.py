"""Clients, an outage behind a proxy, and what they see of it: pingap beside nginx and Envoy on the same script.

    python -m bench.outages [--only killed,slow] [--proxies pingap,Envoy] [--seconds 30] [--rate 300] [--json]

300 GETs a second for 30 s, evenly spaced, over kept connections and without a second try of the client's, on three nginx behind the
proxy. After a sixth of the time one of them goes bad, 13 s later (of 30) it is well again (DNS: it is added, then taken out). That is
not a multiple of the 10 s after which nginx, Envoy and pingap look again, so none is lucky.

errors    answers of 500 and above, connections refused, reset or cut, no answer within 10 s
slow      good answers after more than a second
touched   requests of the time of the outage that were hurt so, or that reached the bad backend at all, retried or not
left      seconds from the fault until the last second ends of whose requests more than 5 % were touched
last      seconds from the fault until a client sent the last one that was: what a proxy sends there to see whether it is well again counts
back      seconds from the recovery until, for a second, the backend begins to have 80 % of its fair share of the answers
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.outages.figures import Figures, Span, figures
from bench.outages.load import OpenLoad
from bench.outages.proxies import PROXIES, versions
from bench.outages.scenarios import SCENARIOS, Scene
from bench.peer_files import CannotDo
from bench.peers import answers, end
from tests.kit.waiting import free_port

SETTLE = 3.0
"""Seconds between the first answer and the load: every backend has been checked by then."""


@dataclass(frozen=True, slots=True)
class Row:
    scenario: str
    proxy: str
    figures: Figures | None
    note: str = ""

    def line(self) -> str:
        start = f"{self.scenario:9} {self.proxy:17}"
        if self.figures is None:
            return f"{start} {self.note}"
        f = self.figures
        times = " ".join(f"{_seconds(value):>7}" for value in (f.left, f.last, f.returned))
        return f"{start} {f.errors:7} {f.slow:7} {f.touched:8} {times}  {self.note}".rstrip()


HEAD = f"{'':9} {'':17} {'errors':>7} {'slow':>7} {'touched':>8} {'left':>7} {'last':>7} {'back':>7}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} s"


def run(name: str, proxy: str, rate: float, seconds: float) -> Row:
    """One scenario with one proxy."""
    with tempfile.TemporaryDirectory(prefix="pg-outage-", dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        try:
            with SCENARIOS[name].stage(Path(folder)) as scene:
                return measured(name, proxy, scene, rate, seconds)
        except CannotDo as error:
            return Row(name, proxy, None, str(error))
        except FileNotFoundError as error:
            return Row(name, proxy, None, f"{error.filename} is not installed")


def measured(name: str, proxy: str, scene: Scene, rate: float, seconds: float) -> Row:
    scenario, port = SCENARIOS[name], free_port()
    start = PROXIES[proxy](scene.behind, port)
    process = subprocess.Popen(start.argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ | start.env)
    try:
        if not answers(port, "/", process):
            return Row(name, proxy, None, "does not answer")
        time.sleep(SETTLE)
        load = OpenLoad(port, rate, seconds)
        load.start()
        first, second = seconds / 6, seconds * 0.6
        span = Span(second, first) if scenario.joins_first else Span(first, second)
        for moment, happen in sorted([(span.gone, scenario.gone), (span.back, scenario.back)], key=lambda pair: pair[0]):
            load.sleep_until(moment)
            happen(scene)
        seen = load.join()
        found = figures(seen, span, scene.bad.name, scene.bad.ids())
        notes = [start.note] if start.note else []
        if load.lateness > 0.2:
            notes.append(f"load late by {load.lateness:.1f} s")
        return Row(name, proxy, found, ", ".join(notes))
    finally:
        end(process)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.outages", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(SCENARIOS), help="%(default)s")
    parser.add_argument("--proxies", default="pingap,nginx,Envoy", help=f"beginnings of: {', '.join(PROXIES)}")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--rate", type=float, default=300)
    parser.add_argument("--json", action="store_true", help="figures as JSON at the end, with the versions")
    arguments = parser.parse_args()
    scenarios = arguments.only.split(",")
    if unknown := set(scenarios) - SCENARIOS.keys():
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    beginnings = tuple(arguments.proxies.lower().split(","))
    proxies = [name for name in PROXIES if name.lower().startswith(beginnings)]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # whatever was started is ended
    found = versions()
    output = sys.stderr if arguments.json else sys.stdout
    print(", ".join(f"{name} {version}" for name, version in found.items()), file=output)
    print(HEAD, file=output, flush=True)
    rows = []
    for scenario in scenarios:
        for proxy in proxies:
            rows.append(run(scenario, proxy, arguments.rate, arguments.seconds))
            print(rows[-1].line(), file=output, flush=True)
    if arguments.json:
        value = {
            "date": time.strftime("%Y-%m-%d"),
            "versions": found,
            "rate": arguments.rate,
            "seconds": arguments.seconds,
            "rows": [asdict(row) for row in rows],
        }
        print(json.dumps(value, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
