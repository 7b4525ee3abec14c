"""Purges, in steps: each is told to all in one transaction, and what it concerns goes in that one and as many more as it takes.

What is put later has a greater number than the purge, and stays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import lmdb
import msgspec

from pingap.stages.plugins.cache.store.change import StoreChange
from pingap.stages.plugins.cache.store.index import Index, number_key, rows_from, tag_place
from pingap.stages.plugins.cache.store.orders import PurgeOrder
from pingap.stages.plugins.cache.store.purge_log import MOST, Purge, PurgeLog
from pingap.stages.plugins.cache.store.records import MOST_OF_A_BATCH, Spot
from pingap.stages.plugins.cache.store.short_keys import KEPT, is_shortened, short_prefix

STEP: Final = 512
"""Entries that one transaction looks at."""


class PurgeRow(msgspec.Struct, array_like=True):
    """A purge as the index has it."""

    kind: str
    namespace: bytes
    what: bytes
    is_soft: bool
    writer: int
    """Who does it."""
    is_done: bool = False

    def purge(self) -> Purge:
        return Purge(self.kind, self.namespace, self.what, self.is_soft)  # type: ignore[arg-type]


def read_purges(index: Index, txn: lmdb.Transaction, log: PurgeLog, seen: bytes) -> bytes:
    """Adds to a log what it has not read yet. seen: key of the newest row that it has; returns that of the newest there is."""
    with txn.cursor(index.purges) as cursor:
        if not cursor.last() or cursor.key() == seen:
            return seen
        cursor.first()
        oldest = bytes(cursor.key())
    if oldest > seen and txn.stat(index.purges)["entries"] >= MOST:
        log.lift(int.from_bytes(oldest[:8], "big"))  # those between may have been taken away
    for key, row in rows_from(txn, index.purges, seen):
        if key > seen:
            log.add(int.from_bytes(key[:8], "big"), msgspec.msgpack.decode(row, type=PurgeRow).purge())
            seen = key
    return seen


class RunningPurge:
    """A purge that is not through."""

    def __init__(self, key: bytes, purge: Purge, order: PurgeOrder | None) -> None:
        self.key = key
        """Of its row: the transaction, and which."""
        self.purge = purge
        self.order = order
        self.last = (int.from_bytes(key[:8], "big") + 1) * MOST_OF_A_BATCH - 1
        """The greatest number of an entry that it concerns."""
        self.start = b""
        """Where the next step begins."""
        self.count = 0


class Purger:
    def __init__(self, index: Index, writer: int) -> None:
        self._index = index
        self._writer = writer
        self.log = PurgeLog(index.base)
        self.running: list[RunningPurge] = []
        self._seen = b""
        """Key of the newest row that is in the log."""

    def read(self, txn: lmdb.Transaction) -> None:
        """What others have purged meanwhile."""
        self._seen = read_purges(self._index, txn, self.log, self._seen)

    def begin(self, change: StoreChange, order: PurgeOrder, sequence: int) -> RunningPurge:
        """Tells it to all, in `change`. sequence: which of that transaction."""
        purge = order.purge
        key = number_key(change.id) + number_key(sequence, 2)
        row = PurgeRow(purge.kind, purge.namespace, purge.what, purge.is_soft, self._writer)
        change.txn.put(key, msgspec.msgpack.encode(row), db=self._index.purges)
        while change.txn.stat(self._index.purges)["entries"] > MOST:
            with change.txn.cursor(self._index.purges) as cursor:
                cursor.first()
                cursor.delete()
        self.log.add(change.id, purge)
        self._seen = key
        return RunningPurge(key, purge, order)

    def step(self, change: StoreChange, running: RunningPurge) -> bool:
        """Whether it is through with this one."""
        if running.purge.kind == "tag":
            is_done = self._tagged(change, running)
        elif running.purge.kind == "url":
            is_done = self._of_url(change, running)
        else:
            is_done = self._ranged(change, running)
        if is_done:
            row = change.txn.get(running.key, db=self._index.purges)
            if row is not None:
                told = msgspec.msgpack.decode(row, type=PurgeRow)
                told.is_done = True
                change.txn.put(running.key, msgspec.msgpack.encode(told), db=self._index.purges)
        return is_done

    def abandoned(self, txn: lmdb.Transaction, is_alive: Callable[[int], bool]) -> list[RunningPurge]:
        """Those that a process had begun which is no more."""
        mine = {one.key for one in self.running}
        found = []
        alive: dict[int, bool] = {self._writer: True}
        for key, packed in rows_from(txn, self._index.purges):
            row = msgspec.msgpack.decode(packed, type=PurgeRow)
            if row.is_done or key in mine:
                continue
            if row.writer not in alive:
                alive[row.writer] = is_alive(row.writer)
            if not alive[row.writer]:
                found.append(RunningPurge(key, row.purge(), None))
        return found

    # -- steps --------------------------------------------------------------------------

    def _of_url(self, change: StoreChange, running: RunningPurge) -> bool:
        what = running.purge.what
        if not running.start and len(what) < KEPT:
            spot = change.find(what)
            if spot is not None:
                self._purge(change, running, what, what, spot)
        return self._ranged(change, running)

    def _ranged(self, change: StoreChange, running: RunningPurge) -> bool:
        purge = running.purge
        if purge.kind == "all":
            prefix = purge.namespace + b"\0"
        elif purge.kind == "url" and len(purge.what) < KEPT:
            prefix = purge.what + b"\0"
        else:
            prefix = short_prefix(purge.what)
        has_others = purge.kind != "all" and len(purge.what) >= KEPT
        found = change.range(prefix, STEP, running.start)
        for short, spot in found:
            key = short
            if has_others:
                if is_shortened(short):
                    key = change.whole_key(short, spot) or purge.what
                if not purge.concerns(key, ()):
                    continue
            self._purge(change, running, short, key, spot)
        if len(found) < STEP:
            return True
        running.start = found[-1][0] + b"\0"
        return False

    def _tagged(self, change: StoreChange, running: RunningPurge) -> bool:
        place = tag_place(running.purge.namespace, running.purge.what)
        rows: list[tuple[bytes, bytes]] = []
        for key, short in rows_from(change.txn, self._index.tags, max(running.start, place)):
            if not key.startswith(place) or len(rows) >= STEP:
                break
            rows.append((key, short))
        for key, short in rows:
            number = int.from_bytes(key[16:], "big")
            spot = change.find(short)
            if spot is not None and spot.number == number:
                self._purge(change, running, short, short, spot)
            else:
                change.txn.delete(key, db=self._index.tags)  # nobody's any more
        if len(rows) < STEP:
            return True
        running.start = rows[-1][0] + b"\0"
        return False

    @staticmethod
    def _purge(change: StoreChange, running: RunningPurge, short: bytes, key: bytes, spot: Spot) -> None:
        """key: its namespace is what counts."""
        if spot.number > running.last:
            return
        if running.purge.is_soft:
            change.soften(short, spot)
        else:
            change.remove(short, key, spot)
        running.count += 1
