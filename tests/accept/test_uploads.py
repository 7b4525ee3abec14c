"""Request bodies: collected when small, streamed under credit when not, refused when broken."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pingap.stages.accept import intake
from pingap.stages.messages import INLINE, UNKNOWN, WINDOW, Interim
from tests.accept.playbook import KERNEL_READ, PLUGINS, ROUTING, UPSTREAM, Play, get, post

LONG = INLINE + 1
CREW = {ROUTING, PLUGINS, UPSTREAM}


def length(size: int) -> bytes:
    return b"Content-Length: %d" % size


CHUNKED = b"Transfer-Encoding: chunked"


async def test_a_small_body_that_comes_in_parts_is_collected(play: Play) -> None:
    client = play.connects()
    client.says(post(length(5), body=b"he"))
    assert play.hears_nothing()
    client.says(b"ll")
    client.says(b"o" + get(b"/next"))
    request = play.hears_request()
    assert (request.body, request.ended, request.length) == (b"hello", True, 5)
    play.answers(request)
    await play.turn()
    assert play.hears_request().target == b"/next"


@pytest.mark.parametrize("first", [b"", b"he"])
async def test_a_small_body_that_pauses_leaves_as_far_as_it_has_come(play: Play, monkeypatch: pytest.MonkeyPatch, first: bytes) -> None:
    monkeypatch.setattr(intake, "PAUSE", 0.0)
    client = play.connects()
    client.says(post(length(5), body=first))
    assert play.hears_nothing()
    await play.turn()
    request = play.hears_request()
    assert (request.length, request.body, request.ended) == (5, b"", False)
    play.grants(request, WINDOW)
    assert play.hears_data(request) == ([(b"he", False)] if first else [])
    play.tell(Interim(request.sid, 102, b""))
    play.answers(request, ended=False)
    play.streams(request, b"half an answer")
    assert b"half an answer" in client.hears()
    client.says(b"hello"[len(first) :] + get(b"/next"))
    assert play.hears_data(request) == [(b"hello"[len(first) :], True)]
    play.streams(request, b"", ended=True)
    await play.turn()
    assert play.stages_hear()[-1][1].target == b"/next"


async def test_a_small_body_that_keeps_coming_is_collected(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[Callable[[], None]] = []
    monkeypatch.setattr(play.context.loop, "call_later", lambda seconds, call, *args: waits.append(call), raising=False)
    client = play.connects()
    client.says(post(length(5), body=b"h"))
    for byte in (b"e", b"l", b"l"):
        client.says(byte)
        assert len(waits) == 1
        waits.pop()()
        assert play.hears_nothing()
    client.says(b"o")
    assert play.hears_request().body == b"hello"
    waits.pop()()  # too late to matter
    assert play.hears_nothing()


async def test_a_client_that_has_left_does_not_begin_its_request_later(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "PAUSE", 0.0)
    clients = [play.connects() for _ in range(3)]
    for client in clients:
        client.says(post(length(5), body=b"he"))
    clients[0].resets()
    clients[1].shuts_its_side()
    clients[2].says(b"llo")
    assert play.hears_request().body == b"hello"
    await play.turn()
    assert play.hears_nothing()


async def test_a_body_at_the_limit_is_collected_and_one_beyond_it_is_streamed(play: Play) -> None:
    client = play.connects()
    client.says(post(length(INLINE), body=b"x" * INLINE))
    request = play.hears_request()
    assert len(request.body) == INLINE
    play.answers(request)
    client.says(post(length(LONG), body=b"x" * LONG))
    request = play.hears_request()
    assert (request.length, request.body, request.ended) == (LONG, b"", False)
    play.grants(request, WINDOW)
    assert play.hears_data(request) == [(b"x" * LONG, True)]
    play.answers(request)
    assert not client.is_closed


async def test_no_body_byte_leaves_without_credit_and_none_beyond_it(play: Play) -> None:
    client = play.connects()
    client.says(post(length(1_000_000)))
    request = play.hears_request()
    client.says(b"a" * 1000)
    assert play.hears_nothing()
    play.grants(request, 600)
    assert play.hears_data(request) == [(b"a" * 600, False)]
    play.grants(request, 300)
    assert play.hears_data(request) == [(b"a" * 300, False)]
    play.grants(request, 300)
    assert play.hears_data(request) == [(b"a" * 100, False)]
    client.says(b"b" * 150)
    assert play.hears_data(request) == [(b"b" * 150, False)]
    client.says(b"c" * 100)
    assert play.hears_data(request) == [(b"c" * 50, False)]


async def test_a_client_that_sends_faster_than_it_is_wanted_is_not_read(play: Play) -> None:
    client = play.connects()
    size = 10 * 1024 * 1024
    client.says(post(length(size), body=b"x" * size))
    request = play.hears_request()
    sent = 0
    assert client.unread >= size - KERNEL_READ
    while sent < size:
        play.grants(request, 100_000)
        await play.turn()
        sent += sum(len(payload) for payload, _ in play.hears_data(request))
        intake = client.connection._intake
        assert intake is None or len(intake._pending) <= KERNEL_READ
    assert sent == size
    assert play.actor.streams.by_sid[request.sid].upload_done


async def test_who_was_not_read_is_read_again_when_its_last_bytes_are_wanted(play: Play) -> None:
    client = play.connects()
    client.says(post(length(LONG), body=b"x" * LONG))
    request = play.hears_request()
    assert not client.transport.is_reading()
    play.grants(request, LONG)
    assert play.hears_data(request) == [(b"x" * LONG, True)]
    assert client.transport.is_reading(), "else nobody sees that it leaves"


async def test_a_grant_larger_than_an_envelope_may_carry_is_used_in_portions(play: Play) -> None:
    client = play.connects()
    client.says(post(CHUNKED))
    request = play.hears_request()
    play.grants(request, 10**9)
    client.says(b"80000\r\n")
    client.connection.data_received(b"x" * 0x80000)
    portions = play.hears_data(request)
    assert max(len(payload) for payload, _ in portions) <= 256 * 1024
    assert sum(len(payload) for payload, _ in portions) == 0x80000


async def test_a_chunked_body_that_came_whole_travels_inside_the_request(play: Play) -> None:
    client = play.connects()
    client.says(post(CHUNKED, body=b"3\r\nabc\r\n2\r\nde\r\n0\r\nContent-Length: 3\r\n\r\n"))
    request = play.hears_request()
    assert (request.length, request.body, request.ended) == (5, b"abcde", True)
    assert b"content-length" not in request.headers  # no trailer may say that, so nothing is left of it


async def test_trailers_follow_the_body_and_never_come_into_the_head(play: Play) -> None:
    client = play.connects()
    client.says(post(CHUNKED, body=b"3\r\nabc\r\n0\r\nX-Sum: 6\r\nAuthorization: no\r\n\r\n"))
    request = play.hears_request()
    assert (request.length, request.ended) == (UNKNOWN, False)
    assert b"x-sum" not in request.headers
    play.grants(request, WINDOW)
    ((_, data),) = play.stages_hear()
    assert (data.payload, data.ended, data.trailers) == (b"abc", True, b"x-sum: 6\r\n")


@pytest.mark.parametrize("engine", ["httptools", "h11"])
async def test_a_trailer_that_connection_names_ends_here(play: Play, engine: str) -> None:
    client = play.connects(engine)
    client.says(post(CHUNKED, b"Connection: X-Hop, close", body=b"3\r\nabc\r\n0\r\nX-Hop: 1\r\nX-Sum: 6\r\n\r\n"))
    request = play.hears_request()
    play.grants(request, WINDOW)
    ((_, data),) = play.stages_hear()
    assert (data.payload, data.ended, data.trailers) == (b"abc", True, b"x-sum: 6\r\n")


async def test_a_body_without_other_trailers_than_connection_names_travels_whole(play: Play) -> None:
    client = play.connects()
    client.says(post(CHUNKED, b"Connection: X-Hop", body=b"3\r\nabc\r\n0\r\nX-Hop: 1\r\n\r\n"))
    request = play.hears_request()
    assert (request.length, request.body, request.ended) == (3, b"abc", True)


async def test_a_chunked_body_is_streamed_without_its_chunks(play: Play) -> None:
    client = play.connects()
    client.says(post(CHUNKED, body=b"3\r\nabc"))
    request = play.hears_request()
    assert (request.length, request.body, request.ended) == (UNKNOWN, b"", False)
    play.grants(request, WINDOW)
    assert play.hears_data(request) == [(b"abc", False)]
    client.says(b"\r\n2\r\nde\r\n")
    assert play.hears_data(request) == [(b"de", False)]
    client.says(b"0\r\n\r\n" + get(b"/next"))
    assert play.hears_data(request) == [(b"", True)]
    play.answers(request)
    await play.turn()
    assert play.hears_request().target == b"/next"


async def test_the_end_of_a_body_waits_for_somebody_who_wants_it(play: Play) -> None:
    client = play.connects()
    client.says(post(CHUNKED))
    request = play.hears_request()
    client.says(b"0\r\n\r\n")
    assert play.hears_nothing()
    play.grants(request, WINDOW)
    assert play.hears_data(request) == [(b"", True)]
    play.answers(request)
    assert not client.is_closed


async def test_100_is_sent_when_somebody_wants_the_body_and_not_before(play: Play) -> None:
    client = play.connects()
    client.says(post(length(5), b"Expect: 100-continue"))
    request = play.hears_request()
    assert (request.length, request.ended) == (5, False)
    assert client.hears() == b""
    play.grants(request, WINDOW)
    assert client.hears() == b"HTTP/1.1 100 Continue\r\n\r\n"
    play.grants(request, WINDOW)
    assert client.hears() == b""
    client.says(b"hello")
    assert play.hears_data(request) == [(b"hello", True)]
    play.answers(request)
    assert client.hears().startswith(b"HTTP/1.1 200")
    assert not client.is_closed


@pytest.mark.parametrize("status", [200, 417])
async def test_an_answer_instead_of_100_closes_because_the_body_may_come_or_not(play: Play, status: int) -> None:
    client = play.connects()
    client.says(post(length(5), b"Expect: 100-continue"))
    request = play.hears_request()
    play.answers(request, status)
    heard = client.hears()
    assert heard.startswith(b"HTTP/1.1 %d" % status)
    assert b"connection: close\r\n" in heard
    assert client.is_closed
    assert play.hears_cancels() == CREW


async def test_100_never_follows_a_final_answer(play: Play) -> None:
    client = play.connects()
    client.says(post(length(5), b"Expect: 100-continue"))
    request = play.hears_request()
    play.answers(request, body=b"abc", ended=False, source=PLUGINS)
    play.grants(request, WINDOW)
    assert b"100 Continue" not in client.hears()


async def test_no_100_for_a_body_that_did_not_wait_for_it(play: Play) -> None:
    client = play.connects()
    client.says(post(length(5), b"Expect: 100-continue", body=b"he"))
    request = play.hears_request()
    play.grants(request, WINDOW)
    assert client.hears() == b""
    assert play.hears_data(request) == [(b"he", False)]


async def test_no_100_for_a_request_without_body(play: Play) -> None:
    client = play.connects()
    client.says(post(length(0), b"Expect: 100-continue"))
    play.answers(play.hears_request())
    assert client.hears() == b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


async def test_a_good_answer_before_the_end_of_the_body_keeps_the_connection(play: Play) -> None:
    client = play.connects()
    client.says(post(length(LONG), body=b"x" * 1000))
    request = play.hears_request()
    play.answers(request, body=b"early")
    assert client.hears().endswith(b"early")
    assert play.hears_cancels() == CREW
    client.says(b"x" * (LONG - 1000) + get(b"/next"))
    await play.turn()
    assert play.hears_request().target == b"/next"


async def test_the_same_when_the_body_was_all_here_and_nobody_wanted_it(play: Play) -> None:
    client = play.connects()
    client.says(post(length(LONG), body=b"x" * LONG) + get(b"/next"))
    request = play.hears_request()
    play.answers(request, body=b"early")
    assert play.hears_cancels() == CREW
    await play.turn()
    assert play.hears_request().target == b"/next"


async def test_the_same_with_a_chunked_body(play: Play) -> None:
    client = play.connects()
    client.says(post(CHUNKED, body=b"5\r\nhel"))
    request = play.hears_request()
    play.answers(request)
    play.stages_hear()
    client.says(b"lo\r\n0\r\n\r\n" + get(b"/next"))
    await play.turn()
    assert play.hears_request().target == b"/next"


async def test_a_body_that_breaks_after_its_answer_ends_the_connection_without_a_second_answer(play: Play) -> None:
    client = play.connects()
    client.says(post(CHUNKED, body=b"5\r\nhel"))
    play.answers(play.hears_request())
    client.hears()
    client.says(b"loXX" + get(b"/evil"))
    await play.turn()
    assert client.hears() == b""
    assert client.is_closed
    assert play.hears_cancels() == CREW


async def test_the_rest_of_an_answered_body_may_not_take_for_ever(play: Play) -> None:
    client = play.connects()
    client.says(post(length(10**9), body=b"x"))
    play.answers(play.hears_request())
    for _ in range(40):
        client.says(b"x")
        await play.passes(1)
    assert client.transport.is_lost


async def test_an_error_before_the_end_of_the_body_closes_but_lets_the_client_read_it(play: Play) -> None:
    client = play.connects()
    client.says(post(length(LONG), body=b"x" * 1000))
    request = play.hears_request()
    play.answers(request, 413, body=b"too large")
    assert b"connection: close\r\n" in client.hears()
    assert client.transport.eof_sent
    assert not client.transport.is_lost
    assert play.hears_cancels() == CREW
    client.says(b"x" * 100_000)  # taken and dropped, so that no reset overtakes the answer
    assert client.unread == 0
    await play.passes(3)
    assert client.transport.is_lost


async def test_an_answer_may_flow_while_its_request_still_does(play: Play) -> None:
    client = play.connects()
    client.says(post(CHUNKED))
    request = play.hears_request()
    play.grants(request, WINDOW)
    client.says(b"1\r\na\r\n")
    play.answers(request, ended=False)
    play.streams(request, b"A")
    assert play.hears_data(request) == [(b"a", False)]
    client.says(b"1\r\nb\r\n0\r\n\r\n")
    play.streams(request, b"B", ended=True)
    assert play.hears_data(request) == [(b"b", True)]
    assert client.hears().endswith(b"1\r\nA\r\n1\r\nB\r\n0\r\n\r\n")
    client.says(get(b"/next"))
    await play.turn()
    assert play.hears_request().target == b"/next"


@pytest.mark.parametrize("granted", [False, True])
async def test_a_body_that_breaks_is_answered_with_400_and_its_stages_forget_it(play: Play, granted: bool) -> None:
    client = play.connects()
    client.says(post(CHUNKED, body=b"5\r\nhello\r\n" if granted else b"5"))
    request = play.hears_request()
    if granted:
        play.grants(request, WINDOW)
    play.stages_hear()
    client.says(b"zz\r\n" + get(b"/evil"))
    assert client.hears().startswith(b"HTTP/1.1 400 ")
    assert play.hears_cancels() == CREW
    assert not play.is_holding
    play.answers(request)  # was on its way
    assert client.hears() == b""
    assert client.is_closed


async def test_a_body_that_breaks_after_its_answer_began_cuts_the_answer(play: Play) -> None:
    client = play.connects()
    client.says(post(CHUNKED))
    request = play.hears_request()
    play.answers(request, ended=False)
    play.streams(request, b"abc")
    client.says(b"zz\r\n")
    assert client.hears().endswith(b"3\r\nabc\r\n")
    assert client.is_closed
    assert play.hears_cancels() == CREW


async def test_credit_for_a_stream_that_is_over_is_answered_with_cancel(play: Play) -> None:
    client = play.connects()
    client.says(get())
    request = play.hears_request()
    play.answers(request)
    play.grants(request, WINDOW)
    assert play.hears_cancels() == {UPSTREAM}


async def test_the_event_counts_the_body_bytes_that_were_taken(play: Play) -> None:
    client = play.connects()
    client.says(post(CHUNKED, body=b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"))
    play.answers(play.hears_request())
    client.says(post(length(LONG), body=b"x" * LONG))
    request = play.hears_request()
    play.grants(request, 10 * WINDOW)
    play.answers(request)
    assert [event.received for event in play.events] == [5, LONG]
