"""One circuit for two replicas of upstream: a real backend that fails, hangs and recovers, and discovery that is killed meanwhile."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.harness import Pingap, site
from tests.e2e.load import Load
from tests.e2e.origins import Exchange, Origin
from tests.kit.waiting import until

PROBES = 3
REST = 0.3
"""Seconds after which what was on its way when a circuit opened has reached its backend."""
CHECK = 'health_check = "tcp://x?failure=1000"'
UPSTREAMS = {
    # `open_duration` is long enough that what is under way when it opens has ended before it is tried.
    "row": f"circuit_break_max_consecutive_failures = 5\ncircuit_break_open_duration = '1s'\n{CHECK}",
    "kept": f"circuit_break_max_consecutive_failures = 5\ncircuit_break_open_duration = '60s'\n{CHECK}",
    "percent": f"circuit_break_max_failure_percent = 50\ncircuit_break_open_duration = '60s'\n{CHECK}",
    "never": f"circuit_break_max_consecutive_failures = 100000\n{CHECK}",
}


class Ill:
    """What the origin does for the paths of one upstream."""

    def __init__(self) -> None:
        self.fails = False
        self.held: threading.Event | None = None
        """What requests wait for that have come since it was set."""
        self.begun = 0
        self._lock = threading.Lock()

    def __call__(self, exchange: Exchange) -> None:
        with self._lock:
            self.begun += 1
            held = self.held
        if held is not None:
            held.wait(10)
        exchange.reply(exchange.target.encode(), "500 Broken" if self.fails else "200 OK")


@pytest.fixture(scope="module")
def ill() -> dict[str, Ill]:
    return {name: Ill() for name in UPSTREAMS}


@pytest.fixture(scope="module")
def proxy(shared_origin: Origin, ill: dict[str, Ill]) -> Iterator[Pingap]:
    shared_origin.answer = lambda exchange: ill[exchange.path.split("/")[1]](exchange)
    keys = f"circuit_break_half_open_consecutive_success_threshold = {PROBES}"
    more = "".join(
        f'[locations.{name}]\nupstream = "{name}"\npath = "/{name}/"\n'
        f'[upstreams.{name}]\naddrs = ["127.0.0.1:{shared_origin.port}"]\n{keys}\n{lines}\n'
        for name, lines in UPSTREAMS.items()
    )
    text = site([shared_origin.port], more=more, locations=json.dumps(list(UPSTREAMS)))
    with Pingap(text, "split", up=["--scale", "upstream=2"]) as instance:
        yield instance


def load_on(proxy: Pingap, upstream: str, connections: int = 8) -> Load:
    return Load(proxy.port, connections, target=lambda number: f"/{upstream}/{number}")


def said(proxy: Pingap, upstream: str, words: str) -> list[str]:
    return [line for line in proxy.output().splitlines() if words in line and re.search(rf"upstream[=:\"]+\s*\"?{upstream}\b", line)]


def row(proxy: Pingap, upstream: str) -> dict[str, Any]:
    done = proxy.command("upstreams", upstream, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)[0]["backends"][0]
    return found


def test_it_opens_once_for_both_replicas_lets_few_through_and_closes(proxy: Pingap, ill: dict[str, Ill]) -> None:
    origin = ill["row"]
    with load_on(proxy, "row") as load:
        load.advance(40)
        until(lambda: min(replica.requests for replica in proxy.replicas("upstream")) > 0, 5, "both are at work")
        origin.fails = True
        until(lambda: said(proxy, "row", "circuit is open"), 5, "it opens")
        assert "failures in a row" in said(proxy, "row", "circuit is open")[0]
        time.sleep(REST)
        before = origin.begun
        time.sleep(0.3)  # so long nothing may come
        if not said(proxy, "row", "half-open"):  # or it was late
            assert origin.begun == before, "nothing reaches it while it is open"
            assert len(said(proxy, "row", "circuit is open")) == 1, "once for both"
        until(lambda: said(proxy, "row", "a probe failed"), 5, "it is tried in vain")
        assert origin.begun - before <= PROBES * len(said(proxy, "row", "half-open"))
        origin.held, before = threading.Event(), origin.begun
        until(lambda: origin.begun > before, 5, "it is tried again")
        time.sleep(0.6)  # time enough for more than may come
        assert origin.begun - before <= PROBES, "both replicas together, though there are many who ask"
        origin.fails = False
        origin.held.set()
        origin.held = None
        until(lambda: said(proxy, "row", "circuit is closed again"), 5, "it closes")
        good = load.tally.statuses[200]
        until(lambda: load.tally.statuses[200] > good + 40, 5, "all is well")
        tally = load.stop()
    assert set(tally.statuses) == {200, 500, 503}
    assert not tally.dropped and not tally.mixed_up, tally
    assert row(proxy, "row")["circuit"] == "closed"


def test_a_killed_discovery_does_not_close_it(proxy: Pingap, ill: dict[str, Ill]) -> None:
    origin = ill["kept"]
    with load_on(proxy, "kept") as load:
        load.advance(20)
        origin.fails = True
        until(lambda: said(proxy, "kept", "circuit is open"), 5, "it opens")
        time.sleep(REST)
        before = origin.begun
        pid = proxy.pid("discovery")
        os.kill(pid, signal.SIGKILL)
        proxy.wait_restarted("discovery", pid)
        load.advance(100)
        assert origin.begun == before, "nobody has asked it"
        told, other = row(proxy, "kept"), row(proxy, "row")
    assert told["circuit"] == "open"
    assert 20 < told["open_for"] < 60
    assert other["requests"] > 50, "replicas have told it where they stand"
    assert other["window"]["requests"] == 0, "and that is no news"
    assert len(said(proxy, "kept", "circuit is open")) == 1


def test_a_percentage_opens_it_and_one_that_is_not_set_never_does(proxy: Pingap, ill: dict[str, Ill]) -> None:
    for name in ("percent", "never"):
        ill[name].fails = True
    with load_on(proxy, "never") as never:
        with load_on(proxy, "percent") as load:
            until(lambda: said(proxy, "percent", "circuit is open"), 5, "it opens")
            load.advance(20)
        never.advance(300)
        tally = never.stop()
    assert re.search(r"[0-9]+ % of [0-9]+ requests failed", said(proxy, "percent", "circuit is open")[0])
    assert set(tally.statuses) == {500}, tally
    assert not said(proxy, "never", "circuit")
    told = row(proxy, "never")
    assert (told["circuit"], told["window"]["failure_rate"]) == ("closed", 100.0)
