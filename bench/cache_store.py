"""What the store of the cache costs: memory for each byte stored, opening, get, put and eviction, in microseconds.

    python -m bench.cache_store [OBJECTS] [BYTES]

In memory, in a run dir of its own. Heads are those of a usual answer; bodies are random.
"""

from __future__ import annotations

import asyncio
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter, thread_time

from pingap.stages.caching.entry import CacheEntry, StoredAnswer
from pingap.stages.caching.place import CachePlace
from pingap.stages.plugins.cache.store.cache_store import CacheStore
from pingap.stages.plugins.cache.store.memory_place import memory_place, remove_memory
from pingap.stages.plugins.cache.store.places import opened

HEADERS = (
    b"content-type: text/html; charset=utf-8\r\ncache-control: public, max-age=3600\r\ndate: Mon, 30 Nov 2026 01:00:00 GMT\r\n"
    b"server: nginx\r\nlast-modified: Sun, 29 Nov 2026 01:00:00 GMT\r\nvary: accept-encoding\r\n"
)
BATCH = 512


def key_of(number: int) -> bytes:
    """In no order, as URLs come."""
    return b"site\0https://www.example.com/articles/2026/11/%08x.html" % (number * 2654435761 % (1 << 32))


def entry_of(key: bytes, size: int) -> CacheEntry:
    etag, modified = b'"5f3c-60a1b2c3d4e5f"', b"Sun, 29 Nov 2026 01:00:00 GMT"
    return CacheEntry(key, 200, HEADERS, size, 1.0, 2.0, 3602.0, 60.0, 60.0, 0, etag, modified, 1.8e9, 3600.0)


def resident() -> int:
    """Bytes of this process that are its own: what it has mapped of the store's files is counted with those."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


def taken(place: str) -> int:
    """Bytes of memory that its files have."""
    return sum(os.stat(os.path.join(top, name)).st_blocks * 512 for top, _, names in os.walk(place) for name in names)


async def fill(store: CacheStore, first: int, last: int, size: int) -> float:
    """Microseconds of a put, of this process's CPU."""
    bodies = [os.urandom(size) for _ in range(BATCH)]
    before = cpu()
    for start in range(first, last, BATCH):
        mark = store.mark()
        await asyncio.gather(
            *(
                store.put(key, entry_of(key, size), bodies[number - start], mark)
                for number in range(start, min(start + BATCH, last))
                for key in (key_of(number),)
            )
        )
    return (cpu() - before) / (last - first) * 1e6


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def get_cost(store: CacheStore, count: int) -> float:
    """Microseconds of this thread's CPU for a get of one of `count` objects, at random."""
    dice = random.Random(1)
    keys = [key_of(dice.randrange(count)) for _ in range(20_000)]
    rounds = []
    for _ in range(5):
        begun = thread_time()
        for key in keys:
            if type(store.get(key)) is not StoredAnswer:
                raise AssertionError(key)
        rounds.append((thread_time() - begun) / len(keys) * 1e6)
    return median(rounds)


async def main(count: int, size: int) -> None:
    run_dir = tempfile.mkdtemp(prefix="bench-cache-")
    os.mkdir(os.path.join(run_dir, "1"))
    Path(run_dir, "1", "pid").write_text("1")
    place = CachePlace("memory", "", int(count * (size + 1500)))
    where = memory_place(run_dir)

    def log(level: str, text: str) -> None:
        print(level, text)

    def open_it() -> CacheStore:
        return opened(place, os.path.join(run_dir, "1"), log)

    try:
        begun = resident()
        store = open_it()
        done = 0
        for step in (1_000, 100_000, 1_000_000):
            if step <= count:
                put = await fill(store, done, step, size)
                done = step
                print(f"{step:9,} objects: get {get_cost(store, step):5.2f} µs of CPU   put {put:5.1f} µs of CPU")
        if done < count:
            await fill(store, done, count, size)
        stats = store.stats()
        assert stats.entries == count, stats
        files, process = taken(where), resident() - begun
        stored = stats.segment_bytes + stats.file_bytes
        print(f"memory: {files:,} in files ({stats.index_bytes:,} of them the index and its table), {process:,} of the process")
        print(f"        {(files + process) / stored:.3f} of what is stored, {(files + process) / (count * size):.3f} of the bodies alone")
        store.release()
        before = perf_counter()
        store = open_it()
        assert store.get(key_of(count // 2))
        print(f"open, and the first get: {perf_counter() - before:.3f} s")
        store.release()
        subprocess.run([sys.executable, "-m", "bench.cache_store", "--child", run_dir, str(count), str(size)], check=True)
        store = open_it()
        store.resize(stats.taken + stats.taken // 30)
        more = count // 10
        await fill(store, count, count + more, size)
        evicted = store.stats().counts.evicted
        put = await fill(store, count + more, count + 2 * more, size)
        now = store.stats()
        each = (now.counts.evicted - evicted) / more
        print(f"full: put {put:.1f} µs of CPU with {each:.2f} evictions each; {now.taken:,} of {now.room:,} bytes")
        store.release()
    finally:
        remove_memory(run_dir)
        shutil.rmtree(run_dir)


async def child(run_dir: str, count: int, size: int) -> None:
    """Another replica opens it."""
    before = perf_counter()
    store = opened(CachePlace("memory", "", int(count * (size + 1500))), os.path.join(run_dir, "1"), print)
    assert store.get(key_of(1))
    print(f"open by another process: {perf_counter() - before:.3f} s")
    store.release()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        asyncio.run(child(sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
    else:
        asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000, int(sys.argv[2]) if len(sys.argv) > 2 else 2048))
