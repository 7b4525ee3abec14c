"""What the owner of keys decides: who fetches, who waits, and what becomes of those. No I/O and no clock: times are monotonic
seconds that come in, and what is to be said comes out, for whoever it is.

A **flight** is the fetch of one key by one process. At most one is **current**: an ask with a newer change of the key than the
flight began with (a purge) is let begin another, and the older one serves those that asked before. Who asks waits for a flight that
is new enough; a flight that has just been let begin is as new as all that wait.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from heapq import heappop, heappush
from typing import Final, NamedTuple

from pingap.stages.messages import FlightAsk, FlightNews, FlightTold, owner_of
from pingap.stages.plugins.cache.flights.back_off import BackOff, Failing, is_unreachable
from pingap.stages.plugins.cache.flights.states import CUT, GROWS, LIVING, NOT_STORABLE, STORED, FlightId
from pingap.stages.plugins.cache.flights.unstorable import UnstorableKeys
from pingap.stages.plugins.cache.flights.verdicts import ALONE, FAILED, FETCH, HELD, JOIN, LOOK

MOST: Final = 16_384
"""Asks that wait at one owner, of all keys."""

MOST_OF_KEY: Final = 4096
"""And of one. Beyond these who asks is told FAILED ("overloaded"), and not ALONE: so many wait where an origin is slow and
its answer wanted, and that is when it must not be asked by all of them at once."""

Telling = tuple[int, FlightTold]
"""To whom, and what."""


class _Flight:
    """One that is on its way."""

    __slots__ = ("since", "state")

    def __init__(self, since: int, state: int) -> None:
        self.since = since
        self.state = state


class _HeldAsk(NamedTuple):
    ask: FlightAsk
    until: float
    """Its own deadline."""
    knows: bool
    """It has been told that the origin is not to be reached."""


class _FlownKey:
    """Flights and asks of one key, in the order in which they came."""

    __slots__ = ("due", "flights", "waiting")

    def __init__(self) -> None:
        self.flights: dict[FlightId, _Flight] = {}
        self.waiting: dict[FlightId, _HeldAsk] = {}
        self.due = 0.0
        """The end of a back-off at which who waits has its turn; 0 for none."""

    def current(self, since: int) -> tuple[FlightId, _Flight] | None:
        """The newest flight, if it is of use to who asks with `since`."""
        found = None
        for flight_id, flight in self.flights.items():
            if flight.since >= since and (found is None or flight.since > found[1].since):
                found = flight_id, flight
        return found


class FlightTable:
    """Of one owner."""

    def __init__(self, me: int, unstorable: UnstorableKeys, may_begin: Callable[[str], bool]) -> None:
        """may_begin: False while others may have flights of a key of which is not known yet."""
        self._me = me
        self._may_begin = may_begin
        self._unstorable = unstorable
        self._back_off = BackOff()
        self._keys: dict[str, _FlownKey] = {}
        self._waiting = 0
        self._due: list[tuple[float, str]] = []
        """When back-offs end of keys for which somebody waits: a heap."""

    def __len__(self) -> int:
        """Keys that are fetched or waited for."""
        return len(self._keys)

    @property
    def waiting(self) -> int:
        """Asks that wait."""
        return self._waiting

    def failing(self, name: str, now: float) -> Failing | None:
        """None unless nobody is to try for a while."""
        failing = self._back_off.of(name, now)
        return failing if failing is not None and now < failing.again else None

    # -- asks ---------------------------------------------------------------------

    def asked(self, ask: FlightAsk, now: float) -> FlightTold:
        """The verdict, for now: one that is HELD is told more later."""
        name = ask.name
        seconds = self._unstorable.left(name, ask.since, now)
        if seconds > 0:
            return self._told(ask, ALONE, reason="unstorable", seconds=seconds)
        key = self._keys.get(name)
        current = key.current(ask.since) if key is not None else None
        failing = self._back_off.of(name, now)
        if current is not None:
            if current[1].state == GROWS:
                return self._told(ask, JOIN, fetcher=current[0][0], flight=current[0][1])
        elif failing is not None and now < failing.end(ask.has_stale):
            if self._is_hopeless(ask, now + ask.lock, failing):
                return self._told(ask, FAILED, reason=failing.kind, seconds=failing.end(ask.has_stale) - now)
        elif self._may_begin(name):
            if key is None:
                key = self._keys[name] = _FlownKey()
            return self._begin(key, ask)
        if self._waiting >= MOST or (key is not None and len(key.waiting) >= MOST_OF_KEY):
            return self._told(ask, FAILED, reason="overloaded", seconds=1.0)
        if key is None:
            key = self._keys[name] = _FlownKey()
        reason = failing.kind if failing is not None else ""
        key.waiting[ask.asker, ask.ticket] = _HeldAsk(ask, now + ask.lock, is_unreachable(reason))
        self._waiting += 1
        if failing is not None and now < failing.soon:
            self._await(name, key, failing.soon)
        return self._told(ask, HELD, reason=reason)

    def left(self, asker: int, ticket: int, name: str, now: float) -> list[Telling]:
        """It waits no more; or it was let fetch when it had left."""
        key = self._keys.get(name)
        if key is None:
            return []
        flight_id = asker, ticket
        self._drop(key, flight_id)
        key.flights.pop(flight_id, None)
        return self._advance(name, key, now)

    # -- flights --------------------------------------------------------------------

    def news(self, news: FlightNews, now: float) -> list[Telling]:
        """What has become of a flight; also of one that this owner did not know."""
        name, flight_id, state = news.name, (news.fetcher, news.flight), news.state
        key = self._keys.get(name)
        if key is None:
            key = self._keys[name] = _FlownKey()
        flight = key.flights.get(flight_id)
        if state in LIVING:
            if flight is None:
                key.flights[flight_id] = flight = _Flight(news.since, state)
            flight.state = state
            found = self._tell(key, flight.since, JOIN, fetcher=news.fetcher, flight=news.flight) if state == GROWS else []
            return found + self._advance(name, key, now)
        since = flight.since if flight is not None else news.since
        key.flights.pop(flight_id, None)
        found = []
        if state == STORED:
            self._back_off.succeeded(name)
            self._unstorable.forget(name)
            found = self._tell(key, since, LOOK)
        elif state == NOT_STORABLE:
            self._back_off.succeeded(name)
            if news.seconds > 0:
                self._unstorable.remember(name, news.seconds, since, now)
            found = self._tell(key, since, ALONE, reason="unstorable", seconds=news.seconds)
        elif state == CUT:
            found = self._failed(key, self._back_off.failed(name, news.reason, now), now)
        return found + self._advance(name, key, now)

    def _failed(self, key: _FlownKey, failing: Failing, now: float) -> list[Telling]:
        """Who has no hope of another try, or need not wait for it, is told so; the others know from now on whether it can be reached."""
        known = is_unreachable(failing.kind)
        found: list[Telling] = []
        for flight_id, (ask, until, knows) in list(key.waiting.items()):
            if key.current(ask.since) is not None:
                continue
            if self._is_hopeless(ask, until, failing):
                self._drop(key, flight_id)
                found.append((ask.asker, self._told(ask, FAILED, reason=failing.kind, seconds=max(0.0, failing.end(ask.has_stale) - now))))
            elif knows != known:
                key.waiting[flight_id] = _HeldAsk(ask, until, known)
                found.append((ask.asker, self._told(ask, HELD, reason=failing.kind)))
        return found

    def _is_hopeless(self, ask: FlightAsk, until: float, failing: Failing) -> bool:
        return ask.has_stale or (is_unreachable(failing.kind) and until <= failing.soon)

    def _tell(
        self, key: _FlownKey, since: int, verdict: int, reason: str = "", seconds: float = 0.0, fetcher: int = 0, flight: int = 0
    ) -> list[Telling]:
        """All who wait and asked no later than with `since`."""
        asks = [one.ask for one in key.waiting.values() if one.ask.since <= since]
        for ask in asks:
            self._drop(key, (ask.asker, ask.ticket))
        return [(ask.asker, self._told(ask, verdict, since, reason, seconds, fetcher, flight)) for ask in asks]

    def _begin(self, key: _FlownKey, ask: FlightAsk) -> FlightTold:
        """It fetches; and as that begins now, it is of use to all who wait."""
        since = max((one.ask.since for one in key.waiting.values()), default=ask.since)
        since = max(since, ask.since)
        key.flights[ask.asker, ask.ticket] = _Flight(since, 0)
        return self._told(ask, FETCH, since)

    def _advance(self, name: str, key: _FlownKey, now: float) -> list[Telling]:
        """The first that waits for no flight has its turn, unless the key is backed off."""
        if not key.waiting:
            if not key.flights:
                del self._keys[name]
            return []
        alone = next((one.ask for one in key.waiting.values() if key.current(one.ask.since) is None), None)
        if alone is None or not self._may_begin(name):
            return []
        failing = self._back_off.of(name, now)
        if failing is not None and now < failing.soon:
            self._await(name, key, failing.soon)
            return []
        self._drop(key, (alone.asker, alone.ticket))
        return [(alone.asker, self._begin(key, alone))]

    def _await(self, name: str, key: _FlownKey, due: float) -> None:
        if key.due != due:
            key.due = due
            heappush(self._due, (due, name))

    def _drop(self, key: _FlownKey, flight_id: FlightId) -> None:
        if key.waiting.pop(flight_id, None) is not None:
            self._waiting -= 1

    def _told(
        self,
        ask: FlightAsk,
        verdict: int,
        since: int = 0,
        reason: str = "",
        seconds: float = 0.0,
        fetcher: int = 0,
        flight: int = 0,
    ) -> FlightTold:
        return FlightTold(ask.ticket, self._me, ask.name, verdict, since, reason, seconds, fetcher, flight)

    # -- time and deaths ----------------------------------------------------------------

    def next_due(self) -> float | None:
        """When `due` is to be called; None for never."""
        return self._due[0][0] if self._due else None

    def due(self, now: float) -> list[Telling]:
        """Back-offs are over."""
        found: list[Telling] = []
        while self._due and self._due[0][0] <= now:
            _, name = heappop(self._due)
            key = self._keys.get(name)
            if key is not None:
                found += self._advance(name, key, now)
        return found

    def settled(self, now: float) -> list[Telling]:
        """There may be more that may begin."""
        found: list[Telling] = []
        for name, key in list(self._keys.items()):
            found += self._advance(name, key, now)
        return found

    def gone(self, gone: Set[int], now: float) -> list[Telling]:
        """Actors have died: what they asked and fetched is nobody's, and so is what their streams asked for."""
        found: list[Telling] = []
        for name, key in list(self._keys.items()):
            for flight_id, (ask, _, _) in list(key.waiting.items()):
                if ask.asker in gone or owner_of(ask.sid) in gone:
                    self._drop(key, flight_id)
            for flight_id in [flight_id for flight_id in key.flights if flight_id[0] in gone]:
                del key.flights[flight_id]
            found += self._advance(name, key, now)
        return found

    def forget(self, is_mine: Callable[[str], bool]) -> None:
        """Keys have other owners now: who asked and who fetches sees that, and tells them."""
        for name in [name for name in self._keys if not is_mine(name)]:
            self._waiting -= len(self._keys.pop(name).waiting)
