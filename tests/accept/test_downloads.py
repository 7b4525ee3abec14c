"""Response bodies under credit: what a slow client takes is what its backend may send."""

from __future__ import annotations

from typing import Any

import pytest

from pingap.stages.accept.http1 import ONE_PIECE
from pingap.stages.accept.outlet import TOP_UP, WRITE_BUFFER
from pingap.stages.messages import UNKNOWN, WINDOW, Request
from tests.accept.playbook import PLUGINS, ROUTING, UPSTREAM, Client, Play, get
from tests.http1.test_bodies import h11_reads

CREW = {ROUTING, PLUGINS, UPSTREAM}


async def begin(play: Play, size: int = UNKNOWN, version: bytes = b"1.1", **settings: Any) -> tuple[Client, Request]:
    client = play.connects(**settings)
    client.says(get(version=version))
    request = play.hears_request()
    play.answers(request, length=size, ended=False)
    client.hears()
    return client, request


async def test_a_body_of_known_length_is_written_as_it_comes(play: Play) -> None:
    client = play.connects()
    client.says(get())
    request = play.hears_request()
    play.answers(request, headers=b"x: y\r\n", body=b"he", length=5, ended=False)
    assert client.hears() == b"HTTP/1.1 200 OK\r\nx: y\r\ncontent-length: 5\r\n\r\nhe"
    play.streams(request, b"ll")
    assert client.hears() == b"ll"
    play.streams(request, b"o", ended=True)
    assert client.hears() == b"o"
    assert not client.is_closed
    assert not play.is_holding


async def test_the_head_is_written_before_any_byte_of_the_body_is_there(play: Play) -> None:
    client = play.connects()
    client.says(get())
    play.answers(play.hears_request(), headers=b"content-type: text/event-stream\r\n", ended=False)
    assert client.hears() == b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("size", [1, 15, 16, ONE_PIECE, ONE_PIECE + 1, 200_000])
@pytest.mark.parametrize("ends_with_data", [True, False])
async def test_a_body_of_unknown_length_is_chunked(play: Play, size: int, ends_with_data: bool) -> None:
    client = play.connects()
    client.says(get())
    request = play.hears_request()
    play.answers(request, body=b"ab", ended=False)
    play.streams(request, b"")
    play.streams(request, b"x" * size, ended=ends_with_data)
    if not ends_with_data:
        play.streams(request, b"", ended=True)
    head, _, body = client.hears().partition(b"\r\n\r\n")
    assert head.endswith(b"transfer-encoding: chunked")
    assert body == b"2\r\nab\r\n%x\r\n%b\r\n0\r\n\r\n" % (size, b"x" * size)
    assert h11_reads([body]) == b"ab" + b"x" * size
    assert not client.is_closed


async def test_credit_comes_back_in_portions_as_the_client_takes_the_body(play: Play) -> None:
    _, request = await begin(play)
    play.streams(request, b"x" * (TOP_UP - 1))
    assert play.hears_nothing()
    play.streams(request, b"x")
    assert play.hears_credit() == TOP_UP
    play.streams(request, b"x" * TOP_UP)
    assert play.hears_credit() == TOP_UP


async def test_the_part_that_came_with_the_head_counts_towards_credit(play: Play) -> None:
    client = play.connects()
    client.says(get())
    request = play.hears_request()
    play.answers(request, body=b"x" * 1000, ended=False)
    play.streams(request, b"x" * (TOP_UP - 1000))
    assert play.hears_credit() == TOP_UP


async def test_a_client_that_does_not_read_gives_no_credit_back(play: Play) -> None:
    client, request = await begin(play)
    client.stops_reading()
    window = given_back = WINDOW
    while window:  # the sender uses all that it may
        size = min(window, 64 * 1024)
        play.streams(request, b"x" * size)
        more = play.hears_credit()
        given_back += more
        window += more - size
    assert given_back <= WINDOW + WRITE_BUFFER + TOP_UP
    assert len(client.transport.unsent) <= WRITE_BUFFER + WINDOW + 100_000
    client.reads()
    assert play.hears_credit() > 0


async def test_credit_never_exceeds_what_was_sent(play: Play) -> None:
    client, request = await begin(play)
    sent = back = 0
    for turn in range(60):
        client.transport.is_stuck = turn % 3 == 0
        if not client.transport.is_stuck:
            client.reads()
        size = min(50_000, WINDOW - (sent - back))
        play.streams(request, b"x" * size)
        sent += size
        back += play.hears_credit()
        assert 0 <= sent - back <= WINDOW
    client.reads()
    play.streams(request, b"x" * TOP_UP)
    assert sent + TOP_UP - back - play.hears_credit() < TOP_UP


async def test_a_body_where_none_may_be_still_gives_credit_back(play: Play) -> None:
    client = play.connects()
    client.says(b"HEAD" + get()[3:])
    request = play.hears_request()
    play.answers(request, ended=False)
    play.streams(request, b"x" * TOP_UP)
    assert play.hears_credit() == TOP_UP
    play.streams(request, b"", ended=True)
    assert b"x" not in client.hears().partition(b"\r\n\r\n")[2]


async def test_no_credit_follows_the_end(play: Play) -> None:
    client, request = await begin(play)
    client.stops_reading()
    play.streams(request, b"x" * (WRITE_BUFFER + TOP_UP))
    play.streams(request, b"x" * TOP_UP, ended=True)
    play.stages_hear()
    client.reads()
    assert play.hears_nothing()


# -- what the sender breaks ---------------------------------------------------------


