"""The rest of a body that does not go into its part file any more: it is too large to be stored, or the disk is full.

Those who read along get it all the same, from memory: of it there is so much as they are behind, and no more comes than the slowest
of them takes. Nobody joins them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

ROOM: Final = 512 * 1024
"""Bytes in memory at which what comes has to wait for who reads."""


class BodyReader:
    """Who reads a growing body, and how far it has come."""

    __slots__ = ("at",)

    def __init__(self, at: int) -> None:
        self.at = at


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

    async def room(self) -> None:
        """Until there is room for more, or nobody is left who reads."""
        self._room = asyncio.get_running_loop().create_future()
        try:
            await self._room
        finally:
            self._room = None

    def leave(self) -> None:
        """Nobody reads any more."""
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
