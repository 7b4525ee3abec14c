"""What discovery says of backends is obeyed, and what is seen of them is told: health, drains, circuits, loads, reports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pytest

from pingap.config.model import Upstream
from pingap.config.parts import Backend
from pingap.stages.circuit_states import HALF_OPEN, OPEN
from pingap.stages.messages import BackendReport, BackendRow
from pingap.stages.upstream.balance import MAX_CYCLE
from pingap.stages.upstream.core import Outcome
from pingap.stages.upstream.group import Group
from pingap.stages.upstream.tally import FAULTS, UNREACHABLE
from tests.kit.waiting import eventually
from tests.upstream.playbook import CREW, OK, UPSTREAM, Play, report_of

DISCOVERY = 20
OTHER = 77
FAILS = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"

Circuits = dict[str, tuple[int, int, Mapping[int, int]]]


def says(play: Play, topic: str, **upstreams: object) -> None:
    play.context.following[topic](upstreams)


def circuits(play: Play, api: Circuits) -> None:
    says(play, "circuits", api=api)


async def asked(play: Play, count: int, answer: bytes = OK, beside: str = "") -> Counter[str]:
    """So many requests, one after the other: how many each backend got. beside: the address of one that is busy with another."""
    got: Counter[str] = Counter()
    for _ in range(count):
        sid = play.asks()
        await play.turn()
        for address, backend in play.backends.items():
            for link in backend.open:
                if address != beside and link.connection.exchange is not None:
                    got[address] += 1
                    link.says(answer)
        await play.turn()
        play.hears_response(sid)
    return got


# -- obeying ------------------------------------------------------------------------------


async def test_a_backend_whose_circuit_is_open_gets_nothing_until_it_is_closed(play: Play) -> None:
    play.serves("a:1 b:1", "round_robin")
    circuits(play, {"a:1": (OPEN, 1, {})})
    assert await asked(play, 6) == {"b:1": 6}
    circuits(play, {})
    assert await asked(play, 6) == {"a:1": 3, "b:1": 3}


async def test_half_open_lets_so_many_probes_through_as_are_for_this_replica(play: Play) -> None:
    play.serves("a:1 b:1", "round_robin")
    circuits(play, {"a:1": (HALF_OPEN, 4, {UPSTREAM: 2, OTHER: 3})})
    assert (await asked(play, 10))["a:1"] == 2
    circuits(play, {"a:1": (HALF_OPEN, 4, {UPSTREAM: 2, OTHER: 3}), "b:1": (OPEN, 1, {})})
    sid = play.asks()
    assert play.hears_response(sid).status == 503, "what is said again grants nothing again"
    circuits(play, {"a:1": (HALF_OPEN, 5, {UPSTREAM: 1})})
    assert await asked(play, 1) == {"a:1": 1}


async def test_an_only_backend_is_probed_too(play: Play) -> None:
    play.serves("a:1")
    circuits(play, {"a:1": (HALF_OPEN, 1, {UPSTREAM: 1})})
    assert await asked(play, 1) == {"a:1": 1}
    sid = play.asks()
    assert play.hears_response(sid).status == 503


async def test_a_probe_that_tells_nothing_is_given_back(play: Play) -> None:
    play.serves("a:1")
    circuits(play, {"a:1": (HALF_OPEN, 1, {UPSTREAM: 1})})
    sid = play.asks()
    await play.turn()
    play.cancels(sid)
    await play.turn()
    assert await asked(play, 1) == {"a:1": 1}


async def test_who_is_drained_gets_nothing_and_its_idle_connections_are_closed(play: Play) -> None:
    play.serves("a:1 b:1", "round_robin")
    await asked(play, 4)
    busy = play.asks()
    await play.turn()
    at = next(address for address, backend in play.backends.items() if any(link.connection.exchange for link in backend.links))
    says(play, "drains", api=[at])
    other = "b:1" if at == "a:1" else "a:1"
    assert await asked(play, 4, beside=at) == {other: 4}
    link = next(link for link in play.backend(at).open if link.connection.exchange is not None)
    link.says(OK)
    assert play.hears_response(busy).status == 200, "what was begun is ended"
    await play.turn()
    assert not play.backend(at).open
    says(play, "drains")
    assert (await asked(play, 6))[at] == 3


async def test_who_waits_at_a_backend_that_gets_nothing_any_more_goes_elsewhere(play: Play) -> None:
    play.serves("a:1 b:1", "round_robin", max_connections=1)
    sids = [play.asks() for _ in range(4)]
    await play.turn()
    assert len(play.state("a:1").pending) == len(play.state("b:1").pending) == 1
    play.health(api={"a:1": False})
    await play.turn()
    assert (len(play.state("a:1").pending), len(play.state("b:1").pending)) == (0, 2)
    for _ in range(3):
        play.backend("b:1").link.says(OK)
        await play.turn()
    play.backend("a:1").link.says(OK)
    assert sorted(sent.sid for _, sent in play.hears() if sent.status == 200) == sids


async def test_who_waits_at_the_last_backend_stays_there(play: Play) -> None:
    play.serves("a:1", max_connections=1)
    sids = [play.asks() for _ in range(2)]
    await play.turn()
    play.health(api={"a:1": False})
    await play.turn()
    for _ in sids:
        play.backend().link.says(OK)
        await play.turn()
    assert sorted(sent.sid for _, sent in play.hears() if sent.status == 200) == sids


@pytest.mark.parametrize("algo", ["least_conn", "p2c"])
async def test_requests_of_other_replicas_count_as_load(play: Play, algo: str) -> None:
    play.serves("a:1 b:1", algo)
    says(play, "loads", api={"a:1": {OTHER: 50, UPSTREAM: 9}})
    got = await asked(play, 60)
    assert got["b:1"] > got["a:1"] and (algo == "p2c" or got["a:1"] == 0)
    says(play, "loads", api={"a:1": {UPSTREAM: 50}})
    got = await asked(play, 20)
    assert got["a:1"] > 0, "its own are known better here"


# -- backends that are not known yet -------------------------------------------------------


async def test_a_request_waits_for_the_first_word_on_backends(play: Play) -> None:
    play.serves("label:1", discovery="docker")
    sid = play.asks()
    await play.turn()
    assert play.hears_nothing()
    play.finds(api={"label:1": [("10.0.0.1", 8080, 1)]})
    await play.turn()
    play.backend("10.0.0.1:8080").link.says(OK)
    assert report_of(play.hears_response(sid)).addr == "10.0.0.1:8080"


async def test_it_waits_no_longer_than_for_a_connection_and_not_where_there_are_none(play: Play) -> None:
    play.serves("label:1", discovery="docker", max_pending=2, pending_timeout=4.0)
    waits, leaves = play.asks(), play.asks()
    report = report_of(play.hears_response(play.asks()))
    assert (report.error, report.reason) == ("overloaded", "max_pending"), "two wait already"
    play.cancels(leaves)
    await play.passes(5)
    report = report_of(play.hears_response(waits))
    assert (report.error, report.reason) == ("no_backend", "no backend was found in time")
    sid = play.asks()
    play.finds(api={"label:1": []})
    await play.turn()
    assert play.hears_response(sid).status == 503
    assert play.hears_response(play.asks()).status == 503


# -- slow start --------------------------------------------------------------------------


@pytest.mark.parametrize("algo", ["round_robin", "p2c"])
async def test_a_backend_that_comes_back_gets_its_share_little_by_little(play: Play, algo: str) -> None:
    play.serves("a:1 b:1", algo, slow_start=40.0)
    assert (await asked(play, 40))["a:1"] > 8, "at the start nobody comes back"
    play.health(api={"a:1": False})
    play.health(api={"a:1": True})
    shares = []
    for _ in range(4):
        shares.append((await asked(play, 80))["a:1"])
        await play.passes(11)
    assert shares[0] <= 20 and shares[0] < shares[1] < max(shares[2:]), shares
    assert (await asked(play, 80))["a:1"] > 20, "and all of it in the end"
    assert not play.group().is_starting


async def test_one_that_is_found_later_starts_slowly_too(play: Play) -> None:
    play.serves("many:1", "round_robin", slow_start=40.0)
    play.resolves(api={"many:1": ["10.0.0.1"]})
    await play.passes(41)
    play.resolves(api={"many:1": ["10.0.0.1", "10.0.0.2"]})
    assert (await asked(play, 42))["10.0.0.2:1"] == 2


@pytest.mark.parametrize("way", ["circuit", "health", "drain"])
async def test_who_gets_probes_is_not_back_yet_and_starts_slowly_once_it_is(play: Play, way: str) -> None:
    play.serves("a:1 b:1", "round_robin", slow_start=40.0)
    circuits(play, {"a:1": (OPEN, 1, {})})
    if way == "health":
        play.health(api={"a:1": False})
    if way == "drain":
        says(play, "drains", api=["a:1"])
    circuits(play, {"a:1": (HALF_OPEN, 4, {UPSTREAM: 2, OTHER: 3})})
    assert not play.group().is_starting
    circuits(play, {})
    play.health(api={})
    says(play, "drains", api=[])
    assert (await asked(play, 42))["a:1"] == 2


async def test_a_reload_does_not_end_a_slow_start_and_who_is_new_with_it_starts_slowly(play: Play) -> None:
    play.serves("a:1 b:1", "round_robin", slow_start=40.0)
    play.health(api={"a:1": False})
    play.health(api={})
    await play.passes(10)
    play.serves("a:1 b:1", "round_robin", slow_start=40.0, read_timeout=7.0)
    assert (await asked(play, 50)) == {"a:1": 10, "b:1": 40}
    await play.passes(31)
    play.serves("a:1 b:1 c:1", "round_robin", slow_start=40.0)
    assert (await asked(play, 41))["c:1"] == 1
    play.serves("a:1 b:1 c:1", "round_robin")
    assert not play.group().is_starting


async def test_a_balancer_is_made_anew_only_when_a_share_has_changed(play: Play) -> None:
    made: dict[str, int] = {}
    for algo in ("round_robin", "hash", "least_conn"):
        play.serves("a:1 b:1", algo, slow_start=40.0)
        group = play.group()
        before = group._balancer
        play.health(api={"a:1": False})
        play.health(api={})
        seen = {id(before): before}
        for _ in range(40):
            await play.passes(1)
            seen[id(group._balancer)] = group._balancer
        made[algo] = len(seen) - 1
        assert not group.is_starting
    assert made == {"round_robin": 20, "hash": 0, "least_conn": 0}


@pytest.mark.parametrize(("weights", "longest"), [([1] * 200, MAX_CYCLE), (range(1, 201), MAX_CYCLE // 2 + 200)])
async def test_while_one_of_many_starts_a_cycle_is_short_enough_to_be_made_often(play: Play, weights: list[int], longest: int) -> None:
    play.serves(" ".join(f"a:{port}*{weight}" for port, weight in enumerate(weights, 1)), "round_robin", slow_start=40.0)
    play.health(api={"a:1": False})
    play.health(api={})
    await play.passes(11)
    counted: Counter[int] = Counter(play.group()._balancer._cycle)  # type: ignore[attr-defined]
    assert len(counted) == 200 and counted.total() <= longest
    assert counted[0] <= counted[1]


async def test_a_start_that_is_short_costs_no_more_than_a_few_balancers_a_second(play: Play) -> None:
    play.serves("a:1 b:1", "round_robin", slow_start=1.0)
    play.health(api={"a:1": False})
    play.health(api={})
    group = play.group()
    seen = {}
    for _ in range(100):
        play.clock.now += 0.01
        play.actor.pools.sweep(play.clock.now)
        seen[id(group._balancer)] = group._balancer
    assert 4 <= len(seen) <= 7


# -- telling -----------------------------------------------------------------------------


def rows(play: Play) -> dict[str, BackendRow]:
    """The newest of each address; zeros before there is one."""
    none = {address: BackendRow("api", address, 0, 0, 0, 0, 0, 0) for address in ("a:1", "b:1", "10.0.0.1:1")}
    return none | {row.address: row for report in reports(play) for row in report.rows}


def reports(play: Play) -> list[BackendReport]:
    return [sent for to, sent in play.context.sent if isinstance(sent, BackendReport) and to == DISCOVERY]


async def test_what_backends_do_is_told_in_figures_that_only_grow(play: Play) -> None:
    play.members(*CREW, (DISCOVERY, "discovery"))
    play.serves("a:1 b:1", "round_robin", location={"max_retries": 0})
    await asked(play, 4)
    await eventually(lambda: rows(play)["b:1"].requests == 2)
    assert [(row.requests, row.failures, row.streak) for row in (rows(play)["a:1"], rows(play)["b:1"])] == [(2, 0, 0), (2, 0, 0)]
    await asked(play, 4, FAILS)
    play.backend("a:1").refuses = play.backend("b:1").refuses = ConnectionRefusedError("no")
    for backend in play.backends.values():
        for link in backend.open:
            link.closes()
    for _ in range(2):
        sid = play.asks()
        await play.turn()
        assert play.hears_response(sid).status >= 500
    await eventually(lambda: rows(play)["a:1"].requests == 5 and rows(play)["b:1"].requests == 5)
    for row in (rows(play)["a:1"], rows(play)["b:1"]):
        assert (row.failures, row.streak, row.unreachable, row.in_flight, row.connections) == (3, 3, 1, 0, 0)


async def test_a_failure_is_told_sooner_than_what_is_everyday(play: Play) -> None:
    play.members(*CREW, (DISCOVERY, "discovery"))
    play.serves("a:1")
    before = len(reports(play))
    await asked(play, 1)
    await asked(play, 1, FAILS)
    await eventually(lambda: len(reports(play)) > before)
    assert rows(play)["a:1"].failures == 1, "not in the next report"


async def test_a_discovery_that_is_new_is_told_all_of_it(play: Play) -> None:
    play.serves("a:1 b:1", "round_robin")
    await asked(play, 2)
    play.members(*CREW, (DISCOVERY, "discovery"))
    (told,) = reports(play)
    assert told.is_whole and [row.requests for row in told.rows] == [1, 1]


async def test_a_reload_goes_on_counting_and_an_address_that_comes_again_begins_anew(play: Play) -> None:
    play.members(*CREW, (DISCOVERY, "discovery"))
    play.serves("many:1")
    play.resolves(api={"many:1": ["10.0.0.1"]})
    await asked(play, 2)
    play.serves("many:1", read_timeout=7.0)
    await asked(play, 1)
    await eventually(lambda: rows(play)["10.0.0.1:1"].requests == 3)
    play.resolves(api={"many:1": ["10.0.0.2"]})
    play.resolves(api={"many:1": ["10.0.0.1"]})
    await asked(play, 1)
    await eventually(lambda: rows(play)["10.0.0.1:1"].requests == 1)


async def test_of_probes_it_is_told_how_they_went(play: Play) -> None:
    play.members(*CREW, (DISCOVERY, "discovery"))
    play.serves("a:1")
    await asked(play, 1)
    circuits(play, {"a:1": (HALF_OPEN, 6, {UPSTREAM: 3})})
    await asked(play, 2)
    await asked(play, 1, FAILS)
    await eventually(lambda: rows(play)["a:1"].failed == 1)
    row = rows(play)["a:1"]
    assert (row.round, row.passed, row.failed) == (6, 2, 1)


async def test_an_answer_that_is_long_in_coming_counts_when_it_begins_and_once(play: Play) -> None:
    play.members(*CREW, (DISCOVERY, "discovery"))
    play.serves("a:1")
    circuits(play, {"a:1": (HALF_OPEN, 6, {UPSTREAM: 3})})
    sid = play.asks()
    await play.turn()
    play.backend().link.says(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
    await eventually(lambda: rows(play)["a:1"].requests == 1)
    assert (rows(play)["a:1"].passed, rows(play)["a:1"].in_flight) == (1, 1)
    play.backend().link.closes()
    await eventually(lambda: rows(play)["a:1"].failures == 1)
    assert rows(play)["a:1"].requests == 1, "cut off, it is a failure, and no other request"
    assert (rows(play)["a:1"].round, rows(play)["a:1"].failed) == (6, 1), "and a probe that failed after all"
    play.hears()
    assert sid


async def test_answers_that_are_cut_are_failures_in_a_row_and_a_whole_one_ends_it(play: Play) -> None:
    play.members(*CREW, (DISCOVERY, "discovery"))
    play.serves("a:1")

    async def is_answered(end: str) -> None:
        sid = play.asks()
        await play.turn()
        before = rows(play)["a:1"].requests
        play.backend().link.says(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf ")
        await eventually(lambda: rows(play)["a:1"].requests == before + 1)
        assert rows(play)["a:1"].begun == 1
        if end == "cut":
            play.backend().link.closes()
        elif end == "whole":
            play.backend().link.says(b"half")
        else:
            play.cancels(sid)
        await eventually(lambda: rows(play)["a:1"].begun == 0)
        play.hears()

    for failures in (1, 2):
        await is_answered("cut")
        assert (rows(play)["a:1"].failures, rows(play)["a:1"].streak) == (failures, failures)
    await is_answered("whole")
    assert (rows(play)["a:1"].failures, rows(play)["a:1"].streak) == (2, 0)
    await is_answered("cut")
    await is_answered("called off")
    assert (rows(play)["a:1"].failures, rows(play)["a:1"].streak) == (3, 0)


async def test_of_what_is_in_flight_for_long_it_is_told_too(play: Play) -> None:
    play.members(*CREW, (DISCOVERY, "discovery"))
    play.serves("a:1")
    sid = play.asks()
    await play.passes(1)
    await eventually(lambda: rows(play)["a:1"].connections == 1)
    assert (rows(play)["a:1"].in_flight, rows(play)["a:1"].connections) == (1, 1)
    play.backend().link.says(OK)
    assert play.hears_response(sid).status == 200


# -- what a review found -----------------------------------------------------------------


async def test_who_waits_for_the_first_backends_is_served_as_soon_as_one_is_usable(play: Play) -> None:
    play.serves("x.test:1 y.test:1", discovery="dns")
    sids = [play.asks()]
    play.health(api={"10.0.0.1:1": False})
    play.finds(api={"x.test:1": [("10.0.0.1", 1, 1)]})
    await play.turn()
    sids.append(play.asks())
    assert play.hears_nothing(), "the other name may have a healthy one"
    play.health(api={"10.0.0.1:1": True})
    await play.turn()
    for link in play.backend("10.0.0.1:1").open:
        link.says(OK)
    assert sorted(sent.sid for _, sent in play.hears() if sent.status == 200) == sids


async def test_a_reload_leaves_nobody_behind_who_waits_for_the_first_backends(play: Play) -> None:
    play.serves("x.test:1", discovery="dns")
    sid = play.asks()
    play.serves("x.test:1", discovery="dns", read_timeout=7.0)
    play.finds(api={"x.test:1": [("10.0.0.1", 1, 1)]})
    await play.turn()
    play.backend("10.0.0.1:1").link.says(OK)
    assert play.hears_response(sid).status == 200


async def test_who_has_waited_goes_to_no_backend_that_is_known_to_be_out(play: Play) -> None:
    play.serves("x.test:1", "round_robin", discovery="dns")
    sids = [play.asks() for _ in range(6)]
    play.health(api={"10.0.0.1:1": False})
    says(play, "drains", api=["10.0.0.2:1"])
    play.finds(api={"x.test:1": [("10.0.0.1", 1, 1), ("10.0.0.2", 1, 1), ("10.0.0.3", 1, 1)]})
    await play.turn()
    assert {address: backend.asked for address, backend in play.backends.items() if backend.asked} == {"10.0.0.3:1": 6}
    for link in play.backend("10.0.0.3:1").open:
        link.says(OK)
    assert len(play.hears()) == len(sids)


async def test_loads_hold_for_a_new_generation(play: Play) -> None:
    play.serves("a:1 b:1", "least_conn")
    says(play, "loads", api={"a:1": {OTHER: 50}})
    play.serves("a:1 b:1", "least_conn", read_timeout=8.0)
    assert play.state("a:1").elsewhere == 50


@pytest.mark.parametrize("end", ["resets", "idles"])
async def test_a_tunnel_ends_as_it_likes(play: Play, end: str) -> None:
    play.members(*CREW, (DISCOVERY, "discovery"))
    play.serves("a:1", read_timeout=5.0)
    play.asks(upgrade=b"websocket", headers=b"sec-websocket-key: x\r\n")
    await play.turn()
    play.backend().link.says(b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    await eventually(lambda: rows(play)["a:1"].in_flight == 1)
    if end == "resets":
        play.backend().link.resets()
    await play.passes(6)
    await eventually(lambda: rows(play)["a:1"].in_flight == 0)
    assert (rows(play)["a:1"].requests, rows(play)["a:1"].failures) == (1, 0)
    play.hears()


async def test_what_has_ended_is_told_too(play: Play) -> None:
    play.members(*CREW, (DISCOVERY, "discovery"))
    play.serves("a:1")
    play.asks()
    await play.turn()
    play.backend().link.says(b"HTTP/1.1 503 No\r\nContent-Length: 9\r\n\r\nhalf")
    await eventually(lambda: rows(play)["a:1"].failures == 1)
    play.backend().link.closes()
    await play.passes(1)
    await eventually(lambda: (rows(play)["a:1"].in_flight, rows(play)["a:1"].connections) == (0, 0))
    assert rows(play)["a:1"].failures == 1
    play.hears()
    await asked(play, 1)
    await play.passes(1)
    await eventually(lambda: rows(play)["a:1"].connections == 1)
    play.backend().link.closes()
    await play.passes(1)
    await eventually(lambda: rows(play)["a:1"].connections == 0)


async def test_what_a_backend_still_does_that_has_left_is_not_told_of_the_one_that_comes_again(play: Play) -> None:
    play.members(*CREW, (DISCOVERY, "discovery"))
    play.serves("many:1")
    play.resolves(api={"many:1": ["10.0.0.1"]})
    await asked(play, 5)
    sid = play.asks()
    await play.turn()
    old = next(link for link in play.backend("10.0.0.1:1").open if link.connection.exchange is not None)
    play.resolves(api={"many:1": ["10.0.0.2"]})
    play.resolves(api={"many:1": ["10.0.0.1"]})
    new = play.asks()
    await play.turn()
    next(link for link in play.backend("10.0.0.1:1").open if link not in (old,) and link.connection.exchange is not None).says(OK)
    await eventually(lambda: rows(play)["10.0.0.1:1"].requests == 1)
    before = len(reports(play))
    old.says(OK)
    await play.passes(1)
    sids = sorted(sent.sid for _, sent in play.hears())
    play.resolves(api={"many:1": ["10.0.0.1", "10.0.0.3"]})
    await asked(play, 2)
    await eventually(lambda: len(reports(play)) > before)
    assert all(row.requests < 6 for report in reports(play)[before:] for row in report.rows)
    assert sids == [sid, new]


async def test_a_candidate_that_is_withdrawn_leaves_no_tally(play: Play) -> None:
    play.serves("a:1")
    (tally,) = play.actor.reports.tallies.all()
    assert len(tally.states) == 1
    play.actor._compiler.groups = {}
    Group("api", Upstream(addrs=(Backend("a", 1),)), lambda n: 0)
    Group("other", Upstream(addrs=(Backend("a", 1),)), lambda n: 0)
    assert list(play.actor.reports.tallies.all()) == [tally] and len(tally.states) == 1


NOBODYS = {
    Outcome.NO_LOOKUP,
    Outcome.NO_DESCRIPTOR,
    Outcome.CLOSED_REUSED,
    Outcome.REFUSED,
    Outcome.CANCELLED,
    Outcome.DEADLINE,
    Outcome.HEAD_TOO_LARGE,
    Outcome.HTTP1_REQUIRED,
    Outcome.DESTINATION,
    Outcome.NO_CONNECTION,
    Outcome.MOVED,
    Outcome.CALLED_OFF,
    Outcome.GIVEN_UP,
}
"""What is everyday, the client's fault, or ours."""


def test_every_outcome_is_somebodys_fault_or_nobodys() -> None:
    assert set(Outcome) == {Outcome.ANSWERED, *FAULTS, *NOBODYS}
    assert not NOBODYS & set(FAULTS) and set(UNREACHABLE) <= set(FAULTS)
