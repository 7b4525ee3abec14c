"""Opening and closing a store waits for nobody: neither for a process that was stopped with its locks, nor for the one before."""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from pingap.stages.caching.place import CachePlace
from pingap.stages.plugins.cache.caches import Caches
from pingap.stages.plugins.cache.store import places
from pingap.stages.plugins.cache.store.cache_store import CacheStore
from pingap.stages.plugins.cache.store.closings import all_closed, closing_of
from pingap.stages.plugins.cache.store.shelf import StoreShelf
from tests.plugins.cache.store.stores import GRACE, Shop, entry, until


@contextmanager
def held(path: Path) -> Iterator[None]:
    """As another process holds it."""
    number = os.open(path, os.O_RDWR | os.O_CREAT)
    fcntl.flock(number, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(number)


def opened(shop: Shop) -> CacheStore:
    return places.opened(shop.place, str(shop.root), lambda level, text: shop.logged.append((level, text)))


async def test_a_store_that_another_process_opens_for_long_is_there_and_stores_nothing(tmp_path: Path) -> None:
    shop = Shop(tmp_path, max_size=8_000_000)
    await shop.put(b"n\0k", b"1")
    shop.store.release()
    with held(tmp_path / "pingap-cache/lock"):
        begun = time.monotonic()
        shop.store = opened(shop)
        limited = shop.store.limit(b"n", 5_000_000)
        assert await shop.get(b"n\0k") is None and await shop.put(b"n\0k", b"2") == 0 and shop.store.part(1) is None
        assert time.monotonic() - begun < 2.0
        assert await limited == 0 and shop.store.mark() == 0
    await until(lambda: shop.store.part(1) is not None)
    assert await shop.body(b"n\0k") == b"1" and await shop.put(b"n\0k", b"3")
    shelf = shop.store._shelf
    assert shelf is not None
    with shelf.index.reading() as txn:
        assert shelf.index.space(txn, b"n").most == 5_000_000
    shop.store.release()
    assert not shop.logged


async def test_a_store_is_closed_and_opened_again_while_another_process_writes(tmp_path: Path) -> None:
    shop = Shop(tmp_path, max_size=8_000_000)
    await shop.put(b"n\0k", b"1")
    shelf, path = shop.store._shelf, shop.store.name
    assert shelf is not None
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as other:  # LMDB's lock is a thread's
        writing = await loop.run_in_executor(other, shelf.index.writing)
        shop.store._grace = 0.05
        begun = time.monotonic()
        late = shop.put(b"n\0late", b"2")
        task = asyncio.create_task(late)
        await asyncio.sleep(0)
        shop.store.release()
        closing = closing_of(path)
        assert closing is not None and closing.is_alive()
        await all_closed(0.05)
        shop.store = opened(shop)
        assert await shop.get(b"n\0k") is None
        assert time.monotonic() - begun < 2.0
        await loop.run_in_executor(other, writing.abort)
    assert await task
    await until(lambda: shop.store.part(1) is not None)
    assert await shop.body(b"n\0k") == b"1" and await shop.body(b"n\0late") == b"2"  # all that was there, and what was ordered
    shop.store._grace = GRACE
    shop.store.release()
    assert not shop.logged


async def test_a_store_that_is_closed_before_it_is_open_gives_back_what_it_got(tmp_path: Path) -> None:
    shop = Shop(tmp_path, max_size=8_000_000)
    shop.store.release()
    with held(tmp_path / "pingap-cache/lock"):
        shop.store = opened(shop)
        shop.store.release()
    await all_closed(20)
    for fd in os.listdir("/proc/self/fd"):
        try:
            assert not os.readlink(f"/proc/self/fd/{fd}").startswith(str(tmp_path))
        except FileNotFoundError:
            continue
    assert not shop.logged


async def test_a_generation_that_is_over_is_followed_by_another_without_a_mistake(tmp_path: Path) -> None:
    shop = Shop(tmp_path, max_size=8_000_000)
    await shop.put(b"n\0k", b"1")
    StoreShelf.end(str(tmp_path / "pingap-cache/1"))
    assert await shop.get(b"n\0k") is None
    assert await shop.put(b"n\0k", b"2") and await shop.body(b"n\0k") == b"2"
    assert [text.rpartition(": ")[2] for _, text in shop.logged] == ["what was there has been given up"]
    shop.store.release()


async def test_memory_that_no_configuration_names_is_given_back_by_the_last_process(run_dir: Path) -> None:
    place = CachePlace("memory", "", 2_000_000)

    def open_it() -> CacheStore:
        return places.opened(place, str(run_dir), lambda *_: None, GRACE)

    store = open_it()
    with held_shared(Path(store.name) / "users"):
        assert store.get(b"n\0k") is None
        assert await store.put(b"n\0k", entry(b"n\0k", 1), b"1", store.mark())
        store.release(is_unwanted=True)
    store = open_it()
    assert store.get(b"n\0k") is not None  # somebody else had it
    store.release()
    store = open_it()
    assert store.get(b"n\0k") is not None  # that process ended
    store.release(is_unwanted=True)
    store = open_it()
    assert store.get(b"n\0k") is None
    root = Path(store.name)
    store.release(is_unwanted=True)
    assert not [one for one in root.rglob("*") if one.name not in {"lock", "users", "state"}]


@contextmanager
def held_shared(path: Path) -> Iterator[None]:
    number = os.open(path, os.O_RDWR)
    fcntl.flock(number, fcntl.LOCK_SH)
    try:
        yield
    finally:
        os.close(number)


def test_what_a_process_has_in_memory_outlives_it_but_not_a_reload() -> None:
    told: list[bool] = []

    class Store:
        def release(self, is_unwanted: bool) -> None:
            told.append(is_unwanted)

    class Parts:
        store = Store()

    class Cache:
        parts = Parts()

    caches = Caches(None, "", lambda *_: None)  # type: ignore[arg-type]
    for _ in range(2):
        caches.all().append(Cache.parts)  # type: ignore[arg-type]
        caches.close(Cache())  # type: ignore[arg-type]
        caches.end()
    assert told == [True, False]
