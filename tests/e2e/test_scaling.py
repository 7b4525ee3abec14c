"""Replicas come and go, and configurations follow one another, without one failed request."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from tests.e2e.harness import REQUEST_PATH, Pingap, site
from tests.e2e.load import Load
from tests.e2e.origins import Exchange, Nginx, Origin
from tests.kit.waiting import until

pytestmark = pytest.mark.alone


@pytest.fixture(scope="module")
def split(nginx: Nginx) -> Iterator[Pingap]:
    with Pingap(site([nginx.port], location='plugins = ["pingap:requestId"]'), "split") as instance:
        yield instance


def scaled(proxy: Pingap, stage: str, count: int, seconds: float = 15) -> None:
    """Scales and waits until exactly that many replicas are there, all of them ready."""
    done = proxy.command("scale", f"{stage}={count}")
    assert done.returncode == 0, done.stderr
    until(lambda: [row.state for row in proxy.ps() if row.stage == stage] == ["ready"] * count, seconds, f"{stage} has {count} replicas")


@pytest.mark.parametrize("stage", REQUEST_PATH)
def test_a_stage_is_scaled_up_and_down_without_a_failed_request(split: Pingap, stage: str) -> None:
    # Clients whose accept replica drains are told by `Connection: close`, which Load takes for what it is.
    with Load(split.port, connections=12) as load:
        scaled(split, stage, 3)
        load.advance(150)
        busy = [row.pid for row in split.ps() if row.stage == stage]
        assert len(set(busy)) == 3
        scaled(split, stage, 1)
        load.advance(150)
        tally = load.stop()
    assert set(tally.statuses) == {200}, tally
    assert tally.dropped == tally.refused == tally.hung == 0, tally
    assert not tally.mixed_up


def test_new_replicas_share_the_work(nginx: Nginx) -> None:
    with Pingap(site([nginx.port]), "split", up=["--scale", "upstream=2"]) as proxy:
        scaled(proxy, "upstream", 3)
        with Load(proxy.port, connections=8) as load:
            load.advance(200)
        time.sleep(0.6)  # figures come with the heartbeat
        requests = [row.requests for row in proxy.replicas("upstream")]
        assert len(requests) == 3
        assert min(requests) > sum(requests) / 10, requests


def test_scaling_down_lets_a_long_request_finish(origin: Origin) -> None:
    def slow(exchange: Exchange) -> None:
        time.sleep(1.5)
        exchange.reply(b"finished")

    origin.on["/slow"] = slow
    with Pingap(site([origin.port]), "split", up=["--scale", "upstream=3"]) as proxy:
        clients = [proxy.client() for _ in range(6)]
        for client in clients:
            client.request("/slow")
        origin.wait("/slow", 6)
        assert proxy.command("scale", "upstream=1").returncode == 0
        assert [client.response().body for client in clients] == [b"finished"] * 6
        for client in clients:
            client.close()


def test_workers_are_scaled_too(nginx: Nginx) -> None:
    with Pingap(site([nginx.port]), "colocated", up=["--workers", "1"]) as proxy, Load(proxy.port) as load:
        assert proxy.command("scale", "worker=2").returncode == 0
        until(lambda: len({row.pid for row in proxy.replicas("accept")}) == 2, 10, "two workers")
        load.advance(100)
        assert proxy.command("scale", "worker=1").returncode == 0
        until(lambda: len([row for row in proxy.ps() if row.stage == "accept"]) == 1, 15, "one worker")
        load.advance(100)
        tally = load.stop()
        assert set(tally.statuses) == {200}, tally
        assert tally.dropped == tally.hung == tally.refused == 0, tally


@pytest.mark.parametrize("args", [["scale", "logging=2"], ["scale", "upstream=0"], ["scale", "nothing=2"], ["scale", "upstream"]])
def test_scaling_what_cannot_be_scaled_is_refused_with_a_reason(split: Pingap, args: list[str]) -> None:
    done = split.command(*args)
    assert done.returncode in (1, 2)
    assert done.stderr.strip()


def test_replicas_are_pinned_to_the_cpus_that_the_configuration_names(nginx: Nginx) -> None:
    cpu = max(os.sched_getaffinity(0))
    text = site([nginx.port], more=f"[stages.upstream]\nreplicas = 2\ncpus = [{cpu}]")
    with Pingap(text, "split") as proxy:
        rows = proxy.replicas("upstream")
        assert [os.sched_getaffinity(row.pid) for row in rows] == [{cpu}, {cpu}]
        assert all(row.raw["cpus"] == [cpu] for row in rows)


@pytest.mark.slow
def test_fifty_reloads_under_load_fail_no_request(placement: str, nginx: Nginx) -> None:
    def text(turn: int) -> str:
        return site([nginx.port], location=f'proxy_set_headers = ["X-Turn:{turn}"]\nplugins = ["pingap:requestId"]')

    with Pingap(text(0), placement) as proxy, Load(proxy.port, connections=8) as load:
        # One process asks them all: starting the command fifty times would take longer than the reloads.
        for turn in range(1, 51):
            proxy.write_config(text(turn))
            done = proxy.command("reload")
            assert done.returncode == 0, done.stderr
        load.advance(50)
        tally = load.stop()
        assert set(tally.statuses) == {200}, tally
        assert tally.dropped == tally.refused == tally.hung == 0, tally


def test_memory_does_not_grow_with_reloads(placement: str, nginx: Nginx) -> None:
    def text(turn: int) -> str:
        return site([nginx.port], location=f'proxy_set_headers = ["X-Turn:{turn}"]')

    with Pingap(text(0), placement) as proxy:
        for turn in range(1, 9):
            proxy.write_config(text(turn))
            assert proxy.command("reload").returncode == 0
            proxy.get()
        before = proxy.memory()
        for turn in range(9, 33):
            proxy.write_config(text(turn))
            assert proxy.command("reload").returncode == 0
            proxy.get()
        assert proxy.memory() - before < 8 * 1024 * 1024
