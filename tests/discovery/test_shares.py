"""Whose check may begin: nobody's hanging checks keep another's waiting."""

from __future__ import annotations

import asyncio
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from pingap.stages.discovery.gate import CheckGate
from pingap.stages.discovery.shares import CheckShares, Rank


def taken(shares: CheckShares[str], upstream: str, count: int, rank: Rank = Rank.ROUND) -> int:
    """How many of so many checks may begin."""
    return sum(shares.take(upstream, f"{upstream}{number}", rank) for number in range(count))


def test_one_that_hangs_gets_less_than_half_and_there_is_room_for_the_others() -> None:
    shares = CheckShares[str](64)
    assert taken(shares, "hog", 5000) == 28
    assert taken(shares, "other", 10) == 10
    assert taken(shares, "third", 1) == 1
    assert shares.used == 39
    assert shares.waiting == 5000 - 28


def test_ten_that_hang_leave_room_for_one_more() -> None:
    shares = CheckShares[str](64)
    for number in range(10):
        taken(shares, f"hog{number}", 100)
    assert shares.used < 64
    assert taken(shares, "other", 1) == 1


def test_with_one_backend_each_all_of_it_is_used() -> None:
    shares = CheckShares[str](64)
    assert sum(taken(shares, f"u{number}", 1) for number in range(100)) == 64
    assert shares.free("u0") == ["u640"]
    assert shares.free("u1") == ["u650"]


def test_a_turn_that_comes_free_goes_to_who_has_few() -> None:
    shares = CheckShares[str](8)
    assert (taken(shares, "a", 9), taken(shares, "b", 9), taken(shares, "c", 9)) == (4, 2, 1)
    assert shares.free("a") == []
    assert shares.free("a") == ["c1"], "who has least"
    assert shares.free("b") == ["b2"]


def test_an_urgent_one_passes_those_of_its_own_upstream_and_may_take_more() -> None:
    shares = CheckShares[str](64)
    assert taken(shares, "hog", 100) == 28
    assert taken(shares, "hog", 5, Rank.URGENT) == 5
    assert taken(shares, "hog", 1000, Rank.URGENT) < 64 - 33, "and yet not all"
    assert taken(shares, "other", 3) == 3


def test_backends_that_are_known_to_be_ill_make_room_for_the_others_of_their_upstream() -> None:
    shares = CheckShares[str](64)
    assert taken(shares, "hog", 5000, Rank.ILL) == 19
    assert taken(shares, "hog", 5000) == 28 - 19
    for _ in range(9):
        assert all(ticket.startswith("hog") for ticket in shares.free("hog"))
    assert shares.used == 28, "those in the line of the others take over first"


@given(st.integers(1, 20), st.lists(st.tuples(st.integers(0, 4), st.sampled_from([*Rank, "end", "withdraw"])), max_size=200))
def test_never_more_than_all_and_none_is_forgotten(most: int, steps: list[tuple[int, Rank | str]]) -> None:
    shares = CheckShares[int](most)
    held: Counter[str] = Counter()
    waiting: dict[int, str] = {}
    serial = 0
    for number, act in steps:
        name = f"u{number}"
        if isinstance(act, Rank):
            serial += 1
            if shares.take(name, serial, act):
                held[name] += 1
            else:
                waiting[serial] = name
        elif act == "end" and held[name]:
            held[name] -= 1
            for ticket in shares.free(name):
                held[waiting.pop(ticket)] += 1
        elif act == "withdraw":
            mine = [ticket for ticket, upstream in waiting.items() if upstream == name]
            if mine:
                assert shares.withdraw(name, mine[-1])
                assert not shares.withdraw(name, mine[-1]), "it waits no longer"
                del waiting[mine[-1]]
        assert shares.used == held.total() <= most
        assert shares.waiting == len(waiting)
        assert not waiting or held.total(), "as long as one waits, one is under way that can let it in"
    while held.total():
        name = next(upstream for upstream in held if held[upstream])
        held[name] -= 1
        for ticket in shares.free(name):
            held[waiting.pop(ticket)] += 1
        assert held.total() <= most
    assert not waiting


class Counted:
    """A ticket that says how often any was compared with another."""

    compared = 0

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return self is other

    def __hash__(self) -> int:
        return id(self)


def test_thousands_that_wait_are_called_off_without_a_look_at_one_another() -> None:
    """So it is at a reload, all in one turn of the loop."""
    shares = CheckShares[Counted](8)
    tickets = [Counted() for _ in range(3000)]
    waiting = [ticket for number, ticket in enumerate(tickets) if not shares.take("a", ticket, Rank(number % 3))]
    for ticket in reversed(waiting):
        assert shares.withdraw("a", ticket)
    assert shares.waiting == 0
    assert Counted.compared < 3000


async def test_one_that_is_called_off_takes_nobodys_turn() -> None:
    gate = CheckGate(asyncio.get_running_loop(), 1)
    done: list[str] = []

    async def check(name: str) -> None:
        async with gate.turn(name):
            done.append(name)
            await asyncio.sleep(0)

    async with gate.turn("first"):
        tasks = [asyncio.create_task(check(name)) for name in "abc"]
        await asyncio.sleep(0)
        assert gate.waiting == 3
        tasks[0].cancel()
        await asyncio.sleep(0)
        assert gate.waiting == 2
    tasks[1].cancel()  # it has its turn already, but does not know it yet
    await asyncio.gather(*tasks, return_exceptions=True)
    assert done == ["c"]
    assert (gate.used, gate.waiting) == (0, 0)


async def test_those_under_way_and_those_that_wait_can_be_called_off_together() -> None:
    """So it is when an upstream leaves the configuration, or has another plan."""
    gate = CheckGate(asyncio.get_running_loop(), 16)

    async def check(name: str, rank: Rank, seconds: float) -> None:
        async with gate.turn(name, rank):
            await asyncio.sleep(seconds)

    for called_off in (slice(None), slice(None, None, -1), slice(0, None, 2)):
        tasks = [asyncio.create_task(check(name, rank, 3600)) for name in "ab" for rank in Rank for _ in range(20)]
        await asyncio.sleep(0)
        assert gate.used and gate.waiting
        for task in tasks[called_off]:
            task.cancel()
        await asyncio.wait(tasks[called_off])
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(how) for how in ended} == {asyncio.CancelledError}
        assert (gate.used, gate.waiting) == (0, 0)
        for rank in Rank:
            async with asyncio.timeout(5):
                await check("a", rank, 0)
