"""Opens the bodies that are files of a store's, and reads them, so that the loop waits for no disk."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from pingap.stages.caching.entry import FileSpot
from pingap.stages.plugins.file_body import FileBody

PATIENCE: Final = 5.0
"""Seconds that a disk has to open a file, or to read a piece of one."""

_disk: Final = ThreadPoolExecutor(8, "files of the cache")
"""Of their own: when this disk hangs, files of plugins are served all the same."""


class BodyGone(Exception):
    """The body that an entry names cannot be had: the request is a miss."""

    def __init__(self, why: str, *, is_lost: bool) -> None:
        super().__init__(why)
        self.is_lost = is_lost
        """The entry is of no use any more. Else it may be there later: no descriptor is left, or the disk does not answer."""


def open_stored(spot: FileSpot, length: int) -> FileBody | Awaitable[FileBody]:
    """The file, which has to have `length` bytes. Raises BodyGone, at once or when it is awaited."""
    return _opened(spot.path, length, _at_once) if spot.is_in_memory else _opened_later(spot.path, length)


async def _opened_later(path: str, length: int) -> FileBody:
    try:
        body: FileBody = await _in_thread(_opened, path, length, _in_thread)
    except TimeoutError as error:
        raise BodyGone("the disk does not answer", is_lost=False) from error
    return body


def _opened(path: str, length: int, run: Callable[..., Awaitable[Any]]) -> FileBody:
    try:
        body = FileBody(path, in_thread=run)
    except (OSError, ValueError) as error:
        raise BodyGone(str(error), is_lost=getattr(error, "errno", errno.ENOENT) == errno.ENOENT) from error
    if body.size != length:
        raise BodyGone(f"{path!r} has {body.size} bytes and not {length}", is_lost=True)
    return body


async def _at_once(call: Callable[..., Any], *args: Any) -> Any:
    return call(*args)


async def _in_thread(call: Callable[..., Any], *args: Any) -> Any:
    async with asyncio.timeout(PATIENCE):
        return await asyncio.get_running_loop().run_in_executor(_disk, call, *args)
