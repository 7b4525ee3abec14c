"""Where a fill goes: a part file of the store, which becomes the body of what is stored; clients read it as it grows."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from pingap.stages.caching.entry import CacheEntry
from pingap.stages.plugins.cache.flights.growing_body import GrowingBody
from pingap.stages.plugins.cache.flights.growth import Growth
from pingap.stages.plugins.cache.flights.lease import FlightLease
from pingap.stages.plugins.cache.outcomes import fails_others, tell
from pingap.stages.plugins.cache.parts import CacheParts

if TYPE_CHECKING:
    from pingap.stages.plugins.cache.store.part_file import PartFile

TOO_LARGE: Final = 3600.0
"""Seconds for which it is remembered that an answer was too large: what is so seldom becomes small, and who asks for a part of it is best
served by the backend."""


class StoreSink:
    """Of one fill."""

    def __init__(self, parts: CacheParts, key: bytes, entry: CacheEntry, part: PartFile, mark: int, lease: FlightLease | None) -> None:
        """key: what it is stored under, perhaps a variant's. mark: the store's, from before it was asked for. Raises OSError."""
        self._parts = parts
        self._key = key
        self._entry = entry
        self._part = part
        self._mark = mark
        self._lease = lease
        self._most = parts.rules.max_file_size
        self._is_outgrown = False
        self._is_let_grow = False
        """It is not stored, and goes on in the file, for other processes that read along."""
        if lease is not None:
            self.body = lease.growing(entry, part)
            assert lease.growth is not None
            self._growth = lease.growth
        else:
            self._growth = Growth(entry, part.path, part.size)
            self.body = GrowingBody(self._growth)

    @property
    def has_end(self) -> bool:
        return self._entry.length >= 0

    def is_wanted(self) -> bool:
        """Since this was asked last somebody has read it; other processes say so now and then."""
        lease = self._lease
        is_followed = lease is not None and lease.is_followed
        if lease is not None:
            lease.is_followed = False
        return is_followed or self._growth.is_read

    def is_full(self) -> bool:
        return self._growth.is_full

    def write(self, data: bytes) -> Awaitable[None] | None:
        """The next bytes."""
        if self._is_outgrown:
            return self._growth.spill(data)
        if self._most and self._part.size + len(data) > self._most and not self._is_let_grow:
            if self._lease is None or not self._lease.joined:
                return self._outgrow(data, TOO_LARGE)
            self._is_let_grow = True
            self._lease.unstorable(TOO_LARGE)
        waits = self._part.write(data)
        if waits is not None:
            return self._written(waits, data)
        if self._part.failure:
            return self._outgrow(data, 0.0)
        self._grew()
        return None

    async def _written(self, waits: Awaitable[None], data: bytes) -> None:
        await waits
        if not self._part.failure:
            self._grew()
        elif (spilled := self._outgrow(data, 0.0)) is not None:
            await spilled

    def _outgrow(self, data: bytes, ttl: float) -> Awaitable[None] | None:
        """It is not stored after all; those who read it here get the rest past the file, at their own pace."""
        self._is_outgrown = True
        self._part.discard()
        if self._lease is not None:
            self._lease.outgrown(ttl)
        return self._growth.spill(data)

    def _grew(self) -> None:
        if self._lease is not None:
            self._lease.grew()
        else:
            self._growth.grew(self._part.size)

    def ended(self) -> None:
        """All of it is there."""
        if self._is_outgrown:
            self._growth.end(self._growth.size)
            return
        size = self._part.size
        lease = self._lease
        if lease is not None:
            lease.whole()
        else:
            self._growth.end(size)
        if self._is_let_grow:
            self._part.discard()
            return
        stored: asyncio.Future[int] = self._parts.store.put(self._key, replace(self._entry, length=size), self._part, self._mark)
        if lease is not None:
            tell(lease, stored, self._parts.store, self._key, self._mark)

    def failed(self, kind: str) -> None:
        """The rest does not come."""
        self._part.discard()
        self._growth.cut(kind)  # who reads along hears of this kind, whatever becomes of the lease
        if self._lease is not None and fails_others(kind):
            self._lease.failed(kind)
        elif self._lease is not None:
            self._lease.ended()
