"""A part file of the store as this process knows it: how much of it there is, and whether that is all.

It is opened once in each process that reads along, and stays open as long as anybody has it: what becomes of its name (put into
the store, removed) is of no matter to who reads it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Final

from pingap.stages.caching.entry import CacheEntry
from pingap.stages.plugins.cache.flights.tail import BodyReader, Tail

NOT_NOW: Final = getattr(os, "RWF_NOWAIT", 0)
"""Of preadv: only what needs no disk."""


class GrowthCut(Exception):
    """The rest of a body will not come: what fills it has failed, or others waited too long for who reads it."""

    def __init__(self, kind: str) -> None:
        super().__init__(f"the rest of a body does not come: {kind}")
        self.kind = kind
        """As in access logs (stages/errors.py)."""


class NoReaders(Exception):
    """Nobody reads what does not go into the file any more."""


class Growth:
    """Made with its file open: raises OSError where that cannot be opened."""

    __slots__ = ("_can_ask", "_number", "_readers", "_tail", "_waiting", "cut_by", "entry", "is_whole", "path", "size")

    def __init__(self, entry: CacheEntry, path: str, size: int) -> None:
        """entry: the head of the answer; its `length` is that of the whole body, or less than 0 while nobody knows. size: bytes there."""
        # The file has just been made by a process of this host, so that its name needs no disk.
        self._number = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
        self._can_ask = bool(NOT_NOW)
        """The file system knows reads that do not wait."""
        self._waiting: dict[asyncio.Future[None], None] = {}
        self._readers: list[BodyReader] = []
        self._tail: Tail | None = None
        self.path = path
        self.entry = entry
        self.size = size
        self.is_whole = 0 <= entry.length <= size
        self.cut_by = ""
        """Why the rest will not come, an error kind; "" while it may."""

    def __del__(self) -> None:
        if hasattr(self, "_number"):
            os.close(self._number)

    @property
    def is_over(self) -> bool:
        """Nothing will be added any more."""
        return self.is_whole or bool(self.cut_by)

    def grew(self, size: int) -> None:
        """There are so many bytes now."""
        if size > self.size and not self.is_over:
            self.size = size
            if 0 <= self.entry.length <= size:
                self.is_whole = True
            self._wake()

    def end(self, size: int) -> None:
        """These are all."""
        if not self.is_over:
            self.size = max(self.size, size)
            self.is_whole = True
            self._wake()

    def cut(self, kind: str) -> None:
        """No more will come, and something is missing; unless it was whole already."""
        if not self.is_over:
            self.cut_by = kind
            self._wake()

    @property
    def is_read(self) -> bool:
        """Somebody in this process does."""
        return bool(self._readers)

    # -- who reads it here --------------------------------------------------------------

    def begin(self, at: int) -> BodyReader:
        """Somebody reads from there on. `ended` has to follow."""
        reader = BodyReader(at)
        self._readers.append(reader)
        return reader

    def came(self, reader: BodyReader, at: int) -> None:
        """It has come so far."""
        reader.at = at
        self._forget()

    def _forget(self) -> None:
        if self._tail is not None and self._readers:
            self._tail.forget(min(one.at for one in self._readers))

    def ended(self, reader: BodyReader) -> None:
        """It reads no more."""
        if reader in self._readers:
            self._readers.remove(reader)
            self._forget()
            if self._tail is not None and not self._readers:
                self._tail.leave()

    def spill(self, data: bytes) -> Awaitable[None] | None:
        """What follows does not go into the file. To be awaited before more comes. Raises NoReaders when nobody reads it."""
        if not self._readers:
            raise NoReaders
        tail = self._tail
        if tail is None:
            tail = self._tail = Tail(self.size)
        tail.add(data)
        self.size = tail.end
        self._wake()
        return self._spilled(tail) if tail.is_full else None

    @property
    def is_full(self) -> bool:
        """More is awaited until some of it has been read."""
        return self._tail is not None and self._tail.is_full and bool(self._readers)

    async def _spilled(self, tail: Tail) -> None:
        loop = asyncio.get_running_loop()
        looked = loop.time()
        while tail.is_full:
            if not self._readers:
                raise NoReaders
            await tail.room()
            now = loop.time()
            for slow in tail.too_slow(self._readers, now - looked):
                slow.is_cut = True
                self.ended(slow)
            looked = now

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for one in waiting:
            if not one.done():
                one.set_result(None)

    async def news(self) -> None:
        """Until it has grown, or is over."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[waiter] = None
        try:
            await waiter
        finally:
            self._waiting.pop(waiter, None)

    def read(self, at: int, count: int) -> bytes | Callable[[], bytes]:
        """Bytes of it; or, when a disk has to be asked, what reads them in a thread. Raises OSError."""
        tail = self._tail
        if tail is not None:
            found = tail.read(at, count) if at >= tail.first else b""
            if found:
                return found
            count = min(count, tail.first - at)
        if self._can_ask:
            buffer = bytearray(count)
            try:
                got = os.preadv(self._number, [buffer], at, NOT_NOW)
            except BlockingIOError:
                return lambda: os.pread(self._number, count, at)
            except OSError:
                self._can_ask = False  # tmpfs knows no such reads, and has no disk
            else:
                return bytes(memoryview(buffer)[:got])
        return os.pread(self._number, count, at)
