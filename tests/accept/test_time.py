"""Every wait for a client ends: heads, bodies, idle connections, answers that are not taken."""

from __future__ import annotations

import pytest

from pingap.stages.accept.outlet import LINGER, WRITE_BUFFER
from pingap.stages.messages import WINDOW
from tests.accept.playbook import PLUGINS, ROUTING, UPSTREAM, Play, get, post

CREW = {ROUTING, PLUGINS, UPSTREAM}


async def test_a_client_that_says_nothing_is_closed_without_a_word(play: Play) -> None:
    client = play.connects(header_timeout=10)
    await play.passes(9)
    assert not client.is_closed
    await play.passes(2)
    assert client.is_closed
    assert client.hears() == b""
    assert play.events == []


async def test_a_head_must_be_complete_in_time_however_slowly_it_comes(play: Play) -> None:
    client = play.connects(header_timeout=10)
    for byte in get(b"/", b"X-A: " + b"a" * 100)[:30]:
        client.says(bytes([byte]))
        await play.passes(1)
    assert client.hears().startswith(b"HTTP/1.1 408 ")
    assert client.is_closed
    assert (play.event.status, play.event.error) == (408, "request_timeout")
    assert play.event.ended - play.event.started <= 11


async def test_the_time_of_a_head_begins_with_its_first_byte(play: Play) -> None:
    client = play.connects(header_timeout=10, keepalive_timeout=75)
    client.says(get())
    play.answers(play.hears_request())
    await play.passes(60)
    client.says(get()[:-2])
    await play.passes(9)
    assert not client.is_closed
    client.says(b"\r\n")
    assert play.hears_request().started == play.clock.now - 9


async def test_empty_lines_do_not_keep_a_connection_open(play: Play) -> None:
    client = play.connects(header_timeout=10)
    for _ in range(12):
        client.says(b"\r\n")
        await play.passes(1)
    assert client.is_closed


async def test_an_idle_connection_is_closed_after_its_time(play: Play) -> None:
    client = play.connects(keepalive_timeout=75)
    client.says(get())
    play.answers(play.hears_request())
    client.hears()
    await play.passes(74)
    assert not client.is_closed
    await play.passes(2)
    assert client.is_closed
    assert client.hears() == b""


async def test_a_request_that_is_being_answered_has_all_the_time_that_the_stages_give_it(play: Play) -> None:
    client = play.connects()
    client.says(get())
    request = play.hears_request()
    await play.passes(1000)
    play.answers(request)
    assert client.hears().startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("size", [5, 100_000], ids=["collected", "streamed"])
async def test_a_body_may_pause_only_so_long(play: Play, size: int) -> None:
    client = play.connects(downstream_read_timeout=60)
    client.says(post(b"Content-Length: %d" % size, body=b"x"))
    if size > 5:
        (_, request), *_ = play.stages_hear()
        play.grants(request, WINDOW)
        play.stages_hear()
    for _ in range(3):
        await play.passes(59)
        client.says(b"x")
    assert not client.is_closed
    play.stages_hear()
    await play.passes(61)
    assert client.hears().startswith(b"HTTP/1.1 408 ")
    assert client.is_closed
    assert play.hears_cancels() == (CREW if size > 5 else set())
    assert play.event.error == "request_timeout"
    assert play.event.method == b"POST"


async def test_a_client_whose_body_nobody_wants_yet_is_not_the_one_to_blame(play: Play) -> None:
    client = play.connects(downstream_read_timeout=60)
    client.says(post(b"Content-Length: 100000", body=b"x"))
    request = play.hears_request()
    await play.passes(300)
    assert not client.is_closed
    play.grants(request, WINDOW)
    await play.passes(59)
    assert not client.is_closed
    await play.passes(2)
    assert client.hears().startswith(b"HTTP/1.1 408 ")


async def test_a_client_that_waits_for_100_is_not_the_one_to_blame(play: Play) -> None:
    client = play.connects(downstream_read_timeout=60)
    client.says(post(b"Content-Length: 5", b"Expect: 100-continue"))
    request = play.hears_request()
    await play.passes(300)
    assert not client.is_closed
    play.grants(request, WINDOW)
    await play.passes(61)
    assert b"HTTP/1.1 408 " in client.hears()


async def test_a_client_that_takes_nothing_of_an_answer_is_dropped(play: Play) -> None:
    client = play.connects(downstream_write_timeout=60)
    client.says(get())
    request = play.hears_request()
    client.stops_reading()
    play.answers(request, body=b"x" * 60_000, ended=False)
    for _ in range(6):
        play.streams(request, b"x" * 60_000)
    play.stages_hear()
    await play.passes(59)
    assert not client.is_closed
    await play.passes(2)
    assert client.transport.is_lost
    assert play.hears_cancels() == CREW