async def test_an_error_of_the_sender_cuts_a_chunked_body_before_its_last_chunk(play: Play) -> None:
    client, request = await begin(play)
    play.streams(request, b"abc")
    play.streams(request, b"", error="gateway_timeout")
    assert client.hears() == b"3\r\nabc\r\n"
    assert client.is_closed
    assert play.hears_cancels() == CREW
    assert (play.event.error, play.event.status, play.event.sent) == ("gateway_timeout", 200, 3)


async def test_an_error_of_the_sender_leaves_a_body_of_known_length_short(play: Play) -> None:
    client, request = await begin(play, 10)
    play.streams(request, b"abc")
    play.streams(request, b"", error="bad_gateway")
    assert client.hears() == b"abc"
    assert client.is_closed
    assert not client.transport.was_reset


async def test_an_error_of_the_sender_resets_a_body_that_ends_with_the_connection(play: Play) -> None:
    """An orderly close would tell a client of 1.0 that it has got everything."""
    client, request = await begin(play, version=b"1.0")
    play.streams(request, b"abc")
    play.streams(request, b"", error="bad_gateway")
    assert client.transport.was_reset
    assert client.is_closed


async def test_a_body_longer_than_promised_is_cut_where_it_should_have_ended(play: Play) -> None:
    client, request = await begin(play, 5)
    play.streams(request, b"hell")
    play.streams(request, b"o, HTTP/1.1 200 OK")
    assert client.hears() == b"hello"
    assert client.is_closed
    assert play.hears_cancels() == CREW
    assert (play.event.error, play.event.sent) == ("bad_gateway", 5)


async def test_a_body_shorter_than_promised_ends_the_connection(play: Play) -> None:
    client, request = await begin(play, 5)
    play.streams(request, b"hell", ended=True)
    assert client.hears() == b"hell"
    assert client.is_closed
    assert play.event.error == "bad_gateway"


async def test_data_of_a_stream_that_is_over_goes_nowhere(play: Play) -> None:
    client, request = await begin(play)
    play.streams(request, b"", ended=True)
    client.hears()
    play.streams(request, b"late")
    assert client.hears() == b""


async def test_a_second_answer_to_the_same_stream_is_not_written(play: Play) -> None:
    client, request = await begin(play)
    play.answers(request, 500, body=b"second")
    assert client.hears() == b""
    play.streams(request, b"", ended=True)
    assert client.hears() == b"0\r\n\r\n"
    play.answers(request, 500, body=b"third")
    assert client.hears() == b""
    assert play.hears_nothing()


async def test_an_answer_to_a_stream_that_is_gone_is_cancelled_if_more_of_it_would_come(play: Play) -> None:
    client: Client = play.connects()
    client.says(get())
    request = play.hears_request()
    client.resets()
    await play.turn()
    assert play.hears_cancels() == CREW
    play.answers(request, ended=False)
    assert play.hears_cancels() == {UPSTREAM}
    play.answers(request, body=b"complete")
    assert play.hears_nothing()


async def test_who_does_not_read_is_given_no_second_answer(play: Play) -> None:
    """Complete answers need no credit: without a pause, a pipeline of them would fill the memory."""
    client = play.connects(downstream_write_timeout=60, keepalive_timeout=75)
    client.stops_reading()
    client.says(get() * 1000)
    answered = 0
    for _ in range(100):
        for _, request in play.stages_hear():
            play.answers(request, body=b"x" * 60_000)
            answered += 1
        await play.turn()
    assert len(client.transport.unsent) <= WRITE_BUFFER + 61_000
    assert answered < 10
    for _ in range(3):  # slowly, but it reads: nothing is lost
        await play.passes(50)
        client.reads(50_000)
    while play.is_holding or answered < 1000:
        client.reads()
        await play.turn()
        for _, request in play.stages_hear():
            play.answers(request, body=b"y")
            answered += 1
    assert client.hears().count(b"HTTP/1.1 200 OK") == 1000
    await play.passes(74)
    assert not client.is_closed
    await play.passes(2)
    assert client.is_closed


async def test_requests_that_come_while_the_client_does_not_read_wait_in_the_kernel(play: Play) -> None:
    client = play.connects()
    client.stops_reading()
    client.says(get())
    request = play.hears_request()
    play.answers(request, ended=False)
    play.streams(request, b"x" * (WRITE_BUFFER + 1), ended=True)
    client.says(get(b"/next"))
    await play.turn()
    assert play.hears_nothing()
    client.reads()
    await play.turn()
    assert play.hears_request().target == b"/next"


async def test_a_client_that_read_on_while_its_body_was_dropped_is_not_suspected_later(play: Play) -> None:
    client = play.connects(downstream_write_timeout=60, keepalive_timeout=1000)
    client.stops_reading()
    client.says(b"PUT" + get(b"/", b"Content-Length: 1000000")[3:] + b"x" * 1000)
    request = play.hears_request()
    play.answers(request, ended=False)
    play.streams(request, b"x" * (WRITE_BUFFER + 1), ended=True)
    client.reads()
    client.says(b"x" * 999_000)
    await play.passes(200)
    assert not client.is_closed


async def test_body_bytes_that_cannot_be_written_cut_the_answer(play: Play) -> None:
    client, request = await begin(play)
    play.streams(request, b"abc")
    play.streams(request, "text", ended=True)  # type: ignore[arg-type]
    assert client.hears() == b"3\r\nabc\r\n"
    assert client.is_closed
    assert play.event.error == "internal"
