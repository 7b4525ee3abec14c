"""Disks that are full or broken, indexes that are cut, clocks that jump: the cache misses, says why, and goes on."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import resource
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import lmdb
import msgspec
import pytest

from pingap.stages.caching.place import CachePlace
from pingap.stages.plugins.cache.store import free_memory, memory_place, places
from pingap.stages.plugins.cache.store.cache_store import CacheStore
from pingap.stages.plugins.cache.store.change import PlacedRecord, StoreChange
from pingap.stages.plugins.cache.store.committer import Committer
from pingap.stages.plugins.cache.store.files import StoreFiles
from pingap.stages.plugins.cache.store.housekeeper import Housekeeper
from pingap.stages.plugins.cache.store.index import Index, SegmentRow
from pingap.stages.plugins.cache.store.orders import PurgeOrder
from pingap.stages.plugins.cache.store.purge_log import Purge
from pingap.stages.plugins.cache.store.purger import Purger
from pingap.stages.plugins.cache.store.shelf import StoreShelf
from pingap.stages.plugins.cache.store.store_root import StoreRoot
from tests.plugins.cache.store.stores import GRACE, Shop, entry, until


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB."""
    if os.getuid():
        pytest.skip("only root mounts a file system")
    path = tmp_path / "disk"
    path.mkdir()
    library = ctypes.CDLL(None)
    if library.mount(b"tmpfs", str(path).encode(), b"tmpfs", 0, b"size=3m"):
        pytest.skip("this machine lets nobody mount a file system")
    try:
        yield path
    finally:
        assert not library.umount2(str(path).encode(), 2)  # MNT_DETACH


def generation(root: Path) -> Path:
    return max((one for one in (root / "pingap-cache").iterdir() if one.name.isdigit()), key=lambda one: int(one.name))


async def test_a_full_disk_keeps_nothing_and_reads_on(small_disk: Path) -> None:
    shop = Shop(small_disk, max_size=100_000_000)
    await shop.put(b"n\0first", b"1")
    kept = 0
    for number in range(2000):
        kept += await shop.put(b"n\0%d" % number, os.urandom(4000 if number % 20 else 60_000)) > 0
    counts = shop.store.stats().counts
    assert counts.refused.get("disk_full", 0) and kept > 500, (counts, kept)
    found = [await shop.body(b"n\0%d" % number) for number in range(2000)]
    assert sum(one is not None for one in found) > 100
    shop.store.release()
    assert not [one for one in shop.logged if one[0] == "error"]


async def test_what_others_take_of_a_disk_is_let_go_and_used_again(small_disk: Path) -> None:
    shop = Shop(small_disk, max_size=100_000_000)
    for number in range(300):
        await shop.put(b"n\0%d" % number, b"x" * 4000)
    ballast = small_disk / "ballast"
    with open(ballast, "wb", buffering=0) as file:
        while True:
            try:
                file.write(bytes(4096))
            except OSError:
                break
    results = [await shop.put(b"m\0%d" % number, b"y" * 60_000) for number in range(3)]
    part = shop.store.part(None)
    if part is not None:
        for _ in range(100):
            if (waits := part.write(bytes(65536))) is not None:
                await waits
        assert part.failure and part.size < 6_553_600
        assert await shop.store.put(b"m\0p", entry(b"m\0p", part.size), part, shop.store.mark()) == 0
        assert not os.path.exists(part.path)
    ballast.unlink()
    assert 0 in results or shop.store.stats().counts.evicted
    assert await shop.put(b"n\0again", b"z")
    assert await shop.body(b"n\0again") == b"z"
    shop.store.release()


async def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    shop = Shop(tmp_path, max_size=8_000_000)
    await shop.put(b"n\0k", b"1")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        assert await shop.put(b"n\0large", bytes(50_000)) == 0
        assert await shop.body(b"n\0k") == b"1"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert await shop.put(b"n\0large", bytes(50_000))
    assert await shop.body(b"n\0large") == bytes(50_000)
    shop.store.release()


