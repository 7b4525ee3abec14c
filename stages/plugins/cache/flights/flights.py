"""Single-flight over all replicas: `ask`, and do what the answer says (flight_answer.py).

The owner of a key (stages/owners.py) knows who fetches it and who waits; an owner that asks itself sends nothing. What happens when
somebody dies, as all see it in the table of actors:

- **Who fetches dies**: the owner lets the next that waits fetch. Who read along is cut off, unless all of the body was there.
- **The owner dies**, or a key moves because a replica joins or leaves: who waits asks the new owner, who fetches tells it so.
- **Who waits dies**, or its stream ends: it is forgotten; if it was just let fetch, the next is.
- **The owner is silent** for WAIT seconds: who asks goes alone. Single-flight protects an origin, it must not become the outage.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Set
from hashlib import blake2b
from time import monotonic
from typing import Final

from msgspec.structs import replace

from pingap.bus.actor import Context
from pingap.stages.messages import FlightAsk, FlightGrew, FlightJoin, FlightLeft, FlightNews, FlightsAsk, FlightsKnown, FlightTold, owner_of
from pingap.stages.owners import Owners
from pingap.stages.plugins.cache.flights.back_off import is_unreachable
from pingap.stages.plugins.cache.flights.flight_answer import FlightAnswer
from pingap.stages.plugins.cache.flights.growing_body import GrowingBody
from pingap.stages.plugins.cache.flights.growth import Growth
from pingap.stages.plugins.cache.flights.joins import Joins
from pingap.stages.plugins.cache.flights.known import KnownOfKey
from pingap.stages.plugins.cache.flights.lease import FlightLease
from pingap.stages.plugins.cache.flights.settling import Settling
from pingap.stages.plugins.cache.flights.states import GROWS, GROWS_ON, LIVING, NOT_STORABLE, STORED
from pingap.stages.plugins.cache.flights.table import FlightTable, Telling
from pingap.stages.plugins.cache.flights.unstorable import UnstorableKeys
from pingap.stages.plugins.cache.flights.verdicts import ALONE, FAILED, FETCH, HELD, JOIN
from pingap.stages.waits import Waits

WAIT: Final = 1.0
"""Seconds that the owner of a key has to answer, and the one that fetches it to tell of its body."""

MOST: Final = 16_384
"""Asks of one process that wait. Beyond these: FAILED ("overloaded"); table.py says why not ALONE."""

MOST_JOINS: Final = 4
"""Times that one ask tries to read along where it turns out each time that there is nothing to be read any more."""

FOLLOW: Final = 10.0
"""Seconds between two times that who fetches is told of those that read along elsewhere."""

_NO_LOCK: Final = FlightAnswer(ALONE, reason="no_lock")


def name_of(store: str, key: bytes) -> str:
    """What owners and messages call a key: as short for every key, and not to be made alike on purpose."""
    return blake2b(key, digest_size=20, key=blake2b(store.encode("utf-8", "surrogateescape"), digest_size=16).digest()).hexdigest()


def _unlist(table: dict[int, set[int]], sid: int, number: int) -> None:
    numbers = table.get(sid)
    if numbers is not None:
        numbers.discard(number)
        if not numbers:
            del table[sid]


class _OpenAsk:
    """One that has no answer yet."""

    __slots__ = ("answer", "ask", "failing", "flight", "held", "joins", "lock", "number", "owner", "until")

    def __init__(self, ask: FlightAsk, owner: int, until: float, answer: asyncio.Future[FlightAnswer]) -> None:
        self.ask = ask
        """As it was asked last: under a new ticket each time."""
        self.number = ask.ticket
        """Of all of them."""
        self.owner = owner
        self.lock = ask.lock
        self.until = until
        self.answer = answer
        self.failing = ""
        """What the fetch has failed with last that it waits for."""
        self.flight: tuple[int, int] | None = None
        """Which it wants to follow: the owner has no part in it any more."""
        self.joins = 0
        self.held = 0.0
        """Since when (monotonic) it waits for another's fetch; 0 for not at all."""


