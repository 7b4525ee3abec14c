"""What each attempt came to, as passive health and the circuit breaker will hear it: `BackendState.settled`, once per attempt."""

from __future__ import annotations

import pytest

from pingap.stages.http2.engine import INTERNAL_ERROR, REFUSED_STREAM
from pingap.stages.upstream.backend import BackendState
from pingap.stages.upstream.core import Outcome
from tests.upstream.playbook import OK, PENDING_TIMEOUT, Http2Link, Play

pytestmark = pytest.mark.interpreted

Heard = list[tuple[str, Outcome, int]]


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Heard:
    """(address, outcome, status) of each attempt that has ended."""
    heard: Heard = []
    settled = BackendState.settled

    def hears(backend: BackendState, outcome: Outcome, status: int, probe: int, is_counted: bool) -> None:
        heard.append((backend.address, outcome, status))
        settled(backend, outcome, status, probe, is_counted)

    monkeypatch.setattr(BackendState, "settled", hears)
    return heard


async def test_an_answer_whatever_it_says_is_one(play: Play, heard: Heard) -> None:
    play.serves()
    play.asks()
    await play.turn()
    assert not heard
    play.backend().link.says(b"HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\n")
    assert not heard, "it has not come to its end"
    play.backend().link.says(b"no")
    assert heard == [("a:1", Outcome.ANSWERED, 503)]
    play.hears()


async def test_each_backend_hears_of_its_own_attempt(play: Play, heard: Heard) -> None:
    play.serves("a:1 b:1", "round_robin")
    for _ in range(2):
        play.backend("a:1").refuses = ConnectionRefusedError("no")
        play.asks()
        await play.turn()
        link = play.backend("b:1").link
        link.says(OK)
    assert set(heard) == {("a:1", Outcome.CONNECT, 0), ("b:1", Outcome.ANSWERED, 200)}
    assert heard.count(("b:1", Outcome.ANSWERED, 200)) == 2
    play.hears()


async def test_a_silent_backend_and_a_silent_rest(play: Play, heard: Heard) -> None:
    play.serves(read_timeout=5.0, max_connections=1)
    play.asks()
    await play.turn()
    await play.passes(6)
    play.asks()
    await play.turn()
    play.backend().link.says(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
    await play.passes(6)
    assert heard == [("a:1", Outcome.TIMEOUT, 0), ("a:1", Outcome.TIMEOUT, 200)]
    play.hears()


async def test_closed_reset_and_nonsense(play: Play, heard: Heard) -> None:
    play.serves()
    for end in ("closes", "resets"):
        play.asks()
        await play.turn()
        getattr(play.backend().link, end)()
        await play.turn()
    play.asks()
    await play.turn()
    play.backend().link.says(b"nonsense\r\n\r\n")
    play.asks()
    await play.turn()
    play.backend().link.says(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
    play.backend().link.closes()
    await play.turn()
    fresh = ("a:1", Outcome.CLOSED_FRESH, 0)
    assert heard == [fresh, fresh, ("a:1", Outcome.INVALID, 0), ("a:1", Outcome.CUT, 200)]
    play.hears()


async def test_a_second_attempt_at_the_same_backend_is_heard_of_by_itself(play: Play, heard: Heard) -> None:
    play.serves()
    link = await play.fetches()
    heard.clear()
    play.asks()
    link.closes()
    await play.turn()
    assert heard == [("a:1", Outcome.CLOSED_REUSED, 0)]
    play.backend().link.says(OK)
    assert heard[1:] == [("a:1", Outcome.ANSWERED, 200)]
    play.hears()


async def test_who_leaves_says_nothing_of_the_backend(play: Play, heard: Heard) -> None:
    play.serves(max_connections=1)
    asked = play.asks()
    await play.turn()
    waits = play.asks()
    play.cancels(waits)
    play.cancels(asked)
    assert heard == [("a:1", Outcome.CALLED_OFF, 0)] * 2
    await play.turn()


async def test_a_full_line_and_a_long_wait(play: Play, heard: Heard) -> None:
    play.serves(max_connections=1, max_pending=1)
    asked = play.asks()
    await play.turn()
    play.asks()
    play.asks()
    assert heard == [("a:1", Outcome.NO_CONNECTION, 0)]
    await play.passes(PENDING_TIMEOUT + 1)
    assert heard == [("a:1", Outcome.NO_CONNECTION, 0)] * 2
    play.cancels(asked)
    play.hears()
    await play.turn()


async def test_who_waits_at_a_backend_that_is_none_any_more_goes_elsewhere(play: Play, heard: Heard) -> None:
    play.serves("many:1", max_connections=1)
    play.resolves(api={"many:1": ["10.0.0.1"]})
    asked = play.asks()
    await play.turn()
    play.asks()
    play.resolves(api={"many:1": ["10.0.0.2"]})
    await play.turn()
    assert heard == [("10.0.0.1:1", Outcome.MOVED, 0)]
    play.backend("10.0.0.2:1").link.says(OK)
    assert heard[1:] == [("10.0.0.2:1", Outcome.ANSWERED, 200)]
    play.cancels(asked)
    play.hears()
    await play.turn()


async def test_a_body_that_may_not_be_is_not_the_backends_fault(play: Play, heard: Heard) -> None:
    play.serves(location={"client_max_body_size": 10})
    sid = play.uploads()
    await play.turn()
    play.sends(sid, b"x" * 11)
    assert heard == [("a:1", Outcome.GIVEN_UP, 0)]
    play.hears()
    await play.turn()


async def test_streams_that_are_refused_or_reset(play: Play, heard: Heard) -> None:
    play.serves(alpn="h2", location={"max_retries": 0})
    for code in (REFUSED_STREAM, INTERNAL_ERROR):
        play.asks()
        await play.turn()
        link = play.backend().link
        assert isinstance(link, Http2Link)
        (stream,) = link.listens()
        link.drops(stream, code)
        await play.turn()
    play.asks()
    await play.turn()
    link = play.backend().link
    assert isinstance(link, Http2Link)
    (stream,) = link.listens()
    link.starts(stream, 200)
    link.drops(stream, INTERNAL_ERROR)
    await play.turn()
    assert heard == [("a:1", Outcome.REFUSED, 0), ("a:1", Outcome.RESET, 0), ("a:1", Outcome.RESET, 200)]
    play.hears()
