"""The store's index: an LMDB environment. All that changes is written by one transaction at a time, over all processes.

entries   short key -> Spot            segments  number -> SegmentRow       spaces   namespace -> Space
tags      digest of namespace and tag, number -> short key                  aged     digest of namespace, number -> short key
purges    transaction, which -> Purge, pending ones                         writers  id -> bytes of its part files
bodies    file -> nothing                      meta     totals
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from hashlib import blake2b
from itertools import islice
from typing import Any, Final

import lmdb
import msgspec

from pingap.stages.plugins.cache.store.short_keys import short_prefix

NAMES: Final = ("entries", "segments", "spaces", "tags", "aged", "purges", "writers", "bodies", "meta")
READERS: Final = 1024
PAGE: Final = 4096
_LOCK_SIZE: Final = (READERS + 8) * 64
"""Bytes of LMDB's lock file: a line of the processor's cache for each reader, and its head."""
_TOTALS: Final = b"totals"


class StoreTotals(msgspec.Struct, array_like=True):
    """Of the whole store."""

    slots: int = 0
    """Given so far."""
    segments: int = 0
    """Number of the newest."""
    writers: int = 0
    """Id of the newest."""
    segment_bytes: int = 0
    file_bytes: int = 0
    entries: int = 0


class SegmentRow(msgspec.Struct, array_like=True):
    queue: int
    writer: int
    """Who appends to it."""
    begun: float
    size: int = 0
    """Bytes that are written and told."""
    weight: int = 0
    """Bytes of living entries, those of their files included."""
    filed: int = 0
    """Bytes of files of all entries that were ever told in it: with `size` it says when it is full."""
    is_sealed: bool = False
    freed_by: int = 0
    """The writer that empties it."""


class Space(msgspec.Struct, array_like=True):
    """What a namespace takes."""

    entries: int = 0
    weight: int = 0
    most: int = 0
    """Bytes that it may take; 0: as many as there are."""


class Index:
    def __init__(self, path: str, map_size: int, base: int) -> None:
        """path: of its directory. base: what ids of transactions begin after.

        Raises lmdb.Error, OSError, and ValueError for a file that was cut."""
        self._env = lmdb.open(
            path,
            map_size=map_size,
            max_dbs=len(NAMES),
            max_readers=READERS,
            mode=0o600,
            sync=False,
            metasync=False,
            readahead=False,
            max_spare_txns=2,
        )
        self.base = base
        self._data = os.path.join(path, "data.mdb")
        self.most = 0
        """Bytes that its file may have, if that is bounded: where it has more nothing is written to it."""
        self._lock_size = 0
        """Bytes of LMDB's table of readers: as many as READERS take, from the start."""
        self._grown = 0
        """Bytes of its file when dead readers were looked for last."""
        try:
            # A page that is not there would end the process when it is touched.
            needed = (self._env.info()["last_pgno"] + 1) * PAGE  # first: others may be making it larger
            if os.path.getsize(self._data) < needed:
                raise ValueError("the index was cut")
            self._lock_size = os.path.getsize(os.path.join(path, "lock.mdb"))
            self.entries, self.segments, self.spaces, self.tags, self.aged, self.purges, self.writers, self.bodies, self.meta = (
                self._env.open_db(name.encode()) for name in NAMES
            )
        except BaseException:
            self._env.close()
            raise

    def find(self, short: bytes) -> bytes | None:
        """The row of an entry. Raises lmdb.Error."""
        reading = self._env.begin(self.entries)
        try:
            found: bytes | None = reading.get(short)
            return found
        finally:
            reading.abort()

    def newest(self) -> int:
        """Id of the newest transaction."""
        reading = self._env.begin()
        try:
            return self.base + int(reading.id())
        finally:
            reading.abort()

    def reading(self) -> lmdb.Transaction:
        """The caller ends it, soon: pages that it sees are not used again until then."""
        return self._env.begin()

    def writing(self) -> lmdb.Transaction:
        """Waits for all others that write.

        A process that was killed while it read keeps pages from being used again until it is known to be dead: where the file
        has grown, that is looked after at once, for a batch may be many transactions. Raises lmdb.MapFullError, lmdb.Error."""
        size = self.size()
        if size > self._grown:
            self._grown = size
            self.forget_dead_readers()
        if size > self.most > 0:
            raise lmdb.MapFullError(f"it has {size} bytes, and may have {self.most}")
        return self._env.begin(write=True)

    def size(self) -> int:
        """Bytes of its files. Raises OSError, where the generation was removed say."""
        return os.path.getsize(self._data) + self._lock_size

    def forget_dead_readers(self) -> None:
        self._env.reader_check()

    def sync(self) -> None:
        self._env.sync(True)

    def close(self) -> None:
        self._env.close()

    def totals(self, txn: lmdb.Transaction) -> StoreTotals:
        packed = txn.get(_TOTALS, db=self.meta)
        return msgspec.msgpack.decode(packed, type=StoreTotals) if packed else StoreTotals()

    def set_totals(self, txn: lmdb.Transaction, totals: StoreTotals) -> None:
        txn.put(_TOTALS, msgspec.msgpack.encode(totals), db=self.meta)

    def segments_now(self) -> dict[int, SegmentRow]:
        """All segments, by number. Raises lmdb.Error."""
        reading = self._env.begin()
        try:
            raw = list(rows_from(reading, self.segments))
        finally:
            reading.abort()  # before they are decoded: pages that it sees are not used again until then
        return {int.from_bytes(key, "big"): msgspec.msgpack.decode(row, type=SegmentRow) for key, row in raw}

    def rows(self, txn: lmdb.Transaction) -> dict[int, SegmentRow]:
        """All segments, by number."""
        with txn.cursor(self.segments) as cursor:
            return {int.from_bytes(key, "big"): msgspec.msgpack.decode(row, type=SegmentRow) for key, row in cursor}

    def some(self, start: bytes, limit: int) -> tuple[list[tuple[bytes, bytes]], dict[int, SegmentRow]]:
        """The next entries from `start` on, and all segments, at one moment. Raises lmdb.Error."""
        reading = self._env.begin()
        try:
            rows = list(islice(rows_from(reading, self.entries, start), limit))
            return rows, self.rows(reading)
        finally:
            reading.abort()

    def has_body(self, txn: lmdb.Transaction, file: int) -> bool:
        return txn.get(number_key(file), db=self.bodies) is not None

    def space(self, txn: lmdb.Transaction, namespace: bytes) -> Space:
        packed = txn.get(space_place(namespace), db=self.spaces)
        return msgspec.msgpack.decode(packed, type=Space) if packed else Space()

    def range(self, prefix: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Rows of the first entries whose short keys begin with what the short forms of `prefix` do. Raises lmdb.Error."""
        start = short_prefix(prefix)
        found: list[tuple[bytes, bytes]] = []
        reading = self._env.begin()
        try:
            for short, row in rows_from(reading, self.entries, start):
                if not short.startswith(start) or len(found) >= limit:
                    break
                found.append((short, row))
        finally:
            reading.abort()
        return found

    def part_bytes(self, txn: lmdb.Transaction, but: int) -> int:
        """Of part files that grow, in all processes but one, as far as they have told. but: its id as a writer."""
        with txn.cursor(self.writers) as cursor:
            return sum(int.from_bytes(row, "big") for key, row in cursor if key != number_key(but, 4))

    def tell_part_bytes(self, txn: lmdb.Transaction, writer: int, count: int) -> None:
        txn.put(number_key(writer, 4), number_key(count), db=self.writers)

    def forget_writer(self, txn: lmdb.Transaction, writer: int) -> None:
        txn.delete(number_key(writer, 4), db=self.writers)

    def writer_ids(self, txn: lmdb.Transaction) -> list[int]:
        """All that have not left, living or not."""
        return [int.from_bytes(key, "big") for key, _ in rows_from(txn, self.writers)]


def allocate_lock(path: str) -> None:
    """LMDB's lock file of a new index, all of it: LMDB makes one with holes and maps it, and a file system that is full would end the
    process where it touches one. Raises OSError."""
    fd = os.open(os.path.join(path, "lock.mdb"), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.posix_fallocate(fd, 0, _LOCK_SIZE)
    finally:
        os.close(fd)


def rows_from(txn: lmdb.Transaction, database: Any, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
    """Keys and values in order, from the first key that is not before `start` on."""
    with txn.cursor(database) as cursor:
        if cursor.set_range(start) if start else cursor.first():
            yield from cursor  # type: ignore[misc]  # bytes, as long as nobody asks for buffers


def tag_place(namespace: bytes, tag: bytes) -> bytes:
    """What all rows of a tag begin with."""
    return blake2b(namespace + b"\0" + tag, digest_size=16).digest()


def space_place(namespace: bytes) -> bytes:
    return blake2b(namespace, digest_size=16).digest()


def number_key(number: int, size: int = 8) -> bytes:
    """So that the index keeps them in order."""
    return number.to_bytes(size, "big")
