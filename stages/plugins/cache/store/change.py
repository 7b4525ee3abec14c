"""One transaction of the index that changes it, and what has to be done when it is through. Of the committer's thread."""

from __future__ import annotations

from contextlib import suppress
from typing import NamedTuple

import lmdb
import msgspec

from pingap.stages.plugins.cache.store.files import StoreFiles
from pingap.stages.plugins.cache.store.index import Index, SegmentRow, Space, number_key, rows_from, space_place, tag_place
from pingap.stages.plugins.cache.store.records import (
    MOST_OF_A_BATCH,
    TAGGED,
    Spot,
    pack_spot,
    softened,
    unpack_record,
    unpack_spot,
)
from pingap.stages.plugins.cache.store.short_keys import after, namespace_of


class PlacedRecord(NamedTuple):
    """Where a record was written, that the index does not name yet."""

    segment: int
    offset: int
    size: int
    file: int = 0
    file_size: int = 0


class StoreChange:
    """To be ended by `commit` or `abort`."""

    def __init__(self, index: Index, files: StoreFiles) -> None:
        """Waits for its turn to write. Raises lmdb.Error."""
        self._index = index
        self._files = files
        self.txn: lmdb.Transaction = index.writing()
        self.id = index.base + int(self.txn.id())
        self.totals = index.totals(self.txn)
        self.unlinked: list[int] = []
        """Bodies that nobody has any more once this is through."""
        self._sequence = 0
        self._rows: dict[int, SegmentRow | None] = {}
        self._spaces: dict[bytes, Space] = {}

    def commit(self) -> None:
        """Raises lmdb.Error, and then nothing has changed."""
        try:
            for number, row in self._rows.items():
                if row is None:
                    self.txn.delete(number_key(number, 4), db=self._index.segments)
                else:
                    self.txn.put(number_key(number, 4), msgspec.msgpack.encode(row), db=self._index.segments)
            for name, space in self._spaces.items():
                if space.entries or space.most:
                    self.txn.put(space_place(name), msgspec.msgpack.encode(space), db=self._index.spaces)
                else:
                    self.txn.delete(space_place(name), db=self._index.spaces)
            self._index.set_totals(self.txn, self.totals)
        except BaseException:
            self.abort()
            raise
        self.txn.commit()
        for file in self.unlinked:
            self._files.remove_body(file)

    def abort(self) -> None:
        self.txn.abort()

    def is_full(self) -> bool:
        """It has given nearly all numbers that one may give."""
        return self._sequence > MOST_OF_A_BATCH - 1024

    # -- entries ------------------------------------------------------------------------

    def find(self, short: bytes) -> Spot | None:
        row: bytes | None = self.txn.get(short, db=self._index.entries)  # type: ignore[assignment]  # we ask for no buffers
        return unpack_spot(row) if row is not None else None

    def put(self, short: bytes, key: bytes, tags: tuple[bytes, ...], placed: PlacedRecord, old: Spot | None) -> Spot:
        """old: what is there under that key; it goes."""
        if old is not None:
            self.remove(short, key, old, kept=placed.file)
            slot = old.slot
        else:
            self.totals.slots += 1
            slot = self.totals.slots & 0xFFFFFFFF
        spot = Spot(self._number(), slot, *placed[:3], TAGGED if tags else 0, *placed[3:])
        self._set(short, spot)
        self.totals.entries += 1
        self.totals.file_bytes += spot.file_size
        if spot.file:
            self.txn.put(number_key(spot.file), b"", db=self._index.bodies)
        self._tag(short, key, tags, spot.number)
        self._weigh(key, spot, 1)
        self.row(spot.segment).filed += spot.file_size
        space = self.space(namespace_of(key))
        if space.most:
            self.txn.put(space_place(namespace_of(key)) + number_key(spot.number), short, db=self._index.aged)
        return spot

    def remove(self, short: bytes, key: bytes, spot: Spot, kept: int = 0) -> None:
        """kept: a file that is not removed though the entry had it. What is there under the key has to be `spot`."""
        self.txn.delete(short, db=self._index.entries)
        self.totals.entries -= 1
        self.totals.file_bytes -= spot.file_size
        if spot.flags & TAGGED:
            for tag in self._tags_of(spot):
                self.txn.delete(tag_place(namespace_of(key), tag) + number_key(spot.number), db=self._index.tags)
        self._weigh(key, spot, -1)
        if self.space(namespace_of(key)).most:
            self.forget_aged(namespace_of(key), spot.number)
        if spot.file and spot.file != kept:
            self.txn.delete(number_key(spot.file), db=self._index.bodies)
            self.unlinked.append(spot.file)

    def move(self, short: bytes, key: bytes, spot: Spot, placed: PlacedRecord) -> None:
        """Its record was copied to another segment."""
        self._weigh(key, spot, -1)
        moved = spot._replace(segment=placed.segment, offset=placed.offset)
        self._set(short, moved)
        self._weigh(key, moved, 1)
        self.row(moved.segment).filed += moved.file_size

    def soften(self, short: bytes, spot: Spot) -> None:
        """It was purged softly."""
        self._set(short, spot._replace(flags=softened(spot.flags)))

    def range(self, prefix: bytes, most: int, start: bytes = b"") -> list[tuple[bytes, Spot]]:
        """The first entries whose short keys begin with prefix. start: the first short key that counts."""
        found: list[tuple[bytes, Spot]] = []
        end = after(prefix)
        for short, row in rows_from(self.txn, self._index.entries, max(start, prefix)):
            if (end and short >= end) or len(found) >= most:
                break
            found.append((short, unpack_spot(row)))
        return found

    def aged(self, namespace: bytes, most: int) -> list[tuple[bytes, int]]:
        """Short keys and numbers of the oldest entries of a namespace that has a bound."""
        found: list[tuple[bytes, int]] = []
        place = space_place(namespace)
        for key, short in rows_from(self.txn, self._index.aged, place):
            if not key.startswith(place) or len(found) >= most:
                break
            found.append((short, int.from_bytes(key[len(place) :], "big")))
        return found

    def forget_aged(self, namespace: bytes, number: int) -> None:
        self.txn.delete(space_place(namespace) + number_key(number), db=self._index.aged)

    def whole_key(self, short: bytes, spot: Spot) -> bytes | None:
        """Of an entry whose key was shortened; None when it cannot be read."""
        with suppress(OSError):
            record = unpack_record(self._files.read_fresh(spot.segment, spot.offset, spot.size))
            return record and record.key
        return None

    # -- segments and namespaces --------------------------------------------------------

    def row(self, segment: int) -> SegmentRow:
        """To be changed in place. One that is not there is made up, and forgotten."""
        row = self.find_row(segment)
        return row if row is not None else SegmentRow(0, 0, 0.0)

    def find_row(self, segment: int) -> SegmentRow | None:
        if segment not in self._rows:
            packed = self.txn.get(number_key(segment, 4), db=self._index.segments)
            if packed is None:
                return None
            self._rows[segment] = msgspec.msgpack.decode(packed, type=SegmentRow)
        return self._rows[segment]

    def begin_segment(self, queue: int, writer: int, now: float) -> int:
        self.totals.segments += 1
        self._rows[self.totals.segments] = SegmentRow(queue, writer, now)
        return self.totals.segments

    def grow_segment(self, segment: int, size: int) -> None:
        row = self.find_row(segment)
        if row is not None and size > row.size:  # one that others have freed takes nothing
            self.totals.segment_bytes += size - row.size
            row.size = size

    def end_segment(self, segment: int) -> None:
        """Its file is removed by the caller."""
        row = self.find_row(segment)
        if row is not None:
            self.totals.segment_bytes -= row.size
            self._rows[segment] = None

    def space(self, namespace: bytes) -> Space:
        """To be changed in place."""
        space = self._spaces.get(namespace)
        if space is None:
            space = self._spaces[namespace] = self._index.space(self.txn, namespace)
        return space

    # -- parts of those -----------------------------------------------------------------

    def _number(self) -> int:
        self._sequence += 1
        return self.id * MOST_OF_A_BATCH + self._sequence

    def _set(self, short: bytes, spot: Spot) -> None:
        self.txn.put(short, pack_spot(spot), db=self._index.entries)

    def _weigh(self, key: bytes, spot: Spot, sign: int) -> None:
        self.row(spot.segment).weight += sign * spot.weight
        space = self.space(namespace_of(key))
        space.entries += sign
        space.weight += sign * spot.weight

    def _tag(self, short: bytes, key: bytes, tags: tuple[bytes, ...], number: int) -> None:
        for tag in tags:
            self.txn.put(tag_place(namespace_of(key), tag) + number_key(number), short, db=self._index.tags)

    def _tags_of(self, spot: Spot) -> tuple[bytes, ...]:
        with suppress(OSError):
            record = unpack_record(self._files.read_fresh(spot.segment, spot.offset, spot.size))
            if record is not None:
                return record.entry.tags
        return ()
