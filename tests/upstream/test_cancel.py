"""A client that leaves: at whatever stage its request is, nothing of it may stay behind."""

from __future__ import annotations

import pytest

from pingap.stages.itinerary import OUTLIVES
from pingap.stages.messages import WINDOW, Cancel
from tests.upstream.playbook import OK, Play


async def test_a_request_cancelled_while_connecting_gives_its_place_back(play: Play) -> None:
    play.serves(max_connections=1)
    play.backend().hangs = True
    sid = play.asks()
    await play.turn()
    assert play.state().open == 1
    play.cancels(sid)
    await play.turn()
    assert play.state().open == 0
    assert play.hears_nothing(), "a cancelled stream is owed no answer"


async def test_a_request_cancelled_in_the_turn_in_which_it_came_gives_its_place_back(play: Play) -> None:
    play.serves(max_connections=1)
    play.cancels(play.asks())  # one batch: the connect has not even begun
    await play.turn()
    assert play.state().open == 0
    assert play.hears_nothing()
    await play.fetches()


async def test_a_connection_that_is_ready_in_the_moment_of_the_cancel_is_counted_once(play: Play) -> None:
    play.serves()
    play.backend().hangs = True
    sid = play.asks()
    await play.turn()
    play.backend().answers_dials()
    play.cancels(sid)
    await play.turn()
    assert play.state().open == len(play.state().idle)


async def test_cancelled_before_the_answer_the_backend_hears_of_it_by_the_closed_connection(play: Play) -> None:
    play.serves()
    sid = play.asks()
    await play.turn()
    play.cancels(sid)
    assert play.backend().link.is_closed
    play.cancels(sid)  # twice is no harm
    await play.turn()
    assert play.state().open == play.state().active == 0
    assert play.hears_nothing()


@pytest.mark.parametrize("paused", [False, True])
async def test_cancelled_in_mid_body_the_connection_closes_and_nothing_more_is_sent(play: Play, paused: bool) -> None:
    play.serves()
    sid = play.asks()
    await play.turn()
    link = play.backend().link
    link.says(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (4 * WINDOW))
    play.hears_response(sid)
    if paused:
        link.says(b"x" * (2 * WINDOW))
        assert link.unread
    play.hears()
    play.cancels(sid)
    assert link.is_closed
    await play.turn()
    link.says(b"more")
    assert play.hears_nothing()


async def test_gathered_reads_of_a_cancelled_download_are_dropped(play: Play) -> None:
    play.serves()
    sid = play.asks()
    await play.turn()
    link = play.backend().link
    link.says(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (64 * WINDOW))
    for _ in range(5):
        link.says(b"x" * KIB_256)
        play.credits(sid, KIB_256)
    play.hears()
    play.cancels(sid)
    await play.passes(1)
    assert play.hears_nothing()


KIB_256 = 256 * 1024


async def test_cancelled_in_mid_upload_the_rest_of_the_body_goes_nowhere(play: Play) -> None:
    play.serves()
    sid = play.uploads()
    await play.turn()
    link = play.backend().link
    play.sends(sid, b"half")
    play.cancels(sid)
    play.sends(sid, b"rest", ended=True)
    play.credits(sid, 100)
    assert link.is_closed
    assert link.hears().endswith(b"4\r\nhalf\r\n")


async def test_a_cancelled_waiter_leaves_the_line_at_once(play: Play) -> None:
    play.serves(max_connections=1, max_pending=1)
    first = play.asks()
    await play.turn()
    second = play.asks()
    play.cancels(second)
    third = play.asks()  # the line has room again
    await play.turn()
    assert play.hears_nothing()
    play.backend().link.says(OK)
    play.hears_response(first)
    play.backend().link.says(OK)
    play.hears_response(third)


async def test_a_cancel_that_overtakes_its_request_still_counts(play: Play) -> None:
    """CANCEL comes from accept itself, the request by way of routing and perhaps plugins."""
    play.serves()
    sid = (9 << 32) + 77
    play.cancels(sid)
    play.asks(sid=sid)
    await play.turn()
    assert play.backend().asked == 0, "a backend was asked for an answer that nobody wants"
    assert play.hears_nothing()


@pytest.mark.parametrize("is_early", [False, True])
async def test_an_answer_that_a_cache_wants_is_fetched_until_plugins_call_it_off(play: Play, is_early: bool) -> None:
    """Its client's CANCEL does not end it, nor when it overtakes the request."""
    play.serves()
    sid = (9 << 32) + 78
    if is_early:
        play.cancels(sid)
    play.asks(sid=sid, plan=OUTLIVES)
    await play.turn()
    play.cancels(sid)
    link = play.backend().link
    assert not link.is_closed
    link.says(OK)
    play.hears_response(sid)
    play.asks(sid=sid + 1, plan=OUTLIVES)
    await play.turn()
    play.tell(Cancel(sid + 1, "plugins", True))
    assert link.is_closed


async def test_what_plugins_have_called_off_is_not_begun_whatever_its_client_does(play: Play) -> None:
    play.serves()
    sid = (9 << 32) + 79
    play.tell(Cancel(sid, "plugins", True))
    play.cancels(sid)
    play.asks(sid=sid, plan=OUTLIVES)
    await play.turn()
    assert play.backend().asked == 0


async def test_the_last_cancel_of_a_full_house_lets_the_next_in(play: Play) -> None:
    play.serves(max_connections=2)
    play.backend().hangs = True
    sids = [play.asks() for _ in range(4)]
    await play.turn()
    assert play.backend().dialing == 2
    play.cancels(sids[0])
    play.cancels(sids[2])
    await play.turn()
    assert play.backend().dialing == 2
    assert play.state().open == 2
    play.backend().answers_dials()
    await play.turn()
    for link in play.backend().open:
        link.says(OK)
    answered = {envelope.sid for _, envelope in play.hears()}
    assert answered == {sids[1], sids[3]}
