"""A body that grows in a file of the store: the file that it stays in when it is put, under the same name.

It belongs to its process until then: when that dies its space is found again (housekeeping.py).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final

_writers: Final = ThreadPoolExecutor(4, "cache part files")


class PartFile:
    """Used on the loop. Whoever wants to read it opens `path`."""

    def __init__(
        self,
        path: str,
        file: int,
        most: int,
        is_waiting: bool,
        expected: int,
        may_grow: Callable[[int, int], bool],
        freed: Callable[[int, bool], None],
    ) -> None:
        """most: bytes that it may have. is_waiting: writing may wait for a disk. expected: bytes that are reserved for it.

        may_grow: is asked before each write (its bytes, and how many of them are to be reserved).
        freed: is told of all that was reserved when it ends, and whether an entry has it. Raises OSError.
        """
        self.path = path
        self.file = file
        self.size = 0
        """Bytes that are written, and can be read."""
        self.failure = ""
        """Why not all was written that was given: then it is no good any more, and what was written before can still be read."""
        self.reserved = expected
        """Bytes of the store's room that are counted for it."""
        self._most = most
        self._is_waiting = is_waiting
        self._may_grow = may_grow
        self._freed = freed
        self._is_ours = True
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def write(self, data: bytes) -> Awaitable[None] | None:
        """None: it is written, or `failure` says why not. Never raises. One at a time: what it returns is awaited before the next."""
        if self.failure or not data:
            return None
        if self._fd < 0:
            self.failure = "it is closed"
        elif self.size + len(data) > self._most:
            self.failure = "too large"
        elif not self._reserve(len(data)):
            self.failure = "no room"
        elif self._is_waiting:
            return self._write_in_thread(data)
        else:
            try:
                self._grow(self._write(data))
            except OSError as error:
                self.failure = error.strerror or str(error)
        return None

    def discard(self) -> None:
        """It is not wanted any more. Who has opened it can go on reading. Does nothing after a put, or twice."""
        if self._is_ours:
            self._is_ours = False
            self._freed(self.reserved, False)
            self.close()
            with suppress(OSError):
                os.unlink(self.path)

    def close(self) -> None:
        """Nothing more is written."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def take(self) -> None:
        """The store has it now; it counts until `settle`."""
        self._is_ours = False
        self.close()

    def settle(self, is_kept: bool) -> None:
        """The store has decided."""
        self._freed(self.reserved, is_kept)
        if not is_kept:
            with suppress(OSError):
                os.unlink(self.path)

    async def _write_in_thread(self, data: bytes) -> None:
        fd = os.dup(self._fd)  # it may be discarded meanwhile
        try:
            self._grow(await asyncio.get_running_loop().run_in_executor(_writers, _write_all, fd, data, self.size))
        except OSError as error:
            self.failure = error.strerror or str(error)
        finally:
            os.close(fd)

    def _write(self, data: bytes) -> int:
        return _write_all(self._fd, data, self.size)

    def _reserve(self, count: int) -> bool:
        more = max(0, self.size + count - self.reserved)
        if not self._is_ours or not self._may_grow(count, more):
            return False
        self.reserved += more
        return True

    def _grow(self, count: int) -> None:
        if self._is_ours:
            self.size += count


def _write_all(fd: int, data: bytes, at: int) -> int:
    left = memoryview(data)
    while left:
        count = os.pwrite(fd, left, at)
        at += count
        left = left[count:]
    return len(data)
