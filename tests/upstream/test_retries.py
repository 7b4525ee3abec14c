"""When a request may be sent again: the table, the property that matters, and the messages that carry it out."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pingap.stages.circuit_states import HALF_OPEN, OPEN
from pingap.stages.http1.methods import IDEMPOTENT
from pingap.stages.messages import Response
from pingap.stages.upstream.budget import FLOOR
from pingap.stages.upstream.core import DEFAULT_RETRIES, NO_ANSWER, EndedAttempt, Memory, Outcome, RetryRules, may_retry, meaning_of_cancel
from tests.upstream.playbook import OK, UPSTREAM, Link, Play, report_of

CONNECTS = {Outcome.CONNECT, Outcome.CONNECT_TIMEOUT, Outcome.NO_LOOKUP}
SILENT = {Outcome.CLOSED_FRESH, Outcome.RESET, Outcome.TIMEOUT}
METHODS = [b"GET", b"HEAD", b"PUT", b"DELETE", b"POST", b"PATCH", b"LOCK"]
BODIES = {"whole": (True, False), "streaming": (False, False), "begun": (False, True)}

cases = list(
    itertools.product((Outcome.ANSWERED, *NO_ANSWER), METHODS, BODIES, [None, 0, 1, 5], [None, 2.0], [1, 2, 4], [0, 2], [0.0, 2.0, 9.0])
)


def test_the_table_of_retries() -> None:
    for failure, method, state, limit, window, tries, others, elapsed in cases:
        whole, begun = BODIES[state]
        allowed = may_retry(EndedAttempt(failure, method, whole, begun, tries, others, elapsed), RetryRules(limit, window))
        in_bounds = tries <= (DEFAULT_RETRIES if limit is None else limit) and (window is None or elapsed < window)
        if failure in CONNECTS:
            expected = in_bounds and others > 0 and not begun
        elif failure is Outcome.CLOSED_REUSED:
            expected = in_bounds and method in IDEMPOTENT and whole
        elif failure in SILENT or failure is Outcome.ANSWERED:
            expected = in_bounds and method in IDEMPOTENT and whole and others > 0
        elif failure is Outcome.REFUSED:
            expected = in_bounds and not begun
        else:
            expected = failure is Outcome.HTTP1_REQUIRED and not begun  # an agreement with the backend, and no retry
        assert allowed is expected, (failure, method, state, limit, window, tries, others, elapsed)


def test_zero_retries_means_none_at_all() -> None:
    for failure in set(NO_ANSWER) - {Outcome.HTTP1_REQUIRED}:
        assert not may_retry(EndedAttempt(failure, b"GET", True, False, 1, 9, 0.0), RetryRules(0, None))


def test_every_failure_has_an_answer_of_its_own() -> None:
    http = {"connect_failed", "gateway_timeout", "bad_gateway"}
    others = {"overloaded", "call_cancelled", "deadline_exceeded", "headers_too_large", "destination_refused"}
    assert {failure.kind for failure in NO_ANSWER} == http | others
    assert len(set(NO_ANSWER)) == 16


def test_a_call_that_is_cancelled_when_its_time_is_up_has_met_its_deadline() -> None:
    assert meaning_of_cancel(0.3, 0.3)[0] is Outcome.DEADLINE
    assert meaning_of_cancel(0.3, 0.2)[0] is Outcome.CANCELLED
    assert meaning_of_cancel(None, 1000.0)[0] is Outcome.CANCELLED


def test_memory_keeps_the_last_ones_and_stays_bounded() -> None:
    memory: Memory[int] = Memory(4)
    assert not memory.is_used
    for sid in range(100):
        memory.put(sid, sid + 1)
        assert [memory.get(known) for known in range(max(0, sid - 3), sid + 1)] == [known + 1 for known in range(max(0, sid - 3), sid + 1)]
    assert memory.is_used
    assert memory.get(50) is None


# -- carried out --------------------------------------------------------------------------------


@pytest.mark.parametrize("algo", ["round_robin", "hash", "least_conn", "p2c"])
async def test_a_refused_connect_goes_to_the_next_backend_whatever_the_method(play: Play, algo: str) -> None:
    play.serves("a:1 b:1 c:1", algo)
    for address in ("a:1", "b:1"):
        play.backend(address).refuses = ConnectionRefusedError("no")
    for method in (b"GET", b"POST"):
        for _ in range(3):
            sid = play.asks(method, body=b"x")
            await play.turn()
            link = play.backend("c:1").link
            assert link.hears().startswith(method)
            link.says(OK)
            response = play.hears_response(sid)
            assert response.status == 200
            assert response.report is not None
            assert response.report.addr == "c:1"
            assert 1 <= response.report.tries <= 3


async def test_a_streamed_upload_whose_first_backend_refuses_goes_to_the_next_one(play: Play) -> None:
    play.serves("a:1 b:1", algo="round_robin")
    play.backend("a:1").refuses = ConnectionRefusedError("no")
    for _ in range(2):
        sid = play.uploads()
        await play.turn()
        play.hears_credit(sid)
        play.sends(sid, b"x", ended=True)
        link = play.backend("b:1").link
        assert link.hears().endswith(b"1\r\nx\r\n0\r\n\r\n")
        link.says(OK)
        play.hears_response(sid)


async def test_when_all_refuse_it_is_502(play: Play) -> None:
    play.serves("a:1 b:1")
    for address in ("a:1", "b:1"):
        play.backend(address).refuses = ConnectionRefusedError("no")
    sid = play.asks()
    await play.turn()
    response = play.hears_response(sid)
    assert response.status == 502
    assert response.report is not None
    report = response.report
    assert (report.error, report.tries, report.addr, report.upstream_status) == ("connect_failed", 2, "", 0)
    assert [backend.asked for backend in play.backends.values()] == [1, 1], "each is asked once"


async def test_when_none_answers_the_connect_it_is_504(play: Play) -> None:
    play.serves("a:1 b:1")
    for address in ("a:1", "b:1"):
        play.backend(address).refuses = TimeoutError()
    sid = play.asks()
    await play.turn()
    assert play.hears_response(sid).status == 504


async def test_a_name_that_is_no_name_is_502_and_does_not_hang(play: Play) -> None:
    play.serves()
    play.backend().refuses = UnicodeError("label too long")
    sid = play.asks()
    await play.turn()
    assert play.hears_response(sid).status == 502
    assert play.context.logged[-1][2]["detail"] == "label too long"


async def test_no_more_attempts_than_the_location_allows(play: Play) -> None:
    play.serves("a:1 b:1 c:1 d:1", location={"max_retries": 1})
    for address in ("a:1", "b:1", "c:1", "d:1"):
        play.backend(address).refuses = ConnectionRefusedError("no")
    play.asks()
    await play.turn()
    assert sum(backend.asked for backend in play.backends.values()) == 2
    play.hears()


async def test_no_attempt_after_the_window(play: Play) -> None:
    play.serves("a:1 b:1", location={"max_retry_window": 3.0})
    for address in ("a:1", "b:1"):
        play.backend(address).hangs = True
        play.backend(address).refuses = ConnectionRefusedError("no")
    sid = play.asks()
    await play.turn()
    await play.passes(4)
    for address in ("a:1", "b:1"):
        play.backend(address).answers_dials()
    await play.turn()
    assert play.hears_response(sid).status == 502
    assert sum(backend.asked for backend in play.backends.values()) == 1


async def test_a_get_on_a_kept_connection_that_closes_under_it_is_sent_once_more_on_a_fresh_one(play: Play) -> None:
    play.serves()
    stale, other = play.asks(), play.asks()
    await play.turn()
    for sid, link in zip((stale, other), play.backend().links, strict=True):
        link.says(OK)
        play.hears_response(sid)
    sid = play.asks()
    used = next(link for link in play.backend().links if link.connection.exchange is not None)
    used.closes()
    await play.turn()
    fresh = play.backend().link
    assert play.backend().asked == 3, "the other idle one is as old, and is left alone"
    fresh.says(OK)
    response = play.hears_response(sid)
    assert response.report is not None
    assert (response.status, response.report.tries, response.report.reused) == (200, 2, False)


async def test_a_kept_connection_that_closes_at_a_backend_that_gets_no_requests_any_more_leads_to_another(play: Play) -> None:
    play.serves("a:1 b:1", algo="hash")
    warmer = play.asks()
    await play.turn()
    asked(play).says(OK)
    at = report_of(play.hears_response(warmer)).addr
    sid = play.asks()
    play.health(api={at: False})
    asked(play).closes()
    await play.turn()
    asked(play).says(OK)
    assert report_of(play.hears_response(sid)).addr != at


async def test_a_second_attempt_at_a_half_open_backend_is_a_probe_too(play: Play) -> None:
    play.serves()
    await play.fetches()
    play.context.following["circuits"]({"api": {"a:1": (HALF_OPEN, 1, {UPSTREAM: 1})}})
    sid = play.asks()
    asked(play).closes()
    await play.turn()
    assert play.hears_response(play.asks()).status == 503, "its one probe is under way"
    asked(play).says(OK)
    assert play.hears_response(sid).status == 200
    assert play.hears_response(play.asks()).status == 503


async def test_a_second_attempt_obeys_a_circuit_and_a_drained_backend_ends_what_it_has(play: Play) -> None:
    for topic, value, status in (("circuits", {"a:1": (OPEN, 1, {})}, 502), ("drains", ["a:1"], 200)):
        play.serves()
        await play.fetches()
        sid = play.asks()
        connects = play.backend().asked
        play.context.following[topic]({"api": value})
        asked(play).closes()
        await play.turn()
        if status == 200:
            asked(play).says(OK)
        assert play.hears_response(sid).status == status
        assert play.backend().asked - connects == (status == 200)
        play.context.following[topic]({})


async def test_the_second_time_it_closes_another_backend_is_asked_and_without_one_it_is_502(play: Play) -> None:
    for addrs in ("a:1 b:1", "a:1"):
        play.serves(addrs, algo="hash")
        first = play.asks()
        await play.turn()
        link = asked(play)
        link.says(OK)
        play.hears_response(first)
        sid = play.asks()
        link.resets()
        await play.turn()
        asked(play).closes()
        await play.turn()
        if addrs == "a:1":
            assert play.hears_response(sid).status == 502
        else:
            other = asked(play)
            other.says(OK)
            assert report_of(play.hears_response(sid)).tries == 3
            assert sorted(backend.asked for backend in play.backends.values()) == [1, 2]
            play.backends.clear()


@pytest.mark.parametrize(("method", "length"), [(b"POST", None), (b"PATCH", None), (b"PUT", 10)])
async def test_what_may_have_been_done_already_is_502(play: Play, method: bytes, length: int | None) -> None:
    play.serves()
    link = await play.fetches()
    play.asks(method, length=length)
    link.closes()
    await play.turn()
    assert play.hears()[-1][1].status == 502
    assert play.backend().asked == 1


async def test_half_an_answer_is_no_reason_to_ask_again(play: Play) -> None:
    play.serves("a:1 b:1*0")
    link = await play.fetches()
    sid = play.asks()
    link.says(b"HTTP/1.1 2")
    link.closes()
    await play.turn()
    assert play.hears_response(sid).status == 502
    assert play.backend().asked == 1


async def test_without_a_healthy_backend_it_is_503_at_once_and_nobody_is_asked(play: Play) -> None:
    play.serves("a:1 b:1")
    play.health(api={"a:1": False, "b:1": False})
    response = play.hears_response(play.asks())
    assert response.status == 503
    assert response.report is not None
    assert (response.report.error, response.report.tries) == ("no_backend", 0)
    play.health(api={"a:1": False})
    await play.fetches(address="b:1")


async def test_an_unhealthy_backend_is_no_second_choice(play: Play) -> None:
    play.serves("a:1 b:1")
    play.health(api={"b:1": False})
    play.backend("a:1").refuses = ConnectionRefusedError("no")
    sid = play.asks()
    await play.turn()
    assert play.hears_response(sid).status == 502
    assert "b:1" not in play.backends


async def test_health_holds_across_a_reload(play: Play) -> None:
    play.serves("a:1 b:1")
    play.health(api={"a:1": False})
    play.serves("a:1 b:1", read_timeout=7.0)
    for _ in range(3):
        await play.fetches(address="b:1")
    assert "a:1" not in play.backends


async def test_a_backend_of_weight_zero_gets_nothing_not_even_a_retry(play: Play) -> None:
    play.serves("a:1 b:1*0")
    play.backend("a:1").refuses = ConnectionRefusedError("no")
    sid = play.asks()
    await play.turn()
    assert play.hears_response(sid).status == 502
    play.serves("a:1*0")
    assert play.hears_response(play.asks()).status == 503
    assert "b:1" not in play.backends


# -- elsewhere, after what a backend may have seen ---------------------------------------------------


def asked(play: Play) -> Link:
    """The one connection that carries a request now."""
    (link,) = [link for backend in play.backends.values() for link in backend.links if link.connection.exchange is not None]
    return link


def fails(link: Link, how: str) -> None:
    """Without a word of an answer, on a fresh connection."""
    if how == "closes":
        link.closes()
    elif how == "resets":
        link.resets()


@pytest.mark.parametrize("how", ["closes", "resets", "is silent"])
@pytest.mark.parametrize("method", [b"GET", b"PUT", b"DELETE", b"HEAD"])
async def test_another_backend_is_asked_when_one_says_nothing(play: Play, method: bytes, how: str) -> None:
    play.serves("a:1 b:1", read_timeout=5.0)
    sid = play.asks(method, body=b"" if method in (b"GET", b"HEAD") else b"whole")
    await play.turn()
    first = asked(play)
    request = first.hears()
    fails(first, how)
    if how == "is silent":
        await play.passes(5.5)
    await play.turn()
    assert first.is_closed
    second = asked(play)
    assert second is not first
    assert second.hears() == request, "the same once more, with its body"
    second.says(OK)
    response = play.hears_response(sid)
    assert (response.status, report_of(response).tries) == (200, 2)
    assert play.context.counted == {"upstream_failures": 1, "retries": 1}


@pytest.mark.parametrize("how", ["closes", "resets", "is silent"])
async def test_a_post_is_asked_once_only_whatever_becomes_of_it(play: Play, how: str) -> None:
    """https://github.com/traefik/traefik/issues/8990"""
    play.serves("a:1 b:1", read_timeout=5.0, location={"retry_status_code": (503,)})
    sid = play.posts()
    await play.turn()
    fails(asked(play), how)
    await play.passes(5.5)
    assert play.hears_response(sid).status == (504 if how == "is silent" else 502)
    assert sum(backend.asked for backend in play.backends.values()) == 1


