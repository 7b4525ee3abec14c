"""What the committer is asked for. Each has a future of the loop, that is told what came of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from pingap.stages.caching.entry import CacheEntry
from pingap.stages.plugins.cache.store.part_file import PartFile
from pingap.stages.plugins.cache.store.purge_log import Purge


@dataclass(slots=True, eq=False)
class Order:
    future: asyncio.Future[int]
    is_settled: bool = field(default=False, kw_only=True)
    """Its future is told, or will be. Of the committer's thread."""


@dataclass(slots=True, eq=False)
class PutOrder(Order):
    key: bytes
    entry: CacheEntry
    body: bytes | PartFile
    mark: int


@dataclass(slots=True, eq=False)
class ReplaceOrder(Order):
    key: bytes
    entry: CacheEntry
    number: int


@dataclass(slots=True, eq=False)
class DropOrder(Order):
    key: bytes
    number: int


@dataclass(slots=True, eq=False)
class PurgeOrder(Order):
    purge: Purge


@dataclass(slots=True, eq=False)
class RoomOrder(Order):
    """Part files have grown: others are told, and what is too much goes."""


@dataclass(slots=True, eq=False)
class LimitOrder(Order):
    namespace: bytes
    most: int
    """Bytes; 0: as many as the store has."""
