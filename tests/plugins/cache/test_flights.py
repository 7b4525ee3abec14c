"""Single-flight: one fetch of a key over all replicas, and everybody gets an answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pingap.stages.plugins.cache.flights import back_off, flights, table
from pingap.stages.plugins.cache.flights import unstorable as unstorable_keys
from pingap.stages.plugins.cache.flights.back_off import BackOff, answered
from pingap.stages.plugins.cache.flights.flights import WAIT
from pingap.stages.plugins.cache.flights.growing_body import PIECE, GrowingBody
from pingap.stages.plugins.cache.flights.growth import GrowthCut
from pingap.stages.plugins.cache.flights.unstorable import UnstorableKeys
from pingap.stages.plugins.cache.flights.verdicts import ALONE, FAILED, FETCH, JOIN, LOOK
from tests.plugins.cache.fleet import ACCEPT, FAR, LOCK, SID, STORE, FlightFleet, Part, entry_of


@pytest.fixture
async def fleet() -> AsyncIterator[FlightFleet]:
    fleet = FlightFleet()
    yield fleet
    fleet.stop()


async def read(body: GrowingBody | None) -> bytes:
    assert body is not None
    return b"".join([piece async for piece in body])


def settle() -> asyncio.Future[None]:
    """Until what was to be done in this turn of the loop has been done."""
    return asyncio.ensure_future(asyncio.sleep(0))


# -- one process ----------------------------------------------------------------------------


async def test_in_one_process_the_first_fetches_the_others_wait_and_nothing_is_sent() -> None:
    fleet = FlightFleet(1)
    asked = [fleet[100].ask(SID + number) for number in range(5)]
    assert [one.kind for one in asked] == [FETCH, 0, 0, 0, 0]
    assert not asked[0].answer.is_late, "between the store's answer and this nothing can have happened"
    asked[0].lease.stored()
    assert [one.kind for one in asked[1:]] == [LOOK] * 4
    assert (fleet.deliver(), len(fleet[100].flights), fleet[100].flights.waiting) == ([], 0, 0)
    assert fleet[100].ask().kind == FETCH, "nothing is remembered of what the store has"


async def test_keys_and_stores_do_not_wait_for_one_another() -> None:
    flights = FlightFleet(1)[100].flights
    turns = [flights.ask(store, key, SID, 0, LOCK) for store, key in (("a", b"k"), ("a", b"l"), ("b", b"k"), ("ab", b""), ("", b"ab"))]
    assert all(getattr(turn, "kind", 0) == FETCH for turn in turns)


async def test_without_a_lock_nobody_waits(fleet: FlightFleet) -> None:
    assert fleet[100].ask(lock=0.0).answer[:1] == (ALONE,) == fleet[100].ask(lock=0.0).answer[:1]
    assert fleet.deliver() == []


# -- several ---------------------------------------------------------------------------------


async def test_whoever_asks_there_is_one_fetch(fleet: FlightFleet) -> None:
    key = fleet.key_of(101)
    asked = [fleet[actor].ask(SID + number, key) for number, actor in enumerate((100, 102, 101, 100))]
    fleet.deliver()
    assert [one.kind for one in asked] == [0, 0, FETCH, 0]
    asked[2].lease.stored()
    fleet.deliver()
    assert [one.kind for one in asked] == [LOOK, LOOK, FETCH, LOOK]


async def test_who_was_let_fetch_by_another_process_looks_once_more(fleet: FlightFleet) -> None:
    asked = fleet[100].ask(key=fleet.key_of(101))
    fleet.deliver()
    assert asked.answer.is_late


async def test_what_must_not_be_stored_sends_all_alone_and_serialises_nobody_for_a_while(fleet: FlightFleet) -> None:
    key = fleet.key_of(101)
    asked = [fleet[actor].ask(SID + actor, key) for actor in (101, 100, 102)]
    fleet.deliver()
    asked[0].lease.unstorable(60.0)
    fleet.deliver()
    assert [(one.kind, one.answer.reason) for one in asked[1:]] == [(ALONE, "unstorable")] * 2
    assert [fleet[actor].ask(key=key).kind for actor in (100, 101, 102)] == [ALONE] * 3
    assert fleet.deliver() == [], "each process remembers it"
    assert fleet[101].ask(key=key, since=1).kind == FETCH, "after a purge it may be another answer"
    fleet.now += 60.0
    again = fleet[100].ask(SID + 9, key)
    fleet.deliver()
    assert not again.is_told, "and then one is tried again"


async def test_an_answer_that_may_be_stored_ends_what_was_remembered(fleet: FlightFleet) -> None:
    key = fleet.key_of(101)
    asked = [fleet[actor].ask(SID + actor, key) for actor in (101, 100, 102)]
    fleet.deliver()
    asked[0].lease.unstorable(60.0)
    fleet.deliver()
    assert fleet[100].ask(key=key).kind == ALONE
    fleet[100].flights.storable(STORE, key, 0)
    fleet.deliver()
    first, second = fleet[100].ask(SID + 5, key), fleet[101].ask(SID + 6, key)
    fleet.deliver()
    assert {first.kind, second.kind} == {FETCH, 0}
    assert fleet[102].ask(key=key).kind == ALONE, "where such an answer has not come yet"
    fleet[102].flights.storable(STORE, fleet.key_of(101, 500), 0)
    assert fleet.deliver() == [], "nothing was remembered"


async def test_a_ttl_of_0_says_nothing_of_later_ones(fleet: FlightFleet) -> None:
    first, second = fleet[100].ask(), fleet[100].ask(SID + 1)
    fleet.deliver()
    first.lease.unstorable(0.0)
    fleet.deliver()
    assert second.kind == ALONE
    third = fleet[100].ask(SID + 2)
    fleet.deliver()
    assert third.kind == FETCH


async def test_only_what_another_fetch_takes_is_waited_for_and_not_what_an_owner_takes_to_say_so(fleet: FlightFleet) -> None:
    key = fleet.key_of(101)
    first = fleet[100].ask(key=key)
    fleet.now += 0.5
    fleet.deliver()
    assert (first.kind, first.answer.waited) == (FETCH, 0.0)
    second = fleet[102].ask(SID + 1, key)
    fleet.now += 0.25
    fleet.deliver()
    fleet.now += 2.0
    first.lease.stored()
    fleet.deliver()
    assert (second.kind, second.answer.waited) == (LOOK, 2.0)


# -- deadlines ---------------------------------------------------------------------------------


async def test_who_has_waited_for_as_long_as_the_lock_goes_alone(fleet: FlightFleet) -> None:
    key = fleet.key_of(101)
    first, second = fleet[101].ask(SID, key), fleet[100].ask(SID + 1, key)
    fleet.deliver()
    fleet.sweep(LOCK - 0.01)
    assert not second.is_told
    fleet.sweep(0.02)
    assert (second.kind, second.answer.reason) == (ALONE, "lock_over")
    fleet.deliver()
    first.lease.ended()
    fleet.deliver()
    assert (fleet[101].flights._table.waiting, len(fleet[101].flights._table)) == (0, 0), "the owner knows that it waits no more"


async def test_a_silent_owner_lets_go_alone_after_a_second(fleet: FlightFleet) -> None:
    key = fleet.key_of(101)
    asked = fleet[100].ask(SID, key)
    fleet.sweep(WAIT)
    assert (asked.kind, asked.answer.reason) == (ALONE, "owner_silent")
    assert fleet[100].context.counted == {"cache_flights_unanswered": 1}
    fleet.deliver()
    other = fleet[102].ask(SID + 1, key)
    fleet.deliver()
    assert other.kind == FETCH, "what the owner said too late holds up nobody"


# -- ends of streams ------------------------------------------------------------------------------


async def test_a_client_that_leaves_while_it_waits_or_fetches_holds_up_nobody(fleet: FlightFleet) -> None:
    key = fleet.key_of(101)
    asked = [fleet[100].ask(SID + number, key) for number in range(4)]
    fleet.deliver()
    fleet[100].flights.ended(SID + 1)
    assert asked[1].answer.reason == "client_closed"
    fleet[100].flights.ended(SID)
    fleet[100].flights.ended(SID)
    asked[0].lease.ended()
    fleet.deliver()
    assert [one.kind for one in asked] == [FETCH, FAILED, FETCH, 0]
    asked[2].lease.keep()
    fleet[100].flights.ended(SID + 2)
    fleet.deliver()
    assert not asked[3].is_told, "that one goes on without its client"
    asked[2].lease.stored()
    asked[2].lease.failed("gateway_timeout")
    fleet.deliver()
    assert asked[3].kind == LOOK


async def test_a_turn_that_crosses_the_end_of_its_stream_is_the_next_ones(fleet: FlightFleet) -> None:
    key = fleet.key_of(101)
    gone, waits = fleet[100].ask(SID, key), fleet[102].ask(SID + 1, key)
    gone.cancel()
    await settle()
    fleet.deliver()
    assert (waits.kind, fleet[100].flights.waiting, len(fleet[100].flights)) == (FETCH, 0, 0)


# -- failures -------------------------------------------------------------------------------------


async def test_a_fetch_that_fails_is_tried_once_in_each_window_however_many_wait(fleet: FlightFleet) -> None:
    key = fleet.key_of(101)
    asked = [fleet[100 + number % 3].ask(SID + number, key, lock=5.0) for number in range(1000)]
    fleet.deliver()
    tried: list[float] = []
    began = fleet.now
    while not all(one.is_told for one in asked) or not tried:
        for one in asked:
            if one.kind == FETCH and not one.lease.is_over:
                tried.append(round(fleet.now - began, 3))
                one.lease.failed("connect_failed")
        fleet.deliver()
        fleet.sweep(0.25)
        fleet.deliver()
    assert tried == [0.0, 0.0, 1.0, 2.0, 3.0, 4.0], "once more, then once a second: each has no stale answer, and an origin may be back"
    kinds = [(one.kind, one.answer.reason) for one in asked]
    assert kinds.count((FAILED, "connect_failed")) == 994, "nobody went to the backend beside them"
    late = fleet[102].ask(SID + 5000, key, lock=0.5)
    stale = fleet[102].ask(SID + 5001, key, lock=60.0, has_stale=True)
    fleet.deliver()
    assert late.kind == stale.kind == FAILED and 0 < stale.answer.seconds <= 4.0


async def test_with_the_lock_over_in_a_second_try_nobody_rushes(fleet: FlightFleet) -> None:
    key = fleet.key_of(101)
    asked = [fleet[100].ask(SID + number, key) for number in range(3)]
    fleet.deliver()
    asked[0].lease.failed("gateway_timeout")
    fleet.deliver()
    fleet.sweep(1.0)
    fleet.deliver()
    assert [one.kind for one in asked] == [FETCH, FETCH, 0]
    fleet.sweep(LOCK)
    assert (asked[2].kind, asked[2].answer.reason) == (FAILED, "gateway_timeout")


async def test_nor_does_anybody_whose_owner_dies_just_then(fleet: FlightFleet) -> None:
    """The table of actors may be here before this process comes to look at its deadlines."""
    key = fleet.key_of(101)
    asked = [fleet[100].ask(SID + number, key) for number in range(3)]
    fleet.deliver()
    asked[0].lease.failed("gateway_timeout")
    fleet.deliver()
    fleet.now += LOCK
    fleet.kill(101)
    assert (asked[2].kind, asked[2].answer.reason) == (FAILED, "gateway_timeout")


async def test_a_status_is_an_answer_to_one_and_keeps_nobody_else_from_asking(fleet: FlightFleet) -> None:
    key = fleet.key_of(101)
    asked = [fleet[100 + number % 3].ask(SID + number, key) for number in range(8)]
    fleet.deliver()
    stale = fleet[102].ask(SID + 50, key, has_stale=True)
    fleet.deliver()
    for _ in range(5):
        [turn] = [one for one in asked if one.kind == FETCH and not one.lease.is_over]
        turn.lease.failed(answered(500))
        fleet.deliver()
    assert (stale.kind, stale.answer.reason) == (FAILED, "status 500"), "who has something else to give spares the origin"
    fleet.sweep(LOCK)
    assert sorted(one.kind for one in asked) == sorted([FETCH] * 6 + [ALONE] * 2), "one after the other, and nobody is told of an error"
    late = fleet[102].ask(SID + 51, key, lock=0.5)
    fleet.deliver()
    fleet.sweep(0.5)
    assert late.kind == ALONE


@pytest.mark.parametrize(("kinds", "last"), [(("connect_failed", "status 503"), ALONE), (("status 503", "connect_failed"), FAILED)])
async def test_what_the_origin_did_last_is_what_counts_when_the_lock_is_over(fleet: FlightFleet, kinds: tuple[str, str], last: int) -> None:
    for owner in (100, 101):
        key = fleet.key_of(owner)
        asked = [fleet[100].ask(SID + number, key) for number in range(4)]
        fleet.deliver()
        for number, kind in enumerate(kinds):
            asked[number].lease.failed(kind)
            fleet.deliver()
        fleet.sweep(LOCK)
        assert asked[3].kind == last


async def test_a_success_ends_the_back_off(fleet: FlightFleet) -> None:
    asked = [fleet[100].ask(SID + number) for number in range(2)]
    fleet.deliver()
    asked[0].lease.failed("connect_failed")
    fleet.deliver()
    fleet.sweep(1.0)
    fleet.deliver()
    asked[1].lease.stored()
    fleet.deliver()
    again = fleet[100].ask(SID + 2)
    fleet.deliver()
    again.lease.failed("connect_failed")
    fleet.deliver()
    last = fleet[100].ask(SID + 3)
    fleet.deliver()
    fleet.sweep(1.0)
    fleet.deliver()
    assert last.kind == FETCH, "the first failure again"


async def test_so_many_wait_at_most_and_more_are_told_that_it_is_too_much(monkeypatch: pytest.MonkeyPatch, fleet: FlightFleet) -> None:
    """Not to go alone: an origin that so many wait for must not be asked by all the others at once."""
    monkeypatch.setattr(table, "MOST_OF_KEY", 3)
    monkeypatch.setattr(table, "MOST", 5)
    monkeypatch.setattr(flights, "MOST", 7)
    keys = [fleet.key_of(101), fleet.key_of(101, 10_000), fleet.key_of(101, 20_000)]
    asked = [fleet[101].ask(SID + number, key) for key in keys[:2] for number in range(5)]
    kinds = [(one.kind, one.answer.reason if one.is_told else "") for one in asked]
    full = (FAILED, "overloaded")
    assert kinds == [(FETCH, ""), (0, ""), (0, ""), (0, ""), full, (FETCH, ""), (0, ""), (0, ""), full, full]
    others = [fleet[100].ask(SID + number, keys[2]) for number in range(9)]
    assert [one.kind for one in others] == [0] * 7 + [FAILED] * 2, "and so many ask others at most"
    fleet.deliver()
    assert [one.kind for one in others] == [FETCH] + [FAILED] * 8
    asked[0].lease.stored()
    assert [one.kind for one in asked[1:4]] == [LOOK] * 3


def test_what_is_remembered_of_keys_is_bounded_and_the_oldest_goes_first() -> None:
    unstorable, failing = UnstorableKeys(), BackOff()
    for number in range(unstorable_keys.KEPT + 5):
        unstorable.remember(str(number), 60.0, 0, 1.0)
        failing.failed(str(number), "connect_failed", 1.0)
    assert len(unstorable) == unstorable_keys.KEPT and len(failing) == back_off.KEPT
    assert unstorable.left("0", 0, 2.0) == 0.0 and unstorable.left("9", 0, 2.0) == 59.0
    assert failing.of("0", 1.5) is None and failing.of(str(unstorable_keys.KEPT), 1.5) is not None


def test_a_back_off_doubles_up_to_a_bound_and_is_forgiven() -> None:
    failing, now, windows = BackOff(), 0.0, []
    for _ in range(40):
        known = failing.failed("k", "connect_failed", now)
        beside = failing.failed("k", "gateway_timeout", now + 0.1)
        assert beside.kind == "gateway_timeout"
        assert beside._replace(soon=known.soon, kind=known.kind) == known, "another of the same try"
        windows.append(known.again - now)
        now = known.again
    assert windows == [1.0, 2.0, 4.0, 8.0, 16.0] + [32.0] * 35
    assert failing.failed("k", "connect_failed", now + back_off.FORGIVEN).failures == 1


# -- purges ------------------------------------------------------------------------------------------


async def test_a_flight_older_than_a_purge_is_not_joined(fleet: FlightFleet) -> None:
    key = fleet.key_of(101)
    old, waits = fleet[100].ask(SID, key), fleet[102].ask(SID + 1, key)
    fleet.deliver()
    new, beside = fleet[100].ask(SID + 2, key, since=5), fleet[102].ask(SID + 3, key, since=5)
    fleet.deliver()
    assert (new.kind, beside.kind, waits.kind) == (FETCH, 0, 0)
    old.lease.stored()
    fleet.deliver()
    assert (waits.kind, beside.kind) == (LOOK, 0), "what it has fetched is nothing for who asked after the purge"
    new.lease.stored()
    fleet.deliver()
    assert beside.kind == LOOK


# -- bodies that grow -----------------------------------------------------------------------------------


async def test_who_asks_while_the_body_comes_reads_along_in_any_process(fleet: FlightFleet, tmp_path: Path) -> None:
    key = fleet.key_of(101)
    asked = [fleet[actor].ask(SID + number, key) for number, actor in enumerate((100, 101, 102))]
    fleet.deliver()
    fetches = next(one for one in asked if one.kind == FETCH)
    part = Part(tmp_path / "part")
    part.write(b"first ")
    own = fetches.lease.growing(entry_of(), part)
    fleet.deliver()
    late = [fleet[actor].ask(SID + 10, key) for actor in (100, 101, 102)]
    fleet.deliver()
    bodies = [one.answer.body for one in (*asked, *late) if one.kind == JOIN]
    assert len(bodies) == 5 and all(body is not None and body.entry.status == 200 for body in bodies)
    readers = [asyncio.ensure_future(read(body)) for body in (own, *bodies)]
    for word in (b"second ", b"third"):
        part.write(word)
        fetches.lease.grew()
        await settle()
        fleet.deliver()
        await settle()
    assert not any(reader.done() for reader in readers)
    fetches.lease.whole()
    fleet.deliver()
    assert await asyncio.gather(*readers) == [b"first second third"] * 6
    waits = fleet[100].ask(SID + 20, key)
    fleet.deliver()
    assert not waits.is_told, "the store is about to have it"
    Path(part.path).unlink()
    fetches.lease.stored()
    fleet.deliver()
    assert waits.kind == LOOK
    assert await read(own) == b"first second third", "whoever has it has the file"


async def test_who_fetches_hears_as_long_as_another_process_reads_along(fleet: FlightFleet, tmp_path: Path) -> None:
    key = fleet.key_of(101)
    asked = [fleet[actor].ask(SID + actor, key) for actor in (101, 100)]
    fleet.deliver()
    lease = asked[0].lease
    part = Part(tmp_path / "part")
    lease.growing(entry_of(), part)
    fleet.deliver()
    reader = asyncio.ensure_future(read(asked[1].answer.body))
    await settle()
    for hears in (True, True, False):
        if not hears:
            reader.cancel()
            await settle()
        lease.is_followed = False
        fleet.now += flights.FOLLOW
        fleet[100].flights.follow(fleet.now)
        fleet.deliver()
        assert lease.is_followed is hears
    late = fleet[100].ask(SID + 9, key)
    fleet.deliver()
    assert late.kind == JOIN
    lease.unstorable(0.0)
    fleet.deliver()
    reader = asyncio.ensure_future(read(late.answer.body))
    await settle()
    fleet[100].flights.follow(fleet.now + flights.FOLLOW)
    fleet.deliver()
    part.write(b"all of it")
    lease.grew()
    lease.whole()
    await settle()
    fleet.deliver()
    assert await reader == b"all of it", "to say so cuts nobody off"


async def test_a_fill_that_fails_cuts_off_who_reads_along(fleet: FlightFleet, tmp_path: Path) -> None:
    key = fleet.key_of(101)
    asked = [fleet[actor].ask(SID + actor, key) for actor in (101, 100)]
    fleet.deliver()
    part = Part(tmp_path / "part")
    own = asked[0].lease.growing(entry_of(100), part)
    fleet.deliver()
    part.write(b"some")
    asked[0].lease.grew()
    await settle()
    fleet.deliver()
    asked[0].lease.failed("gateway_timeout")
    fleet.deliver()
    for body in (own, asked[1].answer.body):
        assert body is not None and body.length == 100
        with pytest.raises(GrowthCut, match="gateway_timeout"):
            await read(body)


async def test_a_body_that_turns_out_too_large_for_the_store_is_read_to_its_end_by_who_has_joined(
    fleet: FlightFleet, tmp_path: Path
) -> None:
    key = fleet.key_of(101)
    asked = [fleet[actor].ask(SID + actor, key) for actor in (100, 101, 102)]
    fleet.deliver()
    first = next(one for one in asked if one.kind == FETCH)
    part = Part(tmp_path / "part")
    first.lease.growing(entry_of(), part)
    fleet.deliver()
    first.lease.unstorable(60.0)
    fleet.deliver()
    late = fleet[102].ask(SID + 9, key)
    fleet.deliver()
    assert late.kind == ALONE
    part.write(b"to the end")
    first.lease.grew()
    first.lease.whole()
    first.lease.ended()
    fleet.deliver()
    assert [await read(one.answer.body) for one in asked if one is not first] == [b"to the end"] * 2
    assert [len(fleet[actor].flights._joins) for actor in fleet.states] == [0, 0, 0]


async def test_a_fetcher_that_is_silent_or_has_nothing_to_read_any_more_holds_up_nobody(fleet: FlightFleet, tmp_path: Path) -> None:
    key = fleet.key_of(101)
    first = fleet[100].ask(SID, key)
    fleet.deliver()
    part = Part(tmp_path / "part")
    first.lease.growing(entry_of(), part)
    fleet.deliver()
    waits = fleet[102].ask(SID + 1, key)
    fleet.carry(102, 101)
    fleet.carry(101, 102)  # it has been told to join, and asks the one that fetches
    fleet.sweep(WAIT)
    assert (waits.kind, waits.answer.reason) == (ALONE, "owner_silent")
    fleet.deliver()
    Path(part.path).unlink()
    nowhere = fleet[102].ask(SID + 2, key)
    fleet.deliver()
    assert (nowhere.kind, nowhere.answer.reason) == (ALONE, "cannot_join"), "it has tried a few times"
    again = fleet[102].ask(SID + 3, key)
    fleet.carry(102, 101)
    fleet.carry(101, 102)
    first.lease.stored()
    fleet.carry(102, 100)
    fleet.deliver()
    assert again.kind == FETCH and again.answer.is_late, "that has ended meanwhile: it asks anew, and will find it in the store"


async def test_a_client_that_reads_slowly_reads_from_the_file_and_holds_up_nobody(fleet: FlightFleet, tmp_path: Path) -> None:
    asked = FlightFleet(1)[100].ask()
    part = Part(tmp_path / "part")
    body = asked.lease.growing(entry_of(), part)
    slow, quick = aiter(body), aiter(body)
    part.write(bytes(1_000_000))
    asked.lease.grew()
    assert len(await anext(slow)) == PIECE
    assert sum([len(await anext(quick)) for _ in range(4)]) == 1_000_000
    part.write(b"end")
    asked.lease.stored()
    assert [piece async for piece in quick] == [b"end"]
    assert sum([len(piece) async for piece in slow]) == 1_000_003 - PIECE


async def test_a_part_file_that_lost_bytes_is_an_error_and_not_a_shorter_body(tmp_path: Path) -> None:
    asked = FlightFleet(1)[100].ask()
    part = Part(tmp_path / "part")
    body = asked.lease.growing(entry_of(), part)
    part.write(b"0123456789")
    asked.lease.whole()
    Path(part.path).write_bytes(b"01234")
    with pytest.raises(OSError, match="shorter"):
        await read(body)


async def test_a_body_shorter_than_its_head_said_is_an_error(tmp_path: Path) -> None:
    asked = FlightFleet(1)[100].ask()
    part = Part(tmp_path / "part")
    body = asked.lease.growing(entry_of(20), part)
    part.write(b"0123456789")
    asked.lease.whole()
    with pytest.raises(OSError, match="10 bytes are missing"):
        await read(body)


async def test_a_part_of_a_body_that_grows_ends_with_the_part(fleet: FlightFleet, tmp_path: Path) -> None:
    asked = FlightFleet(1)[100].ask()
    part = Part(tmp_path / "part")
    part.write(b"0123456789")
    body = asked.lease.growing(entry_of(20), part)
    assert await read(body.part(2, 5)) == b"23456" and body.part(2, 5).length == 5
    with pytest.raises(ValueError, match="there are no 5 bytes from 16"):
        body.part(16, 5)


# -- deaths and moves ---------------------------------------------------------------------------------------


async def test_when_who_fetches_dies_the_next_has_its_turn(fleet: FlightFleet) -> None:
    key = fleet.key_of(101)
    asked = [fleet[actor].ask(SID + actor, key) for actor in (100, 102, 101)]
    asked[2].lease.ended()
    fleet.deliver()
    assert [one.kind for one in asked] == [FETCH, 0, FETCH]
    fleet.kill(100)
    fleet.deliver()
    assert asked[1].kind == FETCH


async def test_when_who_fetches_dies_after_it_has_stored_the_next_looks_first(fleet: FlightFleet) -> None:
    key = fleet.key_of(101)
    fetches, waits = fleet[100].ask(SID, key), fleet[101].ask(SID + 1, key)
    fleet.deliver()
    assert [fetches.kind, waits.kind] == [0, FETCH]
    waits.lease.ended()
    fleet.deliver()
    late = fleet[101].ask(SID + 2, key)
    fleet[100].context.sent.clear()
    fleet.kill(100)
    assert late.kind == FETCH and late.answer.is_late


async def test_when_who_fetches_dies_in_mid_body_its_readers_are_cut_off_but_not_if_all_was_there(
    fleet: FlightFleet, tmp_path: Path
) -> None:
    key = fleet.key_of(101)
    for number, (length, whole) in enumerate(((10, True), (11, False))):
        first = fleet[100].ask(SID, key + b"%d" % number)
        fleet.deliver()
        part = Part(tmp_path / str(number))
        first.lease.growing(entry_of(length), part)
        joined = fleet[102].ask(SID + 1, key + b"%d" % number)
        fleet.deliver()
        part.write(b"0123456789")
        first.lease.grew()
        await settle()
        fleet.deliver()
        if whole:
            assert await read(joined.answer.body) == b"0123456789"
        else:
            cut = joined
    fleet.kill(100)
    with pytest.raises(GrowthCut, match="stage_lost"):
        await read(cut.answer.body)


async def test_when_the_owner_dies_the_new_one_knows_who_fetches(fleet: FlightFleet) -> None:
    key = fleet.key_of(101)
    fetches = fleet[100].ask(SID, key)
    fleet.deliver()
    waits = [fleet[102].ask(SID + number, key) for number in range(1, 4)]
    fleet.deliver()
    fleet.kill(101)
    fleet.deliver()
    late = fleet[100].ask(SID + 8, key)
    fleet.deliver()
    assert [one.kind for one in (*waits, late)] == [0] * 4
    fetches.lease.stored()
    fleet.deliver()
    assert [one.kind for one in (*waits, late)] == [LOOK] * 4


async def test_a_key_that_moves_to_a_replica_that_joins_has_no_second_fetch(fleet: FlightFleet, tmp_path: Path) -> None:
    key = fleet.key_of(101, joining=103)
    fetches, waits = fleet[101].ask(SID, key), fleet[100].ask(SID + 1, key)
    fleet.deliver()
    fleet.join(103)
    fleet.deliver()
    late = [fleet[actor].ask(SID + actor, key) for actor in fleet.states]
    fleet.deliver()
    assert [one.kind for one in (waits, *late)] == [0] * 5
    fetches.lease.growing(entry_of(), Part(tmp_path / "part"))
    fleet.deliver()
    assert [one.kind for one in (waits, *late)] == [JOIN] * 5


async def test_a_replica_that_drains_fetches_to_the_end_and_owns_nothing(fleet: FlightFleet) -> None:
    key = fleet.key_of(101)
    fetches, waits = fleet[101].ask(SID, key), fleet[100].ask(SID + 1, key)
    fleet.deliver()
    fleet.drain(101)
    fleet.deliver()
    late = fleet[102].ask(SID + 2, key)
    fleet.deliver()
    assert len(fleet[101].flights) == 1 and [one.kind for one in (waits, late)] == [0, 0]
    fetches.lease.stored()
    assert {to for _, to, _ in fleet.deliver()} & {100, 102}
    assert [one.kind for one in (waits, late)] == [LOOK, LOOK]


async def test_when_an_accept_actor_dies_its_streams_wait_and_fetch_no_more(fleet: FlightFleet) -> None:
    key = fleet.key_of(101)
    fetches, waits, lives = fleet[100].ask(SID, key), fleet[102].ask(SID + 1, key), fleet[102].ask(FAR, key)
    fleet.deliver()
    fleet.kill(ACCEPT)
    fleet.deliver()
    assert fetches.lease.is_over and waits.kind == FAILED and lives.kind == FETCH