async def test_all_backends_are_asked_and_the_last_error_is_told(play: Play) -> None:
    play.serves("a:1 b:1 c:1", location={"max_retries": 9}, read_timeout=1.0)
    sid = play.asks()
    for how in ("closes", "resets", "is silent"):
        await play.turn()
        fails(asked(play), how)
    await play.passes(1.5)
    response = play.hears_response(sid)
    assert (response.status, report_of(response).error, report_of(response).tries) == (504, "gateway_timeout", 3)
    assert [backend.asked for backend in play.backends.values()] == [1, 1, 1]


async def test_who_has_begun_an_answer_and_falls_silent_is_not_asked_again_and_nobody_else(play: Play) -> None:
    play.serves("a:1 b:1", read_timeout=1.0)
    sid = play.asks()
    await play.turn()
    asked(play).says(b"HTTP/1.1 20")
    await play.passes(1.5)
    assert play.hears_response(sid).status == 504
    assert len(play.backends) == 1


async def test_an_unhealthy_backend_is_not_asked_in_place_of_one_that_says_nothing(play: Play) -> None:
    play.serves("a:1 b:1")
    play.health(api={"b:1": False})
    sid = play.asks()
    await play.turn()
    asked(play).closes()
    await play.turn()
    assert play.hears_response(sid).status == 502
    assert play.backend("a:1").asked == 1
    assert play.context.counted == {"upstream_failures": 1}


