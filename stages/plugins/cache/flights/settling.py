"""Keys that have just come to this owner: nobody is let fetch one until all others have told of their fetches.

A replica that joins, drains or dies moves keys. Who fetches one tells the new owner so as soon as it sees the table; until then
that would let fetch a second time. So it asks the other replicas, if it is asked for such a key at all (FLIGHTS_ASK): each answers
(FLIGHTS_KNOWN) when it has seen the same table and told of what it fetches. One that is silent holds it up for WAIT seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from pingap.bus.actor import Context
from pingap.bus.members import STARTING, Member
from pingap.stages.messages import FlightsAsk, FlightsKnown
from pingap.stages.owners import owner_among

WAIT: Final = 1.0
"""Seconds after a new table in which all others should have seen it."""


class Settling:
    """Of one owner."""

    def __init__(self, context: Context, clock: Callable[[], float], over: Callable[[], None]) -> None:
        """over: there may be more that may begin."""
        self._context = context
        self._clock = clock
        self._over = over
        self._me = context.id
        self._ready: tuple[Member, ...] = ()
        self._before: tuple[Member, ...] = ()
        """The owners before the change that is settled."""
        self._until = 0.0
        self._peers: set[int] = set()
        """Those that have not told yet."""
        self._is_asked = False
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: dict[int, int] = {}
        """Who wants to know when this one has seen which table."""

    def may_begin(self, name: str) -> bool:
        """All flights of a key that this replica owns are known to it."""
        if not self._peers:
            return True
        left = self._until - self._clock()
        if left <= 0:
            self._peers.clear()
            return True
        if owner_among(name, self._before) == self._me:
            return True
        if not self._is_asked:
            self._is_asked = True
            for actor in self._peers:
                self._context.send(actor, FlightsAsk(self._context.members.seq, self._me))
            if self._timer is None:
                self._timer = self._context.loop.call_later(left, self._timed)
        return False

    def _timed(self) -> None:
        self._timer = None
        if self._peers and self._until > self._clock():  # the table has changed again
            self._timer = self._context.loop.call_later(self._until - self._clock(), self._timed)
        else:
            self.sweep()

    def sweep(self) -> None:
        """Does what is due by now."""
        if self._peers and self._until <= self._clock():
            self._peers.clear()
            self._over()

    def members_changed(self) -> None:
        """A new table of actors."""
        members = self._context.members
        ready = members.ready(self._context.stage)
        if {one.id for one in ready} != {one.id for one in self._ready}:
            self._before = () if self._peers else self._ready
            self._until = self._clock() + WAIT
            self._peers = {one.id for one in members.of_stage(self._context.stage) if one.state != STARTING and one.id != self._me}
            self._is_asked = False
        elif self._peers:
            self._peers &= members.by_id.keys()
            self._is_asked = False
        self._ready = ready

    def answer(self) -> None:
        """This replica has told of all that it fetches, by the newest table."""
        members = self._context.members
        for asker, seq in list(self._waiting.items()):
            if seq <= members.seq:
                del self._waiting[asker]
                self._tell(asker)

    def asked(self, ask: FlightsAsk) -> None:
        """FLIGHTS_ASK: another replica has new keys."""
        if ask.seq <= self._context.members.seq:
            self._tell(ask.asker)
        else:
            self._waiting[ask.asker] = ask.seq

    def _tell(self, asker: int) -> None:
        if not self._context.members.is_dead(asker):
            self._context.send(asker, FlightsKnown(self._context.members.seq, self._me))

    def known(self, known: FlightsKnown) -> None:
        """FLIGHTS_KNOWN. One that has seen a newer table may have told another owner: it is asked again with that."""
        if known.seq == self._context.members.seq and known.teller in self._peers:
            self._peers.discard(known.teller)
            if not self._peers:
                self._over()

    def stop(self) -> None:
        """No deadline is kept any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
