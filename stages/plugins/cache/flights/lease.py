"""A fetch of this process, from its turn to its outcome. Whoever is given one says what becomes of it, once: all later words are
without effect, so that `ended()` may stand wherever something can go wrong."""

from __future__ import annotations

from typing import Protocol

from pingap.stages.caching.entry import CacheEntry
from pingap.stages.plugins.cache.flights.growing_body import GrowingBody
from pingap.stages.plugins.cache.flights.growth import Growth
from pingap.stages.plugins.cache.flights.states import BEGUN, CUT, GIVEN_UP, GROWS, GROWS_ON, LIVING, NOT_STORABLE, STORED, WHOLE


class GrowingPart(Protocol):
    """Of a part file of the store, what is needed here."""

    @property
    def path(self) -> str:
        """Absolute."""

    @property
    def size(self) -> int:
        """Bytes written."""


class LeaseHolder(Protocol):
    """Who hears of it: `Flights`."""

    def changed(self, lease: FlightLease, is_news: bool, seconds: float, reason: str) -> None:
        """There is a new state. is_news: the owner of the key is to hear of it."""

    def grown(self, lease: FlightLease) -> None:
        """There is more of the body."""


class FlightLease:
    """The right to fetch one key, and the duty to tell of it."""

    __slots__ = (
        "_holder",
        "_part",
        "growth",
        "is_followed",
        "is_kept",
        "joined",
        "name",
        "owner",
        "sid",
        "since",
        "state",
        "ticket",
    )

    def __init__(self, holder: LeaseHolder, ticket: int, name: str, sid: int, since: int, owner: int) -> None:
        self._holder = holder
        self._part: GrowingPart | None = None
        self.ticket = ticket
        self.name = name
        self.sid = sid
        """The stream that asked. With it ends a lease that is not kept."""
        self.since = since
        self.owner = owner
        """Who hears of it."""
        self.state = BEGUN
        self.growth: Growth | None = None
        self.joined: set[int] = set()
        """Other processes that read along, or have."""
        self.is_followed = False
        """One of them has said so since this was set to False."""
        self.is_kept = False

    @property
    def is_over(self) -> bool:
        """Nothing more is to be said."""
        return self.state not in LIVING and self.state != GROWS_ON

    def keep(self) -> None:
        """The fetch goes on when its client leaves."""
        self.is_kept = True

    def growing(self, entry: CacheEntry, part: GrowingPart) -> GrowingBody:
        """The head is here, and the body goes into a part file: others may read along. The lease is kept from now on. Returns what the
        client reads, as often as wanted. Raises OSError where the file cannot be opened; RuntimeError after the outcome."""
        if self.state != BEGUN:
            raise RuntimeError("this fetch has begun to grow already, or is over")
        self.growth = Growth(entry, part.path, part.size)
        self._part = part
        self.is_kept = True
        self._become(GROWS)
        return GrowingBody(self.growth)

    def grew(self) -> None:
        """More has been written to the part file."""
        growth, part = self.growth, self._part
        if growth is not None and part is not None and not growth.is_over:
            growth.grew(part.size)
            self._holder.grown(self)

    def whole(self) -> None:
        """All of the body is written: who reads along has it all. The store has not yet taken it."""
        if self.state == GROWS:
            self._end_growth("")
            self._become(WHOLE)
        elif self.state == GROWS_ON:
            self._end_growth("")
            self._become(NOT_STORABLE)

    def stored(self) -> None:
        """The store has it, for whoever looks from now on."""
        if self.state in LIVING:
            self._end_growth("")
            self._become(STORED)

    def unstorable(self, ttl: float) -> None:
        """The answer is not to be stored. ttl: seconds for which others need not wait for one another; 0 for what says nothing of others.
        With a body that grows (too large, as it turns out) nobody joins any more, and who has gets the rest: say `grew` and `whole`."""
        if self.state in LIVING:
            self._become(GROWS_ON if self.state == GROWS else NOT_STORABLE, ttl)

    def outgrown(self, ttl: float) -> None:
        """The answer is too large to be stored, or cannot be: who reads along in this process goes on (`Growth.spill`), others are cut
        off. ttl: as of `unstorable`."""
        if not self.is_over:
            self._become(NOT_STORABLE, ttl)

    def failed(self, kind: str) -> None:
        """The origin has failed. kind: of stages/errors.py."""
        if not self.is_over:
            self._end_growth(kind)
            self._become(CUT, 0.0, kind)

    def ended(self) -> None:
        """There is nothing to say of the origin: the client has left, say. The next may try. A body that is not whole is cut off."""
        if not self.is_over:
            self._end_growth("internal")
            self._become(GIVEN_UP)

    def _end_growth(self, cut_by: str) -> None:
        growth, part = self.growth, self._part
        if growth is None or part is None or growth.is_over:
            return
        if cut_by:
            growth.cut(cut_by)
        else:
            growth.end(part.size)

    def _become(self, state: int, seconds: float = 0.0, reason: str = "") -> None:
        was_told = self.state == GROWS_ON
        self.state = state
        self._holder.changed(self, not was_told, seconds, reason)
        if self.is_over:
            self._part = None
