"""The rest of a body that does not go into its part file any more: it is too large to be stored, or the disk is full.

Those who read along get it all the same, from memory: of it there is so much as they are behind, and no more comes than the slowest
of them takes. Nobody joins them. Who keeps others waiting for too long is cut off.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection
from typing import Final

ROOM: Final = 512 * 1024
"""Bytes in memory at which what comes has to wait for who reads."""

PATIENCE: Final = 5.0
"""Seconds in all for which others wait for who takes less than ROOM meanwhile, or still reads from the file."""

LOOK: Final = 0.5
"""Seconds between looks for such."""


class BodyReader:
    """Who reads a growing body, and how far it has come."""

    __slots__ = ("at", "held", "is_cut", "since")

    def __init__(self, at: int) -> None:
        self.at = at
        self.held = 0.0
        """Seconds for which it kept others waiting, lately."""
        self.since = at
        """Where it was when that began."""
        self.is_cut = False
        """It is not waited for any more, and what it would read next is gone."""


class Tail:
    """Pieces that follow each other; positions are those of the whole body."""

    __slots__ = ("_pieces", "_room", "_start", "end", "first")

    def __init__(self, start: int) -> None:
        """start: as many bytes are in the file."""
        self.first = start
        """Where it begins: what is before is in the file."""
        self._start = start
        self._pieces: deque[bytes] = deque()
        self._room: asyncio.Future[None] | None = None
        self.end = start

    def add(self, data: bytes) -> None:
        self._pieces.append(data)
        self.end += len(data)

    def read(self, at: int, count: int) -> bytes:
        """Bytes from `at` on, of one piece; at most `count`."""
        start = self._start
        for piece in self._pieces:
            if at < start + len(piece):
                return piece[at - start : at - start + count]
            start += len(piece)
        return b""

    def forget(self, slowest: int) -> None:
        """All who read have come so far."""
        while self._pieces and self._start + len(self._pieces[0]) <= slowest:
            self._start += len(self._pieces.popleft())
        room = self._room
        if room is not None and self.end - self._start < ROOM and not room.done():
            room.set_result(None)

    @property
    def is_full(self) -> bool:
        return self.end - self._start >= ROOM

    def too_slow(self, readers: Collection[BodyReader], seconds: float) -> list[BodyReader]:
        """Those whom others have waited for long enough. seconds: for which it has been full, since this was asked last."""
        found = []
        is_awaited = any(one.at >= self.end for one in readers)
        for one in readers:
            if one.at >= self.end or (one.at >= self.first and one.at - one.since >= ROOM):
                one.held, one.since = 0.0, one.at
            elif is_awaited:
                one.since = one.since if one.held else one.at
                one.held += seconds
                if one.held >= PATIENCE:
                    found.append(one)
        return found

    async def room(self) -> None:
        """Until there is room for more, or nobody is left who reads; LOOK seconds at most."""
        self._room = asyncio.get_running_loop().create_future()
        try:
            await asyncio.wait((self._room,), timeout=LOOK)
        finally:
            self._room = None

    def leave(self) -> None:
        """Nobody reads any more."""
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
