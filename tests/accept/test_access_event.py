"""What accept tells of a finished request, and which generations it says are in use."""

from __future__ import annotations

import time

import pytest
from msgspec.structs import replace

from pingap.config.model import Server
from pingap.stages.messages import InUse, Report
from tests.accept.playbook import CREW, PLUGINS, UPSTREAM, Play, get, post

CONFIG = 5
REPORT = Report(
    "loc", "up", "10.0.0.1:80", 200, True, 1, (1.0, 2.0, 0.0, 0.0, 3.0, 4.0, 5.0, 6.0), (0.1,), "", {"a": "b"}, "198.51.100.9", 900.0, 7
)


async def test_the_event_tells_what_the_client_said_what_it_got_and_who_was_asked(play: Play) -> None:
    client = play.connects()
    await play.passes(3)
    client.says(post(b"X-A: 1", b"Content-Length: 5", body=b"he"))
    await play.passes(2)
    client.says(b"llo")
    request = play.hears_request()
    await play.passes(1)
    play.answers(request, 201, b"x-b: 2\r\n", b"abc", ended=False, report=REPORT)
    await play.passes(1)
    play.streams(request, b"defg", ended=True)
    event = play.event
    assert event.sid == request.sid
    assert event.server == "web"
    assert event.peer[:5] == ("192.0.2.7", 5000, "192.0.2.1", 80, "http")
    assert event.client_ip == "198.51.100.9"
    assert (event.method, event.target, event.host, event.version) == (b"POST", b"/", b"a.example", 11)
    assert event.request_headers == b"host: a.example\r\nx-a: 1\r\n"
    assert (event.status, event.response_headers) == (201, b"x-b: 2\r\n")
    assert (event.received, event.sent) == (5, 7)
    assert (event.connected, event.started, event.responded, event.ended) == (1000.0, 1003.0, 1006.0, 1007.0)
    assert abs(event.time - (time.time() - 4)) < 5
    assert (event.location, event.upstream, event.addr) == ("loc", "up", "10.0.0.1:80")
    assert (event.upstream_status, event.upstream_reused, event.tries) == (200, True, 1)
    assert (event.stamps, event.connect) == (REPORT.stamps, (0.1,))
    assert (event.error, event.context) == ("", {"a": "b"})
    assert (event.upstream_opened, event.upstream_connections) == (900.0, 7)
    assert event.processing == 0


async def test_without_a_report_the_client_is_its_peer(play: Play) -> None:
    client = play.connects()
    client.says(get())
    play.answers(play.hears_request())
    assert (play.event.client_ip, play.event.location, play.event.addr, play.event.stamps) == ("192.0.2.7", "", "", ())


async def test_an_error_of_the_stages_is_named(play: Play) -> None:
    client = play.connects()
    client.says(get())
    play.answers(play.hears_request(), 504, report=replace(REPORT, error="gateway_timeout"))
    assert play.event.error == "gateway_timeout"


async def test_only_the_first_request_of_a_connection_is_not_reused(play: Play) -> None:
    client = play.connects()
    for number in range(3):
        client.says(get())
        request = play.hears_request()
        play.answers(request, ended=number == 0)
        if number == 1:
            play.streams(request, b"", ended=True)
    play.streams(request, b"", error="bad_gateway")
    other = play.connects()
    other.says(b"garbage\r\n\r\n")
    third = play.connects()
    third.says(get())
    play.stages_hear()
    third.resets()
    await play.turn()
    assert [event.connection_reused for event in play.events] == [False, True, True, False, False]


async def test_a_refused_head_that_followed_a_good_one_is_reused(play: Play) -> None:
    client = play.connects()
    client.says(get())
    play.answers(play.hears_request())
    client.says(b"garbage\r\n\r\n")
    assert [event.connection_reused for event in play.events] == [False, True]


