"""A store, as one process has it: reads at once, on the loop and without a message; orders what is to be changed.

It never raises because of a disk or an index: what cannot be read is not there, what cannot be stored is not stored, and why is counted.
"""

from __future__ import annotations

import asyncio
import errno
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

import lmdb
from msgspec.structs import replace

from pingap.stages.caching.entry import PURGED_SOFTLY, CacheEntry, FileSpot, StoredAnswer
from pingap.stages.caching.place import CachePlace
from pingap.stages.plugins.cache.store.closings import close_in_thread, closing_of
from pingap.stages.plugins.cache.store.committer import TICK, Committer
from pingap.stages.plugins.cache.store.files import RWF_NOWAIT
from pingap.stages.plugins.cache.store.growing_room import GrowingRoom
from pingap.stages.plugins.cache.store.housekeeper import INACTIVE_STEPS, Housekeeper
from pingap.stages.plugins.cache.store.opening import StoreOpening
from pingap.stages.plugins.cache.store.orders import DropOrder, LimitOrder, Order, PurgeOrder, PutOrder, ReplaceOrder, RoomOrder
from pingap.stages.plugins.cache.store.part_file import PartFile
from pingap.stages.plugins.cache.store.purge_log import Purge
from pingap.stages.plugins.cache.store.purges_seen import PurgesSeen
from pingap.stages.plugins.cache.store.records import INLINE, SOFT, Spot, stored_in, unpack_record, unpack_spot, version_of
from pingap.stages.plugins.cache.store.shared_table import AGES
from pingap.stages.plugins.cache.store.shelf import StoreShelf
from pingap.stages.plugins.cache.store.short_keys import short_key
from pingap.stages.plugins.cache.store.store_root import StoreRoot
from pingap.stages.plugins.cache.store.store_stats import StoreCounts, StoreStats

Log = Callable[[str, str], None]
"""Level and text, as Context.log."""

MOST_ORDERS: Final = 8192
MOST_WAITING: Final = 64 << 20
"""Bytes of bodies that wait to be written; more are not stored."""

PARTS_STEP: Final = 1 << 16
"""Bytes that part files grow by, at least, until others are told."""

PATIENCE: Final = 5.0
"""Seconds after which an order is answered with 0, whether or not it is followed later. Purges take as long as they take."""

GRACE: Final = 0.1
"""Seconds that the loop waits at most for a store to be opened, or closed. It takes some milliseconds, unless another process that was
stopped, or a disk, is in the way: then it goes on without."""

AGAIN: Final = 5.0
"""Seconds until a store that could not be opened is tried again."""


