"""When a request may be sent again: the table, the property that matters, and the messages that carry it out."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pingap.stages.http1.methods import IDEMPOTENT
from pingap.stages.messages import Response
from pingap.stages.upstream.core import DEFAULT_RETRIES, NO_ANSWER, FailedAttempt, Memory, Outcome, RetryRules, may_retry, meaning_of_cancel
from tests.upstream.playbook import OK, Play

CONNECTS = {Outcome.CONNECT, Outcome.CONNECT_TIMEOUT, Outcome.NO_LOOKUP}
METHODS = [b"GET", b"HEAD", b"PUT", b"DELETE", b"POST", b"PATCH", b"LOCK"]
BODIES = {"whole": (True, False), "streaming": (False, False), "begun": (False, True)}

cases = list(itertools.product(NO_ANSWER, METHODS, BODIES, [None, 0, 1, 5], [None, 2.0], [1, 2, 4], [0, 2], [0.0, 2.0, 9.0]))


def test_the_table_of_retries() -> None:
    for failure, method, state, limit, window, tries, others, elapsed in cases:
        whole, begun = BODIES[state]
        allowed = may_retry(FailedAttempt(failure, method, whole, begun, tries, others, elapsed), RetryRules(limit, window))
        in_bounds = tries <= (DEFAULT_RETRIES if limit is None else limit) and (window is None or elapsed < window)
        if failure in CONNECTS:
            expected = in_bounds and others > 0 and not begun
        elif failure is Outcome.CLOSED_REUSED:
            expected = in_bounds and method in IDEMPOTENT and whole
        elif failure is Outcome.REFUSED:
            expected = in_bounds and not begun
        else:
            expected = failure is Outcome.HTTP1_REQUIRED and not begun  # an agreement with the backend, and no retry
        assert allowed is expected, (failure, method, state, limit, window, tries, others, elapsed)


def test_zero_retries_means_none_at_all() -> None:
    for failure in set(NO_ANSWER) - {Outcome.HTTP1_REQUIRED}:
        assert not may_retry(FailedAttempt(failure, b"GET", True, False, 1, 9, 0.0), RetryRules(0, None))


def test_every_failure_has_an_answer_of_its_own() -> None:
    http = {"connect_failed", "gateway_timeout", "bad_gateway"}
    assert {failure.kind for failure in NO_ANSWER} == http | {"overloaded", "call_cancelled", "deadline_exceeded", "headers_too_large"}
    assert len(set(NO_ANSWER)) == 14


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


async def test_the_second_time_it_closes_it_is_502(play: Play) -> None:
    play.serves("a:1 b:1", algo="hash")
    sid = play.asks()
    await play.turn()
    address = next(address for address, backend in play.backends.items() if backend.links)
    link = play.backend(address).link
    link.says(OK)
    play.hears_response(sid)
    sid = play.asks()
    link.resets()
    await play.turn()
    play.backend(address).link.closes()
    await play.turn()
    assert play.hears_response(sid).status == 502
    assert play.backend(address).asked == 2


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
    play.serves()
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
        assert sent <= 2, "a fresh connection that closes is no reason to ask again"
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
