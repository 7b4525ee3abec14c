"""A file of the system, read again when it has changed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Final, Generic, TypeVar

T = TypeVar("T")

LARGEST: Final = 16 * 1024 * 1024
"""Bytes of it that are read."""


class KeptFile(Generic[T]):
    """What `parse` makes of its text; that of an empty one when it is not there."""

    def __init__(self, path: str, parse: Callable[[str], T]) -> None:
        self._path = path
        self._parse = parse
        self._mark: tuple[int, ...] | None = None
        self._lock = asyncio.Lock()
        self._value = parse("")

    async def value(self) -> T:
        """As of now. A file that cannot be read leaves what it said before."""
        async with self._lock:
            try:
                found = os.stat(self._path)
                mark: tuple[int, ...] = (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)
            except OSError:
                mark = ()
            if mark != self._mark:
                try:
                    # In a thread: lists of a hundred thousand names are about.
                    self._value = await asyncio.to_thread(self._read) if mark else self._parse("")
                except OSError:
                    return self._value
                self._mark = mark
            return self._value

    def _read(self) -> T:
        with open(self._path, "rb") as file:
            return self._parse(file.read(LARGEST).decode("utf-8", "replace"))
