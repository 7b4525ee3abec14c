"""A file, or a part of one, as the body of a reply: `reply(200, FileBody(path))`.

Where accept can open the file too it is only named to it, and goes from there with sendfile. Else it is read here, in
threads, a piece each time that the client has taken enough of those before; the pieces go through this stage and accept as DATA.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from pingap.stages.messages import FileRef

PIECE: Final = 256 * 1024
"""Bytes of one read."""

WORTH: Final = 256 * 1024
"""From so many bytes on, a file is named rather than read."""

_readers: Final = ThreadPoolExecutor(8, "files of plugins")
"""Of their own: a disk that hangs must hold up nobody who looks up names, say."""


class FileBody:
    """Opened when it is made, so that what cannot be opened is the plugin's to answer for. May be replied as often as wanted."""

    __slots__ = ("_file", "length", "offset", "ref", "size")

    def __init__(self, path: str | os.PathLike[str], offset: int = 0, length: int | None = None) -> None:
        """offset, length: in bytes; None is the rest of the file.

        Raises OSError for what cannot be opened, ValueError for what is no file and for a part that it does not have.
        """
        self._file = -1
        # A FIFO that nobody writes to would hold up the loop.
        self._file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        found = os.fstat(self._file)
        if not stat.S_ISREG(found.st_mode):
            raise ValueError(f"{os.fspath(path)!r} is no regular file")
        self.size = found.st_size
        """Bytes of the whole file."""
        self.offset = offset
        # The path may hold what is no text; and another process may have another working directory.
        name = os.fsencode(os.path.abspath(path))
        self.ref = FileRef(name, offset, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
        """What accept is told of it."""
        self.length = self.size - offset if length is None else length
        if offset < 0 or self.length < 0 or offset + self.length > self.size:
            raise ValueError(f"{os.fspath(path)!r} has {self.size} bytes, and not {self.length} from {offset} on")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        at, left = self.offset, self.length
        while left:
            piece = await loop.run_in_executor(_readers, os.pread, self._file, min(left, PIECE), at)
            if not piece:
                raise OSError(f"the file has become shorter: {left} bytes of {self.length} are missing")
            at += len(piece)
            left -= len(piece)
            yield piece

    def __del__(self) -> None:
        if self._file >= 0:
            os.close(self._file)
