"""Request bodies: inline, streamed under credit, cut short, too long, and answered before they were all sent."""

from __future__ import annotations

import pytest

from pingap.stages.messages import WINDOW
from pingap.stages.upstream.upload import TOP_UP
from tests.upstream.playbook import OK, Link, Play

KIB_64 = 64 * 1024


async def uploading(play: Play, *, location: dict[str, object] | None = None, settings: dict[str, object] | None = None, **more: object):  # type: ignore[no-untyped-def]
    """A request whose body may come now: (sid, link). The head and the first grant are heard."""
    play.serves(location=location, **(settings or {}))  # type: ignore[arg-type]
    sid = play.uploads(**more)  # type: ignore[arg-type]
    assert play.hears_nothing(), "nothing is granted before there is somebody to send it to"
    await play.turn()
    to = 12 if more.get("plan") else 9
    assert play.hears_credit(sid, to) == WINDOW
    return sid, play.backend().link


def body_of(link: Link) -> bytes:
    """What came after the head."""
    return link.hears().partition(b"\r\n\r\n")[2]


async def test_an_inline_body_goes_with_the_head(play: Play) -> None:
    play.serves()
    play.cancels(play.posts(b"order"))
    sid = play.posts(b"order")
    await play.turn()
    assert play.backend().link.hears() == b"POST / HTTP/1.1\r\nhost: example\r\ncontent-length: 5\r\n\r\norder"
    play.backend().link.says(OK)
    play.hears_response(sid)


async def test_a_post_without_a_body_says_so(play: Play) -> None:
    play.serves()
    link = await play.fetches(b"GET")
    sid = play.asks(b"POST")
    assert link.hears() == b"POST / HTTP/1.1\r\nhost: example\r\ncontent-length: 0\r\n\r\n"
    link.says(OK)
    play.hears_response(sid)


async def test_a_body_of_known_length_is_passed_on_as_it_comes(play: Play) -> None:
    sid, link = await uploading(play, length=10)
    assert link.hears() == b"POST / HTTP/1.1\r\nhost: example\r\ncontent-length: 10\r\n\r\n"
    play.sends(sid, b"01234")
    assert link.hears() == b"01234"
    play.sends(sid, b"56789", ended=True)
    assert link.hears() == b"56789"
    link.says(OK)
    assert play.hears_response(sid).status == 200
    assert not link.is_closed, "all of it was sent: the connection can serve again"


async def test_a_body_of_unknown_length_is_chunked_anew(play: Play) -> None:
    sid, link = await uploading(play)
    assert link.hears().endswith(b"transfer-encoding: chunked\r\n\r\n")
    play.sends(sid, b"hello")
    play.sends(sid, b"")
    play.sends(sid, b"x" * KIB_64)
    play.sends(sid, b"", ended=True)
    assert link.hears() == b"5\r\nhello\r\n10000\r\n" + b"x" * KIB_64 + b"\r\n0\r\n\r\n"
    link.says(OK)
    play.hears_response(sid)


async def test_a_body_that_plugins_rewrite_is_granted_to_them(play: Play) -> None:
    sid, link = await uploading(play, plan=2)
    play.sends(sid, b"hello", ended=True)
    assert body_of(link) == b"5\r\nhello\r\n0\r\n\r\n"
    link.says(OK)
    play.hears_response(sid)


# -- credit --------------------------------------------------------------------------------


async def test_credit_is_topped_up_as_the_backend_takes_the_body(play: Play) -> None:
    sid, link = await uploading(play)
    play.sends(sid, b"x" * (TOP_UP - 1))
    assert play.hears_nothing()
    play.sends(sid, b"x")
    assert play.hears_credit(sid) == TOP_UP
    play.cancels(sid)
    assert link.is_closed


async def test_a_backend_that_takes_nothing_gets_no_more_than_a_window(play: Play) -> None:
    sid, link = await uploading(play)
    link.stops_reading()
    sent = 0
    left = WINDOW
    while left:
        play.sends(sid, b"x" * KIB_64)
        sent += KIB_64
        left += play.hears_credit(sid) - KIB_64
    assert sent <= 2 * WINDOW, "what waits for a backend in this process is bounded"
    link.reads()
    assert play.hears_credit(sid) > 0, "it takes again"
    play.cancels(sid)


async def test_memory_for_a_slow_backend_is_bounded_however_long_the_body(play: Play) -> None:
    sid, link = await uploading(play)
    link.stops_reading()
    credit, most = WINDOW, 0
    for _ in range(300):
        if credit >= KIB_64:
            play.sends(sid, b"x" * KIB_64)
            credit -= KIB_64
        link.reads(30_000)
        most = max(most, len(link.transport.unsent))
        credit += play.hears_credit(sid)
    assert most <= WINDOW + 2 * KIB_64
    play.cancels(sid)


# -- too long, too short ---------------------------------------------------------------------


@pytest.mark.parametrize("length", [-1, 1000])
async def test_a_streamed_body_beyond_the_locations_limit_is_413_and_the_backend_sees_it_break_off(play: Play, length: int) -> None:
    sid, link = await uploading(play, location={"client_max_body_size": 100}, length=length)
    play.sends(sid, b"x" * 100)
    assert play.hears_nothing()
    link.hears()
    play.sends(sid, b"x", ended=True)
    response = play.hears_response(sid)
    assert response.status == 413
    assert response.report is not None
    assert (response.report.error, response.report.tries) == ("body_too_large", 1)
    assert link.hears() == b"", "no end of the body, which would make it look whole"
    assert link.is_closed


