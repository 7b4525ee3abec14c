"""A file, a part of one, or several after each other as the body of a reply: `reply(200, FileBody(path))`.

Where accept can open the file too it is only named to it, and goes from there with sendfile. Else it is read here, in
threads, a piece each time that the client has taken enough of those before; the pieces go through this stage and accept as DATA.
"""

from __future__ import annotations

import asyncio
import os
import stat
from abc import abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from functools import partial
from typing import Any, Final, Self

from msgspec.structs import replace

from pingap.stages.messages import FileRef

PIECE: Final = 256 * 1024
"""Bytes of one read."""

WORTH: Final = 256 * 1024
"""From so many bytes on, a file is named rather than read."""

readers: Final = ThreadPoolExecutor(8, "files of plugins")
"""Of their own: a disk that hangs must hold up nobody who looks up names, say."""


Run = Callable[..., Awaitable[Any]]
"""Runs a call in a thread, as `host.in_thread` does."""


class _Descriptor:
    """An open file. It is closed when no body has it any more."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        os.close(self.number)


class SizedBody(AsyncIterable[bytes]):
    """A body whose length is told before its pieces are there. May be replied as often as wanted."""

    __slots__ = ()

    length: int
    """In bytes; negative where it is not known after all."""


class DividedBody(SizedBody):
    """One of which any part is a body, too."""

    __slots__ = ()

    offset: int
    """Where it begins, in what it is a part of."""

    @abstractmethod
    def part(self, offset: int, length: int) -> Self:
        """Another part of the same. Raises ValueError for one that there is not."""


class FileBody(DividedBody):
    """Opened when it is made, so that what cannot be opened is the plugin's to answer for. May be replied as often as wanted."""

    __slots__ = ("_file", "_in_thread", "_piece", "length", "offset", "ref", "size")

    def __init__(
        self,
        path: str | bytes | os.PathLike[str],
        offset: int = 0,
        length: int | None = None,
        *,
        descriptor: int | None = None,
        piece: int = PIECE,
        in_thread: Run | None = None,
    ) -> None:
        """offset, length: in bytes; None is the rest of the file. descriptor: of the file at `path`, if it is open already; it becomes
        the body's own, also when this raises. piece: bytes of one read. in_thread: what reads run in, `host.in_thread` say; None is
        threads that all plugins share.

        Opening and asking for its size may wait for a disk: make it in a thread where that may hang.
        Raises OSError for what cannot be opened, ValueError for what is no file and for a part that it does not have.
        """
        # A FIFO that nobody writes to would hold up the loop.
        opened = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC) if descriptor is None else descriptor
        self._file = _Descriptor(opened)
        self._in_thread = in_thread
        self._piece = piece
        found = os.fstat(opened)
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

    def part(self, offset: int, length: int) -> Self:
        """Another part of the same open file. Raises ValueError for one that it does not have."""
        if offset < 0 or length < 0 or offset + length > self.size:
            raise ValueError(f"{os.fsdecode(self.ref.path)!r} has {self.size} bytes, and not {length} from {offset} on")
        other = copy(self)
        other.offset, other.length, other.ref = offset, length, replace(self.ref, offset=offset)
        return other

    async def __aiter__(self) -> AsyncIterator[bytes]:
        run = self._in_thread or partial(asyncio.get_running_loop().run_in_executor, readers)
        at, left = self.offset, self.length
        while left:
            piece = await run(os.pread, self._file.number, min(left, self._piece), at)
            if not piece:
                raise OSError(f"the file has become shorter: {left} bytes of {self.length} are missing")
            at += len(piece)
            left -= len(piece)
            yield piece


class JoinedBody(SizedBody):
    """Bytes and files one after the other, as a body whose length is told. May be replied as often as wanted."""

    __slots__ = ("_parts", "length")

    def __init__(self, parts: Iterable[bytes | SizedBody]) -> None:
        self._parts = tuple(parts)
        self.length = sum(part.length if isinstance(part, SizedBody) else len(part) for part in self._parts)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self._parts:
            if isinstance(part, SizedBody):
                async for piece in part:
                    yield piece
            elif part:
                yield part


class UnreadBody(SizedBody):
    """The body of an answer to HEAD: nobody reads it, and its length is told."""

    __slots__ = ("length",)

    def __init__(self, length: int) -> None:
        self.length = length

    async def __aiter__(self) -> AsyncIterator[bytes]:
        raise AssertionError("the body of an answer to HEAD is read")
        yield b""  # so that it is a generator
