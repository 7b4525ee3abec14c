"""Empties segments, in steps that hold the write lock only for a moment. Of the committer's thread; eviction.py decides."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final, NamedTuple

import lmdb

from pingap.stages.plugins.cache.store.change import PlacedRecord, StoreChange
from pingap.stages.plugins.cache.store.eviction import MAIN, SMALL, Candidate, Filled, next_to_free, survivors, touches_after
from pingap.stages.plugins.cache.store.index import SegmentRow
from pingap.stages.plugins.cache.store.records import Record, Spot, records_in, unpack_record, unpack_spot
from pingap.stages.plugins.cache.store.shelf import StoreShelf
from pingap.stages.plugins.cache.store.short_keys import short_key

STEP: Final = 256
"""Entries of one transaction."""


_Append = Callable[[int, bytes, int], PlacedRecord | None]


class _Living(NamedTuple):
    short: bytes
    record: Record
    spot: Spot


class Evictor:
    def __init__(
        self, shelf: StoreShelf, room: int, append: Callable[[int, bytes, int], PlacedRecord | None], seal: Callable[[], bool]
    ) -> None:
        """append: writes a record (queue, data, bytes of its file); None where that cannot be. seal: ends the segments that this process
        writes to; whether there was one."""
        self._shelf = shelf
        self.room = room
        self._append = append
        self._seal = seal
        self.evicted = 0
        """Entries so far."""

    def free_one(self) -> bool:
        """Empties a segment; False when there is none to empty, as far as others do not empty it now. Raises lmdb.Error, OSError."""
        chosen = self._chosen()
        if chosen is None and self._seal():
            chosen = self._chosen()
        if chosen is None:
            return False
        if self._claim(chosen.segment):
            self._empty(chosen)
        return True

    def has_helpers(self) -> bool:
        """Other processes are emptying segments. Raises lmdb.Error."""
        rows = self._shelf.index.segments_now()
        alive: dict[int, bool] = {}
        return any(self._is_others(row, alive) for row in rows.values())

    def sacrifice(self) -> None:
        """Frees a segment's file while the index cannot be changed, for want of room: what was in it is missed, and forgotten then."""
        with suppress(lmdb.Error, OSError):
            chosen = self._chosen()
            if chosen is not None:
                os.truncate(self._shelf.files.segment_path(chosen.segment), 0)

    def _chosen(self) -> Filled | None:
        rows = self._shelf.index.segments_now()
        alive: dict[int, bool] = {}
        return next_to_free(
            [
                Filled(number, row.queue, row.size, max(0, row.weight), self._is_sealed(row, alive))
                for number, row in rows.items()
                if not self._is_others(row, alive)
            ],
            self.room,
        )

    def _is_sealed(self, row: SegmentRow, alive: dict[int, bool]) -> bool:
        return row.is_sealed or (row.writer != self._shelf.writer and not self._is_alive(row.writer, alive))

    def _is_others(self, row: SegmentRow, alive: dict[int, bool]) -> bool:
        return row.freed_by not in (0, self._shelf.writer) and self._is_alive(row.freed_by, alive)

    def _is_alive(self, writer: int, alive: dict[int, bool]) -> bool:
        if writer not in alive:
            alive[writer] = self._shelf.files.is_alive(writer)
        return alive[writer]

    def _claim(self, segment: int) -> bool:
        change = StoreChange(self._shelf.index, self._shelf.files)
        row = change.find_row(segment)
        if row is None or self._is_others(row, {}):
            change.abort()
            return False
        row.is_sealed = True
        row.freed_by = self._shelf.writer
        change.commit()
        return True

    def _empty(self, chosen: Filled) -> None:
        data = b""
        with suppress(OSError):
            data = self._shelf.files.read_fresh(chosen.segment, 0, chosen.size)
        living = list(self._living(chosen.segment, data))
        touches = [self._shelf.table.touches(one.spot.slot) for one in living]
        staying = set(survivors(chosen, [Candidate(one.spot.size, count) for one, count in zip(living, touches, strict=True)]))
        for start in range(0, len(living), STEP):
            step = range(start, min(start + STEP, len(living)))
            copied: dict[int, PlacedRecord] = {}
            for at in step:
                if at in staying:
                    spot = living[at].spot
                    placed = self._append(MAIN, data[spot.offset : spot.offset + spot.size], spot.file_size)
                    if placed is not None:
                        copied[at] = placed
            gone = self._move(chosen, [living[at] for at in step], {at - start: placed for at, placed in copied.items()})
            for at in step:
                if at in copied:
                    slot = living[at].spot.slot
                    self._shelf.table.set(slot, touches_after(chosen.queue, touches[at]), self._shelf.table.age(slot))
            if chosen.queue == SMALL:
                for short in gone:
                    self._shelf.table.ghosts.add(short)
            self.evicted += len(gone)
        change = StoreChange(self._shelf.index, self._shelf.files)
        change.end_segment(chosen.segment)
        change.commit()
        self._shelf.files.remove_segment(chosen.segment)

    def _living(self, segment: int, data: bytes) -> Iterator[_Living]:
        for offset, size in records_in(data):
            record = unpack_record(data[offset : offset + size])
            if record is None:
                continue
            short = short_key(record.key)
            row = self._shelf.index.find(short)
            if row is not None:
                spot = unpack_spot(row)
                if spot.segment == segment and spot.offset == offset:
                    yield _Living(short, record, spot)

    def _move(self, chosen: Filled, living: list[_Living], copied: dict[int, PlacedRecord]) -> list[bytes]:
        """Short keys of those that went."""
        change = StoreChange(self._shelf.index, self._shelf.files)
        gone = []
        try:
            for at, one in enumerate(living):
                spot = change.find(one.short)
                if spot is None or spot.segment != chosen.segment or spot.offset != one.spot.offset:
                    continue  # meanwhile it was replaced, or purged
                placed = copied.get(at)
                if placed is not None and change.find_row(placed.segment) is not None:
                    change.move(one.short, one.record.key, spot, placed)
                    change.grow_segment(placed.segment, placed.offset + placed.size)
                else:
                    change.remove(one.short, one.record.key, spot)
                    gone.append(one.short)
        except BaseException:
            change.abort()
            raise
        change.commit()
        return gone
