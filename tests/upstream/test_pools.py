"""Connections and their users: reuse, caps, lines, trimming, reloads."""

from __future__ import annotations

import pytest

from pingap.config.model import Snapshot, Upstream
from pingap.config.parts import Backend
from pingap.stages.messages import WINDOW
from tests.upstream.playbook import OK, PENDING_TIMEOUT, Http2Link, Play

BUSY = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"


async def test_a_connection_serves_one_request_after_the_other(play: Play) -> None:
    play.serves()
    links = {id(await play.fetches()) for _ in range(5)}
    assert len(links) == 1
    assert play.backend().asked == 1


async def test_requests_at_the_same_time_get_connections_of_their_own(play: Play) -> None:
    play.serves()
    sids = [play.asks(target=b"/%d" % number) for number in range(3)]
    await play.turn()
    assert len(play.backend().links) == 3
    for sid, link in reversed(list(zip(sids, play.backend().links, strict=True))):
        assert link.hears().startswith(b"GET /%d " % (sids.index(sid)))
        link.says(OK)
        play.hears_response(sid)
    assert len(play.state().idle) == 3


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        OK + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n",
    ],
    ids=["close", "1.0", "a second answer", "bytes after the last chunk"],
)
async def test_a_connection_that_cannot_be_trusted_further_is_not_used_again(play: Play, answer: bytes) -> None:
    play.serves()
    sid = play.asks()
    await play.turn()
    play.backend().link.says(answer)
    response = play.hears_response(sid)
    assert (response.body, response.ended) == (b"ok", True)
    assert play.backend().link.is_closed
    await play.turn()
    await play.fetches()
    assert play.backend().asked == 2


