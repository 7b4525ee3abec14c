"""What time brings to a store: processes that died, answers that nobody wants, purges that nobody finishes. Of the committer's thread."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from pingap.stages.plugins.cache.store.change import StoreChange
from pingap.stages.plugins.cache.store.purger import Purger
from pingap.stages.plugins.cache.store.records import Spot, unpack_spot
from pingap.stages.plugins.cache.store.shared_table import AGES
from pingap.stages.plugins.cache.store.shelf import StoreShelf

INACTIVE_STEPS: Final = 16
"""Of an entry's age (SharedTable) make up `inactive`."""

STEP: Final = 500
"""Entries that are looked at in one transaction."""

ROUND: Final = 4.0
"""Within this part of `inactive` all entries are looked at."""

MOST_STEPS: Final = 40

SELDOM: Final = 15
"""Where nothing is ever inactive, each such time one step is made: for entries whose segments are lost."""


class Housekeeper:
    def __init__(self, shelf: StoreShelf, inactive: Callable[[], float], interval: float) -> None:
        """inactive: seconds after which what nobody asked for goes; 0: never. interval: seconds between two looks."""
        self._shelf = shelf
        self._inactive = inactive
        self._interval = interval
        self._looks = 0
        self._position = b""
        self.expired = 0
        """Entries so far that nobody asked for."""

    def look(self, purger: Purger, age: int) -> None:
        """To be called from time to time. age: now, of SharedTable. Raises lmdb.Error, OSError."""
        shelf = self._shelf
        shelf.index.forget_dead_readers()
        reading = shelf.index.reading()
        try:
            writers = shelf.index.writer_ids(reading)
            entries = shelf.index.totals(reading).entries
        finally:
            reading.abort()
        dead = self.bury(purger, writers)
        if shelf.writer == min((one for one in writers if one not in dead), default=0):
            self._looks += 1
            inactive = self._inactive()
            share = self._interval * ROUND / inactive if inactive else 0.0  # of all entries, each time
            steps = min(MOST_STEPS, 1 + int(entries * share / STEP)) if inactive else self._looks % SELDOM == 0
            for _ in range(steps):
                if not self._walk(age):
                    break

    # -- the dead -----------------------------------------------------------------------

    def bury(self, purger: Purger, writers: list[int] | None = None) -> list[int]:
        """Finds the space of writers that have died; which. writers: all. Raises lmdb.Error, OSError."""
        shelf = self._shelf
        if writers is None:
            reading = shelf.index.reading()
            try:
                writers = shelf.index.writer_ids(reading)
            finally:
                reading.abort()
        dead = [one for one in writers if one != shelf.writer and not shelf.files.is_alive(one)]
        if dead:
            self._bury(dead, purger)
        return dead

    def _bury(self, dead: list[int], purger: Purger) -> None:
        """What they appended to is for nobody any more but to be evicted; files that they had not told of are removed."""
        shelf = self._shelf
        change = StoreChange(shelf.index, shelf.files)
        try:
            cut = []
            for number, row in shelf.index.rows(change.txn).items():
                if row.writer not in dead:
                    continue
                cut.append((number, row.size))
                found = None if row.is_sealed else change.find_row(number)
                if found is not None and not found.size:
                    change.end_segment(number)
                elif found is not None:
                    found.is_sealed = True
            purger.running += purger.abandoned(change.txn, lambda writer: writer not in dead and shelf.files.is_alive(writer))
        except BaseException:
            change.abort()
            raise
        change.commit()
        for number, size in cut:
            path = shelf.files.segment_path(number)
            with suppress(OSError):
                if not size:
                    shelf.files.remove_segment(number)
                elif os.path.getsize(path) > size:
                    os.truncate(path, size)
        self._remove_strays(dead)
        change = StoreChange(shelf.index, shelf.files)  # last: if this process is killed before, another does all of it again
        try:
            for writer in dead:
                shelf.index.forget_writer(change.txn, writer)
        except BaseException:
            change.abort()
            raise
        change.commit()
        for writer in dead:
            shelf.files.leave(writer)

    def _remove_strays(self, dead: list[int]) -> None:
        """Bodies of all who are no more that the index does not know (who removes one may be killed before), and such segments."""
        shelf = self._shelf
        names = os.listdir(shelf.path)  # before the index is read: what is made later is known there first
        reading = shelf.index.reading()
        try:
            segments = shelf.index.rows(reading)
            living = [one for one in shelf.index.writer_ids(reading) if one not in dead]
            newest = shelf.index.totals(reading).segments
            strays = []
            for name in names:
                kind, rest = name[:1], name[1:]
                if kind == "s" and rest.isdigit() and int(rest) <= newest and int(rest) not in segments:
                    strays.append(name)
                elif kind == "b":
                    writer, _, which = rest.partition("-")
                    if writer.isdigit() and which.isdigit() and int(writer) not in living:
                        file = int(writer) << 32 | int(which)
                        if not shelf.index.has_body(reading, file):
                            strays.append(name)
        finally:
            reading.abort()
        for name in strays:
            with suppress(OSError):
                os.unlink(os.path.join(shelf.path, name))

    # -- the unwanted -------------------------------------------------------------------

    def _walk(self, age: int) -> bool:
        """Looks at a few entries more; False after the last ones."""
        shelf = self._shelf
        rows, segments = shelf.index.some(self._position, STEP)
        gone = [(short, spot) for short, row in rows if self._is_unwanted(spot := unpack_spot(row), age) or spot.segment not in segments]
        if gone:
            change = StoreChange(shelf.index, shelf.files)
            try:
                for short, spot in gone:
                    if change.find(short) == spot:
                        change.remove(short, short, spot)
                        self.expired += spot.segment in segments
            except BaseException:
                change.abort()
                raise
            change.commit()
        is_end = len(rows) < STEP
        self._position = b"" if is_end else rows[-1][0] + b"\0"
        return not is_end

    def _is_unwanted(self, spot: Spot, age: int) -> bool:
        return self._inactive() > 0 and (age - self._shelf.table.age(spot.slot)) % AGES > INACTIVE_STEPS
