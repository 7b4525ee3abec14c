"""What is stored is there, what was purged is not, and nothing raises."""

from __future__ import annotations

import asyncio
import os
from asyncio import Future
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, cast

import pytest

from pingap.stages.caching.cache_rules import CacheRules
from pingap.stages.caching.entry import PURGED_SOFTLY, FileSpot
from pingap.stages.caching.place import CachePlace
from pingap.stages.plugins.cache.caches import Caches
from pingap.stages.plugins.cache.machine import Caching
from pingap.stages.plugins.cache.parts import CacheStage
from pingap.stages.plugins.cache.store import quotas
from pingap.stages.plugins.cache.store.change import StoreChange
from tests.plugins.cache.store.stores import Shop, entry, until

VARIANT = b"\0\0" + b"v" * 16


@pytest.fixture
async def shop(tmp_path: Path) -> Any:
    shop = Shop(tmp_path, max_size=8_000_000)
    yield shop
    shop.store.release()
    assert not [one for one in shop.logged if one[0] == "error"]


async def test_what_is_put_is_found_whole(shop: Shop) -> None:
    assert await shop.get(b"n\0http://a/") is None
    number = await shop.put(b"n\0http://a/", b"body", tags=(b"t",), etag=b'"1"')
    found = await shop.get(b"n\0http://a/")
    assert number and found and found.number == number and found.body == b"body"
    assert found.entry == entry(b"n\0http://a/", 4, tags=(b"t",), etag=b'"1"')


async def test_a_second_put_stands_for_the_first(shop: Shop) -> None:
    first = await shop.put(b"n\0k", b"one")
    second = await shop.put(b"n\0k", b"two")
    assert 0 < first < second and await shop.body(b"n\0k") == b"two"
    assert shop.store.stats().entries == 1


async def test_a_large_body_is_a_file(shop: Shop) -> None:
    body = os.urandom(300_000)
    await shop.put(b"n\0k", body)
    found = await shop.get(b"n\0k")
    assert found and isinstance(found.body, FileSpot) and Path(found.body.path).read_bytes() == body
    await shop.put(b"n\0k", b"small")
    assert not os.path.exists(found.body.path)
    assert shop.store.stats().file_bytes == 0


async def test_a_part_file_grows_and_becomes_the_body(shop: Shop) -> None:
    part = shop.store.part(None)
    assert part
    for piece in (b"ab", b"cd"):
        waits = part.write(piece)
        if waits is not None:
            await waits
    assert (part.size, Path(part.path).read_bytes()) == (4, b"abcd")
    assert await shop.store.put(b"n\0k", entry(b"n\0k", 4), part, shop.store.mark())
    found = await shop.get(b"n\0k")
    assert found and found.body == FileSpot(part.path)
    part.discard()
    assert os.path.exists(part.path)


async def test_a_part_file_that_is_discarded_leaves_nothing(shop: Shop) -> None:
    part = shop.store.part(10)
    assert part
    part.discard()
    part.discard()
    assert not os.path.exists(part.path)


async def test_replace_keeps_the_body_of_that_version_only(shop: Shop) -> None:
    for body in (b"small", b"l" * 200_000):
        number = await shop.put(b"n\0k", body)
        new = await shop.store.replace(b"n\0k", number, entry(b"n\0k", len(body), etag=b'"2"'))
        found = await shop.get(b"n\0k")
        assert found and new > number and found.number == new and found.entry.etag == b'"2"'
        assert await shop.body(b"n\0k") == body
        assert await shop.store.replace(b"n\0k", number, entry(b"n\0k", len(body))) == 0
    assert await shop.store.replace(b"n\0other", 1, entry(b"n\0other")) == 0


async def test_drop_takes_that_version_only(shop: Shop) -> None:
    first = await shop.put(b"n\0k", b"1")
    second = await shop.put(b"n\0k", b"2")
    assert not await shop.store.drop(b"n\0k", first)
    assert await shop.body(b"n\0k") == b"2"
    assert await shop.store.drop(b"n\0k", second)
    assert await shop.get(b"n\0k") is None