class CacheStore:
    """Made by places.opened. All of it is used on the loop that it was opened on."""

    def __init__(self, root: StoreRoot, inactive: float, log: Log, loop: asyncio.AbstractEventLoop, grace: float = GRACE) -> None:
        self._root = root
        self._log = log
        self._loop = loop
        self.place: CachePlace | None = None
        """What its room was found for."""
        self.users = 1
        """How often it was opened in this process."""
        self.counts = StoreCounts()
        self._inactive = inactive
        self._grace = grace
        self._opening: StoreOpening | None = None
        self._shelf: StoreShelf | None = None
        self._committer: Committer | None = None
        self._seen: PurgesSeen | None = None
        self._is_waiting = root.is_on_disk
        """Reading and writing may wait for a disk."""
        self._age = 0
        self._aged = 0.0
        self._orders: dict[Order, float] = {}
        """What was ordered and is not settled, the oldest first, and when (monotonic)."""
        self._limits: dict[bytes, int] = {}
        """Those that were told, by namespace."""
        self._watch: asyncio.TimerHandle | None = None
        self._waiting = 0
        self._growing = GrowingRoom()
        self._others = 0
        """Bytes of bodies that grow in other processes, as far as they had told at the last look."""
        self._unseen = 0
        """Bytes that were written here since."""
        self._told_parts = 0
        self._is_closed = False
        self._tried = 0.0
        self._open(grace)

    # -- time ---------------------------------------------------------------------------

    def now(self) -> float:
        """Seconds of the store's clock."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) + self._root.offset

    def mark(self) -> int:
        """For `put`: taken when the answer is asked for. What is purged after it keeps it from being stored."""
        shelf = self._shelf
        if shelf is not None:
            with suppress(lmdb.Error):
                return shelf.index.newest()
        return 0

    @property
    def name(self) -> str:
        """The same in all processes."""
        return self._root.path

    def purged_at(self, key: bytes) -> int:
        """The newest purge that may concern a key: what was asked for before it is not to be waited for."""
        seen = self._seen
        if seen is not None:
            with suppress(lmdb.Error, ValueError):
                return seen.at(key)
        return 0

    # -- reading ------------------------------------------------------------------------

    def get(self, key: bytes) -> StoredAnswer | Awaitable[StoredAnswer | None] | None:
        """What is stored under a key, of a URL or a variant. Awaitable where a disk has to be waited for."""
        shelf = self._shelf
        if shelf is None or shelf.is_over():
            self._missed_shelf()
            return None
        try:
            row = shelf.index.find(short_key(key))
            if row is None:
                self.counts.misses += 1
                return None
            file = 0
            if len(row) == INLINE.size:
                number, slot, segment, offset, size, flags = INLINE.unpack(row)
            else:
                number, slot, segment, offset, size, flags, file, _ = unpack_spot(row)
            if self._is_waiting:
                now = self._read_now(shelf, segment, offset, size)
                if now is None:
                    return self._get_in_thread(shelf, key, unpack_spot(row))
                data = now
            else:
                data = shelf.files.read(segment, offset, size)
        except (OSError, lmdb.Error, ValueError) as error:
            self._unreadable(shelf, key, error)
            return None
        return self._stored(shelf, key, data, number, slot, flags, file)

    def _stored(self, shelf: StoreShelf, key: bytes, data: bytes, number: int, slot: int, flags: int, file: int) -> StoredAnswer | None:
        stored = stored_in(data, key)
        if stored is None:
            self._unreadable(shelf, key, None)
            return None
        entry, body = stored
        now = self.now()
        if now >= self._aged:
            self._grow_older(now)
        shelf.table.touch(slot, self._age)
        self.counts.hits += 1
        if flags & SOFT:
            entry = replace(entry, flags=entry.flags | PURGED_SOFTLY)
        version = number << 2 | (flags & SOFT) >> 1
        if file:
            return StoredAnswer(entry, FileSpot(shelf.files.body_path(file)), version)
        return StoredAnswer(entry, body, version)

    @staticmethod
    def _read_now(shelf: StoreShelf, segment: int, offset: int, size: int) -> bytes | None:
        """None: it has to be waited for, or this file system cannot tell. Raises OSError."""
        if not RWF_NOWAIT:
            return None
        try:
            return shelf.files.read_now(segment, offset, size)
        except OSError as error:
            if error.errno in (errno.EOPNOTSUPP, errno.EINVAL):
                return None
            raise

    async def _get_in_thread(self, shelf: StoreShelf, key: bytes, spot: Spot) -> StoredAnswer | None:
        try:
            data = await self._loop.run_in_executor(None, shelf.files.read_fresh, spot.segment, spot.offset, spot.size)
        except OSError as error:
            self._unreadable(shelf, key, error)
            return None
        return self._stored(shelf, key, data, *spot[:2], spot.flags, spot.file) if shelf is self._shelf else None

    def _unreadable(self, shelf: StoreShelf, key: bytes, error: Exception | None) -> None:
        """It was freed between the index and the file, or the disk fails."""
        self.counts.misses += 1
        if isinstance(error, lmdb.Error | ValueError) and not isinstance(error, lmdb.ReadersFullError):
            self._broken(shelf, f"{type(error).__name__}: {error}")
            return
        with suppress(lmdb.Error, ValueError):
            row = shelf.index.find(short_key(key))
            if row is not None:
                spot = unpack_spot(row)
                shelf.files.close_reading(spot.segment)
                self._order(DropOrder(self._future(), key, version_of(spot)))

    def _missed_shelf(self) -> None:
        self.counts.misses += 1
        if self._shelf is not None:
            self._renew(self._shelf)
        elif self._opening is None and time.monotonic() >= self._tried + AGAIN:
            self._open(0.0)

    def entries(self, prefix: bytes, limit: int) -> list[tuple[bytes, CacheEntry, int]]:
        """The first entries whose keys begin so, namespace included: key, entry, bytes with its file. For people: it reads each."""
        shelf = self._shelf
        found: list[tuple[bytes, CacheEntry, int]] = []
        if shelf is None:
            return found
        with suppress(lmdb.Error, ValueError):
            for _, row in shelf.index.range(prefix, limit):
                spot = unpack_spot(row)
                with suppress(OSError):
                    record = unpack_record(shelf.files.read(spot.segment, spot.offset, spot.size))
                    if record is not None and record.key.startswith(prefix):
                        entry = record.entry
                        if spot.flags & SOFT:
                            entry = replace(entry, flags=entry.flags | PURGED_SOFTLY)
                        found.append((record.key, entry, spot.weight))
        return found

    # -- changing -----------------------------------------------------------------------

    def put(self, key: bytes, entry: CacheEntry, body: bytes | PartFile, mark: int) -> asyncio.Future[int]:
        """Stores an answer. The future has its number; 0 where it is not kept (counts.refused says why), or not within PATIENCE.
        It is never an exception.

        A part file belongs to the store from now on, and is gone where the answer is 0; who has opened it can read on.
        """
        if isinstance(body, PartFile):
            body.take()
        return self._order(PutOrder(self._future(), key, entry, body, mark))

    def replace(self, key: bytes, number: int, entry: CacheEntry) -> asyncio.Future[int]:
        """Another entry for the same body (after a 304), if it is still version `number` that is there: its new number, else 0."""
        return self._order(ReplaceOrder(self._future(), key, entry, number))

    def drop(self, key: bytes, number: int) -> asyncio.Future[int]:
        """Removes version `number` of an entry: 1, or 0 if it is not there any more."""
        return self._order(DropOrder(self._future(), key, number))

    def part(self, expected: int | None) -> PartFile | None:
        """A file for a body that comes; None: there is no room. expected: its bytes, if they are known."""
        shelf, committer = self._shelf, self._committer
        if shelf is None or committer is None or shelf.is_over():
            return None
        room = self._room()
        most = room // 2 if room else 1 << 62
        reserved = expected or 0
        self._unseen = PARTS_STEP  # others may have taken it all since
        if not self._may_grow(0, reserved):
            return None
        file = committer.next_body()
        try:
            return PartFile(shelf.files.body_path(file), file, most, self._is_waiting, reserved, self._may_grow, self._freed)
        except OSError:
            self._freed(reserved, False)
            self._refuse("disk_full")
            return None

    def purge_url(self, key: bytes, soft: bool) -> asyncio.Future[int]:
        """A URL with all that its key has behind it: parts, and variants. The future has the count of entries, or NOT_PURGED."""
        return self._purge("url", b"", key, soft)

    def purge_prefix(self, key_prefix: bytes, soft: bool) -> asyncio.Future[int]:
        """All keys that begin so; namespace included."""
        return self._purge("prefix", b"", key_prefix, soft)

    def purge_tag(self, namespace: bytes, tag: bytes, soft: bool) -> asyncio.Future[int]:
        return self._purge("tag", namespace, tag, soft)

    def purge_all(self, namespace: bytes, soft: bool) -> asyncio.Future[int]:
        """All of a namespace."""
        return self._purge("all", namespace, b"", soft)

    def limit(self, namespace: bytes, most: int) -> asyncio.Future[int]:
        """What a namespace may take from now on, in bytes; 0: as much as the store has. It stays so where the store begins anew."""
        self._limits[namespace] = most
        return self._order(LimitOrder(self._future(), namespace, most))

    def stats(self, namespaces: tuple[bytes, ...] = ()) -> StoreStats:
        shelf = self._shelf
        if self._committer is not None:
            self.counts.evicted = self._committer.evictor.evicted
        stats = StoreStats(self._root.path, "disk" if self._root.is_on_disk else "memory", self._room(), 0, 0, 0, 0, 0, self.counts)
        if shelf is not None:
            with suppress(lmdb.Error, OSError):
                shelf.describe(stats, namespaces)
            stats.taken += self._growing.taken()
        return stats

    def release(self, is_unwanted: bool = False) -> None:
        """This user of it is through. After the last one everything ordered is done, and it is closed (closings.py).
        is_unwanted: as the configuration does not name it any more."""
        self.users -= 1
        if not self.users:
            self.close(is_unwanted)

    def is_usable(self, loop: asyncio.AbstractEventLoop) -> bool:
        """It is open, and on this loop."""
        return not self._is_closed and self._loop is loop

    def keep_for(self, inactive: float) -> None:
        """Seconds after which what nobody asked for goes; 0: never."""
        if inactive != self._inactive:
            self._inactive = inactive
            self._aged = 0.0

    def resize(self, room: int) -> None:
        """Bytes that it may take from now on, in all processes."""
        self._root.room = room
        if self._shelf is not None:
            self._shelf.table.set_room(room)

    def _room(self) -> int:
        """What counts for all processes."""
        if self._shelf is not None:
            self._root.room = self._shelf.table.room
        return self._root.room

    def close(self, is_unwanted: bool = False) -> None:
        self._is_closed = True
        if self._watch is not None and not self._orders:
            self._watch.cancel()
        opening, shelf, committer = self._opening, self._shelf, self._committer
        self._opening = self._shelf = self._committer = self._seen = None
        if committer is not None:
            committer.stop()
        closing = close_in_thread(self._root.path, partial(self._end, opening, committer, shelf, is_unwanted))
        closing.join(self._grace)

    def _end(self, opening: StoreOpening | None, committer: Committer | None, shelf: StoreShelf | None, is_unwanted: bool) -> None:
        """In a thread of its own."""
        if opening is not None:
            opening.thread.join()
            shelf = opening.shelf
        if committer is not None:
            committer.thread.join()
        if shelf is not None:
            shelf.close()
        self._root.leave(is_unwanted)

    # -- within -------------------------------------------------------------------------

    def _purge(self, kind: Any, namespace: bytes, what: bytes, soft: bool) -> asyncio.Future[int]:
        return self._order(PurgeOrder(self._future(), Purge(kind, namespace, what, soft)))

    def _future(self) -> asyncio.Future[int]:
        return self._loop.create_future()

    def _order(self, order: Order) -> asyncio.Future[int]:
        if self._shelf is not None and self._shelf.is_over():
            self._renew(self._shelf)  # who asks for nothing would not notice
        committer = self._committer
        size = len(order.body) if isinstance(order, PutOrder) and isinstance(order.body, bytes) else 0
        is_put = isinstance(order, PutOrder | ReplaceOrder)
        self._waiting += size
        if committer is None or (is_put and (len(self._orders) >= MOST_ORDERS or self._waiting > MOST_WAITING)):
            self._settle([(order, 0, "closed" if committer is None else "busy")])
            return order.future
        self._orders[order] = time.monotonic()
        if self._watch is None:
            self._watch = self._loop.call_later(PATIENCE, self._look)
        committer.order(order)
        return order.future

    def _look(self) -> None:
        """Nobody waits longer for an answer: the thread may wait for a process that was stopped while it writes, or for a disk."""
        self._watch = None
        until = time.monotonic() - PATIENCE
        for order, begun in self._orders.items():
            if begun > until:
                self._watch = self._loop.call_later(begun - until, self._look)
                break
            if not isinstance(order, PurgeOrder) and not order.future.done():
                order.future.set_result(0)
                self._refuse("late")

    def _settle(self, results: list[tuple[Order, int, str]]) -> None:
        for order, result, reason in results:
            self._orders.pop(order, None)
            if isinstance(order, PutOrder):
                if isinstance(order.body, PartFile):
                    order.body.settle(result != 0)
                else:
                    self._waiting -= len(order.body)
                if result:
                    self.counts.puts += 1
            elif isinstance(order, PurgeOrder):
                self.counts.purged += result
            if reason:
                self._refuse(reason)
            if not order.future.done():
                order.future.set_result(result)

    def _refuse(self, reason: str) -> None:
        self.counts.refused[reason] = self.counts.refused.get(reason, 0) + 1

    def _may_grow(self, count: int, more: int) -> bool:
        """A body is about to grow by `count` bytes, of which `more` have to be reserved, and are then. All that grow, in all
        processes, have half of the room: they cannot be evicted."""
        room, shelf = self._room(), self._shelf
        if room and shelf is not None:
            self._unseen += count
            wanted = self._growing.taken() + more
            if self._unseen >= PARTS_STEP or wanted + self._others > room // 2:
                with suppress(lmdb.Error):
                    self._others = shelf.growing_elsewhere()
                    self._unseen = 0
            if wanted + self._others > room // 2:
                return False
        self._growing.reserve(more)
        self._tell_growing()
        return True

    def _freed(self, count: int, is_kept: bool) -> None:
        self._growing.free(count, is_kept)
        self._tell_growing()

    def _tell_growing(self) -> None:
        parts = self._growing.taken()
        if abs(parts - self._told_parts) > max(PARTS_STEP, self._room() // 64):
            self._told_parts = parts
            self._order(RoomOrder(self._future()))

    def _grow_older(self, now: float) -> None:
        """The byte in which touches are dated goes on with time: sixteen steps are `inactive`."""
        step = self._inactive / INACTIVE_STEPS if self._inactive else 3600.0
        self._age = int(now / step) % AGES
        self._aged = (int(now / step) + 1) * step

    def _age_now(self) -> int:
        step = self._inactive / INACTIVE_STEPS if self._inactive else 3600.0
        return int(self.now() / step) % AGES

    # -- generations --------------------------------------------------------------------

    def _open(self, longest: float) -> None:
        """Without waiting for it longer than so many seconds."""
        opening = self._opening = StoreOpening(self._root, closing_of(self._root.path), partial(self._on_loop, self._opened))
        opening.thread.start()
        self._loop.call_later(AGAIN, self._still_opening, opening)
        if longest:
            opening.thread.join(longest)
        if opening.is_done:
            self._opened(opening)

    def _still_opening(self, opening: StoreOpening) -> None:
        if self._opening is opening:
            self._log("warn", f"the cache {self._root.path} is not open yet, another process has it locked: nothing is stored until then")

    def _opened(self, opening: StoreOpening) -> None:
        if self._opening is not opening:
            return
        self._opening = None
        self._tried = time.monotonic()
        notes, self._root.notes = self._root.notes, []
        for level, text in notes:
            self._log(level, text)
        shelf = opening.shelf
        if shelf is None:
            self._log("error", f"the cache {self._root.path} cannot be opened, nothing is stored: {opening.problem}")
            return
        room = self._root.room
        keeper = Housekeeper(shelf, lambda: self._inactive, TICK)
        self._committer = Committer(
            shelf,
            room,
            self._root.reserve,
            self.now,
            self._age_now,
            self._growing,
            partial(self._on_loop, self._settle),
            partial(self._on_loop, self._broken, shelf),
            partial(self._tick, keeper),
            keeper.bury,
        )
        self._shelf, self._seen = shelf, PurgesSeen(shelf.index)
        self._committer.thread.start()
        for namespace, most in self._limits.items():
            self._order(LimitOrder(self._future(), namespace, most))

    def _renew(self, shelf: StoreShelf) -> None:
        """Its generation is over: opens the next one."""
        if self._shelf is not shelf:
            return
        committer = self._committer
        self._shelf = self._committer = self._seen = None
        if committer is not None:
            committer.stop()
            threading.Thread(target=self._close_old, args=(committer, shelf), name="cache closing", daemon=True).start()
        if not self._is_closed:
            self._open(self._grace)

    @staticmethod
    def _close_old(committer: Committer, shelf: StoreShelf) -> None:
        committer.thread.join()
        shelf.close()

    def _broken(self, shelf: StoreShelf, problem: str) -> None:
        if self._shelf is shelf:
            if not shelf.is_over():
                self.counts.resets += 1
                self._log("error", f"the cache {self._root.path} begins anew, empty: its index is no good any more ({problem})")
                shelf.table.end()
            self._renew(shelf)

    def _on_loop(self, call: Callable[..., None], *args: Any) -> None:
        """From another thread; nothing if the loop is no more."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call, *args)

    def _tick(self, keeper: Housekeeper, committer: Committer) -> None:
        """In the committer's thread. Raises lmdb.Error, OSError."""
        committer.tell_parts()
        keeper.look(committer.purger, self._age_now())
        self.counts.expired = keeper.expired
        committer.make_room(committer.shelf_share)
        self._on_loop(committer.shelf.files.close_freed)
        if committer.shelf.is_over():
            self._on_loop(self._renew, committer.shelf)