# -- elsewhere, because of the answer's status ----------------------------------------------------------

BUSY = b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy"


async def test_an_answer_with_a_status_of_the_list_is_dropped_and_another_backend_is_asked(play: Play) -> None:
    play.serves("a:1 b:1", location={"retry_status_code": (502, 503)})
    sid = play.asks()
    await play.turn()
    first = asked(play)
    first.says(BUSY)
    await play.turn()
    second = asked(play)
    second.says(OK)
    response = play.hears_response(sid)
    report = report_of(response)
    assert (response.status, response.body, report.upstream_status, report.tries) == (200, b"ok", 200, 2)
    assert not first.is_closed, "its short answer was all there: it is as good as before"
    assert play.context.counted == {"retries": 1}


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 503 Busy\r\nContent-Length: 4000\r\n\r\nbusy",
        b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\n",
        b"HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbusy\r\n0\r\nx: y\r\n\r\n",
        b"HTTP/1.1 503 Busy\r\n\r\nbusy",
    ],
    ids=["long", "in two", "trailers", "close"],
)
async def test_what_is_dropped_and_not_all_there_costs_its_connection(play: Play, answer: bytes) -> None:
    play.serves("a:1 b:1", location={"retry_status_code": (503,)})
    sid = play.asks()
    await play.turn()
    first = asked(play)
    first.says(answer)
    await play.turn()
    assert first.is_closed
    asked(play).says(OK)
    assert play.hears_response(sid).status == 200


