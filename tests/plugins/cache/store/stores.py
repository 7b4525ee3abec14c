"""What the tests of the store share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from pingap.stages.caching.entry import CacheEntry, FileSpot, StoredAnswer
from pingap.stages.caching.place import CachePlace
from pingap.stages.plugins.cache.store.cache_store import CacheStore
from pingap.stages.plugins.cache.store.places import opened

GRACE = 20.0
"""Seconds: it is open, and closed, at once."""


def entry(key: bytes, length: int = 0, **more: Any) -> CacheEntry:
    return CacheEntry(key, 200, b"content-type: text/plain\r\n", length, 0.0, 0.0, 60.0, 0.0, 0.0, 0, **more)


class Shop:
    """A store in a directory of a test, and what it has logged."""

    def __init__(self, root: Path, **place: Any) -> None:
        self.root = root
        self.place = CachePlace("disk", str(root), **place)
        self.logged: list[tuple[str, str]] = []
        self.store = self.open()

    def open(self) -> CacheStore:
        return opened(self.place, str(self.root), lambda level, text: self.logged.append((level, text)), GRACE)

    async def put(self, key: bytes, body: bytes = b"", mark: int | None = None, url: bytes = b"", **more: Any) -> int:
        mark = self.store.mark() if mark is None else mark
        return await self.store.put(key, entry(url or key, len(body), **more), body, mark)

    async def get(self, key: bytes) -> StoredAnswer | None:
        found = self.store.get(key)
        return await found if isinstance(found, Awaitable) else found

    async def body(self, key: bytes) -> bytes | None:
        found = await self.get(key)
        if found is None:
            return None
        if not isinstance(found.body, FileSpot):
            return found.body
        try:
            return Path(found.body.path).read_bytes()
        except FileNotFoundError:  # another process has evicted it since
            return None


async def until(is_so: Any) -> None:
    """Raises TimeoutError."""
    async with asyncio.timeout(20):
        while not is_so():
            await asyncio.sleep(0.005)
