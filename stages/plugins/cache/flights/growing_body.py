"""A body that is still being fetched, as the body of a reply: each client reads it from the part file at its own pace.

It ends with the body, and fails with GrowthCut when what fills it fails: then the client's answer is cut off, as it would be
if the client had asked the backend itself. So is who keeps others waiting (tail.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from pingap.stages.caching.entry import CacheEntry
from pingap.stages.messages import UNKNOWN
from pingap.stages.plugins.cache.flights.growth import Growth, GrowthCut
from pingap.stages.plugins.cache.flights.tail import BodyReader
from pingap.stages.plugins.file_body import DividedBody, readers

PIECE: Final = 256 * 1024
"""Most bytes of one read."""


class GrowingBody(DividedBody):
    """May be replied as often as wanted."""

    __slots__ = ("_growth", "_reader", "length", "offset")

    def __init__(self, growth: Growth, offset: int = 0, length: int = UNKNOWN) -> None:
        """offset, length: in bytes; UNKNOWN is the rest."""
        self._growth = growth
        self._reader: BodyReader | None = None
        self.offset = offset
        whole = growth.entry.length if growth.entry.length >= 0 else growth.size if growth.is_whole else UNKNOWN
        self.length = whole - offset if length < 0 and whole >= 0 else length
        """UNKNOWN where only the end will tell."""

    @property
    def entry(self) -> CacheEntry:
        """The head of the answer."""
        return self._growth.entry

    @property
    def there(self) -> int:
        """Bytes of the whole body that are there now."""
        return self._growth.size

    def part(self, offset: int, length: int) -> GrowingBody:
        """A part of the whole body, both in bytes, which will be there: the length of the whole is known. Raises ValueError for another."""
        if offset < 0 or length < 0 or not offset + length <= self._growth.entry.length:
            raise ValueError(f"there are no {length} bytes from {offset} on, of {self._growth.entry.length}")
        return GrowingBody(self._growth, offset, length)

    def expect(self) -> GrowingBody:
        """It will be read once, or closed: what it needs is kept for it from now on. Returns itself."""
        self._reader = self._growth.begin(self.offset)
        return self

    async def aclose(self) -> None:
        """It was expected, and is not read."""
        self.close()

    def close(self) -> None:
        """As `aclose`."""
        reader, self._reader = self._reader, None
        if reader is not None:
            self._growth.ended(reader)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        reader, self._reader = self._reader or self._growth.begin(self.offset), None
        try:
            async for piece in self._pieces(reader):
                yield piece
        finally:
            self._growth.ended(reader)

    async def _pieces(self, reader: BodyReader) -> AsyncIterator[bytes]:
        growth, at = self._growth, self.offset
        end = at + self.length if self.length >= 0 else -1
        while at != end:
            there = growth.size - at
            if there <= 0:
                if growth.is_whole:
                    if end >= 0:
                        raise OSError(f"the body is shorter than was said: {end - at} bytes are missing")
                    return
                if growth.cut_by:
                    raise GrowthCut(growth.cut_by)
                await growth.news()
                continue
            piece = growth.read(at, min(there, PIECE, end - at) if end >= 0 else min(there, PIECE))
            if not isinstance(piece, bytes):
                piece = await asyncio.get_running_loop().run_in_executor(readers, piece)
            if not piece:
                raise OSError(f"the part file has become shorter: {at} bytes of {growth.size}")
            at += len(piece)
            yield piece
            if reader.is_cut:
                raise GrowthCut("overloaded")
            growth.came(reader, at)