async def test_the_last_answer_goes_on_as_it_is(play: Play) -> None:
    play.serves("a:1 b:1", location={"retry_status_code": (503,)})
    sid = play.asks()
    for _ in range(2):
        await play.turn()
        asked(play).says(BUSY)
    response = play.hears_response(sid)
    report = report_of(response)
    assert (response.status, response.body, report.error, report.tries) == (503, b"busy", "", 2)


async def test_the_report_is_of_the_connection_that_answered(play: Play) -> None:
    play.serves("a:1 b:1", location={"retry_status_code": (503,)})
    warmers = [play.asks(), play.asks()]
    await play.turn()
    for backend in play.backends.values():
        backend.link.says(OK)
    assert {response.sid for _, response in play.hears()} == set(warmers)
    sid = play.asks()
    asked(play).closes()
    await play.turn()
    asked(play).says(BUSY)  # on a connection that was opened for it
    asked(play).says(OK)
    report = report_of(play.hears_response(sid))
    assert (report.tries, report.reused, report.connect) == (3, True, ())


async def test_a_status_that_is_not_in_the_list_goes_on_and_without_a_list_all_do(play: Play) -> None:
    for statuses in ((502,), ()):
        play.serves("a:1 b:1", location={"retry_status_code": statuses})
        sid = play.asks()
        await play.turn()
        asked(play).says(BUSY)
        assert report_of(play.hears_response(sid)).tries == 1