LONG = b"n\0http://a/" + b"x" * 600


@pytest.mark.parametrize("url", [b"n\0http://a/b", LONG, b"n\0" + b"y" * 418, b"n\0" + b"y" * 417, b"n\0" + b"y" * 458])
@pytest.mark.parametrize("is_soft", [False, True])
async def test_a_url_is_purged_with_all_variants_and_nothing_else(shop: Shop, url: bytes, is_soft: bool) -> None:
    gone = [url, url + VARIANT, url + b"\0accept: x", url + b"\0accept: x" + VARIANT]
    stay = [url[:-1], url + b"c", url[:-1] + b"\xff", url + b"c" + VARIANT]
    for key in (*gone, *stay):
        assert await shop.put(key, b"1", url=key.removesuffix(VARIANT))
    assert await shop.store.purge_url(url, is_soft) == 4
    for key in gone:
        found = await shop.get(key)
        assert found is None if not is_soft else found and found.entry.flags == PURGED_SOFTLY
    for key in stay:
        found = await shop.get(key)
        assert found and found.entry.flags == 0


@pytest.mark.parametrize("prefix", [b"n\0http://a/", LONG[:500], LONG])
async def test_a_prefix_is_purged_exactly(shop: Shop, prefix: bytes) -> None:
    gone = [prefix, prefix + b"1", prefix + b"z" * 500, prefix + b"1" + VARIANT]
    stay = [prefix[:-1], prefix[:-1] + b"-" * 600, b"m" + prefix[1:]]
    for key in (*gone, *stay):
        await shop.put(key, b"1", url=key.removesuffix(VARIANT))
    assert await shop.store.purge_prefix(prefix, False) == 4
    assert [await shop.get(key) for key in gone] == [None] * 4
    assert None not in [await shop.get(key) for key in stay]


async def test_a_tag_is_purged_in_its_namespace(shop: Shop) -> None:
    for key, tags in ((b"n\0a", (b"t", b"u")), (b"n\0b", (b"u",)), (b"m\0a", (b"t",))):
        await shop.put(key, b"1", tags=tags)
    await shop.put(b"n\0c", b"1", tags=(b"t",))
    await shop.put(b"n\0c", b"1")
    assert await shop.store.purge_tag(b"n", b"t", False) == 1
    assert await shop.get(b"n\0a") is None
    assert None not in [await shop.get(key) for key in (b"n\0b", b"m\0a", b"n\0c")]
    assert await shop.store.purge_all(b"n", False) == 2
    assert shop.store.stats((b"n", b"m")).spaces["n"] == (0, 0)
    assert await shop.get(b"m\0a")


async def test_what_was_asked_for_before_a_purge_is_not_stored_after_it(shop: Shop) -> None:
    store = shop.store
    purges: tuple[Callable[[], Future[int]], ...] = (
        lambda: store.purge_url(b"n\0k", False),
        lambda: store.purge_prefix(b"n\0", False),
        lambda: store.purge_tag(b"n", b"t", True),
        lambda: store.purge_all(b"n", False),
    )
    for purge in purges:
        mark = store.mark()
        early = shop.put(b"n\0k\0part", b"1", mark, tags=(b"t",))
        waits = purge()
        assert await early == 0 or await shop.get(b"n\0k\0part") is None or purge is purges[2]
        await waits
        assert await shop.put(b"n\0k\0part", b"1", mark, tags=(b"t",)) == 0
        assert await shop.put(b"m\0k", b"1", mark)
        assert await shop.put(b"n\0k\0part", b"1", tags=(b"t",))


