"""Checks under way: at most so many in all, shared out by shares.py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pingap.stages.discovery.shares import CheckShares, Rank


class CheckGate:
    def __init__(self, loop: asyncio.AbstractEventLoop, most: int) -> None:
        self._loop = loop
        self._shares: CheckShares[asyncio.Future[None]] = CheckShares(most)

    @property
    def used(self) -> int:
        """Checks under way."""
        return self._shares.used

    @property
    def waiting(self) -> int:
        return self._shares.waiting

    @asynccontextmanager
    async def turn(self, upstream: str, rank: Rank = Rank.ROUND) -> AsyncIterator[None]:
        """Waits until a check may begin; it is under way as long as this is open."""
        ticket = self._loop.create_future()
        if not self._shares.take(upstream, ticket, rank):
            try:
                await ticket
            except asyncio.CancelledError:
                if not self._shares.withdraw(upstream, ticket):
                    self._free(upstream)  # it was its turn just then, whether it was told so or not
                raise
        try:
            yield
        finally:
            self._free(upstream)

    def _free(self, upstream: str) -> None:
        for ticket in self._shares.free(upstream):
            if not ticket.cancelled():  # else it gives that back when it comes to know, as above
                ticket.set_result(None)
