"""Processes that share a store are killed at any moment: no half object, no lock that stays, no space that is lost."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.plugins.cache.store.stores import Shop, until
from tests.plugins.cache.store.worker import KEYS, is_whole

ROOT = Path(__file__).resolve().parents[4]
SIZE = 16_000_000

pytestmark = [pytest.mark.processes, pytest.mark.slow]


class Workers:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.running: list[subprocess.Popen[str]] = []

    def start(self, seed: int, what: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.plugins.cache.store.worker", str(self.root), str(SIZE), str(seed), what]
        worker = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        self.running.append(worker)
        return worker

    def await_word(self, worker: subprocess.Popen[str], word: str) -> None:
        assert worker.stdout is not None
        for line in worker.stdout:
            if line.strip() == word:
                return
        raise AssertionError(f"the worker ended: {worker.wait()}")

    def kill(self, worker: subprocess.Popen[str]) -> None:
        worker.kill()
        worker.wait()
        assert worker.stdout is not None
        worker.stdout.close()
        self.running.remove(worker)


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    workers = Workers(tmp_path)
    yield workers
    for worker in list(workers.running):
        workers.kill(worker)


async def whole(shop: Shop) -> int:
    """How many objects there are; each is whole."""
    count = 0
    for number in range(KEYS):
        key = b"n\0http://a/%d" % number
        body = await shop.body(key)
        if body is not None:
            assert is_whole(key, body)
            count += 1
    return count


def on_disk(root: Path) -> int:
    return sum(os.path.getsize(os.path.join(top, name)) for top, _, names in os.walk(root) for name in names)


@pytest.mark.timeout(120)
async def test_writers_that_are_killed_leave_whole_objects_and_no_lock(workers: Workers, tmp_path: Path) -> None:
    dice = random.Random(1)
    shop = Shop(tmp_path, max_size=SIZE)
    for turn in range(12):
        two = [workers.start(turn * 2 + at, dice.choice(("put", "part", "purge"))) for at in range(2)]
        for worker in two:
            workers.await_word(worker, "ready")
        await asyncio.sleep(dice.random() * 0.3)
        for worker in two:
            workers.kill(worker)
        async with asyncio.timeout(5):
            while not await shop.put(b"m\0mine", b"%d" % turn):  # what the dead had taken is found first
                await asyncio.sleep(0.01)
        await whole(shop)
    assert shop.store.stats().entries == await whole(shop) + 1
    await until(lambda: not strays(shop))
    assert shop.store.stats().taken <= SIZE
    await until(lambda: abs(on_disk(tmp_path) - shop.store.stats().taken) < 1000)  # state and the lock of this process
    shop.store.release()
    assert not [one for one in shop.logged if one[0] == "error"]


def strays(shop: Shop) -> list[str]:
    """Locks of writers but our own: their dead owners are buried when these are gone."""
    return [name for top, _, names in os.walk(shop.root) for name in names if name.startswith("w")][1:]


async def test_the_space_of_a_part_file_is_found_again(workers: Workers, tmp_path: Path) -> None:
    shop = Shop(tmp_path, max_size=SIZE)
    before = on_disk(tmp_path)
    worker = workers.start(1, "part")
    workers.await_word(worker, "ready")
    for _ in range(20):
        workers.await_word(worker, "round")
    workers.kill(worker)
    await shop.store.purge_all(b"n", False)
    await until(lambda: not strays(shop))
    assert not [name for _, _, names in os.walk(tmp_path) for name in names if name.startswith("b")]
    assert shop.store.stats().entries == 0 and shop.store.stats().file_bytes == 0
    assert on_disk(tmp_path) < before + SIZE
    shop.store.release()


async def test_several_processes_keep_one_store_within_its_bound(workers: Workers, tmp_path: Path) -> None:
    shop = Shop(tmp_path, max_size=SIZE)
    three = [workers.start(seed, "put") for seed in range(3)]
    for _ in range(15):
        for worker in three:
            workers.await_word(worker, "round")
        # At once, but for an index that grew since somebody had to wait while it read: then as soon as others have evicted for it.
        await until(lambda: shop.store.stats().taken <= SIZE * 1.1)
        await whole(shop)
    assert await whole(shop) > 20
    shop.store.release()


async def test_a_process_that_is_stopped_holds_up_nobody(workers: Workers, tmp_path: Path) -> None:
    shop = Shop(tmp_path, max_size=SIZE)
    worker = workers.start(1, "put")
    workers.await_word(worker, "round")
    for turn in range(20):
        worker.send_signal(signal.SIGSTOP)
        waits = asyncio.ensure_future(shop.put(b"m\0mine", b"%d" % turn))
        await asyncio.wait([waits], timeout=0.2)  # it may hold the lock: reading goes on even then
        assert await shop.get(b"m\0mine") or turn == 0
        worker.send_signal(signal.SIGCONT)
        async with asyncio.timeout(5):
            assert await waits
    shop.store.release()


HELD = """
import os, sys
from pingap.stages.plugins.cache.store.shelf import StoreShelf
shelf = StoreShelf(sys.argv[1], 0, False)
reading = shelf.index.reading()
reading.get(b"n", db=shelf.index.entries)
print("reading", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("end", [signal.SIGSTOP, signal.SIGKILL])
async def test_a_process_that_is_stopped_while_it_reads_keeps_nobody_waiting(tmp_path: Path, end: signal.Signals) -> None:
    """Pages that it sees are not used again: the index grows to half of the room at most, then the store begins anew. Of one that was
    killed nothing is left."""
    shop = Shop(tmp_path, max_size=6_000_000)
    await shop.put(b"n\0k", b"1")
    shelf = shop.store._shelf
    assert shelf is not None
    command = [sys.executable, "-c", HELD, shelf.path]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None and reader.stdout.readline() == "reading\n"
        reader.send_signal(end)
        if end == signal.SIGKILL:
            reader.wait()
        largest = puts = 0
        for number in range(200):
            async with asyncio.timeout(5):
                puts += await shop.put(b"n\0%d" % (number % 20), b"2") > 0
            largest = max(largest, shop.store.stats().index_bytes)
        resets = shop.store.stats().counts.resets
        reader.kill()
    assert puts > 190 and largest < 3_000_000 + 300_000
    assert resets <= 1 if end == signal.SIGSTOP else (resets == 0 and largest < 1_000_000)
    shop.store.release()
