"""Claims: even shares, one count, and nothing held for the dead."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from pingap.bus.members import READY, Member, Members
from pingap.stages.claims import WAIT, Claims
from pingap.stages.leases import Leases, Verdict
from pingap.stages.messages import Claim, Claimed, Done
from pingap.stages.owners import KEPT, Owners, owner_among
from tests.kit.context import FakeContext

KEYS = [f"location-{number}" for number in range(10_000)]
ACCEPT, SECOND_ACCEPT = 1, 2
SID, FAR = (ACCEPT << 32) + 7, (SECOND_ACCEPT << 32) + 7


def replicas(count: int, first: int = 0) -> tuple[Member, ...]:
    return tuple(Member(100 + number, "s", number, "", READY) for number in range(first, first + count))


# -- owners ------------------------------------------------------------------------------


@pytest.mark.parametrize("count", range(2, 10))
def test_each_replica_owns_an_even_share_of_the_keys(count: int) -> None:
    shares = Counter(owner_among(key, replicas(count)) for key in KEYS)
    assert len(shares) == count
    assert all(abs(share * count / len(KEYS) - 1) < 0.1 for share in shares.values()), shares


@pytest.mark.parametrize("count", range(2, 10))
def test_who_joins_or_leaves_moves_its_own_share_only(count: int) -> None:
    """Who joins takes from all others alike, and who leaves gives to all alike."""
    newest = 100 + count
    few, many = ({key: owner_among(key, replicas(n)) for key in KEYS} for n in (count, count + 1))
    moved = {key for key in KEYS if few[key] != many[key]}
    assert moved == {key for key in KEYS if many[key] == newest}
    losses = Counter(few[key] for key in moved)
    assert all(abs(loss * count * (count + 1) / len(KEYS) - 1) < 0.3 for loss in losses.values()), losses


def test_a_replica_that_was_restarted_has_its_keys_again() -> None:
    old = replicas(4)
    new = (old[0], old[1]._replace(id=999), *old[2:])
    renamed = {101: 999}
    assert all(owner_among(key, new) == renamed.get(owner_among(key, old), owner_among(key, old)) for key in KEYS[:500])


def test_the_order_of_the_table_is_of_no_matter_and_nobody_owns_nothing() -> None:
    assert all(owner_among(key, replicas(4)) == owner_among(key, replicas(4)[::-1]) for key in KEYS[:100])
    assert owner_among("key", ()) == 0
    assert owner_among("\udc80", replicas(3)) in {100, 101, 102}, "whatever a client sent is a key"


def test_owners_remembered_are_bounded() -> None:
    context = FakeContext("s", 1)
    owners = Owners(context)
    for key in KEYS:
        assert owners.of(key) == 1
    assert len(owners._found) <= KEPT


# -- leases ------------------------------------------------------------------------------


def test_places_are_given_back_once_and_leave_nothing() -> None:
    leases = Leases()

    def take(sid: int) -> tuple[bool, float]:
        return leases.take(Claim(sid, 1, "k", ()), 2)[:2]

    assert [take(sid) for sid in (1, 2, 3)] == [(True, 1), (True, 2), (False, 3)]
    assert take(2) == (True, 2), "who has a place keeps it"
    leases.release(3)
    assert take(4) == (False, 3)
    leases.release(1)
    leases.release(1)
    assert take(4) == (True, 2)
    leases.forget({1})
    assert len(leases) == 0


def test_a_stream_holds_places_of_many_keys_and_the_death_of_an_asker_frees_its_own_only() -> None:
    leases = Leases()
    for key, asker in (("a", 11), ("b", 12)):
        assert leases.take(Claim(SID, asker, key, ()), 1).allowed
    leases.forget({11})
    assert leases.take(Claim(FAR, 12, "a", ()), 1).allowed
    assert not leases.take(Claim(FAR, 12, "b", ()), 1).allowed
    leases.release(SID)
    assert leases.take(Claim(FAR, 12, "b", ()), 1).allowed


# -- claims of several replicas --------------------------------------------------------------


class Replica:
    """One replica of a stage `s` whose keys have one place each; nothing is sent unless `Fleet.deliver` does it."""

    def __init__(self, fleet: Fleet, actor: int) -> None:
        self.context = FakeContext("s", actor)
        self.claims = Claims(self.context, lambda leases, claim, now: leases.take(claim, claim.args[0]), "unanswered", lambda: fleet.now)
        self.heard: list[tuple[int, bool]] = []

    def ask(self, sid: int, key: str) -> None:
        """What is heard, at once or later, is in `heard`."""
        verdict = self.claims.judged_here(sid, key, (1,))
        if verdict is None:
            self.claims.ask(sid, key, (1,), lambda verdict: self.heard.append((sid, verdict.allowed)))
        else:
            self.heard.append((sid, verdict.allowed))


class Fleet:
    def __init__(self) -> None:
        self.now = 100.0
        self.replicas = {actor: Replica(self, actor) for actor in (100, 101, 102)}
        self.alive = {ACCEPT, SECOND_ACCEPT, 100, 101, 102}
        self._seq = 0
        self.announce(frozenset())

    def announce(self, gone: frozenset[int]) -> None:
        self.alive -= gone
        self._seq += 1
        rows = [(actor, "s" if actor >= 100 else "accept", actor % 100, "", READY) for actor in sorted(self.alive)]
        for actor in sorted(self.alive & self.replicas.keys()):
            self.replicas[actor].context.members = Members.of(self._seq, 999, rows)
            self.replicas[actor].claims.members_changed(gone)

    def kill(self, *actors: int) -> None:
        self.announce(frozenset(actors))

    def key_of(self, owner: int) -> str:
        living = [member for member in replicas(3) if member.id in self.alive]
        return next(key for key in KEYS if owner_among(key, living) == owner)

    def deliver(self) -> list[tuple[int, int, type]]:
        """Delivers until nothing is on the way: (from, to, kind) of what was."""
        seen: list[tuple[int, int, type]] = []
        while on_way := [(actor, *entry) for actor, one in self.replicas.items() for entry in one.context.sent]:
            for one in self.replicas.values():
                one.context.sent = []
            for source, to, message in on_way:
                seen.append((source, to, type(message)))
                if to in self.alive:
                    self.hand(to, message)
        return seen

    def hand(self, to: int, message: Any) -> None:
        claims = self.replicas[to].claims
        if isinstance(message, Claim):
            claims.asked(message)
        elif isinstance(message, Claimed):
            claims.claimed(message)
        else:
            claims.ended(message.sid)


@pytest.fixture
async def fleet() -> Any:
    fleet = Fleet()
    yield fleet
    for replica in fleet.replicas.values():
        replica.claims.stop()


def sids() -> Iterator[int]:
    return iter(range(SID, SID + 1000))


async def test_whoever_asks_there_is_one_count(fleet: Fleet) -> None:
    key = fleet.key_of(101)
    for number, actor in enumerate((100, 101, 102)):
        fleet.replicas[actor].ask(SID + number, key)
        fleet.deliver()
    assert [replica.heard for replica in fleet.replicas.values()] == [[(SID, True)], [(SID + 1, False)], [(SID + 2, False)]]


async def test_the_end_of_a_stream_is_told_to_who_lent_a_place_and_to_nobody_else(fleet: Fleet) -> None:
    asker, key = fleet.replicas[100], fleet.key_of(101)
    asker.ask(SID, key)
    fleet.deliver()
    asker.ask(SID + 1, key)
    fleet.deliver()
    asker.claims.ended(SID + 1)
    assert fleet.deliver() == [], "it was refused, and has nothing to give back"
    asker.claims.ended(SID)
    assert fleet.deliver() == [(100, 101, Done)]
    asker.ask(SID + 2, key)
    fleet.deliver()
    assert asker.heard == [(SID, True), (SID + 1, False), (SID + 2, True)]


async def test_a_stream_that_ends_unanswered_hears_nothing_and_leaves_no_place(fleet: Fleet) -> None:
    asker, key = fleet.replicas[100], fleet.key_of(101)
    asker.ask(SID, key)
    asker.claims.ended(SID)
    assert (asker.claims.waiting, asker.heard) == (0, [])
    fleet.deliver()
    asker.ask(SID + 1, key)
    fleet.deliver()
    assert asker.heard == [(SID + 1, True)]


async def test_a_claim_that_holds_nothing_leaves_nothing_to_give_back(fleet: Fleet) -> None:
    """A rate, say: whether it is answered, ends, or passes at the deadline."""
    asker, key = fleet.replicas[100], fleet.key_of(101)
    heard: list[Verdict] = []
    for sid in (SID, SID + 1, SID + 2):
        asker.claims.ask(sid, key, (9,), heard.append, holds=False)
        if sid == SID:
            fleet.deliver()
    asker.claims.ended(SID + 1)
    fleet.now += WAIT
    asker.claims.sweep()
    assert [verdict.allowed for verdict in heard] == [True, True]
    for sid in (SID, SID + 2):
        asker.claims.ended(sid)
    assert Done not in {kind for _, _, kind in fleet.deliver()}


async def test_when_an_asker_dies_its_places_are_free_and_what_it_asked_before_counts_no_more(fleet: Fleet) -> None:
    key = fleet.key_of(101)
    fleet.replicas[100].ask(SID, key)
    fleet.deliver()
    fleet.kill(100)
    fleet.hand(101, Claim(SID + 1, 100, key, (1,)))  # late
    assert fleet.deliver() == []
    fleet.replicas[102].ask(SID + 2, key)
    fleet.deliver()
    assert fleet.replicas[102].heard == [(SID + 2, True)]


async def test_when_an_accept_actor_dies_the_places_of_its_streams_are_free_everywhere(fleet: Fleet) -> None:
    asker, key, own = fleet.replicas[100], fleet.key_of(101), fleet.key_of(100)
    asker.ask(SID, key)
    asker.ask(SID, own)
    fleet.deliver()
    asker.ask(SID + 1, key)
    fleet.kill(ACCEPT)
    assert asker.claims.waiting == 0
    fleet.hand(101, Claim(SID + 2, 102, key, (1,)))  # late
    asker.ask(SID + 3, own)  # late
    assert fleet.deliver() == [(100, 101, Claim)], "nobody is told of what all see in the table"
    asker.heard.clear()
    asker.ask(FAR, key)
    asker.ask(FAR, own)
    fleet.deliver()
    assert asker.heard == [(FAR, True), (FAR, True)]
    asker.claims.ended(SID)
    assert fleet.deliver() == []


async def test_when_an_owner_dies_its_successor_is_asked_and_nothing_is_owed_to_the_dead(fleet: Fleet) -> None:
    asker, key = fleet.replicas[100], fleet.key_of(101)
    asker.ask(SID, key)
    fleet.deliver()
    asker.ask(SID + 1, key)
    fleet.kill(101)
    successor = owner_among(key, [member for member in replicas(3) if member.id != 101])
    fleet.deliver()
    assert asker.heard == [(SID, True), (SID + 1, True)], "the successor counts from 0"
    asker.ask(SID + 2, key)
    fleet.deliver()
    assert asker.heard[-1] == (SID + 2, False)
    asker.claims.ended(SID)
    assert fleet.deliver() == [], "the dead owner is told nothing"
    asker.claims.ended(SID + 1)
    assert fleet.deliver() == ([] if successor == 100 else [(100, successor, Done)])
    asker.ask(SID + 3, key)
    fleet.deliver()
    assert asker.heard[-1] == (SID + 3, True)


async def test_the_dead_owner_of_one_key_takes_no_other_lease_of_the_stream_with_it(fleet: Fleet) -> None:
    asker, theirs, others = fleet.replicas[100], fleet.key_of(101), fleet.key_of(102)
    for key in (theirs, others):
        asker.ask(SID, key)
    fleet.deliver()
    fleet.kill(101)
    asker.claims.ended(SID)
    assert fleet.deliver() == [(100, 102, Done)]


async def test_a_silent_owner_lets_pass_after_a_second_and_is_too_late_then(fleet: Fleet) -> None:
    asker, key = fleet.replicas[100], fleet.key_of(101)
    asker.ask(SID, key)
    fleet.now += WAIT - 0.01
    asker.ask(SID + 1, key)
    asker.claims.sweep()
    assert asker.heard == []
    fleet.now += 0.01
    asker.claims.sweep()
    assert (asker.heard, asker.claims.waiting, asker.context.counted) == ([(SID, True)], 1, {"unanswered": 1})
    fleet.deliver()
    assert asker.heard == [(SID, True), (SID + 1, False)]
    asker.claims.ended(SID)
    assert fleet.deliver() == [(100, 101, Done)], "what the owner has counted ends with the stream"


async def test_deadlines_are_kept_by_themselves_even_if_a_listener_fails(fleet: Fleet) -> None:
    asker, key = fleet.replicas[100], fleet.key_of(101)
    asker.claims._open.seconds = 0.0
    failed: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: failed.append(context["exception"]))

    def fails(verdict: Verdict) -> None:
        raise RuntimeError("broken")

    asker.claims.ask(SID, key, (1,), fails)
    asker.ask(SID + 1, key)
    async with asyncio.timeout(5):
        while asker.claims.waiting:
            await asyncio.sleep(0)
    assert [type(error) for error in failed] == [RuntimeError]
    assert asker.heard == [(SID + 1, True)]
