"""A part of a body that goes past the cache.

The cache asks the backend for the whole, since that is what it can store. When the answer turns out not to be storable, as a video that
is larger than `max_file_size`, the client gets the part that it has asked for all the same, cut out of what comes. The rest is not
waited for. The next request for a part of it goes to the backend as it is, for as long as that is remembered.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable
from typing import Final

from pingap.stages.conditions import is_unchanged, means_another, validators_of
from pingap.stages.plugins.as_asked import asked_spans
from pingap.stages.plugins.cache.flights.growth import GrowthCut, NoReaders
from pingap.stages.plugins.file_body import SizedBody
from pingap.stages.ranges import Spans

AHEAD: Final = 4
"""Pieces that are kept for a client that reads slowly."""


def parts_asked_for(request: bytes, block: bytes, size: int) -> Spans | None:
    """Which parts a request wants of a 200 with this header block; [] for none that there is; None: the whole. size: bytes of its body."""
    if request.find(b"range: ") < 0:
        return None
    known = validators_of(block)
    return None if is_unchanged(request, known) or means_another(request, known) else asked_spans(request, known, size)


class PassingPart(SizedBody):
    """Where such a body goes, as `FillSink`, and what its client reads: once."""

    __slots__ = ("_cut_by", "_is_closed", "_left", "_news", "_pieces", "_room", "_skip", "length")

    def __init__(self, first: int, length: int) -> None:
        """Both in bytes; there are so many."""
        self.length = length
        self._skip = first
        self._left = length
        """Bytes that have not come."""
        self._pieces: deque[bytes] = deque()
        self._news: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._cut_by = ""
        self._is_closed = False

    # -- the fill ----------------------------------------------------------------------

    @property
    def has_end(self) -> bool:
        return True

    def is_wanted(self) -> bool:
        return not self._is_closed

    def is_full(self) -> bool:
        return len(self._pieces) >= AHEAD

    def write(self, data: bytes) -> Awaitable[None] | None:
        """The next bytes of the whole body. Raises NoReaders when the part is complete, or its client has left."""
        if self._is_closed:
            raise NoReaders
        skipped = min(self._skip, len(data))
        self._skip -= skipped
        piece = data[skipped : skipped + self._left]
        if not piece:
            return None
        self._left -= len(piece)
        self._pieces.append(piece)
        _wake(self._news)
        if not self._left:
            raise NoReaders
        return self._taken() if self.is_full() else None

    async def _taken(self) -> None:
        while self.is_full() and not self._is_closed:
            self._room = asyncio.get_running_loop().create_future()
            await self._room

    def ended(self) -> None:
        """The whole was shorter than its head had said, if something is missing."""
        self.failed("bad_gateway")

    def failed(self, kind: str) -> None:
        """There will be no more."""
        if self._left:
            self._cut_by = kind
            _wake(self._news)

    # -- the client ---------------------------------------------------------------------

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            while True:
                while self._pieces:
                    piece = self._pieces.popleft()
                    _wake(self._room)
                    yield piece
                if not self._left:
                    return
                if self._cut_by:
                    raise GrowthCut(self._cut_by)
                self._news = asyncio.get_running_loop().create_future()
                await self._news
        finally:
            self.close()

    def close(self) -> None:
        """Nobody reads it any more."""
        self._is_closed = True
        self._pieces.clear()
        _wake(self._room)

    async def aclose(self) -> None:
        """As `close`, of one that was not begun."""
        self.close()


def _wake(waits: asyncio.Future[None] | None) -> None:
    if waits is not None and not waits.done():
        waits.set_result(None)
