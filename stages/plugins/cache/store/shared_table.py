"""A small file that all processes of a store have mapped: how often each entry was asked for, ghosts, the room, and whether
the store is over.

All of it is allocated when it is made, so that writing there cannot fail later. Processes write without a lock: what counts is
a byte of its own each time, and a touch that gets lost does no harm.
"""

from __future__ import annotations

import mmap
import os
from typing import Final

from pingap.stages.plugins.cache.store.eviction import MOST_TOUCHES
from pingap.stages.plugins.cache.store.ghosts import Ghosts

MAGIC: Final = b"pingap cache table 1\n"
HEADER: Final = 4096
_OVER: Final = 64
"""Byte of the header that says that another generation of the store has begun."""

_ROOM: Final = 72
"""Of the header: where the room is told, in eight bytes."""

AGES: Final = 64
"""Times of the last touch that are told apart: the six upper bits of an entry's byte; its count is in the others."""


class SharedTable:
    def __init__(self, path: str, slots: int = 0) -> None:
        """slots: makes it anew with so many; 0 opens one that is there. Raises OSError, and ValueError for a file that is none."""
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(path, flags | os.O_CREAT | os.O_EXCL if slots else flags, 0o600)
        try:
            if slots:
                os.posix_fallocate(fd, 0, HEADER + 3 * slots)
                os.pwrite(fd, MAGIC, 0)
            self.size = os.fstat(fd).st_size
            if self.size <= HEADER or (self.size - HEADER) % 3 or os.pread(fd, len(MAGIC), 0) != MAGIC:
                raise ValueError("not a table of the cache's")
            self._map = mmap.mmap(fd, self.size)
        finally:
            os.close(fd)
        self.slots = (self.size - HEADER) // 3
        self._touches = HEADER + 2 * self.slots
        self._view = memoryview(self._map)[HEADER : self._touches]
        self.ghosts = Ghosts(self._view)

    @property
    def room(self) -> int:
        """Bytes that the store may take, for all processes; 0: as many as there are."""
        return int.from_bytes(self._map[_ROOM : _ROOM + 8], "little")

    def set_room(self, count: int) -> None:
        """Not a setter: compiled, that of a number is called with what it does not take."""
        self._map[_ROOM : _ROOM + 8] = count.to_bytes(8, "little")

    def is_over(self) -> bool:
        return self._map[_OVER] != 0

    def end(self) -> None:
        """Tells all processes that they have to open the store anew."""
        self._map[_OVER] = 1

    def touch(self, slot: int, age: int) -> None:
        """Counts that an entry was asked for. age: now, as one of AGES."""
        at = self._touches + slot % self.slots
        old = self._map[at]
        count = old & 3
        new = age << 2 | (count + 1 if count < MOST_TOUCHES else count)
        if new != old:
            self._map[at] = new

    def touches(self, slot: int) -> int:
        return self._map[self._touches + slot % self.slots] & 3

    def age(self, slot: int) -> int:
        """When it was touched last, as one of AGES."""
        return self._map[self._touches + slot % self.slots] >> 2

    def set(self, slot: int, touches: int, age: int) -> None:
        self._map[self._touches + slot % self.slots] = age << 2 | touches

    def close(self) -> None:
        self.ghosts.release()
        self._view.release()
        self._map.close()
