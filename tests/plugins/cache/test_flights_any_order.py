"""Flights while replicas join, drain and die, see tables late, and messages of different senders overtake one another."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pingap.bus.members import DRAINING, READY, STARTING, Members
from pingap.stages.plugins.cache.flights.verdicts import ALONE, FAILED, FETCH
from tests.plugins.cache.fleet import ACCEPT, Asked, FlightFleet, entry_of

pytestmark = pytest.mark.slow

KEYS = (b"a", b"b")


class FlightsInAnyOrder(RuleBasedStateMachine):
    """Messages lie in a queue for each pair of replicas, tables in one for each replica, until they are delivered."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.asked: list[tuple[int, bytes, Asked]] = []
        """Replica, key, and what it heard."""
        self.queues: dict[tuple[int, int], deque[Any]] = {}
        self.tables: dict[int, deque[tuple[Members, frozenset[int]]]] = {}
        self.sids = itertools.count((ACCEPT << 32) + 1)
        self.seq = 100
        self.run(self._start())

    async def _start(self) -> None:
        self.fleet = FlightFleet()

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    async def _collect(self) -> None:
        await asyncio.sleep(0)
        for actor, replica in self.fleet.replicas.items():
            for to, message in replica.context.sent:
                self.queues.setdefault((actor, to), deque()).append(message)
            replica.context.sent = []

    def announce(self, gone: frozenset[int] = frozenset()) -> None:
        self.seq += 1
        rows: list[Any] = [(actor, "accept", actor, "", READY) for actor in self.fleet.accepts]
        rows += [(actor, "s", actor % 100, "", state) for actor, state in self.fleet.states.items()]
        members = Members.of(self.seq, max(self.fleet.replicas), rows)
        for actor in self.fleet.states:
            self.tables.setdefault(actor, deque()).append((members, gone))

    async def _see(self, actor: int) -> None:
        members, gone = self.tables[actor].popleft()
        self.fleet[actor].context.members = members
        self.fleet[actor].flights.members_changed(gone)
        await self._collect()

    async def _deliver(self, pair: tuple[int, int]) -> None:
        message = self.queues[pair].popleft()
        if pair[1] in self.fleet.states:
            self.fleet[pair[1]].hand(message)
        await self._collect()

    # -- what may happen ----------------------------------------------------------------

    @rule(data=st.data(), key=st.sampled_from(KEYS), since=st.integers(0, 2))
    def asks(self, data: st.DataObject, key: bytes, since: int) -> None:
        actor = data.draw(st.sampled_from(sorted(self.fleet.states)))

        async def ask() -> None:
            self.asked.append((actor, key, self.fleet[actor].ask(next(self.sids), key, since, lock=1000.0)))
            await self._collect()

        self.run(ask())

    @precondition(lambda self: self.fetching())
    @rule(data=st.data(), how=st.sampled_from(["grows", "grows", "stored", "ended", "failed", "unstorable", "client"]))
    def ends(self, data: st.DataObject, how: str) -> None:
        actor, _, asked = data.draw(st.sampled_from(self.fetching()))

        async def end() -> None:
            lease = asked.lease
            if how == "grows":
                if lease.growth is None:
                    lease.growing(entry_of(), SimpleNamespace(path="/dev/null", size=0))
            elif how == "failed":
                lease.failed("connect_failed")
            elif how == "unstorable":
                lease.unstorable(0.0)
                lease.whole()
            elif how == "client":
                self.fleet[actor].flights.ended(lease.sid)
            else:
                getattr(lease, how)()
            await self._collect()

        self.run(end())

    @precondition(lambda self: any(self.queues.values()))
    @rule(data=st.data())
    def a_message_arrives(self, data: st.DataObject) -> None:
        self.run(self._deliver(data.draw(st.sampled_from(sorted(pair for pair, queue in self.queues.items() if queue)))))

    @precondition(lambda self: any(self.tables.values()))
    @rule(data=st.data())
    def a_table_is_seen(self, data: st.DataObject) -> None:
        self.run(self._see(data.draw(st.sampled_from(sorted(actor for actor, queue in self.tables.items() if queue)))))

    @precondition(lambda self: len(self.fleet.states) < 5)
    @rule()
    def a_replica_joins(self) -> None:
        async def join() -> None:
            actor = max(self.fleet.replicas) + 1
            self.fleet.add(actor)
            self.fleet.states[actor] = STARTING
            self.announce()
            await self._see(actor)  # whoever takes requests has seen a table
            self.fleet.states[actor] = READY
            self.announce()

        self.run(join())

    @precondition(lambda self: list(self.fleet.states.values()).count(READY) > 1)
    @rule(data=st.data())
    def a_replica_drains(self, data: st.DataObject) -> None:
        ready = sorted(actor for actor, state in self.fleet.states.items() if state == READY)
        self.fleet.states[data.draw(st.sampled_from(ready))] = DRAINING
        self.announce()

    @precondition(lambda self: len(self.fleet.states) > 2)
    @rule(data=st.data())
    def a_replica_dies(self, data: st.DataObject) -> None:
        actor = data.draw(st.sampled_from(sorted(self.fleet.states)))
        self.fleet.states.pop(actor)
        self.tables.pop(actor, None)
        self.fleet[actor].context.sent = []
        self.run(self._forget(actor))
        if READY not in self.fleet.states.values():
            self.fleet.states[min(self.fleet.states)] = READY
        self.announce(frozenset({actor}))

    async def _forget(self, actor: int) -> None:
        self.fleet[actor].flights.stop()
        self.asked = [one for one in self.asked if one[0] != actor]

    @rule()
    def all_settles_and_time_passes(self) -> None:
        self.run(self._settle(2.0))

    async def _settle(self, seconds: float) -> None:
        while any(self.queues.values()) or any(self.tables.values()):
            for actor in [actor for actor, queue in self.tables.items() if queue]:
                await self._see(actor)
            for pair in [pair for pair, queue in self.queues.items() if queue]:
                await self._deliver(pair)
        self.fleet.sweep(seconds)
        await self._collect()

    # -- what holds ------------------------------------------------------------------------

    def fetching(self) -> list[tuple[int, bytes, Asked]]:
        return [one for one in self.asked if one[2].kind == FETCH and not one[2].lease.is_over]

    @invariant()
    def one_that_lives_fetches_a_key(self) -> None:
        """With each purge one more, which is then the one that others wait for."""
        for key in KEYS:
            known = [asked.lease.since for _, its, asked in self.fetching() if its == key]
            assert len(known) == len(set(known))

    @invariant()
    def nobody_goes_alone_while_all_answer(self) -> None:
        for _, _, asked in self.asked:
            assert asked.kind not in (ALONE, FAILED) or asked.answer.reason in ("unstorable", "connect_failed", "client_closed")

    def teardown(self) -> None:
        """Wherever that has led: with every fetch ended, everybody has a turn soon, and nothing is left."""
        try:
            self.all_end()
        finally:
            self.fleet.stop()
            self.loop.close()

    def all_end(self) -> None:
        for _ in range(2 * len(self.asked) + 5):
            self.run(self._settle(40.0))
            for one in self.fetching():
                self.run(self._end(one[2]))
        self.run(self._settle(40.0))
        assert all(asked.is_told for _, _, asked in self.asked)
        for actor in self.fleet.states:
            flights = self.fleet[actor].flights
            assert (len(flights), flights.waiting, len(flights._table), flights._table.waiting) == (0, 0, 0, 0)
            assert (len(flights._joins), len(flights._joins._asks)) == (0, 0)

    async def _end(self, asked: Asked) -> None:
        asked.lease.ended()
        await self._collect()


TestFlightsInAnyOrder = FlightsInAnyOrder.TestCase
TestFlightsInAnyOrder.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
