"""Backends taken out by hand, with `pingap upstream drain`, and put back; and `pingap upstreams`, which shows them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.e2e.harness import COMMAND, Pingap, site
from tests.e2e.load import Load
from tests.e2e.origins import Exchange, Origin
from tests.kit.waiting import until

CHECKED = 'health_check = "tcp://x?check_frequency=200ms"'


@contextmanager
def two(placement: str = "split") -> Iterator[tuple[Pingap, Origin, Origin]]:
    one, other = Origin(), Origin()
    try:
        with Pingap(site([one.port, other.port], upstream=CHECKED), placement) as proxy:
            until(lambda: all(row["health"] == "healthy" for row in backends(proxy)), 5, "both are found healthy")
            yield proxy, one, other
    finally:
        one.stop()
        other.stop()


def address(origin: Origin) -> str:
    return f"127.0.0.1:{origin.port}"


def backends(proxy: Pingap) -> list[dict[str, Any]]:
    done = proxy.command("upstreams", "--json")
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)
    assert row["upstream"] == "origin"
    return list(row["backends"])


def states(proxy: Pingap) -> list[str]:
    return [row["state"] for row in backends(proxy)]


def drain(proxy: Pingap, origin: Origin, *more: str) -> subprocess.CompletedProcess[str]:
    return proxy.command("upstream", "drain", "origin", address(origin), *more)


def gets_none(proxy: Pingap, origin: Origin, count: int = 12) -> bool:
    before = len(origin.requests)
    assert all(proxy.get(f"/{number}").status == 200 for number in range(count))
    return len(origin.requests) == before


def test_under_load_a_backend_is_taken_out_and_put_back_without_a_failed_request(placement: str) -> None:
    with two(placement) as (proxy, one, other), Load(proxy.port) as load:
        load.advance(200)
        done = drain(proxy, one, "--wait", "10s")
        assert done.returncode == 0, done.stderr
        first, last = done.stdout.splitlines()
        assert re.fullmatch(rf"{address(one)} is drained: (no|\d+) requests? in flight; 1 of 2 backends of origin left", first)
        assert last == f"{address(one)} has nothing in flight"
        proxy.wait_output(f"a backend is taken out by hand.*{address(one)}")
        until(lambda: one.open == 0, 5, "its idle connections are closed, and those of checks come and go")
        before, theirs = len(one.requests), len(other.requests)
        load.advance(200)
        assert len(one.requests) == before and len(other.requests) >= theirs + 150
        assert proxy.command("upstream", "enable", "origin", address(one)).stdout == f"{address(one)} is enabled\n"
        until(lambda: len(one.requests) > before + 20, 10, "it gets requests again")
        tally = load.stop()
    assert set(tally.statuses) == {200} and not tally.dropped and not tally.mixed_up, tally


def test_what_is_in_flight_goes_on_and_can_be_waited_for(placement: str) -> None:
    free = threading.Event()

    def held(exchange: Exchange) -> None:
        free.wait(20)
        exchange.reply(b"late")

    with two(placement) as (proxy, one, other):
        one.on["/held"] = other.on["/held"] = held
        with proxy.client() as client:
            client.request("/held")
            until(lambda: one.seen("/held") or other.seen("/held"), 5, "the request is at a backend")
            busy = one if one.seen("/held") else other
            until(lambda: sum(row["in_flight"] for row in backends(proxy)) == 1, 5, "it is told to be in flight")
            done = drain(proxy, busy, "--wait", "300ms")
            assert done.returncode == 1 and f"{address(busy)}: 1 request in flight after 0.3 s" in done.stderr
            assert gets_none(proxy, busy)
            argv = [COMMAND, "upstream", "drain", "origin", address(busy), "--wait", "20s", "--run-dir", str(proxy.run_dir)]
            with subprocess.Popen(argv, env=proxy.env, stdout=subprocess.PIPE, text=True) as waiting:
                assert waiting.stdout is not None
                assert "was drained already: 1 request in flight" in waiting.stdout.readline()
                assert waiting.poll() is None
                free.set()
                response = client.response()
                assert (response.status, response.body) == (200, b"late")
                assert waiting.wait(10) == 0
                assert waiting.stdout.read() == f"{address(busy)} has nothing in flight\n"


def test_a_drain_outlives_a_killed_discovery_and_a_reload() -> None:
    with two() as (proxy, one, other):
        assert drain(proxy, one).returncode == 0
        pid = proxy.pid("discovery")
        os.kill(pid, signal.SIGKILL)
        assert gets_none(proxy, one), "nobody takes it back while discovery is away"
        proxy.wait_restarted("discovery", pid)
        until(lambda: proxy.command("upstreams").returncode == 0, 5, "it answers again")
        assert states(proxy)[0] == "drained"
        assert gets_none(proxy, one)
        proxy.write_config(site([other.port, one.port], upstream=CHECKED, basic='log_level = "debug"'))
        assert proxy.command("reload").returncode == 0
        until(lambda: [row["address"] for row in backends(proxy)] == [address(other), address(one)], 5, "the new one is in use")
        assert states(proxy)[1] == "drained" and gets_none(proxy, one)
        proxy.write_config(site([other.port], upstream=CHECKED))
        assert proxy.command("reload").returncode == 0
        proxy.write_config(site([other.port, one.port], upstream=CHECKED))
        assert proxy.command("reload").returncode == 0
        until(lambda: states(proxy) == ["healthy", "healthy"], 5, "one that has left comes back as any other")
        until(lambda: not gets_none(proxy, one), 5, "and gets requests")


def test_a_shell_completes_names_and_addresses() -> None:
    def completed(proxy: Pingap, line: str, run_dir: str = "") -> list[str]:
        words = line.split(" ")
        env = {"_PINGAP_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
        env |= {"PINGAP_RUN_DIR": run_dir or str(proxy.run_dir)}
        done = subprocess.run([COMMAND], env=proxy.env | env, capture_output=True, text=True, timeout=20, check=False)
        assert not done.stderr
        return [found.partition(",")[2] for found in done.stdout.splitlines() if found]

    with two() as (proxy, one, other):
        assert completed(proxy, "pingap upstream d") == ["drain"]
        assert completed(proxy, "pingap upstream drain o") == ["origin"]
        assert completed(proxy, "pingap upstream enable origin ") == [address(one), address(other)]
        assert completed(proxy, "pingap upstreams x") == []
        assert completed(proxy, "pingap upstream drain o", "/nowhere") == []


def test_what_is_not_there_and_the_last_one_are_refused_with_a_reason() -> None:
    with two() as (proxy, one, other):
        for args, said in (
            (("drain", "orign", address(one)), "there is no upstream 'orign': did you mean 'origin'?"),
            (("enable", "x", address(one)), "there is no upstream 'x': one of: origin"),
            (("drain", "origin", "127.0.0.1"), "upstream 'origin' has no backend '127.0.0.1': did you mean"),
        ):
            done = proxy.command("upstream", *args)
            assert done.returncode == 1 and said in done.stderr, done.stderr
        assert proxy.command("upstreams", "--health").stdout == "origin has a usable backend\n"
        assert drain(proxy, one).returncode == 0
        done = drain(proxy, other)
        assert done.returncode == 1 and "is the only usable backend of upstream 'origin'" in done.stderr
        assert proxy.get("/").status == 200
        done = drain(proxy, other, "--force")
        assert done.returncode == 0 and "origin has no usable backend" in done.stdout
        until(lambda: proxy.get("/").status == 503, 5, "there is nobody left")
        done = proxy.command("upstreams", "--health")
        assert done.returncode == 3 and "no usable backend: origin (2 drained)" in done.stderr
        table = proxy.command("upstreams", "origin").stdout.splitlines()
        assert table[0].split()[:3] == ["UPSTREAM", "BACKEND", "STATE"]
        assert [line.split()[:3] for line in table[1:]] == [["origin", address(each), "drained"] for each in (one, other)]
        assert proxy.command("upstream", "enable", "origin", address(one)).returncode == 0
        until(lambda: proxy.get("/").status == 200, 5, "one is back")
        pid = proxy.pid("discovery")
        os.kill(pid, signal.SIGSTOP)  # before the supervisor misses it
        try:
            done = proxy.command("upstreams")
            assert done.returncode == 1, done.stdout
            assert re.search("no outcome within|ended before it had answered|is not running at the moment", done.stderr)
        finally:
            proxy.wait_restarted("discovery", pid, seconds=10)


@pytest.mark.parametrize("after", ["upgrade", "restart"])
def test_a_drain_outlives_an_upgrade_but_not_a_restart(after: str) -> None:
    with two() as (proxy, one, _):
        assert drain(proxy, one).returncode == 0
        done = proxy.command(after, timeout=40)
        assert done.returncode == 0, done.stderr
        until(lambda: proxy.command("upstreams").returncode == 0, 5, "the next one answers")
        assert (states(proxy)[0] == "drained") == (after == "upgrade")
        assert gets_none(proxy, one) == (after == "upgrade")