@pytest.mark.interpreted
async def test_a_disk_without_room_for_a_store_is_told_and_tried_again(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (small_disk / "ballast").write_bytes(bytes(2_950_000))
    shop = Shop(small_disk, max_size=100_000_000)
    assert [one[0] for one in shop.logged] == ["info", "error"] and "nothing is stored" in shop.logged[1][1]
    assert await shop.put(b"n\0k", b"1") == 0 and await shop.get(b"n\0k") is None and shop.store.part(1) is None
    (small_disk / "ballast").unlink()
    monkeypatch.setattr("pingap.stages.plugins.cache.store.cache_store.AGAIN", 0.0)
    assert await shop.get(b"n\0k") is None
    await until(lambda: shop.store.part(1) is not None)
    assert await shop.put(b"n\0k", b"1") and await shop.body(b"n\0k") == b"1"
    shop.store.release()


async def test_nothing_that_is_mapped_has_holes(tmp_path: Path) -> None:
    """A disk that is full would end the process when it touches one."""
    shop = Shop(tmp_path, max_size=8_000_000)
    for name in ("lock.mdb", "table"):
        found = (generation(tmp_path) / name).stat()
        assert found.st_blocks * 512 >= found.st_size, name
    shop.store.release()


@pytest.mark.interpreted
async def test_segments_that_are_gone_do_not_stay_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pingap.stages.plugins.cache.store.committer.TICK", 0.02)
    shop = Shop(tmp_path, max_size=1_000_000)
    for number in range(600):
        await shop.put(b"n\0%d" % number, bytes(3000))
        await shop.get(b"n\0%d" % number)
    assert shop.store.stats().counts.evicted

    def removed() -> list[str]:
        found = []
        for fd in os.listdir("/proc/self/fd"):
            with suppress(OSError):
                found.append(os.readlink(f"/proc/self/fd/{fd}"))
        return [name for name in found if name.startswith(str(tmp_path)) and name.endswith(" (deleted)")]

    await until(lambda: not removed())
    assert any([await shop.get(b"n\0%d" % number) for number in range(600)])  # the others are read on
    shop.store.release()


def test_who_has_no_descriptor_to_look_with_takes_nobody_for_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = StoreFiles(str(tmp_path))
    lock = files.join(1)
    assert files.is_alive(1) and not files.is_alive(2)

    def refuse(*_: Any) -> int:
        raise OSError(errno.EMFILE, "too many open files")

    with monkeypatch.context() as broken:
        broken.setattr(os, "open", refuse)
        assert files.is_alive(1) and files.is_alive(2)
    os.close(lock)
    assert not files.is_alive(1)


@pytest.mark.parametrize("harm", ["cut", "gone", "zeros", "text"])
async def test_a_segment_that_is_harmed_is_missed(tmp_path: Path, harm: str) -> None:
    shop = Shop(tmp_path, max_size=8_000_000)
    await shop.put(b"n\0k", b"12345")
    (segment,) = generation(tmp_path).glob("s*")
    if harm == "gone":
        segment.unlink()
    elif harm == "cut":
        os.truncate(segment, 30)
    else:
        segment.write_bytes((b"\0" if harm == "zeros" else b"text") * 100)
    if harm == "gone":
        shop.store.release()
        shop.store = shop.open()
    assert await shop.get(b"n\0k") is None
    assert await shop.put(b"m\0k", b"1")
    assert shop.store.stats().entries == 1  # the other was dropped
    shop.store.release()


@pytest.mark.parametrize("name", ["data.mdb", "table", "state"])
@pytest.mark.parametrize("harm", ["cut", "empty", "garbage"])
async def test_a_store_that_was_harmed_begins_empty_and_says_so(tmp_path: Path, name: str, harm: str) -> None:
    shop = Shop(tmp_path, max_size=8_000_000)
    for number in range(200):
        await shop.put(b"n\0%d" % number, b"1")
    shop.store.release()
    path = tmp_path / "pingap-cache/state" if name == "state" else generation(tmp_path) / name
    if harm == "garbage":
        path.write_bytes(os.urandom(path.stat().st_size))
    else:
        os.truncate(path, path.stat().st_size // 2 if harm == "cut" else 0)
    shop.store = shop.open()
    assert any("begins empty" in text for _, text in shop.logged), shop.logged
    assert await shop.get(b"n\0" + b"1") is None
    assert await shop.put(b"n\0k", b"1") and await shop.body(b"n\0k") == b"1"
    shop.store.release()


async def test_an_index_that_is_full_begins_anew(tmp_path: Path) -> None:
    """A process that was stopped while it read keeps pages from being used again."""
    logged: list[tuple[str, str]] = []
    root = tmp_path / "c"
    root.mkdir()

    def log(level: str, text: str) -> None:
        logged.append((level, text))

    store = CacheStore(StoreRoot(str(root), True, 8_000_000, 0, map_size=400_000), 0.0, log, asyncio.get_running_loop(), GRACE)
    old = store._shelf
    assert old is not None
    reading = old.index.reading()
    results = []
    for number in range(400):
        results.append(await store.put(b"n\0%d" % number, entry(b"n\0", 1), b"1", store.mark()))
        if any("begins anew" in text for _, text in logged):
            break
    reading.abort()
    assert 0 in results
    async with asyncio.timeout(5):
        while not await store.put(b"n\0k", entry(b"n\0k", 1), b"1", store.mark()):
            await asyncio.sleep(0.01)
    assert store.stats().counts.resets == 1
    store.release()


async def test_what_is_of_a_generation_before_is_not_taken_for_one_of_this(tmp_path: Path) -> None:
    shop = Shop(tmp_path, max_size=8_000_000)
    mark, number, part = shop.store.mark(), await shop.put(b"n\0k", b"1"), shop.store.part(None)
    assert part
    if (waits := part.write(b"12")) is not None:
        await waits
    shop.store._broken(shop.store._shelf, "a test")  # type: ignore[arg-type]
    assert await shop.get(b"n\0k") is None
    assert await shop.put(b"n\0k", b"1", mark) == 0
    new = await shop.put(b"n\0k", b"2")
    assert new > number
    assert not await shop.store.drop(b"n\0k", number)
    assert await shop.store.put(b"n\0p", entry(b"n\0p", 2), part, shop.store.mark()) == 0
    shop.store.release()


async def test_what_a_newer_version_has_open_is_left_to_it(tmp_path: Path) -> None:
    shop = Shop(tmp_path, max_size=8_000_000)
    await shop.put(b"n\0k", b"1")
    path = tmp_path / "pingap-cache/state"
    path.write_bytes(msgspec.json.encode(msgspec.json.decode(path.read_bytes()) | {"format": 99}))
    root = StoreRoot(str(tmp_path / "pingap-cache"), True, 8_000_000, 0)
    with pytest.raises(PermissionError, match="newer version"):
        root.opened()
    root.leave()
    assert await shop.body(b"n\0k") == b"1"
    shop.store.release()
    shop.store = shop.open()  # nobody has it any more
    assert await shop.get(b"n\0k") is None and "another version" in shop.logged[0][1]
    shop.store.release()


async def test_the_directory_of_another_cache_is_left_alone(tmp_path: Path) -> None:
    theirs = tmp_path / "ns/9/97" / ("0" * 32)
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"theirs")
    shop = Shop(tmp_path, max_size=8_000_000)
    assert [one[0] for one in shop.logged] == ["info"] and "'ns'" in shop.logged[0][1]
    await shop.put(b"n\0k", b"1")
    shop.store.release()
    assert theirs.read_bytes() == b"theirs"


async def test_a_link_in_the_place_of_the_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "pingap-cache").symlink_to(tmp_path / "elsewhere")
    shop = Shop(tmp_path, max_size=8_000_000)
    assert ("error" in [one[0] for one in shop.logged]) and await shop.put(b"n\0k", b"1") == 0
    assert not list((tmp_path / "elsewhere").iterdir())
    shop.store.release()