async def test_a_client_that_reads_slowly_but_steadily_is_served(play: Play) -> None:
    client = play.connects(downstream_write_timeout=60)
    client.says(get())
    request = play.hears_request()
    client.stops_reading()
    play.answers(request, ended=False)
    play.streams(request, b"x" * WRITE_BUFFER)
    play.streams(request, b"x" * 1000)
    await play.passes(30)
    play.streams(request, b"x" * 100_000, ended=True)  # what was granted before: the buffer is fuller than at the last look
    for _ in range(300):
        client.reads(1300)
        await play.passes(50)
    assert client.hears().endswith(b"0\r\n\r\n")
    assert not client.transport.is_lost or client.transport.unsent == b""


async def test_a_client_that_stops_shortly_before_the_end_is_not_kept_for_ever(play: Play) -> None:
    """What is left is too little to be choked, and the answer is over: still nobody waits for ever."""
    client = play.connects(downstream_write_timeout=60, keepalive_timeout=75)
    client.stops_reading()
    client.says(get())
    play.answers(play.hears_request(), body=b"x" * 1000)
    await play.passes(200)
    assert client.transport.is_lost


async def test_the_same_when_the_answer_closes_the_connection(play: Play) -> None:
    client = play.connects(downstream_write_timeout=60)
    client.stops_reading()
    client.says(get(b"/", b"Connection: close"))
    play.answers(play.hears_request(), body=b"x" * 1000)
    await play.passes(59)
    assert not client.transport.is_lost
    await play.passes(2)
    assert client.transport.is_lost


async def test_a_connection_that_was_choked_is_idle_like_any_other_afterwards(play: Play) -> None:
    client = play.connects(keepalive_timeout=75)
    client.says(get())
    request = play.hears_request()
    client.stops_reading()
    play.answers(request, ended=False)
    play.streams(request, b"x" * (WRITE_BUFFER + 1000), ended=True)
    await play.passes(10)
    client.reads()
    await play.passes(74)
    assert not client.is_closed
    await play.passes(2)
    assert client.is_closed


async def test_uploading_on_does_not_excuse_a_client_that_takes_nothing(play: Play) -> None:
    client = play.connects(downstream_write_timeout=60)
    client.says(post(b"Transfer-Encoding: chunked"))
    request = play.hears_request()
    play.grants(request, 100 * WINDOW)
    client.stops_reading()
    play.answers(request, ended=False)
    play.streams(request, b"x" * (WRITE_BUFFER + 1000))
    for _ in range(62):
        client.says(b"1\r\nx\r\n")
        await play.passes(1)
    assert client.transport.is_lost


async def test_a_refused_client_gets_a_moment_to_read_and_no_more(play: Play) -> None:
    client = play.connects()
    client.says(b"garbage\r\n\r\n")
    assert client.hears().startswith(b"HTTP/1.1 400 ")
    assert client.transport.eof_sent
    assert not client.transport.is_lost
    for _ in range(8):
        client.says(b"more garbage" * 1000)
        await play.passes(LINGER / 8 + 0.1)
    assert client.transport.is_lost
    assert client.hears() == b""


async def test_a_refused_client_that_reads_slowly_gets_all_of_the_answer(play: Play) -> None:
    client = play.connects(downstream_write_timeout=60)
    client.says(post(b"Content-Length: 1000000", body=b"x"))
    request = play.hears_request()
    client.stops_reading()
    play.answers(request, 403, body=b"x" * 60_000)
    for _ in range(61):
        client.reads(1000)
        await play.passes(10)
    assert len(client.hears().partition(b"\r\n\r\n")[2]) == 60_000
    await play.passes(LINGER + 1)
    assert client.transport.is_lost


async def test_a_refused_client_that_takes_nothing_is_dropped(play: Play) -> None:
    client = play.connects(downstream_write_timeout=60)
    client.stops_reading()
    client.says(b"garbage\r\n\r\n")
    await play.passes(59)
    assert not client.transport.is_lost
    await play.passes(3)
    assert client.transport.is_lost


async def test_one_deadline_that_goes_wrong_does_not_end_the_others(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    broken, client = play.connects(header_timeout=5), play.connects(header_timeout=10)

    def raises(now: float) -> None:
        raise RuntimeError

    monkeypatch.setattr(type(broken.connection), "expired", lambda self, now: raises(now) if self is broken.connection else None)
    play.clock.now += 6
    with pytest.raises(RuntimeError):
        play._sweep()
    monkeypatch.undo()
    assert play.actor._sweeper is not None
    assert not play.actor._sweeper.cancelled()
    assert not client.is_closed
