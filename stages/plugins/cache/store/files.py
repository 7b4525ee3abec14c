"""The files of one generation of a store: segments that records are appended to and read from, and large bodies.

s<number>               a segment
b<writer>-<which>       a body, or one that grows (part_file.py)
w<writer>               locked for as long as that process has the store open
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from typing import Final

KEPT_OPEN: Final = 256
"""Segments that a process has open for reading."""

RWF_NOWAIT: Final = getattr(os, "RWF_NOWAIT", 0)


class StoreFiles:
    """Reading is for the loop's thread, all else for the committer's."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._reading: dict[int, int] = {}
        """Descriptors by segment."""

    # -- reading, on the loop -----------------------------------------------------------

    def read(self, segment: int, offset: int, size: int) -> bytes:
        """Fewer bytes than asked for when it was freed or cut. Raises OSError."""
        fd = self._reading.get(segment)
        if fd is None:
            fd = self._open(segment)
        return os.pread(fd, size, offset)

    def read_now(self, segment: int, offset: int, size: int) -> bytes | None:
        """The same if nothing has to be waited for, else None. Raises OSError."""
        fd = self._reading.get(segment)
        if fd is None:
            fd = self._open(segment)
        room = bytearray(size)
        try:
            count = os.preadv(fd, (room,), offset, RWF_NOWAIT)
        except BlockingIOError:
            return None
        return bytes(room) if count == size else None

    def close_reading(self, segment: int) -> None:
        fd = self._reading.pop(segment, None)
        if fd is not None:
            os.close(fd)

    def close_freed(self) -> None:
        """Those that have been removed since."""
        for segment, fd in list(self._reading.items()):
            if not os.fstat(fd).st_nlink:
                self.close_reading(segment)

    def close(self) -> None:
        for segment in list(self._reading):
            self.close_reading(segment)

    def _open(self, segment: int) -> int:
        if len(self._reading) >= KEPT_OPEN:
            self.close_reading(next(iter(self._reading)))
        fd = os.open(self.segment_path(segment), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        self._reading[segment] = fd
        return fd

    # -- in any thread ------------------------------------------------------------------

    def segment_path(self, segment: int) -> str:
        return f"{self.path}/s{segment}"

    def body_path(self, file: int) -> str:
        return f"{self.path}/b{file >> 32}-{file & 0xFFFFFFFF}"

    def read_fresh(self, segment: int, offset: int, size: int) -> bytes:
        """With a descriptor of its own: in a thread. Raises OSError."""
        fd = os.open(self.segment_path(segment), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            return os.pread(fd, size, offset)
        finally:
            os.close(fd)

    def remove_segment(self, segment: int) -> None:
        """Its space is free at once, though others may have it open: they read less than they want, and miss."""
        path = self.segment_path(segment)
        with suppress(OSError):
            os.truncate(path, 0)
        with suppress(OSError):
            os.unlink(path)

    def remove_body(self, file: int) -> None:
        """Who sends it goes on."""
        with suppress(OSError):
            os.unlink(self.body_path(file))

    def join(self, writer: int) -> int:
        """Says that a writer lives, for as long as the descriptor is open. Raises OSError."""
        fd = os.open(f"{self.path}/w{writer}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return fd

    def is_alive(self, writer: int) -> bool:
        """As far as is known: who cannot look, for want of descriptors say, takes nobody for dead."""
        try:
            fd = os.open(f"{self.path}/w{writer}", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(fd)
        return False

    def leave(self, writer: int) -> None:
        with suppress(OSError):
            os.unlink(f"{self.path}/w{writer}")