async def test_a_request_refused_for_its_body_is_named_by_its_head(play: Play) -> None:
    client = play.connects()
    client.says(b"PUT /x HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
    event = play.event
    assert (event.method, event.target, event.host, event.status, event.error) == (b"PUT", b"/x", b"a.example", 400, "bad_request")
    assert (event.started, event.responded) == (1000.0, 1000.0)


REFUSED: dict[str, tuple[bytes, tuple[bytes, bytes, int, int]]] = {
    "two hosts": (b"GET /a?b HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", (b"GET", b"/a?b", 11, 400)),
    "no host": (b"GET /a HTTP/1.1\r\n\r\n", (b"GET", b"/a", 11, 400)),
    "a method that is not passed on": (b"TRACE /a HTTP/1.1\r\nHost: a\r\n\r\n", (b"TRACE", b"/a", 11, 501)),
    "an expectation": (b"POST /a HTTP/1.1\r\nHost: a\r\nExpect: x\r\nContent-Length: 1\r\n\r\n", (b"POST", b"/a", 11, 417)),
    "HTTP/1.0": (b"GET /a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", (b"GET", b"/a", 10, 400)),
    "a head too long": (b"GET /a HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 70_000, (b"GET", b"/a", 11, 431)),
    "a target too long": (b"GET /" + b"x" * 70_000, (b"GET", b"/" + b"x" * 2047, 0, 414)),
    "a bare LF": (b"GET /a HTTP/1.1\r\nHost: a\nX: y\r\n", (b"GET", b"/a", 11, 400)),
    "a byte that no target has": (b"GET /\x1b[31m\xff HTTP/1.1\r\nHost: a\r\n\r\n", (b"GET", b"/%1B[31m%FF", 11, 400)),
    "no request line": (b"garbage\r\n\r\n", (b"", b"", 0, 400)),
    "another protocol": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", (b"", b"", 0, 400)),
    "a version of its own": (b"GET /a HTTP/2.0\r\nHost: a\r\n\r\n", (b"GET", b"/a", 20, 505)),
    "an old version": (b"GET /a HTTP/0.9\r\n\r\n", (b"GET", b"/a", 9, 505)),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_refused_request_is_named_as_far_as_it_can_be_read(play: Play, name: str) -> None:
    said, expected = REFUSED[name]
    play.connects().says(said)
    event = play.event
    assert (event.method, event.target, event.version, event.status) == expected


async def test_why_a_request_is_refused_and_who_sent_it_is_in_its_event(play: Play) -> None:
    play.connects().says(b"GET /a HTTP/1.1\r\nHost: Site.example\r\nUser-Agent: odd/1\r\nX : y\r\n\r\n")
    event = play.event
    assert (event.status, event.error, event.host) == (400, "bad_request", b"site.example")
    assert event.reason
    assert b"user-agent: odd/1\r\n" in event.request_headers


async def test_bytes_beyond_ascii_in_a_target_are_escaped_or_refused(play: Play) -> None:
    play.connects().says("GET /café?q=ü HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    assert play.hears_request().target == b"/caf%C3%A9?q=%C3%BC"
    strict = play.connects(escape_target=False)
    strict.says("GET /café HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    assert b" 400 " in strict.hears()


async def test_a_request_whose_head_does_not_come_in_time_is_named_as_far_as_it_came(play: Play) -> None:
    play.connects().says(b"GET /slow HTTP/1.1\r\nHost:")
    await play.passes(60)
    assert (play.event.method, play.event.target, play.event.status) == (b"GET", b"/slow", 408)


async def test_each_request_has_one_event_and_none_when_nobody_reads_them(play: Play) -> None:
    client = play.connects()
    play.context.wanted = frozenset()
    client.says(get())
    play.answers(play.hears_request())
    client.says(b"garbage\r\n\r\n")
    assert play.events == []


async def test_processing_counts_the_other_streams(play: Play) -> None:
    for _ in range(3):
        play.connects().says(get())
    for _, request in play.stages_hear():
        play.answers(request)
    assert [event.processing for event in play.events] == [2, 1, 0]


# -- generations ---------------------------------------------------------------------------


async def oldest(play: Play) -> list[int]:
    """What accept has told the configuration since the last time: the oldest generation in use."""
    await play.passes(1)
    return [envelope.oldest for to, envelope in play.stages_hear() if isinstance(envelope, InUse) and to == CONFIG]


@pytest.mark.parametrize("end", ["answer", "leave", "refuse"])
async def test_a_generation_is_in_use_until_its_last_stream_has_an_answer(play: Play, end: str) -> None:
    play.members(*CREW, (CONFIG, "config"))
    await oldest(play)
    client = play.connects()
    client.says(post(b"Transfer-Encoding: chunked"))
    request = play.hears_request()
    play.commits(2, oldest=1)
    play.commits(3, oldest=1)
    assert set(await oldest(play)) <= {1}
    other = play.connects()
    other.says(get())
    newer = play.hears_request()
    assert (request.generation, newer.generation) == (1, 3)
    play.answers(newer)
    assert await oldest(play) == []
    if end == "answer":
        play.answers(request, ended=False)
    elif end == "leave":
        client.resets()
    else:
        client.says(b"zz\r\n")
    await play.turn()
    assert (await oldest(play))[-1] == 3


async def test_a_stream_that_is_sent_again_carries_the_newest_generation(play: Play) -> None:
    client = play.connects()
    client.says(get())
    assert play.hears_request().generation == 1
    play.commits(2, servers={"web": Server(addr=())}, oldest=1)
    play.members(CREW[0], CREW[1], (23, "upstream"))
    again = [envelope for _, envelope in play.stages_hear() if type(envelope).__name__ == "Request"]
    assert [request.generation for request in again] == [2]
    play.answers(again[0])


async def test_a_report_that_grows_late_is_told(play: Play) -> None:
    """Compression knows its ratio at the end of the body only."""
    from pingap.stages.messages import Data

    client = play.connects()
    client.says(get())
    request = play.hears_request()
    play.answers(request, ended=False, report=REPORT, source=PLUGINS)
    play.tell(Data(request.sid, b"x", True, "", False, {"compression_ratio": 2.5}))
    assert play.event.context == {"a": "b", "compression_ratio": 2.5}
    assert UPSTREAM not in {to for to, _ in play.stages_hear()}