async def test_a_validation_from_before_a_soft_purge_does_not_undo_it(shop: Shop) -> None:
    number = await shop.put(b"n\0k", b"1")
    numbers = [number]
    for _ in range(4):
        await shop.store.purge_url(b"n\0k", True)
        found = await shop.get(b"n\0k")
        assert found and found.entry.flags == PURGED_SOFTLY
        assert await shop.store.replace(b"n\0k", numbers[-1], entry(b"n\0k", 1)) == 0
        numbers.append(found.number)
    assert await shop.store.replace(b"n\0k", numbers[-1], entry(b"n\0k", 1))
    found = await shop.get(b"n\0k")
    assert found and not found.entry.flags


async def test_variants_of_a_url_are_bounded(shop: Shop) -> None:
    keys = [b"n\0u\0\0" + number.to_bytes(16, "big") for number in range(quotas.VARIANTS + 50)]
    for key in keys:
        await shop.put(key, b"1", url=b"n\0u")
    assert shop.store.stats().entries == quotas.VARIANTS
    assert await shop.get(keys[-1]) and not await shop.get(keys[0])


async def test_a_namespace_keeps_within_its_bound(shop: Shop) -> None:
    await shop.store.limit(b"n", 100_000)
    await shop.put(b"n\0hot", b"x" * 1000)
    for number in range(300):
        await shop.put(b"n\0%d" % number, b"x" * 1000)
        await shop.put(b"m\0%d" % number, b"x" * 1000)
        await shop.get(b"n\0hot")
    spaces = shop.store.stats((b"n", b"m")).spaces
    assert 80_000 < spaces["n"][1] <= 100_000 and spaces["m"][0] == 300
    assert await shop.get(b"n\0hot") and await shop.get(b"n\0" + b"299") and not await shop.get(b"n\0" + b"0")


@pytest.mark.slow
async def test_it_never_takes_more_than_it_may(tmp_path: Path) -> None:
    shop = Shop(tmp_path, max_size=1_000_000)
    for number in range(1500):
        await shop.put(b"n\0%d" % number, os.urandom(2000 if number % 50 else 100_000))
        await shop.get(b"n\0%d" % number)
        if number % 100 == 0:
            taken = sum(os.stat(os.path.join(top, name)).st_blocks * 512 for top, _, names in os.walk(tmp_path) for name in names)
            assert taken < 1_100_000
    stats = shop.store.stats()
    assert stats.entries > 100 and stats.taken <= 1_000_000
    assert await shop.get(b"n\0001499")
    for fd in os.listdir("/proc/self/fd"):  # what was freed is free, though it is still open for reading
        with suppress(OSError):
            name = os.readlink(f"/proc/self/fd/{fd}")
            assert not (name.startswith(str(tmp_path)) and name.endswith(" (deleted)") and os.fstat(int(fd)).st_size)
    shop.store.release()


async def test_it_survives_a_restart(tmp_path: Path) -> None:
    shop = Shop(tmp_path, max_size=8_000_000)
    number = await shop.put(b"n\0k", b"body")
    before = shop.store.now()
    shop.store.release()
    shop.store = shop.open()
    found = await shop.get(b"n\0k")
    assert found and found.number == number and found.body == b"body"
    assert before <= shop.store.now() < before + 60
    assert await shop.put(b"n\0k2", b"2") > number
    shop.store.release()


async def test_a_mistake_of_the_thread_is_told_and_the_store_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Shop(tmp_path, max_size=8_000_000)
    await shop.put(b"n\0k", b"1")
    with monkeypatch.context() as broken:
        broken.setattr("pingap.stages.plugins.cache.store.committer.pack_record", lambda *_: 1 / 0)
        assert await shop.put(b"n\0k", b"2" * 100_000) == 0
    assert not [name for _, _, names in os.walk(tmp_path) for name in names if name.startswith("b")]
    await until(lambda: shop.store.stats().counts.resets == 1)
    assert await shop.put(b"n\0k", b"3") and await shop.body(b"n\0k") == b"3"
    assert "ZeroDivisionError" in shop.logged[0][1]
    shop.store.release()


