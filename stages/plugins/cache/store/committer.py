"""The thread that changes a store for this process: it takes what was ordered, and does as much as there is in one transaction."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from queue import Empty, SimpleQueue
from typing import Final

import lmdb

from pingap.stages.plugins.cache.store.change import PlacedRecord, StoreChange
from pingap.stages.plugins.cache.store.eviction import MAIN, SMALL
from pingap.stages.plugins.cache.store.evictor import Evictor
from pingap.stages.plugins.cache.store.growing_room import GrowingRoom
from pingap.stages.plugins.cache.store.orders import DropOrder, LimitOrder, Order, PurgeOrder, PutOrder, ReplaceOrder, RoomOrder
from pingap.stages.plugins.cache.store.part_file import PartFile
from pingap.stages.plugins.cache.store.purger import Purger, RunningPurge
from pingap.stages.plugins.cache.store.quotas import keep_within, thin_variants
from pingap.stages.plugins.cache.store.records import Spot, pack_record, unpack_record, unpack_spot, version_of
from pingap.stages.plugins.cache.store.segment_writer import SegmentWriter, segment_size
from pingap.stages.plugins.cache.store.shelf import StoreShelf
from pingap.stages.plugins.cache.store.short_keys import namespace_of, short_key

BATCH: Final = 128
"""Orders of one transaction."""

BATCH_BYTES: Final = 4 << 20

TICK: Final = 2.0
"""Seconds between looks at what time brings."""

TRIES: Final = 128
"""Segments that are emptied for one batch, and times that one waits for others who do."""

HELPED: Final = 0.002
"""Seconds of such a wait."""

_BROKEN: Final = (lmdb.CorruptedError, lmdb.PanicError, lmdb.PageNotFoundError, lmdb.BadTxnError, lmdb.MapFullError)
"""After these an index is not used again."""


class _NoRoomLeft(Exception):
    """What a batch has written is more than there is room for, now that others have told what they wrote."""


class NotStored(Exception):
    """Why an order was not followed: a word of StoreStats.refused."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Committer:
    """Of one generation. Everything but `order` and `stop` is done in its thread."""

    def __init__(
        self,
        shelf: StoreShelf,
        room: int,
        reserve: int,
        now: Callable[[], float],
        age: Callable[[], int],
        growing: GrowingRoom,
        settle: Callable[[list[tuple[Order, int, str]]], None],
        broken: Callable[[str], None],
        tick: Callable[[Committer], None],
        bury: Callable[[Purger], list[int]],
    ) -> None:
        """room: bytes of the whole store, 0 for as many as there are. reserve: bytes of those that are kept free. now: of the clock.
        age: of SharedTable. growing: what part files take here.
        settle: is told results (0: not done, and why). broken: the generation is no good any more. tick: what is done from time to time.
        bury: finds the space of writers that have died.
        """
        self.shelf = shelf
        self._room = room
        self._reserve = reserve
        self._now = now
        self.age = age
        self._growing = growing
        self._settle = settle
        self._broken = broken
        self._tick = tick
        self._bury = bury
        self._orders: SimpleQueue[Order | None] = SimpleQueue()
        self._full = segment_size(room)
        self._writers = {SMALL: SegmentWriter(shelf.files), MAIN: SegmentWriter(shelf.files)}
        self._told_parts = 0
        self._trouble = ""
        """Why a record could not be written last: a word of StoreStats.refused."""
        self._most_bytes = min(BATCH_BYTES, room // 64) if room else BATCH_BYTES
        """Of the bodies of one batch, but for one that is larger: other processes do not know of them yet."""
        self._bodies = count(1)
        self._sealing: dict[int, int] = {}
        """Segments that are full, and their bytes. The transaction that tells of what is in them says so: others would find nothing
        that lives there before, and free them."""
        self.shelf_share = self._full
        """Bytes that are kept free ahead of those who come."""
        self.purger = Purger(shelf.index, shelf.writer)
        self.evictor = Evictor(shelf, room, self._append, self._seal)
        self.inline = self._full // 4
        """Bytes of a body that goes with its head; a larger one gets a file."""
        self._is_stopping = False
        self.thread = threading.Thread(target=self._run, name="cache committer", daemon=True)

    def order(self, order: Order) -> None:
        self._orders.put(order)

    def stop(self) -> None:
        """What was ordered before is done; then the thread ends."""
        self._orders.put(None)

    def next_body(self) -> int:
        """What the next file of a body is called (Spot.file). On the loop and in the thread."""
        return self.shelf.writer << 32 | next(self._bodies)

    def resize(self, room: int, reserve: int) -> None:
        """Bytes of the whole store from now on."""
        self._room, self._reserve = room, reserve
        self.shelf.limit_index(room)
        self.evictor.room = room

    # -- the thread ---------------------------------------------------------------------

    def _follow(self) -> None:
        """What another process, or another configuration, says of the room."""
        room = self.shelf.table.room
        if room != self._room:
            self.resize(room, room // 32)

    def _run(self) -> None:
        due = 0.0
        try:
            while not self._is_stopping or self.purger.running:
                batch = self._next()
                try:
                    self._follow()
                    if batch:
                        self._work_twice(batch)
                    elif self.purger.running:
                        self._purge_on()
                    if time.monotonic() >= due and not self._is_stopping:
                        due = time.monotonic() + TICK
                        self._tick(self)
                except Exception as error:  # a row that is none, say: whatever it is, those who wait are told
                    self._fail(batch, error)
                    due = time.monotonic() + TICK
                    if not batch:
                        for running in self.purger.running:
                            self._end(running, "error")
                        self.purger.running.clear()
        finally:
            with suppress(lmdb.Error, OSError):
                self._seal()
                self._leave()
            self._drain()

    def _leave(self) -> None:
        change = StoreChange(self.shelf.index, self.shelf.files)
        self.shelf.index.forget_writer(change.txn, self.shelf.writer)
        change.commit()

    def _next(self) -> list[Order]:
        batch: list[Order] = []
        size = 0
        with suppress(Empty):
            while len(batch) < BATCH and size < self._most_bytes:
                is_idle = not batch and not self.purger.running and not self._is_stopping
                order = self._orders.get(timeout=TICK) if is_idle else self._orders.get_nowait()
                if order is None:
                    self._is_stopping = True
                    break
                if isinstance(order, PutOrder) and isinstance(order.body, bytes):
                    size += len(order.body)
                batch.append(order)
        return batch

    def _drain(self) -> None:
        left = []
        with suppress(Empty):
            while True:
                order = self._orders.get_nowait()
                if order is not None:
                    left.append(order)
        self._settle([(order, 0, "closed") for order in left])

    def _fail(self, batch: list[Order], error: Exception) -> None:
        reason = "closed" if self.shelf.is_over() else word_of(error)
        self._settle([(order, 0, reason) for order in batch if not order.is_settled])
        for order in batch:
            order.is_settled = True
        if reason == "disk_full":
            self._relieve()
        if isinstance(error, _BROKEN) or not isinstance(error, lmdb.Error | OSError):
            self._broken(f"{type(error).__name__}: {error}")

    def _work_twice(self, batch: list[Order]) -> None:
        """A process that was killed while it read keeps pages from being used again, until it is known to be dead."""
        try:
            self._work(batch)
        except lmdb.MapFullError:
            self.shelf.index.forget_dead_readers()
            self._work(batch)

    def _work(self, batch: list[Order], tries: int = 3) -> None:
        """tries: how often room is looked for where others are quicker to take what there was."""
        results: list[tuple[Order, int, str]] = []
        left = self.make_room(sum(self._cost(order) for order in batch))
        placed: dict[Order, PlacedRecord] = {}
        sizes = {queue: (writer.number, writer.size) for queue, writer in self._writers.items()}
        try:
            for order in batch:
                if isinstance(order, PutOrder | ReplaceOrder):
                    try:
                        left -= self._cost(order)
                        if left < 0 and self._room:
                            raise NotStored("no_room")
                        placed[order] = self._write(order)
                    except NotStored as trouble:
                        results.append((order, 0, trouble.reason))
            change = StoreChange(self.shelf.index, self.shelf.files)
            begun: list[RunningPurge] = []
            try:
                self.purger.read(change.txn)
                for sequence, order in enumerate(batch):
                    if isinstance(order, PurgeOrder):
                        running = self.purger.begin(change, order, sequence)
                        if self.purger.step(change, running):
                            results.append((order, running.count, ""))
                        else:
                            begun.append(running)
                    elif order in placed or not isinstance(order, PutOrder | ReplaceOrder):
                        try:
                            results.append((order, self._apply(change, order, placed.get(order)), ""))
                        except NotStored as trouble:
                            results.append((order, 0, trouble.reason))
                for at in placed.values():
                    change.grow_segment(at.segment, at.offset + at.size)
                self._tell_sealed(change)
                landed = sum(
                    order.body.reserved
                    for order, number, _ in results
                    if number and isinstance(order, PutOrder) and isinstance(order.body, PartFile)
                )
                parts = max(0, self._growing.taken() - landed)  # they count as files in this very transaction
                if placed and self._room and self.shelf.taken_of(change.totals, change.txn, parts) > self._room:
                    raise _NoRoomLeft
                if parts != self._told_parts:
                    self.shelf.index.tell_part_bytes(change.txn, self.shelf.writer, parts)
            except BaseException:
                change.abort()
                raise
            change.commit()
            self._sealing.clear()
            self._told_parts = parts
            self._growing.land(landed)
        except _NoRoomLeft:
            self._undo(sizes)
            self._remove_unused(placed, [(order, 0, "") for order in placed])
            if tries > 1:
                self._work(batch, tries - 1)
            else:
                self._refuse_puts(batch)
            return
        except BaseException:
            self._undo(sizes)
            self._remove_unused(placed, [(order, 0, "") for order in placed])
            raise
        self.purger.running += begun
        for order, _, _ in results:
            order.is_settled = True
        self._remove_unused(placed, results)
        self._settle(results)
        if any(reason == "disk_full" for _, _, reason in results):
            self._relieve()

    def _refuse_puts(self, batch: list[Order]) -> None:
        """Others were quicker to take the room; what takes none is done all the same."""
        puts = [order for order in batch if isinstance(order, PutOrder | ReplaceOrder)]
        for order in puts:
            order.is_settled = True
        self._settle([(order, 0, "no_room") for order in puts])
        others = [order for order in batch if not isinstance(order, PutOrder | ReplaceOrder)]
        if others:
            self._work(others)

    def _undo(self, sizes: dict[int, tuple[int, int]]) -> None:
        """What this batch wrote was told to nobody."""
        for queue, writer in self._writers.items():
            number, size = sizes[queue]
            if writer.number:
                with suppress(OSError):
                    writer.undo(size if writer.number == number else 0)

    def _remove_unused(self, placed: dict[Order, PlacedRecord], results: list[tuple[Order, int, str]]) -> None:
        """Files that were written here for answers that were not taken."""
        for order, result, _ in results:
            if not result and order in placed and placed[order].file and isinstance(order, PutOrder) and isinstance(order.body, bytes):
                self.shelf.files.remove_body(placed[order].file)

    def _purge_on(self) -> None:
        running = self.purger.running[0]
        change = StoreChange(self.shelf.index, self.shelf.files)
        try:
            is_done = self.purger.step(change, running)
        except BaseException:
            change.abort()
            raise
        change.commit()
        if is_done:
            self.purger.running.pop(0)
            self._end(running, "")
        else:
            self.purger.running.append(self.purger.running.pop(0))

    def _end(self, running: RunningPurge, reason: str) -> None:
        if running.order is not None:
            running.order.is_settled = True
            self._settle([(running.order, 0 if reason else running.count, reason)])

    def tell_parts(self) -> None:
        """What grows here, and was not told with an order. From time to time. Raises lmdb.Error."""
        parts = self._growing.taken()
        if parts != self._told_parts:
            change = StoreChange(self.shelf.index, self.shelf.files)
            self.shelf.index.tell_part_bytes(change.txn, self.shelf.writer, parts)
            change.commit()
            self._told_parts = parts

    # -- room ---------------------------------------------------------------------------

    def make_room(self, wanted: int) -> int:
        """Evicts until so many bytes fit, as far as it can be; how many fit then."""
        if not self._room:
            return wanted
        left = 0
        for _ in range(TRIES):
            left = self._room - self._reserve - self.shelf.taken(self._growing.taken())
            if left >= wanted:
                break
            if not self.evictor.free_one():
                if self.evictor.has_helpers():
                    time.sleep(HELPED)
                elif not self._bury(self.purger):
                    break
        return max(0, left)

    def _relieve(self) -> None:
        """The disk is full: gives up a segment, so that there is room for the next ones."""
        try:
            self.evictor.free_one()
        except (lmdb.Error, OSError):
            self.evictor.sacrifice()

    def _cost(self, order: Order) -> int:
        if isinstance(order, PutOrder) and isinstance(order.body, bytes):
            return len(order.body) + len(order.entry.headers) + 256
        return 1024

    # -- writing ------------------------------------------------------------------------

    def _write(self, order: PutOrder | ReplaceOrder) -> PlacedRecord:
        """Raises NotStored."""
        file = file_size = 0
        body = b""
        key = order.key
        if isinstance(order, ReplaceOrder):
            row = self.shelf.index.find(short_key(key))
            spot = Spot(0, 0, 0, 0, 0) if row is None else unpack_spot(row)
            if row is None or version_of(spot) != order.number:
                raise NotStored("gone")
            file, file_size = spot.file, spot.file_size
            if not file:
                with suppress(OSError):
                    record = unpack_record(self.shelf.files.read_fresh(spot.segment, spot.offset, spot.size))
                    if record is not None and record.key == key:
                        body = record.body
                if len(body) != order.entry.length:
                    raise NotStored("unreadable")
        elif isinstance(order.body, PartFile):
            if order.body.path != self.shelf.files.body_path(order.body.file):
                raise NotStored("gone")  # of a generation before
            if order.body.failure:
                raise NotStored("incomplete")
            file, file_size = order.body.file, order.body.size
        elif len(order.body) > self.inline:
            file_size = len(order.body)
        else:
            body = order.body
        if self._room and file_size > self._room // 2:
            raise NotStored("too_large")
        data = pack_record(key, order.entry, body)
        if len(data) > self._full:
            raise NotStored("too_large")
        if file_size and not file:
            assert isinstance(order, PutOrder) and isinstance(order.body, bytes)
            file = self._body_file(order.body)
        queue = MAIN if isinstance(order, ReplaceOrder) or self.shelf.table.ghosts.take(short_key(key)) else SMALL
        placed = self._append(queue, data, file_size)
        if placed is None:
            if isinstance(order, PutOrder) and isinstance(order.body, bytes):
                self.shelf.files.remove_body(file)
            raise NotStored(self._trouble)
        return placed._replace(file=file, file_size=file_size)

    def _body_file(self, body: bytes) -> int:
        file = self.next_body()
        path = self.shelf.files.body_path(file)
        try:
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600), "wb") as written:
                written.write(body)
        except OSError as error:
            self.shelf.files.remove_body(file)
            raise NotStored(word_of(error)) from None
        return file

    def _append(self, queue: int, data: bytes, file_size: int) -> PlacedRecord | None:
        """None where it cannot be written."""
        writer = self._writers[queue]
        try:
            if writer.number and writer.size + writer.filed + len(data) + file_size > self._full and writer.size:
                self._sealing[writer.number] = writer.size
                writer.seal()
            if not writer.number:
                self._begin(writer, queue)
            at = writer.append(data)
        except OSError as error:
            self._trouble = word_of(error)
            if writer.number:
                with suppress(OSError):
                    writer.undo(writer.size)
            return None
        writer.filed += file_size
        return PlacedRecord(writer.number, at, len(data))

    def _begin(self, writer: SegmentWriter, queue: int) -> None:
        change = StoreChange(self.shelf.index, self.shelf.files)
        number = change.begin_segment(queue, self.shelf.writer, self._now())
        change.commit()
        writer.begin(number)

    def _tell_sealed(self, change: StoreChange) -> None:
        for number, size in self._sealing.items():
            row = change.find_row(number)
            if row is not None:
                row.is_sealed = True
                change.grow_segment(number, size)

    def _seal(self) -> bool:
        """To be called between batches."""
        for writer in self._writers.values():
            if writer.number and writer.size:
                self._sealing[writer.number] = writer.size
                writer.seal()
        if not self._sealing:
            return False
        change = StoreChange(self.shelf.index, self.shelf.files)
        self._tell_sealed(change)
        change.commit()
        self._sealing.clear()
        return True

    # -- in a transaction ---------------------------------------------------------------

    def _apply(self, change: StoreChange, order: Order, placed: PlacedRecord | None) -> int:
        """Raises NotStored, and then nothing has changed."""
        if isinstance(order, LimitOrder):
            change.space(order.namespace).most = order.most
            keep_within(change, self.shelf.table, order.namespace)
            return 1
        if isinstance(order, RoomOrder):
            return 1
        assert isinstance(order, PutOrder | ReplaceOrder | DropOrder)
        short = short_key(order.key)
        old = change.find(short)
        if isinstance(order, DropOrder):
            if old is None or version_of(old) != order.number:
                return 0
            change.remove(short, order.key, old)
            return 1
        assert placed is not None
        if isinstance(order, PutOrder):
            if self.purger.log.is_outdated(order.mark, order.entry.key, order.entry.tags):
                raise NotStored("purged")
        elif old is None or version_of(old) != order.number:
            raise NotStored("gone")
        row = change.find_row(placed.segment)
        if row is None or row.freed_by:
            raise NotStored("busy")  # somebody thinks that we are dead
        touches = self.shelf.table.touches(old.slot) if old is not None else 0
        spot = change.put(short, order.key, order.entry.tags, placed, old)
        self.shelf.table.set(spot.slot, touches, self.age())
        if old is None and order.key != order.entry.key:
            thin_variants(change, order.key)
        keep_within(change, self.shelf.table, namespace_of(order.key), but=short)
        return version_of(spot)


def word_of(error: Exception) -> str:
    """As StoreStats.refused has it."""
    if isinstance(error, lmdb.MapFullError):
        return "index_full"
    if isinstance(error, lmdb.DiskError) or "No space" in str(error) or "too large" in str(error).lower():
        return "disk_full"
    return "error"
