"""The last transformer of what is made of a stored body: it puts what comes out into the store. Interpreted: it has a `__del__`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, Final, Protocol

from pingap.stages.caching.derived import derived_entry
from pingap.stages.caching.entry import CacheEntry, StoredAnswer
from pingap.stages.plugins.exchange import Transformer

IN_MEMORY: Final = 256 * 1024
"""Bytes that are gathered before they go into a part file."""

ONE_AT_A_TIME: Final = 10.0
"""Seconds for which nobody else of this process keeps the same."""

_MOST_BEGUN: Final = 1024

_begun: Final[dict[bytes, float]] = {}
"""Key of what is being made → the second of the store's clock until which nobody else begins."""


class DerivedPart(Protocol):
    """A part file of the store's (store/part_file.py)."""

    @property
    def failure(self) -> str: ...

    def write(self, data: bytes) -> Awaitable[None] | None: ...

    def discard(self) -> None: ...


class DerivedStore(Protocol):
    """What of the store is used."""

    def now(self) -> float: ...

    def mark(self) -> int: ...

    def get(self, key: bytes) -> StoredAnswer | Awaitable[StoredAnswer | None] | None: ...

    def part(self, expected: int | None) -> Any: ...

    def put(self, key: bytes, entry: CacheEntry, body: Any, mark: int) -> asyncio.Future[int]: ...


def begin(store: DerivedStore, key: bytes) -> bool:
    """Whether this is to be kept: nobody else has begun lately."""
    now = store.now()
    if _begun.get(key, 0.0) > now:
        return False
    if len(_begun) >= _MOST_BEGUN:
        _begun.clear()
    _begun[key] = now + ONE_AT_A_TIME
    return True


class DerivedKeeper(Transformer):
    """Changes nothing. Short bodies are put when they are whole, longer ones are written as they come."""

    def __init__(self, store: DerivedStore, key: bytes, stored: StoredAnswer) -> None:
        self._store = store
        self._key = key
        self._stored = stored
        self._mark = store.mark()
        self._pieces: list[bytes] = []
        self._size = 0
        self._part: DerivedPart | None = None
        self._is_over = False

    def __del__(self) -> None:
        if self._part is not None:
            self._part.discard()  # the client has left; does nothing to one that was put

    def feed(self, data: bytes, ended: bool) -> bytes | Awaitable[bytes]:
        if self._is_over:
            return data
        self._size += len(data)
        waits = None
        if self._part is not None:
            waits = self._part.write(data)
        else:
            self._pieces.append(data)
            if self._size > IN_MEMORY:
                self._part = self._store.part(None)
                if self._part is None:
                    self._stop()
                    return data
                waits = self._part.write(b"".join(self._pieces))
                self._pieces.clear()
        if waits is not None:
            return self._written(waits, data, ended)
        if ended:
            self._end()
        return data

    async def _written(self, waits: Awaitable[None], data: bytes, ended: bool) -> bytes:
        await waits
        if ended:
            self._end()
        return data

    def _end(self) -> None:
        store, stored, part = self._store, self._stored, self._part
        self._is_over = True
        if part is not None and part.failure:
            self._stop()
            return
        entry = derived_entry(stored.entry, self._size, store.now())
        body = b"".join(self._pieces) if part is None else part
        self._pieces = []
        _begun.pop(self._key, None)
        store.put(self._key, entry, body, self._mark)

    def _stop(self) -> None:
        """There is no room. Nobody tries again for a while."""
        self._is_over = True
        self._pieces.clear()
        if self._part is not None:
            self._part.discard()
