"""Claims on shared limits, from both sides: asking the replica that owns a key, and being asked (bus/PROTOCOL.md section 8).

The asker hears of the end of a stream (DONE or CANCEL from accept) and passes it on, so
that the owner need not be known to accept. Should the asker or accept die, the owner sees
that in the members table and gives their places back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any, Final

from pingap.bus.actor import Context
from pingap.bus.members import Members
from pingap.stages.messages import Claim, Done, accept_of
from pingap.stages.messages import Claimed as ClaimedMessage
from pingap.stages.plugins.api import Claimed
from pingap.stages.plugins.exchange import Exchange
from pingap.stages.plugins.limits import INFLIGHT, Limits

WAIT: Final = 1.0
"""Seconds that the owner of a key has to answer; then the request passes."""

_KEPT: Final = 4096
"""Owners remembered: finding one hashes the key, which costs more than the rest."""


class Claims:
    """See above. Times are monotonic seconds."""

    def __init__(self, context: Context, clock: Callable[[], float] = monotonic) -> None:
        self._context = context
        self._clock = clock
        self._limits = Limits()
        self._owners: dict[str, int] = {}
        self._asking: dict[tuple[int, str], asyncio.Future[Claimed]] = {}
        self._held: dict[int, set[int]] = {}
        """Stream → owners with whom it has, or may have, a place."""

    def claim(self, exchange: Exchange, key: str, args: tuple[Any, ...]) -> Claimed | Awaitable[Claimed]:
        """Whether a request is within its limit. A place in flight is given back by `ended`."""
        sid, me = exchange.routed.sid, self._context.id
        owner = self._owner(key)
        if args[0] == INFLIGHT:
            exchange._watches = True
            self._held.setdefault(sid, set()).add(owner)
        if owner == me:
            return Claimed(*self._limits.claim(key, args, sid, me, self._clock()))
        future = self._asking[sid, key] = self._context.loop.create_future()
        self._context.send(owner, Claim(sid, me, key, args))
        return self._answer(sid, key, future)

    async def _answer(self, sid: int, key: str, future: asyncio.Future[Claimed]) -> Claimed:
        try:
            return await asyncio.wait_for(future, WAIT)
        except TimeoutError:
            # The owner is busy, or has just died: a limit is no reason to turn away who may well be within it.
            self._context.count("limit_claims_unanswered")
            return Claimed(True, 0.0)
        finally:
            self._asking.pop((sid, key), None)

    def claimed(self, message: ClaimedMessage) -> None:
        """CLAIMED."""
        future = self._asking.get((message.sid, message.key))
        if future is not None and not future.done():
            future.set_result(Claimed(message.allowed, message.value))

    def asked(self, claim: Claim) -> None:
        """CLAIM: another replica asks."""
        allowed, value = self._limits.claim(claim.key, claim.args, claim.sid, claim.asker, self._clock())
        self._context.send(claim.asker, ClaimedMessage(claim.sid, claim.key, allowed, value))

    def ended(self, sid: int) -> None:
        """The stream is over, or another replica says so of one of its own."""
        for owner in self._held.pop(sid, ()):
            if owner != self._context.id:
                self._context.send(owner, Done(sid))
        self._limits.release(sid)

    @property
    def held(self) -> int:
        """Streams that this replica asked places for."""
        return len(self._held)

    def members_changed(self, gone: frozenset[int]) -> None:
        self._owners.clear()
        if not gone:
            return
        for sid in [sid for sid in self._held if accept_of(sid) in gone]:
            self.ended(sid)
        self._limits.forget(lambda sid, asker: accept_of(sid) in gone or asker in gone)
        for owners in self._held.values():
            owners -= gone

    def _owner(self, key: str) -> int:
        owner = self._owners.get(key)
        if owner is None:
            members: Members = self._context.members
            ready = members.ready("plugins")
            # Nobody ready (we are being started or drained): then it is us.
            owner = members.owner("plugins", key) if len(ready) > 1 else ready[0].id if ready else self._context.id
            if len(self._owners) >= _KEPT:
                self._owners.clear()
            self._owners[key] = owner
        return owner
