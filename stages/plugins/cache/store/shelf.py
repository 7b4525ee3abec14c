"""One generation of a store, open in this process: its index, its files, its table. A store that is broken begins a new one."""

from __future__ import annotations

import os
from contextlib import suppress

import lmdb

from pingap.stages.plugins.cache.store.change import StoreChange
from pingap.stages.plugins.cache.store.files import StoreFiles
from pingap.stages.plugins.cache.store.index import Index, StoreTotals, allocate_lock
from pingap.stages.plugins.cache.store.shared_table import SharedTable
from pingap.stages.plugins.cache.store.store_stats import StoreStats

FEWEST_SLOTS = 1 << 10
MOST_SLOTS = 1 << 22
LEAST_INDEX = 1 << 21
"""Bytes that an index may have at least. Else it is half of the store's room: an index that grew beyond, since a reader was stopped
while it read, is given up, with all that is in the store (LMDB's files never become smaller)."""
MAP = 64 << 30
"""Bytes of addresses for it, the same for all: whoever has fewer than another has used could not read it."""
TABLE = "table"


class StoreShelf:
    def __init__(self, path: str, room: int, is_new: bool, map_size: int = 0) -> None:
        """path: of its directory, which is there. room: bytes; 0 is as much as there is. map_size: 0 is what goes with that.

        Raises OSError, lmdb.Error, and ValueError for files that are none of a store's.
        """
        self.path = path
        self.base = (int(os.path.basename(path)) & 0xFFF) << 32
        """Of ids of transactions: so that no mark and no number of an older generation is taken for one of this."""
        self.writer = 0
        self._lock = -1
        slots = min(MOST_SLOTS, max(FEWEST_SLOTS, room // 1024)) if room else MOST_SLOTS
        self.table = SharedTable(os.path.join(path, TABLE), slots if is_new else 0)
        if self.table.is_over():  # asked before its index is opened, which this process may still have open
            self.table.close()
            raise ValueError("what was there has been given up")
        try:
            if is_new:
                allocate_lock(path)
            self.index = Index(path, map_size or MAP, self.base)
            self.limit_index(room)
        except BaseException:
            self.table.close()
            raise
        self.files = StoreFiles(path)
        if not is_new and not self._has_writers():
            self.close()
            raise ValueError("its index is empty")

    def join(self) -> None:
        """Gets an id as a writer. Waits for others that write. Raises lmdb.Error, OSError."""
        change = StoreChange(self.index, self.files)
        try:
            change.totals.writers += 1
            writer = change.totals.writers
            lock = self.files.join(writer)
            self.index.tell_part_bytes(change.txn, writer, 0)
        except BaseException:
            change.abort()
            raise
        try:
            change.commit()
        except BaseException:
            os.close(lock)
            raise
        self.writer, self._lock = writer, lock

    def _has_writers(self) -> bool:
        """Whoever has begun it was the first."""
        reading = self.index.reading()
        try:
            return self.index.totals(reading).writers > 0
        finally:
            reading.abort()

    def limit_index(self, room: int) -> None:
        """room: bytes of the whole store."""
        self.index.most = max(room // 2, LEAST_INDEX) if room else 0

    def is_over(self) -> bool:
        return self.table.is_over()

    def taken(self, parts: int) -> int:
        """Bytes of all of it, part files of all processes included. parts: what those of this process have. Raises lmdb.Error, OSError."""
        reading = self.index.reading()
        try:
            return self.taken_of(self.index.totals(reading), reading, parts)
        finally:
            reading.abort()

    def taken_of(self, totals: StoreTotals, txn: lmdb.Transaction, parts: int) -> int:
        """The same, as `totals` of a transaction say."""
        others = self.index.part_bytes(txn, self.writer)
        return totals.segment_bytes + totals.file_bytes + others + parts + self.index.size() + self.table.size

    def growing_elsewhere(self) -> int:
        """Bytes of bodies that grow in other processes, as far as they have told. Raises lmdb.Error."""
        reading = self.index.reading()
        try:
            return self.index.part_bytes(reading, self.writer)
        finally:
            reading.abort()

    @staticmethod
    def end(path: str) -> None:
        """Tells those who have a generation open that it is over. Raises OSError, ValueError."""
        table = SharedTable(os.path.join(path, TABLE))
        table.end()
        table.close()

    def describe(self, stats: StoreStats, namespaces: tuple[bytes, ...]) -> None:
        """Raises lmdb.Error, OSError."""
        reading = self.index.reading()
        try:
            totals = self.index.totals(reading)
            for name in namespaces:
                space = self.index.space(reading, name)
                stats.spaces[name.decode("utf-8", "replace")] = (space.entries, space.weight)
            others = self.index.part_bytes(reading, self.writer)
        finally:
            reading.abort()
        stats.entries, stats.segment_bytes, stats.file_bytes = totals.entries, totals.segment_bytes, totals.file_bytes
        stats.index_bytes = self.index.size() + self.table.size
        stats.taken = stats.segment_bytes + stats.file_bytes + stats.index_bytes + others

    def close(self) -> None:
        """In any thread, once the loop does not have it any more."""
        if self._lock >= 0:
            with suppress(OSError):
                os.close(self._lock)
            self.files.leave(self.writer)
            self._lock = -1
        self.index.close()
        self.files.close()
        self.table.close()
