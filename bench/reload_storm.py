"""A storm of reloads under load: whether each answer is of one configuration, and whether any process grows.

`python -m bench.reload_storm [--reloads 1000] [--locations 200] [--placement split|colocated]`, also as `python bench/reload_storm.py`.
Each reload changes three stages at once: a header rule (routing), a plugin (plugins) and the upstream (routing and upstream);
an include and an encrypted storage are read each time. Every seventh is broken and must change nothing. Memory and descriptors are
compared after a warm-up and at the end, both without load; by then what is remembered (header lines, 1000 records of the log) has
its full size. Exit code 1 when an answer was mixed or failed, or when a process grew by more than 5 %. Answers of an older
configuration than the one that a reload had said to be in use are counted as late: accept hears of a commit a moment after who asked.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

if __package__ in (None, ""):  # as a script: the directory above is where its imports are
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from pingap import client
from pingap.config.encryption import encrypt
from tests.e2e.harness import Pingap
from tests.e2e.origins import Exchange, Origin
from tests.kit.waiting import pss, until

MOST_GROWTH: Final = 0.05
CLIENTS: Final = 4
PAUSE: Final = 0.005
"""Seconds between two requests of a client."""

SETTLE: Final = 2.0
"""Seconds without load or reloads before memory is looked at: what is thrown away takes a moment."""

BROKEN: Final = 7
"""Every so many reloads are of a broken file."""

PASS_PHRASE: Final = "a pass phrase"
SEALED: Final = encrypt('max_processing = 10000\nproxy_add_headers = ["X-Sealed:1"]', PASS_PHRASE)


@dataclass(frozen=True, slots=True)
class Size:
    """What a process takes."""

    memory: int
    """Bytes that are not mapped from files, shared ones in proportion."""
    descriptors: int


@dataclass(slots=True)
class Storm:
    """What became of it."""

    reloads: int = 0
    refused: int = 0
    """Broken ones: as it should be."""
    seconds: list[float] = field(default_factory=list)
    """Of each reload that was taken."""
    answers: int = 0
    mixed: list[str] = field(default_factory=list)
    """Answers half of which was of another configuration."""
    failed: Counter[str] = field(default_factory=Counter)
    late: list[str] = field(default_factory=list)
    """Answers of an older configuration than was in use before they were asked for."""
    before: dict[str, Size] = field(default_factory=dict)
    after: dict[str, Size] = field(default_factory=dict)

    @property
    def growth(self) -> dict[str, float]:
        """By process, of memory; 0.05 is 5 %."""
        return {name: self.after[name].memory / size.memory - 1 for name, size in self.before.items() if name in self.after}

    @property
    def leaks(self) -> dict[str, int]:
        """By process, descriptors that came."""
        return {name: self.after[name].descriptors - size.descriptors for name, size in self.before.items() if name in self.after}

    def table(self) -> str:
        """For people."""
        median = statistics.median(self.seconds) * 1000 if self.seconds else 0
        slowest = max(self.seconds, default=0) * 1000
        failed = f"{sum(self.failed.values())} failed {dict(self.failed) or ''}"
        lines = [
            f"{self.reloads} reloads taken, {self.refused} broken ones refused; median {median:.0f} ms, slowest {slowest:.0f} ms",
            f"{self.answers} answers: {len(self.mixed)} mixed, {len(self.late)} late, {failed}",
            "",
            f"{'process':14s} {'MB before':>10s} {'after':>8s} {'growth':>8s} {'fds before':>11s} {'after':>6s}",
        ]
        for name, size in self.before.items():
            now = self.after.get(name)
            if now is None:
                lines.append(f"{name:14s} is another process now")
                continue
            figures = (
                f"{size.memory / 1e6:10.1f} {now.memory / 1e6:8.1f} {self.growth[name]:8.1%} {size.descriptors:11d} {now.descriptors:6d}"
            )
            lines.append(f"{name:14s} {figures}")
        total = [sum(size.memory for size in sizes.values()) for sizes in (self.before, self.after)]
        lines.append(f"{'all':14s} {total[0] / 1e6:10.1f} {total[1] / 1e6:8.1f} {total[1] / total[0] - 1:8.1%}")
        return "\n".join(lines)


def config(number: int, locations: int, origins: tuple[int, int], port: int, is_broken: bool = False) -> str:
    """The configuration of one number: `number` is in the rule and in the plugin of every location, its parity in the upstream."""
    lines = [
        f'[servers.web]\naddr = "127.0.0.1:{port}"\nlocations = [{", ".join(f"{name!r}" for name in _names(locations))}]',
        f'[plugins.mark]\ncategory = "response_headers"\nset_headers = ["X-Plugin:{number}"]',
        f'[storages.rules]\ncategory = "config"\nvalue = """\nproxy_set_headers = ["X-Version:{number}"]\n"""',
        f'[storages.sealed]\ncategory = "secret"\nvalue = "{SEALED}"\nsecret = "$ENV:STORM_PASS_PHRASE"',
        *(f'[upstreams.u{parity}]\naddrs = ["127.0.0.1:{origin}"]' for parity, origin in enumerate(origins)),
    ]
    for name in _names(locations):
        host = "" if name == "all" else f'host = "{name}.example"\n'
        lines.append(f'[locations.{name}]\n{host}upstream = "u{number % 2}"\nplugins = ["mark"]\nincludes = ["rules", "sealed"]')
    if is_broken:
        lines.append('[locations.broken]\nupstream = "nobody"\nweight = "heavy"')
    return "\n".join(lines)


def _names(locations: int) -> list[str]:
    return ["all", *(f"l{number}" for number in range(locations - 1))]


class _Clients:
    """A load, each answer of which is looked at."""

    def __init__(self, proxy: Pingap, storm: Storm) -> None:
        self._proxy = proxy
        self._storm = storm
        self._stop = threading.Event()
        self.promised = 0
        """The number that a reload has said to be in use."""
        self._threads = [threading.Thread(target=self._run) for _ in range(CLIENTS)]

    def __enter__(self) -> _Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(20)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with self._proxy.client() as connection:
                    while not self._stop.is_set():
                        promised = self.promised
                        answer = connection.get("/marked")
                        self._look(answer.status, answer.get("x-routing"), answer.get("x-plugin"), answer.get("x-upstream"), promised)
                        time.sleep(PAUSE)
            except (OSError, AssertionError, ValueError) as error:
                self._storm.failed[type(error).__name__] += 1

    def _look(self, status: int, routing: str | None, plugin: str | None, upstream: str | None, promised: int) -> None:
        storm = self._storm
        storm.answers += 1
        if status != 200 or routing is None:
            storm.failed[str(status)] += 1
        elif routing != plugin or upstream != str(int(routing) % 2):
            storm.mixed.append(f"routing {routing}, plugin {plugin}, upstream {upstream}")
        elif int(routing) < promised:
            storm.late.append(f"{routing} after {promised}")


def sizes(proxy: Pingap) -> dict[str, Size]:
    """Of each process by its name."""
    found = {}
    for name, pid in proxy.stage_pids().items():
        memory = pss([pid], ("Pss_Anon:", "Pss_Shmem:"))
        found[name] = Size(memory, len(list(Path(f"/proc/{pid}/fd").iterdir())))
    return found


def run(reloads: int, warm_up: int, locations: int, placement: str, say: bool = False) -> Storm:
    """The storm. reloads: of good configurations, after `warm_up` more of them."""
    storm = Storm()
    origins = tuple(Origin() for _ in range(2))
    for parity, origin in enumerate(origins):
        origin.on["/marked"] = _marked(parity)
    ports = (origins[0].port, origins[1].port)
    up = ["--no-autoreload"]
    text = config(0, locations, ports, 0).replace('"127.0.0.1:0"', '"127.0.0.1:{port}"')
    with Pingap(text, placement, up=up, env={"STORM_PASS_PHRASE": PASS_PHRASE}) as proxy:

        def reload(number: int, is_broken: bool = False) -> None:
            proxy.write_config(config(number, locations, ports, proxy.port, is_broken))
            began = time.monotonic()
            outcome = client.ask(str(proxy.run_dir), "reload")
            if is_broken:
                assert len(outcome["problems"]) == 2, outcome
                storm.refused += 1
                return
            assert not outcome["problems"], outcome["problems"]
            storm.reloads += 1
            storm.seconds.append(time.monotonic() - began)

        def rounds(first: int, count: int) -> None:
            with _Clients(proxy, storm) as clients:
                clients.promised = first - 1
                for number in range(first, first + count):
                    if number % BROKEN == 0:
                        reload(number, is_broken=True)
                    reload(number)
                    clients.promised = number
                    if say and number % 50 == 0:
                        print(f"\r{number} reloads, {storm.answers} answers", end="", file=sys.stderr, flush=True)
            for origin in origins:
                origin.requests.clear()
            time.sleep(SETTLE)

        rounds(1, warm_up)
        storm.before = sizes(proxy)
        rounds(warm_up + 1, reloads)
        until(lambda: sizes(proxy).keys() == storm.before.keys(), 5, "the same processes as before")
        storm.after = sizes(proxy)
    for origin in origins:
        origin.stop()
    if say:
        print(file=sys.stderr)
    return storm


def _marked(parity: int) -> Callable[[Exchange], None]:
    def answer(exchange: Exchange) -> None:
        exchange.reply(b"ok", headers=f"X-Routing: {exchange.get('x-version')}\r\nX-Upstream: {parity}\r\n")

    return answer


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--reloads", type=int, default=1000)
    parser.add_argument("--warm-up", type=int, default=2200)
    parser.add_argument("--locations", type=int, default=200)
    parser.add_argument("--placement", choices=("split", "colocated"), default="split")
    args = parser.parse_args()
    storm = run(args.reloads, args.warm_up, args.locations, args.placement, say=True)
    print(storm.table())
    for what, found in (("mixed", storm.mixed), ("late", storm.late)):
        for line in found[:5]:
            print(f"{what}: {line}")
    grown = {name: growth for name, growth in storm.growth.items() if growth > MOST_GROWTH}
    leaking = {name: count for name, count in storm.leaks.items() if count > max(2, MOST_GROWTH * storm.before[name].descriptors)}
    is_good = not (storm.mixed or storm.failed or grown or leaking)
    print("as it should be" if is_good else f"NOT as it should be; grown: {grown}, descriptors: {leaking}")
    return not is_good


if __name__ == "__main__":
    sys.exit(main())