async def test_a_1_0_backend_that_says_keep_alive_is_kept(play: Play) -> None:
    play.serves()
    sid = play.asks()
    await play.turn()
    play.backend().link.says(b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok")
    play.hears_response(sid)
    await play.fetches()
    assert play.backend().asked == 1


async def test_what_an_idle_connection_says_unasked_is_nobodys_answer(play: Play) -> None:
    play.serves()
    link = await play.fetches()
    link.says(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
    sid = play.asks()  # in the same turn: the connection is not even closed yet
    await play.turn()
    assert play.backend().link is not link
    assert link.hears() == b"", "nothing may be sent on a connection that was given up"
    play.backend().link.says(OK)
    assert play.hears_response(sid).body == b"ok"
    assert play.context.counted == {}, "and it is no failure of this request"


@pytest.mark.parametrize("method", [b"GET", b"POST"])
async def test_an_idle_connection_that_the_backend_closed_is_not_used(play: Play, method: bytes) -> None:
    play.serves()
    link = await play.fetches()
    link.closes()
    assert (await play.fetches(method)) is not link


async def test_before_a_post_the_connection_is_looked_at(play: Play) -> None:
    """The FIN is here, but the event loop has not come round to it."""
    play.serves()
    link = await play.fetches()
    link.closes(now=False)
    fresh = await play.fetches(b"POST", body=b"order")
    assert fresh is not link
    assert link.hears() == b""


@pytest.mark.parametrize(("before", "method"), [(b"HEAD", b"GET"), (b"HEAD", b"POST"), (b"GET", b"POST")])
async def test_bytes_that_nobody_asked_for_are_seen_though_the_loop_has_not_come_round_to_them(
    play: Play, before: bytes, method: bytes
) -> None:
    """A body after the answer to HEAD above all. Between two GETs it is left to the order of a turn: see the tests of bus."""
    play.serves()
    link = await play.fetches(before)
    link.says(OK, now=False)
    assert (await play.fetches(method)) is not link


@pytest.mark.parametrize("method", [b"GET", b"POST"])
async def test_who_waits_in_line_does_not_get_a_connection_that_has_more_to_say(play: Play, method: bytes) -> None:
    play.serves(max_connections=1)
    first, second = play.asks(), play.asks(method)
    await play.turn()
    link = play.backend().link
    link.says(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", now=False)
    link.connection.data_received(OK)  # a read of its own, before that
    assert play.hears_response(first).body == b"ok"
    await play.turn()
    assert play.backend().link is not link
    play.backend().link.says(OK)
    assert play.hears_response(second).body == b"ok"


async def test_a_connection_that_was_idle_for_a_while_is_looked_at_before_any_request(play: Play) -> None:
    play.serves()
    link = await play.fetches()
    await play.passes(2)
    link.closes(now=False)
    assert (await play.fetches()) is not link


# -- caps and lines ---------------------------------------------------------------------


async def test_at_the_cap_requests_wait_in_their_order(play: Play) -> None:
    play.serves(max_connections=1)
    sids = [play.asks(target=b"/%d" % number) for number in range(4)]
    await play.turn()
    link = play.backend().link
    for number, sid in enumerate(sids):
        assert link.hears().startswith(b"GET /%d " % number)
        link.says(OK)
        play.hears_response(sid)
    assert play.backend().asked == 1


async def test_a_full_line_is_503_and_costs_the_backend_nothing(play: Play) -> None:
    play.serves(max_connections=1, max_pending=1)
    first, second, third = (play.asks() for _ in range(3))
    response = play.hears_response(third)
    assert response.status == 503
    assert b"retry-after" in response.headers
    assert response.report is not None
    assert (response.report.error, response.report.tries, response.report.addr) == ("overloaded", 0, "")
    assert play.state().active == 2, "who was turned away is not at the backend"
    await play.turn()
    for sid in (first, second):
        play.backend().link.says(OK)
        assert play.hears_response(sid).status == 200


async def test_who_waits_too_long_is_503_and_nobody_else_is(play: Play) -> None:
    play.serves(max_connections=1)
    first = play.asks()
    await play.turn()
    early = play.asks()
    await play.passes(PENDING_TIMEOUT / 2)
    gone, late = play.asks(), play.asks()
    play.cancels(early)
    await play.passes(PENDING_TIMEOUT / 2 + 0.5)
    assert play.hears_nothing(), "the one that waited long has left, the others have not waited long"
    play.cancels(gone)
    await play.passes(PENDING_TIMEOUT / 2)
    assert play.hears_response(late).status == 503
    play.backend().link.says(OK)
    play.hears_response(first)


async def test_the_time_in_line_counts_from_the_beginning_of_the_wait(play: Play) -> None:
    play.serves("a:1 b:1", max_connections=1)
    busy = play.asks()
    await play.turn()
    play.hears()
    other = "b:1" if play.backend("a:1").links else "a:1"
    holder = play.backend("a:1" if other == "b:1" else "b:1").link
    play.backend(other).hangs = True
    slow = play.asks()
    await play.passes(PENDING_TIMEOUT - 1)  # a slow refusal
    play.backend(other).refuses = ConnectionRefusedError("no")
    play.backend(other).answers_dials()
    await play.passes(2)
    assert play.hears_nothing(), "it has waited in line for two seconds only"
    holder.says(OK)
    assert play.hears_response(busy).status == 200
    holder.says(OK)
    assert play.hears_response(slow).status == 200


async def test_the_time_in_line_is_the_upstreams_own(play: Play) -> None:
    play.serves(max_connections=1, pending_timeout=2.0)
    busy = play.asks()
    await play.turn()
    play.asks()
    await play.passes(1.75)
    assert play.hears_nothing()
    await play.passes(0.25)
    assert play.hears()[-1][1].status == 503
    play.backend().link.says(OK)
    assert play.hears_response(busy).status == 200


async def test_an_answer_that_is_dropped_frees_its_place_in_line(play: Play) -> None:
    play.serves("a:1 b:1", max_connections=1, location={"retry_status_code": (503,)})
    first, second = play.asks(), play.asks()
    await play.turn()
    waiting = play.asks()  # at either
    await play.turn()
    held = next(address for address in ("a:1", "b:1") if play.state(address).pending)
    other = "b:1" if held == "a:1" else "a:1"
    play.backend(held).link.hears()
    play.backend(held).link.says(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
    assert play.backend(held).link.hears().startswith(b"GET"), "who waited has the connection"
    assert len(play.state(other).pending) == 1, "and the other one is in line elsewhere"
    for address in (held, other, other):
        play.backend(address).link.says(OK)
    assert {(response.sid, response.status) for _, response in play.hears()} == {(first, 200), (second, 200), (waiting, 200)}


@pytest.mark.parametrize("how", ["close", "reset", "cancel"])
async def test_a_lost_connection_lets_the_next_one_open_another(play: Play, how: str) -> None:
    play.serves(max_connections=1)
    first, second = play.asks(b"POST", body=b"x"), play.asks()
    await play.turn()
    link = play.backend().link
    if how == "close":
        link.closes()
    elif how == "reset":
        link.resets()
    else:
        play.cancels(first)
    await play.turn()
    play.hears()
    fresh = play.backend().link
    assert fresh is not link
    fresh.says(OK)
    assert play.hears_response(second).status == 200


async def test_a_failed_connect_lets_the_next_one_try(play: Play) -> None:
    play.serves(max_connections=1)
    play.backend().hangs = True
    first, second = play.asks(), play.asks()
    await play.turn()
    assert play.backend().dialing == 1
    play.backend().refuses = ConnectionRefusedError("no")
    play.backend().answers_dials()
    await play.turn()
    assert {(envelope.sid, envelope.status) for _, envelope in play.hears()} == {(first, 502), (second, 502)}


async def test_a_retry_does_not_open_more_than_the_cap(play: Play) -> None:
    play.serves(max_connections=1)
    link = await play.fetches()
    first, second = play.asks(), play.asks(target=b"/second")
    link.closes()  # under the first one: its retry needs a connection, and so does the second
    await play.turn()
    assert len(play.backend().open) == 1, "max_connections is a promise"
    fresh = play.backend().link
    fresh.says(OK)
    await play.turn()
    fresh.says(OK)
    assert {(envelope.sid, envelope.status) for _, envelope in play.hears()} == {(first, 200), (second, 200)}


async def test_a_post_in_line_does_not_get_a_connection_that_is_closing(play: Play) -> None:
    play.serves(max_connections=1)
    first, second, third = play.asks(), play.posts(), play.asks(target=b"/third")
    await play.turn()
    link = play.backend().link
    link.closes(now=False)  # right behind the answer
    link.unread.insert(0, OK)
    link.connection.data_received(link.unread.pop(0))
    play.hears_response(first)
    await play.turn()
    fresh = play.backend().link
    assert fresh is not link
    assert b"POST" not in link.hears()
    assert fresh.hears().startswith(b"POST"), "and it keeps its place"
    fresh.says(OK)
    play.hears_response(second)
    fresh.says(OK)
    play.hears_response(third)


async def test_those_in_line_of_a_section_that_a_reload_replaced_are_still_served_or_told(play: Play) -> None:
    play.serves(max_connections=1)
    first, second, third = play.asks(), play.asks(), play.asks()
    await play.turn()
    link = play.backend().link
    play.serves(max_connections=2, addrs="b:1")
    link.says(OK)
    play.hears_response(first)
    assert link.hears().count(b"GET") == 2
    await play.passes(PENDING_TIMEOUT + 1)
    assert play.hears_response(third).status == 503
    link.says(OK)
    play.hears_response(second)
    assert link.is_closed, "nobody will use it again"


# -- trimming -----------------------------------------------------------------------------


async def test_an_idle_connection_is_kept_for_its_time_only(play: Play) -> None:
    play.serves(idle_timeout=5.0)
    link = await play.fetches()
    await play.passes(4.5)
    assert not link.is_closed
    await play.passes(1)
    assert link.is_closed
    assert play.state().open == 0


@pytest.mark.parametrize("settings", [{"idle_timeout": 0.0}, {"basic": {"upstream_keepalive_pool_size": 0}}], ids=["time", "pool"])
async def test_a_pool_of_nothing_keeps_nothing(play: Play, settings: dict[str, object]) -> None:
    play.serves(**settings)  # type: ignore[arg-type]
    link = await play.fetches()
    assert link.is_closed
    assert (await play.fetches()) is not link


async def test_over_the_cap_the_connections_that_were_idle_longest_close(play: Play) -> None:
    play.serves(basic={"upstream_keepalive_pool_size": 2}, idle_timeout=1000.0)
    sids = [play.asks() for _ in range(5)]
    await play.turn()
    for sid, link in zip(sids, play.backend().links, strict=True):
        play.clock.now += 1
        link.says(OK)
        play.hears_response(sid)
    await play.passes(0.5)
    assert [link.is_closed for link in play.backend().links] == [True, True, True, False, False]


async def test_what_the_trim_closes_is_not_used_again(play: Play) -> None:
    play.serves(idle_timeout=5.0)
    link = await play.fetches()
    play.clock.now += 6
    play._sweep()
    sid = play.asks()  # before the loop has told of the loss
    await play.turn()
    assert link.hears() == b""
    play.backend().link.says(OK)
    assert play.hears_response(sid).status == 200


# -- reloads --------------------------------------------------------------------------------


async def test_a_reload_keeps_the_connections_of_a_section_that_did_not_change(play: Play) -> None:
    play.serves()
    link = await play.fetches()
    play.serves(location={"max_retries": 1})
    assert (await play.fetches()) is link


async def test_a_withdrawn_candidate_does_not_cost_the_pool(play: Play) -> None:
    play.serves()
    link = await play.fetches()
    current = Snapshot(upstreams={"api": play.group().settings})
    other = Snapshot(upstreams={"api": Upstream(addrs=(Backend("b", 1),))})
    play.publishes(1, current, 2, other)  # a candidate that some other stage refuses
    play.publishes(1, current)
    play.serves()
    play.asks(generation=2, sid=1)  # number 2 again: what it stands for now is what counts
    await play.turn()
    assert "b:1" not in play.backends
    link = play.backend().link
    link.says(OK)
    play.hears()
    assert len(play.backend().links) == 1


async def test_a_reload_closes_the_idle_connections_of_a_section_that_changed(play: Play) -> None:
    play.serves()
    link = await play.fetches()
    play.serves("a:1 b:1")
    await play.turn()
    assert link.is_closed


async def test_a_stream_of_the_old_generation_lives_on_and_then_its_connection_closes(play: Play) -> None:
    play.serves()
    sid = play.asks()
    await play.turn()
    link = play.backend().link
    link.says(BUSY)
    play.hears_response(sid)
    play.serves("b:1")
    await play.passes(1)
    link.says(b"x" * 100)
    assert play.hears_data(sid) == [(b"x" * 100, True, "")]
    await play.passes(1)
    assert link.is_closed


async def test_a_late_request_of_the_old_generation_leaves_no_connection_behind(play: Play) -> None:
    old = play.serves()
    play.publishes(2, Snapshot(upstreams={"api": Upstream(addrs=(Backend("b", 1),))}), oldest=1)
    await play.passes(1)  # the old section has no connection any more
    sid = play.asks(generation=1)
    await play.turn()
    link = play.backend("a:1").link
    link.says(OK)
    assert play.hears_response(sid).status == 200
    await play.passes(1)
    assert link.is_closed
    assert old.backends[0].open == 0


async def test_a_replica_that_knows_only_a_newer_generation_serves_by_that(play: Play) -> None:
    """Accept has not heard of the newest commit yet, and this replica has just started."""
    play.generation = 6
    play.serves()
    sid = play.asks(generation=6)
    await play.turn()
    play.backend().link.says(OK)
    assert play.hears_response(sid).status == 200


async def test_a_generation_that_is_not_known_yet_is_503(play: Play) -> None:
    play.serves()
    assert play.hears_response(play.asks(generation=99)).status == 503


async def test_an_upstream_that_is_not_there_is_503_by_way_of_who_waits_for_the_answer(play: Play) -> None:
    play.serves()
    assert play.hears_response(play.asks(upstream="gone")).status == 503
    assert play.hears_response(play.asks(upstream="gone", plan=4), to=12).status == 503


async def test_figures_tell_of_connections_and_their_use(play: Play) -> None:
    play.serves()
    await play.fetches()
    sids = [play.asks(), play.asks()]
    await play.turn()
    figures = play.actor.figures()
    assert figures["requests"] == 3
    assert figures["in_flight"] == 2
    assert sorted(value for name, value in figures.items() if name.endswith("api")) == [2, 2]
    for sid in sids:
        play.cancels(sid)
    await play.turn()


async def test_a_connection_whose_request_is_not_all_taken_is_not_used_again(play: Play) -> None:
    play.serves()
    sid = play.uploads(length=WINDOW)
    await play.turn()
    link = play.backend().link
    link.stops_reading()
    play.hears()
    for number in range(4):
        play.sends(sid, b"x" * (WINDOW // 4), ended=number == 3)
    link.says(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
    assert play.hears()[-1][1].status == 413
    assert link.is_closed


async def test_an_answer_read_from_a_dead_connection_does_not_bring_it_back_to_life(play: Play) -> None:
    play.serves(max_connections=1)
    first, second = play.asks(), play.posts()
    await play.turn()
    dead = play.backend().link
    dead.says(OK, now=False)
    dead.resets()
    await play.turn()
    assert play.hears_response(first).status == 200
    fresh = play.backend().link
    assert fresh is not dead
    fresh.says(OK)
    assert play.hears_response(second).status == 200


async def test_a_reload_that_lets_nothing_idle_is_one_for_upstreams_that_it_left_as_they_were(play: Play) -> None:
    group = play.serves()
    link = await play.fetches()
    assert play.serves(basic={"upstream_keepalive_pool_size": 0}) is group
    assert link.is_closed
    await play.fetches()
    assert not play.backend().open
    assert play.serves() is group
    assert not (await play.fetches()).is_closed


async def test_what_was_said_of_health_before_the_configuration_holds(play: Play) -> None:
    play.health(api={"a:1": False})
    play.serves("a:1 b:1")
    await play.fetches(address="b:1")
    await play.fetches(address="b:1")
    play.resolves(api={"a:1": ["a"]})
    assert not play.state("a:1").is_usable


async def test_a_new_address_is_as_healthy_as_was_said_of_it(play: Play) -> None:
    play.serves("many:1")
    play.health(api={"10.0.0.1:1": False})
    play.resolves(api={"many:1": ["10.0.0.1", "10.0.0.2"]})
    assert [state.is_usable for state in play.group().backends] == [False, True]


@pytest.mark.parametrize("how", ["health", "drains"])
async def test_who_waits_at_a_backend_that_gets_no_requests_any_more_goes_elsewhere(play: Play, how: str) -> None:
    play.serves("a:1 b:1", max_connections=1, algo="round_robin")
    sids = [play.asks() for _ in range(4)]
    await play.turn()
    for backend in (play.backend("a:1"), play.backend("b:1")):
        backend.link.hears()
    assert [len(play.state(address).pending) for address in ("a:1", "b:1")] == [1, 1]
    play.context.following[how]({"api": {"a:1": False} if how == "health" else ["a:1"]})
    assert [len(play.state(address).pending) for address in ("a:1", "b:1")] == [0, 2]
    for address in ("a:1", "b:1", "b:1", "b:1"):
        play.backend(address).link.says(OK)
    assert sorted(response.sid for _, response in play.hears() if response.status == 200) == sids


@pytest.mark.parametrize("kind", ["static", "transparent", "unplaced"])
async def test_each_who_waits_is_told_in_time_wherever_it_waits(play: Play, kind: str) -> None:
    """A line's timer runs as long as somebody is in it."""
    play.serves("" if kind == "transparent" else "a:1", max_connections=1, discovery="dns" if kind == "unplaced" else kind)
    holders = 0 if kind == "unplaced" else 1
    for _ in range(holders):
        play.asks(host=b"a")
    await play.turn()
    early = play.asks(host=b"a")
    await play.turn()
    play.clock.now += 1
    late = play.asks(host=b"a")
    pools, group = play.actor.pools, play.group()
    play.clock.now += PENDING_TIMEOUT - 1
    pools._line_due(group)
    assert play.hears_response(early).status == 503
    play.clock.now += 1
    assert group in pools._lines
    pools._line_due(group)
    assert play.hears_response(late).status == 503
    assert group not in pools._lines
    play.cancels(early - 1)
    await play.turn()


async def test_who_waits_at_a_backend_that_has_left_is_told_in_time_and_counted(play: Play) -> None:
    play.serves("l:1", discovery="docker", alpn="h2", max_connections=1, max_pending=1, pending_timeout=4.0)
    play.finds(api={"l:1": [("10.0.0.1", 1, 1)]})
    stays, refused = play.asks(), play.asks()
    await play.turn()
    link = play.backend("10.0.0.1:1").link
    assert isinstance(link, Http2Link)
    first, _ = link.listens()
    play.finds(api={"l:1": []})
    link.leaves(first)  # the other one is asked again there, and has to wait for another connection
    await play.turn()
    group = play.group()
    assert group.pending == 1
    assert group.first_wait == play.clock.now
    await play.passes(5)
    assert play.hears_response(refused).status == 503
    assert group.first_wait is None
    link.answers(first)
    assert play.hears_response(stays).status == 200


async def test_who_is_moved_from_line_to_line_waits_no_longer_for_that(play: Play) -> None:
    play.serves("a:1 b:1", algo="round_robin", max_connections=1, pending_timeout=4.0)
    play.health(api={"b:1": False})
    holders = [play.asks()]
    await play.turn()
    moved = play.asks()
    await play.passes(2)
    play.health(api={})
    holders += [play.asks() for _ in range(2)]
    await play.turn()
    younger = [play.asks() for _ in range(2)]
    assert [len(play.state(address).pending) for address in ("a:1", "b:1")] != [3, 0]
    for out in ("a:1", "b:1", "a:1"):
        play.health(api={out: False})
    await play.passes(2)
    assert [response.sid for _, response in play.hears()] == [moved]
    assert play.group().pending == 3
    await play.passes(2)
    assert sorted(response.sid for _, response in play.hears()) == sorted([*younger, holders[2]])
    assert play.group().first_wait is None
    for backend in play.backends.values():
        backend.link.says(OK)
    assert sorted(response.sid for _, response in play.hears()) == holders[:2]


async def test_the_timer_of_a_line_knows_of_who_has_waited_elsewhere(play: Play) -> None:
    play.serves("a:1", max_connections=1, pending_timeout=4.0)
    pools, group = play.actor.pools, play.group()
    for since, due in ((0.0, 4.0), (-3.0, 1.0), (-1.0, 1.0), (-9.0, 0.0)):
        pools.watch_line(group, play.clock.now + since)
        assert pools._lines[group].when() - pools.loop.time() == pytest.approx(due, abs=0.9)


async def test_a_wait_begins_anew_with_another_attempt(play: Play) -> None:
    play.serves("a:1", max_connections=1, pending_timeout=4.0)
    holder = await play.fetches()
    first = play.asks()
    second = play.asks()
    await play.passes(3)
    holder.says(OK)  # and serves the second
    assert play.hears_response(first).status == 200
    third = play.asks()
    await play.passes(3)
    assert play.hears_nothing()
    holder.closes()  # the third gets the next connection, the second waits for it
    await play.passes(3)
    assert play.hears_nothing()
    play.backend().link.says(OK)
    play.backend().link.says(OK)
    assert [(response.sid, response.status) for _, response in play.hears()] == [(third, 200), (second, 200)]