async def test_a_limit_that_is_passed_while_the_answer_flows_breaks_the_answer(play: Play) -> None:
    sid, link = await uploading(play, location={"client_max_body_size": 100})
    link.says(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    play.hears_response(sid)
    play.sends(sid, b"x" * 101)
    assert play.hears_data(sid) == [(b"", False, "body_too_large")]
    assert link.is_closed


@pytest.mark.parametrize("pieces", [[(b"x" * 11, False)], [(b"x" * 11, True)], [(b"x" * 10, False), (b"x", True)], [(b"x" * 9, True)]])
async def test_a_body_that_is_not_what_the_head_announced_never_reaches_the_backend(play: Play, pieces: list[tuple[bytes, bool]]) -> None:
    """No stage should send such a body; one that did would have the rest of it taken for the next request."""
    sid, link = await uploading(play, length=10)
    for payload, ended in pieces:
        play.sends(sid, payload, ended)
    assert play.hears_response(sid).status == 500
    assert len(body_of(link)) <= 10
    assert link.is_closed
    assert play.context.logged.pop()[0] == "error"


async def test_a_body_whose_sender_failed_is_not_ended(play: Play) -> None:
    sid, link = await uploading(play)
    play.sends(sid, b"half")
    play.sends(sid, b"", error="client_closed")
    assert link.hears().endswith(b"4\r\nhalf\r\n")
    assert link.is_closed
    assert play.hears_nothing()


# -- answers that do not wait --------------------------------------------------------------------


async def test_an_answer_before_the_body_is_passed_on_and_the_connection_not_used_again(play: Play) -> None:
    sid, link = await uploading(play)
    play.sends(sid, b"half")
    link.says(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
    assert play.hears_response(sid).status == 403
    assert link.is_closed, "it is in the middle of a request"
    link.hears()
    play.sends(sid, b"rest", ended=True)
    assert link.hears() == b""
    await play.turn()
    await play.fetches()
    assert play.backend().asked == 2


async def test_an_answer_may_begin_while_the_body_still_comes(play: Play) -> None:
    sid, link = await uploading(play)
    link.says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\necho\r\n")
    assert play.hears_response(sid).body == b"echo"
    for number in range(3):
        link.hears()
        play.sends(sid, b"%d" % number)
        assert link.hears() == b"1\r\n%d\r\n" % number
        link.says(b"1\r\n%d\r\n" % number)
        assert play.hears_data(sid) == [(b"%d" % number, False, "")]
    play.sends(sid, b"", ended=True)
    link.says(b"0\r\n\r\n")
    assert play.hears_data(sid) == [(b"", True, "")]
    assert not link.is_closed


async def test_a_close_delimited_answer_is_whole_even_if_the_request_was_not(play: Play) -> None:
    sid, link = await uploading(play)
    link.stops_reading()
    for _ in range(8):
        play.sends(sid, b"x" * KIB_64)
    play.hears()
    link.says(b"HTTP/1.1 413 Too Large\r\n\r\nenough")
    link.closes()
    assert [(envelope.ended) for _, envelope in play.hears()] == [False, True]
    assert link.is_closed


# -- time ------------------------------------------------------------------------------------------


async def test_a_client_that_sends_slowly_does_not_make_the_backend_late(play: Play) -> None:
    sid, link = await uploading(play, settings={"read_timeout": 2.0})
    for _ in range(4):
        await play.passes(5)
        play.sends(sid, b"x")
    assert play.hears_nothing()
    play.sends(sid, b"x", ended=True)
    await play.passes(1.5)
    assert play.hears_nothing(), "its time begins with the end of the request"
    await play.passes(1)
    assert play.hears_response(sid).status == 504
    assert link.is_closed


async def test_a_backend_that_takes_nothing_for_too_long_is_504(play: Play) -> None:
    sid, link = await uploading(play, settings={"write_timeout": 3.0, "read_timeout": 100.0})
    link.stops_reading()
    for _ in range(8):
        play.sends(sid, b"x" * KIB_64)
    play.hears()
    await play.passes(2.5)
    assert play.hears_nothing()
    await play.passes(1)
    assert play.hears_response(sid).status == 504
    assert link.is_closed


async def test_a_backend_that_takes_slowly_is_given_its_time(play: Play) -> None:
    sid, link = await uploading(play, settings={"write_timeout": 3.0, "read_timeout": 4.0}, length=10 * KIB_64)
    link.stops_reading()
    for number in range(10):
        play.sends(sid, b"x" * KIB_64, ended=number == 9)
    play.hears()
    while link.transport.unsent:
        await play.passes(2)
        link.reads(20_000)
        assert play.hears_nothing()
    link.says(OK)
    assert play.hears_response(sid).status == 200


async def test_a_client_that_reads_slowly_while_it_uploads_does_not_make_the_backend_late(play: Play) -> None:
    sid, link = await uploading(play, settings={"read_timeout": 2.0})
    link.says(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (4 * WINDOW) + b"y" * (2 * WINDOW))
    assert link.unread
    play.sends(sid, b"x")
    play.sends(sid, b"x", ended=True)
    play.hears()
    await play.passes(10)
    assert play.hears_nothing(), "nobody reads: it is not the backend that is late"
    play.cancels(sid)
