"""Images that are being converted, and those that were: the same bytes are converted once, whoever asks for them at the same time.

What came of the newest is kept, up to a number of bytes; that it was no use, too. The key is a digest of the bytes, so that
nothing of one image is ever given out for another.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final

from pingap.stages.plugins.builtin.images.work import FAILED, ConvertedImage

OVERLOADED: Final = "overloaded"
LATE: Final = "late"
"""It was not there in the time that a client waits."""

AGAIN: Final = 60.0
"""Seconds after which an image is tried again whose conversion failed."""

_ENTRY: Final = 256
"""Bytes that an entry costs besides its image."""

Convert = Callable[[], Awaitable[ConvertedImage]]


class ImageResults:
    """Of one plugin in one process."""

    def __init__(self, loop: asyncio.AbstractEventLoop, most_bytes: int, most_running: int) -> None:
        """most_bytes: of results that are kept. most_running: images that are converted, or wait for it."""
        self._loop = loop
        self._most_bytes = most_bytes
        self._most_running = most_running
        self._kept: OrderedDict[bytes, tuple[ConvertedImage, float]] = OrderedDict()
        """With when it is forgotten, in seconds of the loop."""
        self._bytes = 0
        self._running: dict[bytes, asyncio.Task[ConvertedImage]] = {}

    @property
    def kept_bytes(self) -> int:
        return self._bytes

    async def get(self, key: bytes, convert: Convert, seconds: float) -> ConvertedImage:
        """What comes of the image, if that is known within so many seconds. What has begun goes on, whoever leaves."""
        if (known := self._known(key)) is not None:
            return known
        task = self._running.get(key)
        if task is None:
            if len(self._running) >= self._most_running:
                return ConvertedImage(OVERLOADED)
            task = self._running[key] = self._loop.create_task(self._run(key, convert))
        done, _ = await asyncio.wait((task,), timeout=seconds)
        return task.result() if done and not task.cancelled() else ConvertedImage(LATE)

    def _known(self, key: bytes) -> ConvertedImage | None:
        found = self._kept.get(key)
        if found is None:
            return None
        if found[1] < self._loop.time():
            self._forget(key)
            return None
        self._kept.move_to_end(key)
        return found[0]

    async def _run(self, key: bytes, convert: Convert) -> ConvertedImage:
        try:
            result = await convert()
        finally:
            del self._running[key]
        if result.outcome != OVERLOADED:
            self._keep(key, result)
        return result

    def _keep(self, key: bytes, result: ConvertedImage) -> None:
        size = len(result.data) + _ENTRY
        if size > self._most_bytes:
            return
        self._kept[key] = result, self._loop.time() + AGAIN if result.outcome == FAILED else float("inf")
        self._bytes += size
        while self._bytes > self._most_bytes:
            self._forget(next(iter(self._kept)))

    def _forget(self, key: bytes) -> None:
        result, _ = self._kept.pop(key)
        self._bytes -= len(result.data) + _ENTRY

    def stop(self) -> None:
        """Nobody wants any more."""
        for task in list(self._running.values()):
            task.cancel()