class Flights:
    """Those of one actor."""

    def __init__(self, context: Context, clock: Callable[[], float] = monotonic) -> None:
        self._context = context
        self._clock = clock
        self._me = context.id
        self._owners = Owners(context)
        self._unstorable = UnstorableKeys()
        self._settling = Settling(context, clock, self._settled)
        self._table = FlightTable(context.id, self._unstorable, self._settling.may_begin)
        self._early: list[FlightAsk | FlightNews | FlightLeft] = []
        """What came by a table of actors that this process has not seen yet."""
        self._joins = Joins(context, self._joined)
        self._ticket = 0
        self._asks: dict[int, _OpenAsk] = {}
        """By their ticket."""
        self._open: dict[int, _OpenAsk] = {}
        """By their number."""
        self._leases: dict[int, FlightLease] = {}
        """By their ticket."""
        self._asks_of: dict[int, set[int]] = {}
        """By their stream: numbers of asks."""
        self._leases_of: dict[int, set[int]] = {}
        """By their stream: tickets of leases."""
        self._unanswered: Waits[int, _OpenAsk] = Waits(context, WAIT, clock, self._was_silent)
        self._locks: dict[float, Waits[int, _OpenAsk]] = {}
        """By their seconds: as many as there are in the configuration."""
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._follow_at = 0.0

    def __len__(self) -> int:
        """Fetches that this process has."""
        return len(self._leases)

    @property
    def waiting(self) -> int:
        """Asks of this process that have no answer yet."""
        return len(self._open)

    # -- asking -----------------------------------------------------------------------

    def ask(
        self, store: str, key: bytes, sid: int, since: int, lock: float, has_stale: bool = False
    ) -> FlightAnswer | Awaitable[FlightAnswer]:
        """May this stream fetch the key? At once, or within `lock` seconds.

        store: the name of the store, the same in all processes. since: the number of the newest change (purge) of the key that is
        known here; a fetch that began with an older one is not joined. lock: seconds; 0 is no single-flight. has_stale: it is not to
        wait for the end of a back-off.
        The stream must be watched (`exchange._watches`), so that `ended` is called when it is over.
        """
        if lock <= 0:
            return _NO_LOCK
        name, now = name_of(store, key), self._clock()
        seconds = self._unstorable.left(name, since, now)
        if seconds > 0:
            return FlightAnswer(ALONE, reason="unstorable", seconds=seconds)
        if len(self._open) >= MOST:
            return FlightAnswer(FAILED, reason="overloaded", seconds=1.0)
        owner = self._owners.of(name)
        ask = FlightAsk(self._next(), self._me, sid, name, since, lock, has_stale, self._context.members.seq)
        told = None
        if owner == self._me:
            told = self._table.asked(ask, now)
            answer = self._answer_of(ask, owner, told, False)
            if answer is not None:
                return answer
            self._schedule()
        one = _OpenAsk(ask, owner, now + lock, self._context.loop.create_future())
        self._open[one.number] = self._asks[ask.ticket] = one
        self._asks_of.setdefault(sid, set()).add(one.number)
        one.answer.add_done_callback(lambda answer: self._gave_up(one) if answer.cancelled() else None)
        waits = self._locks.get(lock)
        if waits is None:
            waits = self._locks[lock] = Waits(self._context, lock, self._clock, self._lock_over)
        waits.add(one.number, one)
        if told is None:
            self._unanswered.add(one.number, one)
            self._context.send(owner, ask)
        else:
            self._hold(one, told)
        return one.answer

    def known(self, store: str, key: bytes, since: int) -> KnownOfKey:
        """For people. Arguments as of `ask`."""
        name, now = name_of(store, key), self._clock()
        failing = self._table.failing(name, now)
        if failing is None:
            return KnownOfKey(self._unstorable.left(name, since, now))
        return KnownOfKey(self._unstorable.left(name, since, now), failing.again - now, failing.soon - now, failing.kind)

    def storable(self, store: str, key: bytes, since: int) -> None:
        """An answer has come that may be stored, to one who fetches alone: who asks from now on waits for who fetches. Arguments as of
        `ask`. Other processes than this one and the owner remember what they know until it is over, or such an answer comes to them."""
        name = name_of(store, key)
        if self._unstorable.forget(name) and (owner := self._owners.of(name)) != self._me:
            self._hear(owner, FlightNews(self._next(), self._me, name, STORED, since, seq=self._context.members.seq))

    def _next(self) -> int:
        self._ticket += 1
        return self._ticket

    def _answer_of(self, ask: FlightAsk, owner: int, told: FlightTold, is_late: bool) -> FlightAnswer | None:
        """None for what has to wait on."""
        verdict = told.verdict
        if verdict == FETCH:
            lease = FlightLease(self, ask.ticket, ask.name, ask.sid, told.since, owner)
            self._leases[ask.ticket] = lease
            self._leases_of.setdefault(ask.sid, set()).add(ask.ticket)
            return FlightAnswer(FETCH, lease=lease, is_late=is_late)
        if verdict == JOIN:
            growth = self._joins.of((told.fetcher, told.flight))
            return FlightAnswer(JOIN, body=GrowingBody(growth)) if growth is not None else None
        if verdict == HELD:
            return None
        if verdict == ALONE and told.seconds > 0:
            self._unstorable.remember(ask.name, told.seconds, max(ask.since, told.since), self._clock())
        return FlightAnswer(verdict, reason=told.reason, seconds=told.seconds, is_late=is_late)

    def _hold(self, one: _OpenAsk, told: FlightTold) -> None:
        """HELD, or JOIN of what has to be asked for first."""
        one.held = one.held or self._clock()
        if told.verdict == JOIN:
            # It has ended just now; or has died, as the owner will have seen before it answers the next.
            if told.fetcher == self._me or self._context.members.is_dead(told.fetcher):
                self._again(one, True)
                return
            one.flight = told.fetcher, told.flight
            self._unanswered.add(one.number, one)
            self._joins.join(one.flight, one.number)
        else:
            one.failing = told.reason or one.failing

    def told(self, told: FlightTold) -> None:
        """FLIGHT_TOLD. Who has left meanwhile has told the owner so; but that may have overtaken what was sent on."""
        one = self._asks.get(told.ticket)
        if one is None:
            if told.verdict == FETCH:
                self._left_to(told.teller, FlightLeft(told.ticket, self._me, told.name, self._context.members.seq))
            return
        self._unanswered.take(one.number)
        answer = self._answer_of(one.ask, told.teller, told, True)
        if answer is None:
            self._hold(one, told)
        else:
            self._settle(one, answer)

    def _settle(self, one: _OpenAsk, answer: FlightAnswer) -> None:
        """It has its answer."""
        if one.held:
            answer = answer._replace(waited=self._clock() - one.held)
        self._drop(one)
        if not one.answer.done():
            one.answer.set_result(answer)
        elif answer.lease is not None:
            answer.lease.ended()

    def _drop(self, one: _OpenAsk) -> None:
        """It waits for nothing any more."""
        self._asks.pop(one.ask.ticket, None)
        self._open.pop(one.number, None)
        self._unanswered.take(one.number)
        waits = self._locks.get(one.lock)
        if waits is not None:
            waits.take(one.number)
            if not len(waits):
                waits.stop()
                del self._locks[one.lock]
        if one.flight is not None:
            self._joins.forget(one.flight, one.number)
        _unlist(self._asks_of, one.ask.sid, one.number)

    def _leave(self, one: _OpenAsk) -> None:
        """Tells the owner that it waits no more."""
        if one.flight is None:
            self._left_to(one.owner, FlightLeft(one.ask.ticket, self._me, one.ask.name, one.ask.seq))

    def _left_to(self, owner: int, left: FlightLeft) -> None:
        if owner == self._me:
            self._deliver(self._table.left(left.asker, left.ticket, left.name, self._clock()))
        elif not self._context.members.is_dead(owner):
            self._context.send(owner, left)

    def _gave_up(self, one: _OpenAsk) -> None:
        """Whoever awaited it was cancelled."""
        if one.number in self._open:
            self._drop(one)
            self._leave(one)

    def _was_silent(self, number: int, one: _OpenAsk) -> None:
        self._context.count("cache_flights_unanswered")
        self._leave(one)
        self._settle(one, FlightAnswer(ALONE, reason="owner_silent"))

    def _lock_over(self, number: int, one: _OpenAsk) -> None:
        self._leave(one)
        self._waited_enough(one)

    def _waited_enough(self, one: _OpenAsk) -> None:
        """It goes alone; but not where the origin was not to be reached meanwhile, or all would in the end."""
        is_down = is_unreachable(one.failing)
        self._settle(one, FlightAnswer(FAILED, reason=one.failing) if is_down else FlightAnswer(ALONE, reason="lock_over"))

    def _again(self, one: _OpenAsk, was_join: bool) -> None:
        """Asks anew, under another ticket: the owner is another one, or what it wanted to follow is not there any more."""
        self._asks.pop(one.ask.ticket, None)
        one.flight = None
        one.joins += was_join
        now = self._clock()
        ask = one.ask
        if one.joins > MOST_JOINS:
            self._settle(one, FlightAnswer(ALONE, reason="cannot_join"))
            return
        if one.until <= now:
            self._waited_enough(one)
            return
        one.ask = FlightAsk(self._next(), self._me, ask.sid, ask.name, ask.since, one.until - now, ask.has_stale, self._context.members.seq)
        one.owner = self._owners.of(ask.name)
        self._asks[one.ask.ticket] = one
        if one.owner == self._me:
            self._unanswered.take(one.number)
            self.told(self._table.asked(one.ask, now))
            self._schedule()
        else:
            self._unanswered.add(one.number, one)
            self._context.send(one.owner, one.ask)

    def _joined(self, number: int, growth: Growth | None) -> None:
        """The head of a flight elsewhere has come, or there is none any more."""
        one = self._open.get(number)
        if one is None:
            return
        if growth is None:
            self._again(one, True)
        else:
            self._settle(one, FlightAnswer(JOIN, body=GrowingBody(growth)))

    def ended(self, sid: int) -> None:
        """The stream is over, in whatever way: it waits no more, and fetches no more unless the lease is kept."""
        for number in self._asks_of.pop(sid, ()):
            one = self._open.get(number)
            if one is not None:  # else it was let fetch just now, in place of another of its stream
                self._leave(one)
                self._settle(one, FlightAnswer(FAILED, reason="client_closed"))
        for ticket in self._leases_of.pop(sid, ()):
            lease = self._leases.get(ticket)
            if lease is not None and not lease.is_kept:
                lease.ended()

    # -- fetches of this process ----------------------------------------------------------

    def changed(self, lease: FlightLease, is_news: bool, seconds: float, reason: str) -> None:
        """A lease has a new state."""
        if lease.state == GROWS:
            self._joins.begun(lease)
        elif lease.state != GROWS_ON:
            self._joins.ended(lease)
        if lease.is_over:
            self._leases.pop(lease.ticket, None)
            _unlist(self._leases_of, lease.sid, lease.ticket)
        if seconds > 0:
            self._unstorable.remember(lease.name, seconds, lease.since, self._clock())
        if is_news:
            self._tell_owner(lease, seconds, reason)

    def _tell_owner(self, lease: FlightLease, seconds: float = 0.0, reason: str = "") -> None:
        state = NOT_STORABLE if lease.state == GROWS_ON else lease.state
        seq = self._context.members.seq
        self._hear(lease.owner, FlightNews(lease.ticket, self._me, lease.name, state, lease.since, seconds, reason, seq))

    def _hear(self, owner: int, news: FlightNews) -> None:
        if owner == self._me:
            self._deliver(self._table.news(news, self._clock()))
        else:
            self._context.send(owner, news)

    def grown(self, lease: FlightLease) -> None:
        """There is more of a body."""
        self._joins.grown(lease)

    def follow(self, now: float) -> None:
        """To be called often: says every FOLLOW seconds what of others is still read here. now: monotonic seconds."""
        if now >= self._follow_at:
            self._follow_at = now + FOLLOW
            self._joins.follow()

    def join_asked(self, join: FlightJoin) -> None:
        """FLIGHT_JOIN."""
        self._joins.asked(join, self._leases.get(join.flight))

    def grew(self, grew: FlightGrew) -> None:
        """FLIGHT_GREW."""
        self._joins.grew(grew)

    # -- being the owner --------------------------------------------------------------------

    def asked(self, ask: FlightAsk) -> None:
        """FLIGHT_ASK."""
        members = self._context.members
        if members.is_dead(ask.asker) or members.is_dead(owner_of(ask.sid)):
            return  # nobody waits for the answer
        if self._is_owner(ask):
            self._deliver([(ask.asker, self._table.asked(ask, self._clock()))])

    def news(self, news: FlightNews) -> None:
        """FLIGHT_NEWS."""
        if news.state in LIVING and self._context.members.is_dead(news.fetcher):
            return
        if self._is_owner(news):
            self._hear(self._me, news)

    def left(self, left: FlightLeft) -> None:
        """FLIGHT_LEFT."""
        if self._is_owner(left):
            self._left_to(self._me, left)

    def _is_owner(self, message: FlightAsk | FlightNews | FlightLeft) -> bool:
        """Else it is kept until the table is here by which it was sent, or sent on by a newer one. With the same table all agree."""
        seq = self._context.members.seq
        if message.seq > seq:
            if len(self._early) < MOST:
                self._early.append(message)
            return False
        owner = self._owners.of(message.name)
        if owner == self._me or message.seq == seq:
            return True
        # Who fetches tells the new owner by itself that it does, and what is sent on might come behind its outcome.
        if not (isinstance(message, FlightNews) and message.state in LIVING):
            self._context.send(owner, replace(message, seq=seq))
        return False

    def flights_asked(self, ask: FlightsAsk) -> None:
        """FLIGHTS_ASK."""
        self._settling.asked(ask)

    def flights_known(self, known: FlightsKnown) -> None:
        """FLIGHTS_KNOWN."""
        self._settling.known(known)

    def _settled(self) -> None:
        self._deliver(self._table.settled(self._clock()))

    def _deliver(self, tellings: list[Telling]) -> None:
        for to, told in tellings:
            if to == self._me:
                self.told(told)
            else:
                self._context.send(to, told)
        self._schedule()

    # -- time and deaths -----------------------------------------------------------------------

    def _schedule(self) -> None:
        """A timer for the end of the next back-off for which somebody waits."""
        due = self._table.next_due()
        if due is None or (self._timer is not None and self._timer_at <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = due
        self._timer = self._context.loop.call_later(max(0.0, due - self._clock()), self._timed)

    def _timed(self) -> None:
        self._timer = None
        self._deliver(self._table.due(self._clock()))

    def sweep(self) -> None:
        """Does what is due by now."""
        self._settling.sweep()
        self._unanswered.sweep()
        for waits in list(self._locks.values()):
            waits.sweep()
        self._deliver(self._table.due(self._clock()))

    def members_changed(self, gone: Set[int]) -> None:
        """A new table of actors; `gone` are those that it no longer names."""
        owners, me = self._owners, self._me
        owners.forget()
        self._settling.members_changed()
        if gone:
            for sid in [sid for sid in (*self._asks_of, *self._leases_of) if owner_of(sid) in gone]:
                self.ended(sid)
        self._table.forget(lambda name: owners.of(name) == me)
        if gone:
            self._deliver(self._table.gone(gone, self._clock()))
        for lease in list(self._leases.values()):
            lease.joined -= gone
            owner = owners.of(lease.name)
            if owner != lease.owner:
                lease.owner = owner
                if lease.state in LIVING:
                    self._tell_owner(lease)
        for one in list(self._open.values()):
            if one.flight is None and owners.of(one.ask.name) != one.owner:
                if one.owner != me:  # the table of this one has forgotten it
                    self._leave(one)
                self._again(one, False)
        if gone:
            self._joins.gone(gone)
        self._settling.answer()
        early, self._early = self._early, []
        for message in early:
            if isinstance(message, FlightAsk):
                self.asked(message)
            elif isinstance(message, FlightNews):
                self.news(message)
            else:
                self.left(message)
        self._settled()

    def stop(self) -> None:
        """No deadline is kept any more."""
        self._settling.stop()
        self._unanswered.stop()
        for waits in self._locks.values():
            waits.stop()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