@pytest.mark.parametrize(
    ("method", "length", "settings"),
    [(b"POST", None, {}), (b"PUT", 5, {}), (b"GET", None, {"max_retries": 0}), (b"GET", None, {"max_retry_window": 0.0})],
)
async def test_what_may_not_be_repeated_gets_the_first_answer(
    play: Play, method: bytes, length: int | None, settings: dict[str, object]
) -> None:
    play.serves("a:1 b:1", location={"retry_status_code": (503,), **settings})
    play.asks(method, length=length)
    await play.turn()
    asked(play).says(BUSY)
    assert play.hears()[-1][1].status == 503
    assert len(play.backends) == 1


async def test_of_an_answer_that_the_client_has_seen_the_beginning_of_the_rest_goes_on(play: Play) -> None:
    play.serves("a:1 b:1", location={"retry_status_code": (503,)})
    sid = play.asks()
    await play.turn()
    asked(play).says(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + BUSY)
    assert play.hears_response(sid).status == 503
    assert len(play.interims) == 1


async def test_a_websocket_is_opened_elsewhere_when_its_first_backend_is_busy(play: Play) -> None:
    play.serves("a:1 b:1", location={"retry_status_code": (503,)})
    sid = play.asks(headers=b"host: example\r\nsec-websocket-key: x\r\n", upgrade=b"websocket")
    await play.turn()
    asked(play).says(BUSY)
    await play.turn()
    link = asked(play)
    link.says(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: y\r\n\r\n")
    assert play.hears()[0][1].status == 101
    link.hears()
    play.sends(sid, b"frame")
    assert link.hears() == b"frame"
    play.cancels(sid)


async def test_who_leaves_while_another_backend_is_asked_is_not_missed(play: Play) -> None:
    play.serves("a:1 b:1", location={"retry_status_code": (503,)})
    sid = play.asks()
    await play.turn()
    asked(play).says(BUSY)
    await play.turn()
    play.cancels(sid)
    await play.turn()
    assert play.hears_nothing()


# -- the budget -------------------------------------------------------------------------------------------


async def test_what_the_budget_refuses_is_the_error_of_the_last_attempt(play: Play) -> None:
    play.serves("a:1 b:1", retry_budget=0)
    sid = play.asks()
    await play.turn()
    asked(play).closes()
    await play.turn()
    response = play.hears_response(sid)
    assert (response.status, report_of(response).error) == (502, "bad_gateway")
    assert play.context.counted == {"upstream_failures": 1, "retries_refused": 1}
    assert ("warn", "no retry: retry_budget is spent", {"upstream": "api", "retry_budget": 0}) in play.context.logged


async def test_without_a_budget_the_first_answer_goes_on(play: Play) -> None:
    play.serves("a:1 b:1", retry_budget=0, location={"retry_status_code": (503,)})
    sid = play.asks()
    await play.turn()
    asked(play).says(BUSY)
    assert play.hears_response(sid).status == 503


async def test_connects_that_fail_are_no_matter_of_the_budget(play: Play) -> None:
    play.serves("a:1 b:1", retry_budget=0)
    play.backend("a:1").refuses = play.backend("b:1").refuses = ConnectionRefusedError("no")
    sid = play.asks()
    await play.turn()
    assert report_of(play.hears_response(sid)).tries == 2


@pytest.mark.parametrize("budget", [0, 20])
async def test_a_restart_that_closes_all_kept_connections_is_no_matter_of_the_budget(play: Play, budget: int) -> None:
    play.serves("a:1", retry_budget=budget)
    for _ in range(3 * FLOOR):
        play.asks()
    await play.turn()
    for link in play.backend().open:
        link.says(OK)
    play.hears()
    sids = [play.asks() for _ in range(3 * FLOOR)]
    for link in play.backend().open:
        link.closes()
    await play.turn()
    for link in play.backend().open:
        link.says(OK)
    assert {response.sid: response.status for _, response in play.hears()} == dict.fromkeys(sids, 200)


async def test_an_outage_is_not_multiplied(play: Play) -> None:
    """All backends close whatever they are asked: so many requests more than came reach them, and no more."""
    play.serves("a:1 b:1 c:1", max_connections=0)
    requests = 300
    reached = 0
    for _ in range(requests):
        sid = play.asks()
        await play.turn()
        while carrying := [link for backend in play.backends.values() for link in backend.links if link.connection.exchange is not None]:
            (link,) = carrying
            reached += 1
            link.closes()
            await play.turn()
        assert play.hears_response(sid).status == 502
    assert reached <= requests * 1.2
    assert reached >= requests + FLOOR
    assert play.context.counted["retries"] == reached - requests


async def test_two_upstreams_have_two_budgets(play: Play) -> None:
    other = play.serves("c:1 d:1").settings
    play.serves("a:1 b:1", more={"other": other})
    for _ in range(FLOOR):
        assert play.group().budget.take(play.clock.now)
    for upstream, expected in (("api", 502), ("other", 200)):
        sid = play.asks(upstream=upstream)
        await play.turn()
        asked(play).closes()
        await play.turn()
        if expected == 200:
            asked(play).says(OK)
        assert play.hears_response(sid).status == expected


# -- the property that matters ---------------------------------------------------------------------

fates = st.sampled_from(["refuses", "times out", "closes", "resets", "half", "garbage", "silent", "answers"])


@settings(max_examples=150, deadline=None)
@given(
    method=st.sampled_from([b"GET", b"POST", b"PATCH", b"PUT"]),
    streamed=st.booleans(),
    warm=st.integers(0, 2),
    first_fates=st.lists(fates, min_size=1, max_size=6),
    retries=st.sampled_from([None, 0, 2, 9]),
)
async def test_a_request_that_may_not_be_repeated_is_never_sent_twice(
    method: bytes, streamed: bool, warm: int, first_fates: list[str], retries: int | None
) -> None:
    """Once a connection took it. Whatever happens there is exactly one answer."""
    with pytest.MonkeyPatch.context() as patch:
        play = Play(patch)
        await play.begin()
        play.serves("a:1 b:1 c:1", algo="round_robin", location={"max_retries": retries})
        warmers = [play.asks() for _ in range(3 * warm)]
        await play.turn()
        for backend in play.backends.values():
            for link in backend.open:
                link.says(OK)
                link.hears()
        assert len(play.hears()) == len(warmers)
        play.uploads(method) if streamed else play.asks(method, body=b"x")
        coming = iter(first_fates)
        fate = next(coming, "answers")
        sent = 0
        answers: list[int] = []
        for _ in range(20):
            for address in ("a:1", "b:1", "c:1"):
                backend = play.backend(address)
                backend.refuses = {"refuses": ConnectionRefusedError("no"), "times out": TimeoutError()}.get(fate)
            await play.turn()
            answers += [envelope.status for _, envelope in play.hears() if isinstance(envelope, Response)]
            if answers:
                break
            used = [link for backend in play.backends.values() for link in backend.links if link.connection.exchange is not None]
            if not used:
                fate = next(coming, "answers")
                continue
            (link,) = used
            sent += link.hears().count(method + b" / ")
            if fate == "closes":
                link.closes()
            elif fate == "resets":
                link.resets()
            elif fate in ("half", "garbage"):
                link.says(b"HTTP/1.1 200 OK\r\n" if fate == "half" else b"nonsense")
                link.closes()
            elif fate == "silent":
                await play.passes(301)
            else:
                link.says(OK)
            fate = next(coming, "answers")
        await play.turn()
        answers += [envelope.status for _, envelope in play.hears() if isinstance(envelope, Response)]
        assert len(answers) == 1
        if streamed or method not in IDEMPOTENT:
            assert sent <= 1
        limit = DEFAULT_RETRIES if retries is None else retries
        assert sent <= min(limit + 1, 2 * 3), "each backend twice at the most: a kept connection closed, and then a fresh one"
        await play.end()


async def test_a_connect_that_is_called_off_by_what_it_awaits_fails_those_who_wait(play: Play) -> None:
    play.serves()
    play.backend().refuses = asyncio.CancelledError()
    sids = [play.asks(target=b"/%d" % number) for number in range(3)]
    for _ in range(4):
        await play.turn()
    answers = [(response.sid, response.status, response.report.error) for _, response in play.hears()]
    assert sorted(answers) == [(sid, 502, "connect_failed") for sid in sids]
    assert play.state().open == 0
