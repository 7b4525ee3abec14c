"""The cache in an instance: one fetch over all replicas, what a kill -9 may cost, and what outlives reloads, scaling and restarts."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cached_load import CachedLoad, is_sealed, sealed, slowly
from tests.e2e.harness import Pingap, site
from tests.e2e.origins import Exchange, Origin
from tests.kit.waiting import until

SCALE = {"split": ["--scale", "plugins=3"], "colocated": ["--workers", "3"]}
MEGABYTE = 1_000_000


def cached(origin: Origin, settings: str = "", **more: Any) -> str:
    """A site whose location has a cache."""
    plugin = f"""[plugins.c]
category = "cache"
lock = "10s"
max_file_size = "4mb"
purge_ip_list = ["127.0.0.1"]
{settings}
"""
    return site([origin.port], location='plugins = ["c"]', more=plugin, **more)


def fresh(exchange: Exchange) -> None:
    """What an origin answers at once."""
    exchange.reply(sealed(exchange.target, 2048), headers="Cache-Control: max-age=600\r\n")


def stats(proxy: Pingap) -> dict[str, Any]:
    done = proxy.command("cache", "stats", "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def status(proxy: Pingap, target: str, **more: Any) -> str | None:
    answer = proxy.get(target, **more)
    assert answer.status == 200, answer
    return answer.get("x-cache-status")


def wait_stored(proxy: Pingap, target: str, seconds: float = 10) -> None:
    until(lambda: status(proxy, target) == "hit", seconds, f"{target} is stored")


@pytest.fixture(scope="module")
def three(placement: str, shared_origin: Origin) -> Iterator[Pingap]:
    """Three replicas that have hooks."""
    with Pingap(cached(shared_origin), placement, up=SCALE[placement]) as instance:
        yield instance


@pytest.fixture
def origin_of(shared_origin: Origin) -> Origin:
    shared_origin.requests.clear()
    shared_origin.answer = fresh
    return shared_origin


# -- one fetch -----------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "size", "chunked"), [("small", 2048, False), ("large", MEGABYTE, False), ("chunked", MEGABYTE, True)])
def test_of_64_clients_on_a_cold_key_one_makes_the_fetch(three: Pingap, origin_of: Origin, name: str, size: int, chunked: bool) -> None:
    target = f"/cold/{three.placement}/{name}"
    origin_of.on[target] = slowly(size, 1.0, chunked)
    with CachedLoad(three.port, [target], clients=64, rounds=1) as load:
        load.join()
    assert dict(load.statuses) == {200: 64}, load
    assert not load.wrong, load
    assert load.cut == load.lost == load.hung == 0, load
    assert len(origin_of.seen(target)) == 1


def test_clients_that_leave_do_not_cost_a_second_fetch(three: Pingap, origin_of: Origin) -> None:
    target = f"/left/{three.placement}"
    origin_of.on[target] = slowly(MEGABYTE, 1.0)
    for pause in (0.0, 0.1):  # before the head, and in mid-body
        client = three.client()
        client.request(target)
        origin_of.wait(target)
        time.sleep(pause)
        client.close()
    wait_stored(three, target)
    assert len(origin_of.seen(target)) == 1


def test_what_cannot_be_stored_is_fetched_side_by_side(three: Pingap, origin_of: Origin) -> None:
    target = f"/private/{three.placement}"
    origin_of.on[target] = slowly(2048, 0.4, fields="Cache-Control: no-store\r\n")
    with CachedLoad(three.port, [target], clients=1, rounds=1) as load:
        load.join()
    began = time.monotonic()
    with CachedLoad(three.port, [target], clients=16, rounds=1) as load:
        load.join()
    assert dict(load.statuses) == {200: 16}, load
    assert len(origin_of.seen(target)) == 17
    assert time.monotonic() - began < 16 * 0.4 / 2, "they waited for one another"


# -- purges, variants ----------------------------------------------------------------------------


def test_what_is_purged_while_it_is_fetched_is_not_stored(three: Pingap, origin_of: Origin) -> None:
    target = f"/purged/{three.placement}"
    origin_of.on[target] = slowly(MEGABYTE, 0.6)
    with CachedLoad(three.port, [target], clients=4, rounds=1) as load:
        origin_of.wait(target)
        assert three.get(target, method="PURGE").status == 204
        origin_of.on[target] = lambda exchange: exchange.reply(sealed(target, 1000), headers="Cache-Control: max-age=600\r\n")
        load.join()
    assert dict(load.statuses) == {200: 4}, load
    assert not load.wrong, load
    wait_stored(three, target)
    assert len(three.get(target).body) == 1000, "the fetch that began before the purge is stored"


def test_a_thousand_variants_have_a_bound_and_none_is_given_for_another(three: Pingap, origin_of: Origin) -> None:
    target = f"/varied/{three.placement}"

    def varied(exchange: Exchange) -> None:
        chosen = exchange.get("x-variant") or ""
        exchange.reply(sealed(chosen, 500), headers="Cache-Control: max-age=600\r\nVary: X-Variant\r\n")

    origin_of.on[target] = varied
    with three.client() as client:
        for turn in range(2):
            for number in range(1000):
                answer = client.get(target, headers={"X-Variant": f"v{number}-"})
                assert answer.status == 200
                assert is_sealed(answer.body, f"v{number}-"), (turn, number)


# -- reload, scale ---------------------------------------------------------------------------------


def test_a_reload_and_a_scale_keep_what_is_stored_and_fail_nobody(three: Pingap, origin_of: Origin) -> None:
    targets = [f"/kept/{three.placement}/{number}" for number in range(20)]
    with three.client() as client:
        for target in targets:
            assert client.get(target).status == 200
    until(lambda: all(status(three, target) == "hit" for target in targets), 10, "all are stored")
    before = len(origin_of.requests)
    what = "plugins" if three.placement == "split" else "worker"
    with CachedLoad(three.port, targets, clients=8) as load:
        for settings in ('max_ttl = "1h"', 'max_ttl = "2h"'):
            three.write_config(cached(origin_of, settings))
            done = three.command("reload")
            assert done.returncode == 0, done.stderr
        for count in (2, 3):
            done = three.command("scale", f"{what}={count}")
            assert done.returncode == 0, done.stderr
            until(lambda count=count: len(three.replicas("plugins")) == count, 20, f"{count} replicas")  # type: ignore[misc]
        load.stop()
    assert set(load.statuses) == {200}, load
    assert not load.wrong, load
    assert load.cut == load.hung == 0, load
    assert len(origin_of.requests) == before, "something was fetched again"


def test_an_upgrade_keeps_what_is_stored_and_what_is_being_fetched(placement: str, origin_of: Origin) -> None:
    slow, quick = f"/upgraded/{placement}/slow", [f"/upgraded/{placement}/{number}" for number in range(10)]
    origin_of.on[slow] = slowly(MEGABYTE, 3.0)
    with Pingap(cached(origin_of), placement, up=SCALE[placement]) as proxy:
        for target in quick:
            assert proxy.get(target).status == 200
            wait_stored(proxy, target)
        with CachedLoad(proxy.port, [slow], clients=4, rounds=1) as readers, CachedLoad(proxy.port, quick, clients=6) as load:
            origin_of.wait(slow)
            done = proxy.command("upgrade", timeout=60)
            assert done.returncode == 0, done.stderr
            readers.join()
            load.stop()
        for each in (readers, load):
            assert set(each.statuses) == {200}, each
            assert not each.wrong, each
            assert each.cut == each.lost == each.hung == 0, each
        assert len(origin_of.requests) == len(quick) + 1, "something was fetched again"
        wait_stored(proxy, slow)
        serving = re.search(r"pid (\d+) serves", done.stdout)
        assert serving is not None, done.stdout
        os.kill(int(serving[1]), signal.SIGTERM)
        until(lambda: not proxy.processes(), 15, "all have ended")


# -- kill -9 -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def apart(shared_origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pingap]:
    """Three replicas of plugins in processes of their own."""
    up = ["--scale", "plugins=3", "--scale", "upstream=2"]
    with Pingap(cached(shared_origin), "split", up=up) as instance:
        yield instance


def filler(proxy: Pingap) -> str:
    """The replica that has a part file open for writing; "" for none."""
    for row in proxy.replicas("plugins"):
        for name in os.listdir(f"/proc/{row.pid}/fd"):
            with contextlib.suppress(OSError):
                path = os.readlink(f"/proc/{row.pid}/fd/{name}")
                flags = int(Path(f"/proc/{row.pid}/fdinfo/{name}").read_text().split("flags:")[1].split()[0], 8)
                if "cache" in path and Path(path).name.startswith("b") and flags & os.O_ACCMODE == os.O_WRONLY:
                    return row.name
    return ""


@pytest.mark.parametrize("victim", [("plugins", 0), ("plugins", 1), ("plugins", 2), ("upstream", 0), ("upstream", 1)])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_replica_that_is_killed_in_mid_fill_gives_nobody_a_wrong_or_half_body(
    apart: Pingap, origin_of: Origin, victim: tuple[str, int], chunked: bool
) -> None:
    """Of the three replicas one fetches, one owns the key, and all have clients that read along: each is killed once."""
    stage, number = victim
    slow = f"/killed/{stage}{number}{chunked}"
    quick = [f"{slow}/{item}" for item in range(8)]
    origin_of.on[slow] = slowly(MEGABYTE, 1.0, chunked)
    with apart.client() as client:
        for target in quick:
            client.get(target)
    pid = apart.pid(stage, number)
    with CachedLoad(apart.port, quick, clients=6) as bystanders, CachedLoad(apart.port, [slow], clients=12, rounds=1) as readers:
        origin_of.wait(slow)
        time.sleep(0.3)
        fills = filler(apart)
        os.kill(pid, signal.SIGKILL)
        apart.wait_restarted(stage, pid, number)
        readers.join()
        with CachedLoad(apart.port, [slow], clients=12, rounds=1) as after:
            after.join()
        bystanders.stop()
    for load in (readers, bystanders, after):
        assert not load.wrong, load
        assert load.hung == load.lost == 0, load
        assert set(load.statuses) <= {200}, load
    assert dict(after.statuses) == {200: 12}, after
    assert after.cut == 0
    # Of who reads along, those are cut whose body was half there; of small answers only what was on its way through the one that died.
    assert bystanders.cut == 0, bystanders
    if stage == "plugins" and fills != f"{stage}.{number}":
        assert readers.good >= 6, f"{readers}: {fills} goes on, and those who read along elsewhere are cut"
    wait_stored(apart, slow)
    assert is_sealed(apart.get(slow).body, slow)


def test_after_all_kills_no_fetch_waits_and_no_file_is_left_behind(apart: Pingap, origin_of: Origin) -> None:
    """What the dead ones were filling is found, and its space given back."""
    target = "/after"
    origin_of.on[target] = slowly(MEGABYTE, 1.0)
    pid = apart.pid("plugins")
    with CachedLoad(apart.port, [target], clients=6, rounds=1):
        origin_of.wait(target)
        time.sleep(0.3)
        os.kill(pid, signal.SIGKILL)
        apart.wait_restarted("plugins", pid)
    wait_stored(apart, target)

    def is_tidy() -> bool:
        found = stats(apart)
        [store] = found["stores"]
        files = [path for path in Path(store["directory"]).rglob("b*-*") if path.is_file()]
        large = [path for path in files if path.stat().st_size == MEGABYTE]
        return bool(found["fetching"] == found["waiting"] == 0 and len(files) == len(large) <= store["objects"])

    until(is_tidy, 30, "files of fetches that were cut are gone", every=0.5)


# -- a disk --------------------------------------------------------------------------------------------


def test_a_disk_cache_is_there_after_a_stop_and_after_a_kill(origin_of: Origin, tmp_path: Path) -> None:
    text = cached(origin_of, f'directory = "{tmp_path}/store?max_size=100mb"')
    targets = [f"/disk/{number}" for number in range(30)] + ["/disk/large"]
    origin_of.on["/disk/large"] = slowly(MEGABYTE, 0.1)
    for turn in range(3):
        proxy = Pingap(text, "colocated")
        with proxy:
            if turn == 0:
                for target in targets:
                    assert proxy.get(target).status == 200
            for target in targets:
                wait_stored(proxy, target)
                assert is_sealed(proxy.get(target).body, target)
            assert len(origin_of.requests) == len(targets), f"fetched again in run {turn}"
            if turn == 1:
                proxy.kill_all()
                until(lambda proxy=proxy: not proxy.processes(), 5, "all are dead")  # type: ignore[misc]