async def test_bodies_that_grow_have_half_of_the_room_together(shop: Shop) -> None:
    expected = [shop.store.part(1_500_000) for _ in range(4)]
    assert [part is not None for part in expected] == [True, True, False, False]  # though nothing is written yet
    unknown = shop.store.part(None)
    assert unknown
    for _ in range(20):
        if (waits := unknown.write(bytes(100_000))) is not None:
            await waits
    assert unknown.failure == "no room" and unknown.size == 1_000_000
    assert shop.store.stats().taken < 8_000_000
    for part in (*expected, unknown):
        if part is not None:
            part.discard()
    assert shop.store.part(4_000_000)


@asynccontextmanager
async def grown_elsewhere(shop: Shop, count: int) -> AsyncIterator[None]:
    """As another process that has the store open tells it."""
    shelf = shop.store._shelf
    assert shelf is not None
    lock = shelf.files.join(99)

    def tell() -> None:
        change = StoreChange(shelf.index, shelf.files)
        shelf.index.tell_part_bytes(change.txn, 99, count)
        change.commit()

    await asyncio.get_running_loop().run_in_executor(None, tell)
    yield
    os.close(lock)


async def test_what_grows_in_other_processes_counts(shop: Shop) -> None:
    part = shop.store.part(None)
    assert part
    async with grown_elsewhere(shop, 3_900_000):
        assert shop.store.part(1_000_000) is None and shop.store.part(50_000)
        for _ in range(4):
            if (waits := part.write(bytes(65_536))) is not None:
                await waits
        assert part.failure == "no room"


async def test_a_body_that_grew_is_counted_once_when_it_is_put(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pingap.stages.plugins.cache.store.committer.TICK", 0.05)
    shelf = shop.store._shelf
    assert shelf is not None

    def told() -> int:
        with shelf.index.reading() as txn:
            return shelf.index.part_bytes(txn, 0)

    part = shop.store.part(1_000_000)
    assert part
    await until(lambda: told() == 1_000_000)
    if (waits := part.write(bytes(900_000))) is not None:
        await waits
    assert await shop.store.put(b"n\0k", entry(b"n\0k", 900_000), part, shop.store.mark())
    assert told() == 0  # at once: others would evict for it
    assert shop.store.stats().file_bytes == 900_000 and shop.store.stats().taken < 1_500_000
    part = shop.store.part(30_000)
    await until(lambda: told() == 30_000)  # without an order
    assert part
    part.discard()
    await until(lambda: told() == 0)


@pytest.mark.interpreted
async def test_what_the_sections_of_a_configuration_say_together_counts(tmp_path: Path) -> None:
    place = CachePlace("disk", str(tmp_path), 8_000_000, inactive=60.0)
    caches = Caches(cast(CacheStage, None), str(tmp_path), lambda *words: None)

    def opened(max_size: int, most: int) -> Caching:
        return caches.open("c", CacheRules(place._replace(max_size=max_size), b"n", most))

    def most() -> int:
        shelf = store._shelf
        assert shelf is not None
        with shelf.index.reading() as txn:
            return shelf.index.space(txn, b"n").most

    first = opened(8_000_000, 2_000_000)
    store = first.parts.store
    second = opened(20_000_000, 3_000_000)
    assert store.stats().room == 20_000_000
    await until(lambda: most() == 3_000_000)
    caches.close(second)
    assert store.stats().room == 8_000_000
    await until(lambda: most() == 2_000_000)
    third = opened(8_000_000, 0)
    caches.close(first)
    await until(lambda: most() == 0)  # a bound that was taken away is gone
    caches.end()
    caches.close(third)
    await caches.closed()


async def test_what_takes_no_room_is_done_where_there_is_none(shop: Shop) -> None:
    await shop.put(b"n\0k", b"1", tags=(b"t",))
    async with grown_elsewhere(shop, 50_000_000), asyncio.timeout(4):
        results = await asyncio.gather(shop.put(b"n\0more", b"2"), shop.store.purge_all(b"n", False), shop.store.limit(b"n", 5_000_000))
        assert results[0] == 0 and results[2] == 1
        assert await shop.store.purge_all(b"n", False) == 0
