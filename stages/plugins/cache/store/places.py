"""Opens stores: one for each place in a process, counted."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

from pingap.stages.caching.place import CachePlace
from pingap.stages.keepsake import run_of
from pingap.stages.plugins.cache.store.cache_store import GRACE, CacheStore
from pingap.stages.plugins.cache.store.free_memory import budget
from pingap.stages.plugins.cache.store.memory_place import claim, made, memory_place
from pingap.stages.plugins.cache.store.store_root import StoreRoot

OURS: Final = "pingap-cache"
"""Directory in that of a store on disk: whatever else is there is left alone."""

MOST_OF_FILE_SYSTEM: Final = 0.9
"""Of what is free where a store in memory is."""

_stores: dict[str, CacheStore] = {}


def opened(place: CachePlace, run_dir: str, log: Callable[[str, str], None], grace: float = GRACE) -> CacheStore:
    """To be called on the loop, and ended by `release`. run_dir: of this run of the instance (Context.run_dir). log: level and text.
    grace: seconds that are waited for it here, and when it is closed.

    Never raises, and is there at once: as long as it is not open it stores nothing. One that cannot be opened says so in the log, and
    tries again.
    """
    path = _path(place, run_dir)
    store = _stores.get(path)
    loop = asyncio.get_running_loop()
    if store is not None and store.is_usable(loop):
        store.users += 1
        return store
    run = 0 if place.kind == "disk" else run_of(run_dir)
    room, has_own_room = _room(place, path, log)
    _tell_of_others(place, log)
    root = StoreRoot(path, place.kind == "disk", room, run, has_own_room, make=partial(_make, place, path, run_dir))
    store = _stores[path] = CacheStore(root, place.inactive, log, loop, grace)
    store.place = place
    return store


def suit(store: CacheStore, places: Sequence[CachePlace], log: Callable[[str, str], None]) -> None:
    """Its configuration has changed: of all that is said of it now the largest bound counts, and the longest time.

    places: one at least, all of this store."""
    store.keep_for(0.0 if any(not one.inactive for one in places) else max(one.inactive for one in places))
    place = max(places, key=_largeness)
    if store.place is None or _largeness(place) != _largeness(store.place):
        store.place = place
        store.resize(_room(place, store.name, log)[0])


def _largeness(place: CachePlace) -> tuple[bool, int, int]:
    if place.kind == "disk":
        return not place.max_size, place.max_size, 0
    return False, place.max_size, 0 if place.max_size else place.percent or 100


def _path(place: CachePlace, run_dir: str) -> str:
    if place.kind == "disk":
        return os.path.join(place.path, OURS)
    return os.path.join(memory_place(os.path.dirname(os.path.abspath(run_dir))), place.path or "default")


def _make(place: CachePlace, path: str, run_dir: str) -> None:
    """Raises OSError."""
    if place.kind == "memory":
        made(os.path.dirname(path))
        claim(os.path.dirname(path), os.path.dirname(os.path.abspath(run_dir)))
    else:
        os.makedirs(place.path, mode=0o700, exist_ok=True)
    made(path)
    for name in os.listdir(path):  # a link there could make us write elsewhere
        if stat.S_ISLNK(os.lstat(os.path.join(path, name)).st_mode):
            raise PermissionError(f"{os.path.join(path, name)} is a link: remove it")


def _tell_of_others(place: CachePlace, log: Callable[[str, str], None]) -> None:
    if place.kind == "disk":
        with suppress(OSError):
            if others := [name for name in os.listdir(place.path) if name != OURS]:
                log("info", f"the cache in {place.path} leaves alone what else is there: {len(others)} names, {others[0]!r} say")


def _room(place: CachePlace, path: str, log: Callable[[str, str], None]) -> tuple[int, bool]:
    """Bytes, and whether they were asked for."""
    if place.kind == "disk":
        return place.max_size, True
    room = place.size_within(budget())
    try:
        found = os.statvfs(os.path.dirname(os.path.dirname(path)))
    except OSError:
        return room, place.max_size > 0
    free = int(found.f_bavail * found.f_frsize * MOST_OF_FILE_SYSTEM)
    if room > free:
        free += _size_of(path)  # what a replica of this stage has stored already
    if room <= free:
        return room, place.max_size > 0
    log("warn", f"the cache in memory may have {free:,} bytes and not {room:,}: there is no more room in {path}")
    return free, False


def _size_of(path: str) -> int:
    """Bytes that all files below have."""
    size = 0
    for top, _, names in os.walk(path):
        for name in names:
            with suppress(OSError):
                size += os.lstat(os.path.join(top, name)).st_blocks * 512
    return size
