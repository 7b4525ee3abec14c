"""What a fetch comes to, for those that wait for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pingap.stages.errors import KINDS
from pingap.stages.plugins.cache.flights.lease import FlightLease

if TYPE_CHECKING:
    from pingap.stages.plugins.cache.store.cache_store import CacheStore


def fails_others(kind: str) -> bool:
    """Whoever asked next would fail of the same: it is the backend, or the way to it, and not this request or this process."""
    known = KINDS.get(kind)
    return known is not None and (known.source == "upstream" or kind == "overloaded")


def tell(lease: FlightLease, stored: asyncio.Future[int], store: CacheStore, place: bytes, mark: int) -> None:
    """Tells those that wait for it, when the store has decided. stored: the number that it has there, 0 where it was not kept."""

    def decided(done: asyncio.Future[int]) -> None:
        if done.cancelled() or done.exception() is not None:
            lease.ended()
        elif done.result():
            lease.stored()
        elif store.purged_at(place) > mark:
            lease.ended()  # it was purged meanwhile; who waits for what there is now fetches it
        else:
            lease.unstorable(0.0)  # there is no room: they would fetch it one after the other

    stored.add_done_callback(decided)