async def restarted(shop: Shop, monkeypatch: pytest.MonkeyPatch, **state: Any) -> None:
    """Opens it as after a restart of the machine."""
    path = shop.root / "pingap-cache/state"
    known = msgspec.json.decode(path.read_bytes())
    path.write_bytes(msgspec.json.encode(known | state))
    shop.store = shop.open()


async def test_after_a_restart_of_the_machine_only_what_was_closed_is_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for is_closed in (True, False):
        shop = Shop(tmp_path, max_size=8_000_000)
        await shop.put(b"n\0k", b"1")
        before = shop.store.now()
        shop.store.release()
        await restarted(shop, monkeypatch, boot="another", closed_wall=time.time() - 1000, **({} if is_closed else {"closed": 0.0}))
        assert await shop.body(b"n\0k") == (b"1" if is_closed else None)
        assert shop.logged == [] if is_closed else "the machine was restarted" in shop.logged[0][1]
        if is_closed:
            assert before + 999 < shop.store.now() < before + 1100
        shop.store.release()


async def test_the_wall_clock_may_jump(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Shop(tmp_path, max_size=8_000_000)
    before = shop.store.now()
    for jump in (-10_000_000.0, 10_000_000.0):
        monkeypatch.setattr(time, "time", lambda jump=jump: jump)
        assert before <= shop.store.now() < before + 60
        shop.store.release()
        shop.store = shop.open()
        assert before <= shop.store.now() < before + 60
    shop.store.release()


async def test_what_nobody_asks_for_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pingap.stages.plugins.cache.store.committer.TICK", 0.01)
    shop = Shop(tmp_path, max_size=8_000_000, inactive=1600.0)
    await shop.put(b"n\0idle", b"1")
    await shop.put(b"n\0asked", b"1")
    clock = time.clock_gettime(time.CLOCK_BOOTTIME)
    monkeypatch.setattr(time, "clock_gettime", lambda which: clock)
    for _ in range(6):
        clock += 400
        assert await shop.get(b"n\0asked")
    await until(lambda: shop.store.stats().entries == 1)
    assert shop.store.stats().counts.expired == 1 and await shop.get(b"n\0asked")
    shop.store.release()


async def test_memory_is_shared_by_restarts_of_a_stage_and_emptied_for_a_new_run(run_dir: Path) -> None:
    logged: list[tuple[str, str]] = []
    place = CachePlace("memory", "", 2_000_000)

    def open_it() -> CacheStore:
        return places.opened(place, str(run_dir), lambda level, text: logged.append((level, text)), GRACE)

    store = open_it()
    assert open_it() is store
    store.release()
    assert Path(store.stats().directory).is_relative_to("/dev/shm")
    await until(lambda: (str(Path(store.stats().directory).parent), str(run_dir.parent)) in memory_place.claimed())
    assert await store.put(b"n\0k", entry(b"n\0k", 1), b"1", store.mark())
    store.release()
    store = open_it()
    assert store.get(b"n\0k")
    store.release()
    assert logged == []
    os.utime(run_dir / "pid", (1, 1_000_000_000))
    store = open_it()
    assert store.get(b"n\0k") is None and "nothing is stored" in logged[-1][1]  # the run that made it began later
    store.release()
    os.utime(run_dir / "pid", None)
    store = open_it()
    assert store.get(b"n\0k") is None and "begins empty" in logged[-1][1]
    assert await store.put(b"n\0k", entry(b"n\0k", 1), b"1", store.mark())
    store.release()


@pytest.mark.slow
async def test_memory_that_is_not_there_lowers_the_bound(run_dir: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[tuple[str, str]] = []
    monkeypatch.setattr(memory_place, "SHARED_MEMORY", str(small_disk))
    store = places.opened(CachePlace("memory", "", 64_000_000), str(run_dir), lambda level, text: logged.append((level, text)), GRACE)
    assert 2_000_000 < store.stats().room < 3_000_000 and "no more room" in logged[0][1]
    for number in range(3000):
        await store.put(b"n\0%d" % number, entry(b"n\0%d" % number, 3000), os.urandom(3000), store.mark())
    assert not store.stats().counts.refused and store.get(b"n\0002999")
    told = len(logged)
    place = CachePlace("memory", "", 2_000_000)
    assert places._room(place, store.stats().directory, lambda level, text: logged.append((level, text))) == (2_000_000, True)
    assert len(logged) == told  # what is stored already is no less room for another replica
    store.release()
    memory_place.remove_memory(str(run_dir.parent))


def test_a_quarter_of_what_is_free_and_groups_count(tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable: 2000000 kB\n")
    (tmp_path / "self/cgroup").write_text("0::/a/b\n")
    group = tmp_path / "groups/a/b"
    group.mkdir(parents=True)
    budget = free_memory.budget(str(tmp_path), str(tmp_path / "groups"))
    assert budget == 512_000_000
    (group / "memory.max").write_text("max\n")
    (group.parent / "memory.max").write_text("100000000\n")
    (group.parent / "memory.current").write_text("20000000\n")
    assert free_memory.budget(str(tmp_path), str(tmp_path / "groups")) == 20_000_000
    (tmp_path / "meminfo").write_text("MemAvailable: 200000000 kB\n")
    (tmp_path / "self/cgroup").unlink()
    assert free_memory.budget(str(tmp_path), "") == free_memory.MOST
    assert free_memory.budget(str(tmp_path / "none"), "") == free_memory.UNKNOWN


@pytest.mark.interpreted
async def test_nobody_waits_for_a_process_that_holds_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pingap.stages.plugins.cache.store.cache_store.PATIENCE", 0.05)
    shop = Shop(tmp_path, max_size=8_000_000)
    await shop.put(b"n\0k", b"1")
    shelf = shop.store._shelf
    assert shelf is not None
    with ThreadPoolExecutor(1) as other:  # LMDB's lock is a thread's
        writing = await asyncio.get_running_loop().run_in_executor(other, shelf.index.writing)
        late = [shop.put(b"n\0%d" % number, b"2") for number in range(3)]
        part = shop.store.part(2)
        assert part
        if (waits := part.write(b"12")) is not None:
            await waits
        assert await asyncio.gather(*late, shop.store.put(b"n\0p", entry(b"n\0p", 2), part, shop.store.mark())) == [0] * 4
        assert shop.store.stats().counts.refused == {"late": 4}
        assert await shop.body(b"n\0k") == b"1"
        await asyncio.get_running_loop().run_in_executor(other, writing.abort)
    async with asyncio.timeout(5):
        while await shop.body(b"n\0p") != b"12":
            await asyncio.sleep(0.005)
    shop.store.release()


@pytest.mark.slow
async def test_puts_are_answered_while_a_long_purge_goes_on(tmp_path: Path) -> None:
    shop = Shop(tmp_path, max_size=80_000_000)
    await asyncio.gather(*(shop.put(b"n\0%d" % number, b"1", tags=(b"t",)) for number in range(5000)))
    for is_soft, left in ((True, 5000), (False, 0)):
        waits = shop.store.purge_tag(b"n", b"t", True) if is_soft else shop.store.purge_all(b"n", False)
        assert await shop.put(b"m\0k", b"1")
        assert not waits.done()
        assert await waits == 5000
        assert shop.store.stats().entries == left + 1
    shop.store.release()


@pytest.mark.slow
async def test_a_purge_whose_process_died_is_finished_by_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pingap.stages.plugins.cache.store.committer.TICK", 0.05)
    shop = Shop(tmp_path, max_size=80_000_000)
    await asyncio.gather(*(shop.put(b"n\0%d" % number, b"1") for number in range(1500)))
    shelf = shop.store._shelf
    assert shelf is not None

    def begin_and_die() -> None:
        change = StoreChange(shelf.index, shelf.files)
        order = PurgeOrder(asyncio.Future(loop=loop), Purge("all", b"n", b"", False))
        Purger(shelf.index, 99).begin(change, order, 0)
        shelf.index.tell_part_bytes(change.txn, 99, 7_000_000)
        change.commit()

    loop = asyncio.get_running_loop()
    mark = shop.store.mark()
    await loop.run_in_executor(None, begin_and_die)
    assert await shop.put(b"n\0k", b"1", mark) == 0
    assert await shop.put(b"n\0k", b"1")
    async with asyncio.timeout(10):
        while shop.store.stats().entries != 1:
            await asyncio.sleep(0.005)
    assert await shop.body(b"n\0k") == b"1" and shop.store.stats().taken < 5_000_000
    shop.store.release()


async def test_a_generation_that_others_ended_is_noticed_by_who_only_stores(tmp_path: Path) -> None:
    shop = Shop(tmp_path, max_size=8_000_000)
    await shop.store.limit(b"n", 3_000_000)
    await shop.put(b"n\0k", b"1")
    StoreShelf.end(str(generation(tmp_path)))
    (generation(tmp_path)).rename(tmp_path / "pingap-cache/gone-1")  # as who begins the next one does
    assert await shop.put(b"n\0k", b"2") and await shop.body(b"n\0k") == b"2"
    assert not shop.store.stats().counts.refused
    shelf = shop.store._shelf
    assert shelf is not None
    with shelf.index.reading() as txn:
        assert shelf.index.space(txn, b"n").most == 3_000_000  # the configuration has not changed
    shop.store.release()


async def test_a_segment_that_others_have_freed_takes_nothing(tmp_path: Path) -> None:
    shop = Shop(tmp_path, max_size=8_000_000)
    shelf = shop.store._shelf
    assert shelf is not None

    def grow() -> int:
        change = StoreChange(shelf.index, shelf.files)
        change.grow_segment(4711, 1000)
        change.commit()
        return change.totals.segment_bytes

    assert await asyncio.get_running_loop().run_in_executor(None, grow) == 0
    shop.store.release()


async def test_a_segment_is_not_free_to_all_before_its_records_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Shop(tmp_path, max_size=8_000_000)
    seen: list[SegmentRow] = []

    def watch(committer: Committer, queue: int, data: bytes, file_size: int) -> PlacedRecord | None:
        placed = append(committer, queue, data, file_size)
        seen.extend(committer.shelf.index.segments_now().values())
        return placed

    append = Committer._append
    monkeypatch.setattr(Committer, "_append", watch)
    assert all(await asyncio.gather(*(shop.put(b"n\0%d" % number, bytes(60_000)) for number in range(20))))
    assert seen and not [row for row in seen if row.is_sealed and not row.weight]
    shop.store.release()


async def test_a_burial_that_was_cut_short_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Shop(tmp_path, max_size=8_000_000)
    shelf = shop.store._shelf
    assert shelf is not None
    keeper = Housekeeper(shelf, lambda: 0.0, 2.0)
    stray = generation(tmp_path) / "b99-1"
    stray.write_bytes(b"x")
    purger = Purger(shelf.index, shelf.writer)

    def die() -> None:
        change = StoreChange(shelf.index, shelf.files)
        shelf.index.tell_part_bytes(change.txn, 99, 1)
        change.commit()

    def bury() -> list[int]:
        return keeper.bury(purger)

    def fail(*args: Any) -> None:
        raise OSError("killed")

    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, die)
    with monkeypatch.context() as patch:
        patch.setattr(Housekeeper, "_remove_strays", fail)
        with pytest.raises(OSError, match="killed"):
            await loop.run_in_executor(None, bury)
    assert await loop.run_in_executor(None, bury) == [99] and not stray.exists()
    assert await loop.run_in_executor(None, bury) == []
    shop.store.release()


class GrowsWhileItIsAsked:
    """An index to which others add in the very moment in which it is asked how large it is."""

    def __init__(self, environment: Any) -> None:
        self._environment = environment

    def info(self) -> Any:
        with self._environment.begin(write=True) as txn:
            for number in range(2000):
                txn.put(b"%d" % number, bytes(100))
        return self._environment.info()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._environment, name)


def test_an_index_that_grows_while_it_is_opened_is_not_taken_for_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really = lmdb.open
    monkeypatch.setattr(lmdb, "open", lambda *args, **more: GrowsWhileItIsAsked(really(*args, **more)))
    Index(str(tmp_path), 1 << 24, 0).close()


def test_all_processes_go_by_one_room(tmp_path: Path) -> None:
    """The second one is another instance's with the same directory: they would evict for ever what the other stores."""
    roots = [StoreRoot(str(tmp_path / name), True, room, 0) for name, room in (("a", 8_000_000), ("a", 64_000_000))]
    (tmp_path / "a").mkdir()
    first = roots[0].opened()
    assert first.table.room == 8_000_000
    roots[1]._agree(first, is_first=False)
    assert first.table.room == 64_000_000 and "64,000,000 bytes from now on" in roots[1].notes[0][1]
    first.close()
    roots[0].leave()


async def test_the_largest_of_several_places_counts(tmp_path: Path) -> None:
    shop = Shop(tmp_path, max_size=8_000_000, inactive=60.0)
    small, large = shop.place, shop.place._replace(max_size=20_000_000, inactive=600.0)
    for said, room, inactive in (
        ([small, large], 20_000_000, 600.0),
        ([small], 8_000_000, 60.0),
        ([small._replace(max_size=0), large._replace(inactive=0.0)], 0, 0.0),
    ):
        places.suit(shop.store, said, lambda level, text: None)
        assert shop.store.stats().room == room and shop.store._inactive == inactive
    shop.store.release()


async def test_an_index_that_has_grown_too_large_is_given_up(tmp_path: Path) -> None:
    """And not only where LMDB has no more addresses: other processes may have more."""
    shop = Shop(tmp_path, max_size=8_000_000)
    await shop.put(b"n\0k", b"1")
    shelf = shop.store._shelf
    assert shelf is not None
    shelf.index.most = 4096
    assert await shop.put(b"n\0k", b"1") == 0
    await until(lambda: shop.store._shelf not in (None, shelf))
    assert await shop.put(b"n\0k", b"1") and shop.store.stats().counts.resets == 1
    shop.store.release()


@pytest.mark.interpreted
async def test_a_disk_that_fails_costs_what_it_fails_at_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Shop(tmp_path, max_size=8_000_000)
    for number in range(30):
        assert await shop.put(b"n\0%d" % number, bytes(60_000))

    def fail(*args: Any) -> int:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", fail)
        for number in range(10):
            assert await shop.put(b"m\0%d" % number, b"2") == 0
        part = shop.store.part(None)
        assert part
        if (waits := part.write(b"3")) is not None:
            await waits
        assert "Input/output" in part.failure and await shop.store.put(b"m\0p", entry(b"m\0p", 1), part, shop.store.mark()) == 0
    stats = shop.store.stats()
    assert stats.counts.refused == {"error": 10, "incomplete": 1} and stats.counts.resets == 0
    assert stats.entries == 30 and stats.counts.evicted == 0  # nobody has to go for what is no want of room
    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", fail)
        patch.setattr(os, "preadv", fail)
        assert await shop.get(b"n\0" + b"1") is None
    assert await shop.put(b"m\0again", b"4") and await shop.body(b"m\0again") == b"4"
    assert await shop.body(b"n\0" + b"2") == bytes(60_000)
    shop.store.release()
