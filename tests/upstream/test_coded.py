"""Answers that upstream gives a content coding: short ones in one piece, long ones as they come; and how they may end."""

from __future__ import annotations

import asyncio
import gzip
import random
import zlib
from base64 import b64encode
from typing import Any

import pytest

from pingap.config.model import Location, Server, Snapshot, Upstream
from pingap.config.parts import Backend, Listen
from pingap.stages.itinerary import RESPONSE_CODING, RESPONSE_PLUGINS
from pingap.stages.messages import INLINE, INLINE_PAUSE, UNKNOWN, WILL_ANSWER, WINDOW, Data, Response
from pingap.stages.upstream.core import Outcome
from pingap.stages.upstream.download import BULK
from pingap.stages.upstream.turns import TURN, Turns
from tests.kit.clock import Clock
from tests.upstream.playbook import ACCEPT, PLUGINS, Http2Link, Link, Play

TEXT = b"Not all those who wander are lost. " * 40
HTML = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"
CHUNKED = HTML + b"Transfer-Encoding: chunked\r\n\r\n"
ASKED = b"host: example\r\naccept-encoding: gzip\r\n"


def of_length(length: int) -> bytes:
    return HTML + b"Content-Length: %d\r\n\r\n" % length


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def serve(play: Play, section: dict[str, Any] | None = None, **settings: Any) -> None:
    play.generation += 1
    made = Snapshot(
        servers={"web": Server(addr=(Listen("127.0.0.1", 80),), locations=("site",), modules=("grpc-web",))},
        locations={"site": Location(upstream="api", plugins=("p",), grpc_web=True, proxy_set_headers=(("accept-encoding", "identity"),))},
        upstreams={"api": Upstream(addrs=(Backend("a", 1, 1),), **settings)},
        plugins={"p": section or {"category": "compression", "gzip_level": 6}},
    )
    play.publishes(play.generation, made)


async def asked(play: Play, plan: int = RESPONSE_CODING, **more: Any) -> tuple[int, Link]:
    serve(play)
    sid = play.asks(headers=ASKED, plan=plan, **more)
    await play.turn()
    link = play.backend().link
    assert b"\r\naccept-encoding: identity\r\n" in link.hears(), "the client's own line decides, whatever the backend is told"
    return sid, link


async def asked_over_http2(play: Play) -> tuple[int, Http2Link, int]:
    """The head of an answer with TEXT has come: its stream, and who gives it."""
    serve(play, alpn="h2")
    sid = play.asks(headers=ASKED, plan=RESPONSE_CODING)
    await play.turn()
    link = play.backend().link
    assert isinstance(link, Http2Link)
    [stream] = link.listens()
    link.starts(stream, 200, (b"content-type", b"text/html"), (b"content-length", b"%d" % len(TEXT)))
    return sid, link, stream


def data_of(play: Play) -> list[Data]:
    found = [envelope for _, envelope in play.hears()]
    assert all(isinstance(envelope, Data) for envelope in found), found
    return found


async def test_a_short_answer_whose_body_comes_after_its_head_is_coded_whole(play: Play) -> None:
    sid, link = await asked(play)
    link.says(of_length(len(TEXT)))
    await play.passes(INLINE_PAUSE / 2)
    link.says(TEXT[:100])
    await play.passes(INLINE_PAUSE / 2)
    assert play.hears_nothing()
    link.says(TEXT[100:])
    answered = play.hears_response(sid)
    assert (answered.ended, answered.length, gzip.decompress(answered.body)) == (True, len(answered.body), TEXT)
    assert b"content-encoding: gzip\r\n" in answered.headers
    assert answered.report is not None and answered.report.context["compression_ratio"] > 5
    assert answered.report.stamps[7] - answered.report.stamps[6] == 0, "the head had come before all that"


async def test_a_short_answer_for_plugins_comes_to_them_whole_and_one_for_nobody_is_not_waited_for(play: Play) -> None:
    for plan, to in ((RESPONSE_PLUGINS, PLUGINS), (0, ACCEPT)):
        sid, link = await asked(play, plan=plan)
        link.says(of_length(10))
        if plan:
            assert play.hears_nothing()
            link.says(b"0123456789")
            answered = play.hears_response(sid, to)
            assert (answered.body, answered.length, answered.ended) == (b"0123456789", 10, True)
        else:
            assert play.hears_response(sid).body == b""
            link.says(b"0123456789")
            assert play.hears_data(sid) == [(b"0123456789", True, "")]


async def test_a_backend_that_pauses_within_a_short_answer_is_not_waited_for(play: Play) -> None:
    sid, link = await asked(play)
    link.says(of_length(len(TEXT)) + TEXT[:100])
    await play.passes(INLINE_PAUSE)
    answered = play.hears_response(sid)
    reader = zlib.decompressobj(31)
    assert (answered.ended, answered.length) == (False, UNKNOWN)
    assert reader.decompress(answered.body) == TEXT[:100], "all that has come can be read"
    link.says(TEXT[100:200])
    [more] = data_of(play)
    assert reader.decompress(more.payload) == TEXT[100:200]
    link.says(TEXT[200:])
    [last] = data_of(play)
    assert reader.decompress(last.payload) == TEXT[200:] and reader.eof
    assert last.ended and last.context is not None and last.context["compression_ratio"] > 1


@pytest.mark.parametrize("length", [INLINE, INLINE + 1])
async def test_a_long_answer_is_not_waited_for(play: Play, length: int) -> None:
    sid, link = await asked(play)
    link.says(of_length(length))
    if length <= INLINE:
        assert play.hears_nothing()
        play.cancels(sid)
        await play.passes(INLINE_PAUSE)
        assert play.hears_nothing()
        return
    answered = play.hears_response(sid)
    assert (answered.body, answered.length) == (b"", UNKNOWN)
    play.cancels(sid)


async def test_each_piece_of_a_stream_can_be_read_when_it_comes(play: Play) -> None:
    sid, link = await asked(play)
    link.says(CHUNKED + chunk(b"first"))
    answered = play.hears_response(sid)
    reader = zlib.decompressobj(31)
    assert reader.decompress(answered.body) == b"first"
    for text in (b"second", b"third"):
        link.says(chunk(text))
        [piece] = data_of(play)
        assert reader.decompress(piece.payload) == text
    link.says(b"0\r\n\r\n")
    [last] = data_of(play)
    assert last.ended and reader.decompress(last.payload) == b"" and reader.eof


async def test_trailers_go_on_but_for_what_the_head_says(play: Play) -> None:
    sid, link = await asked(play)
    link.says(HTML + b'ETag: "a"\r\nTransfer-Encoding: chunked\r\n\r\n' + chunk(TEXT))
    assert b'etag: W/"a"' in play.hears_response(sid).headers
    link.says(b'0\r\nX-Sum: 7\r\nETag: "b"\r\nVary: x\r\nAccept-Ranges: bytes\r\n\r\n')
    [last] = data_of(play)
    assert (last.ended, last.trailers) == (True, b"x-sum: 7\r\n")


async def test_credit_counts_what_goes_out(play: Play) -> None:
    sid, link = await asked(play)
    link.says(CHUNKED)
    play.hears_response(sid)
    link.says(chunk(bytes(4 * WINDOW)))
    for _ in range(16):
        await play.turn()
    assert link.transport.is_reading() and not link.unread, "four windows of zeros become a few KB"
    sent = sum(len(one.payload) for one in data_of(play))
    assert sent < 16 * 1024
    link.says(chunk(random.Random(7).randbytes(2 * WINDOW)))
    for _ in range(16):
        await play.turn()
    assert not link.transport.is_reading()
    sent += sum(len(one.payload) for one in data_of(play))
    assert sent < WINDOW + 300 * 1024, "what cannot be compressed grows by a few bytes, and one read overdraws"
    play.credits(sid, WINDOW)
    assert link.transport.is_reading()
    play.cancels(sid)
    assert link.is_closed


NOISE = random.Random(8).randbytes(BULK + 700_000)


async def test_reads_of_a_long_download_are_gathered_and_their_order_is_kept(play: Play) -> None:
    sid, link = await asked(play)
    link.says(CHUNKED)
    play.hears_response(sid)
    out = b""
    for at in range(0, len(NOISE), 65536):
        link.says(chunk(NOISE[at : at + 65536]))
        await play.turn()
        out += b"".join(piece.payload for piece in data_of(play))
        play.credits(sid, 70_000)
    link.says(b"0\r\n\r\n")
    await play.turn()
    pieces = data_of(play)
    assert [piece.ended for piece in pieces][-1]
    assert gzip.decompress(out + b"".join(piece.payload for piece in pieces)) == NOISE


@pytest.mark.parametrize("is_http2", [False, True])
async def test_a_body_that_ends_before_its_turn_comes_goes_on_without_its_connection(play: Play, is_http2: bool) -> None:
    """Which serves the next request meanwhile."""
    body = NOISE[:200_000]
    serve(play, alpn="h2" if is_http2 else "h1")
    sid = play.asks(headers=ASKED, plan=RESPONSE_CODING)
    await play.turn()
    link = play.backend().link
    if isinstance(link, Http2Link):
        [stream] = link.listens()
        link.starts(stream, 200, (b"content-type", b"text/html"))
        at = 0
        while at < len(body):
            at += link.sends(stream, body[at:], ended=True)
            link.listens()
    else:
        link.says(HTML + b"Content-Length: 200000\r\n\r\n" + body)
    head, *pieces = [envelope for _, envelope in play.hears()]
    assert isinstance(head, Response) and not head.ended and head.length == UNKNOWN
    assert sid in play.actor._exchanges, "there is more to do"
    other = play.asks()
    if isinstance(link, Http2Link):
        await play.turn()
        link.answers(link.listens()[0])
    else:
        assert link.transport.is_reading()
        link.says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    await play.turn()
    heard = [*pieces, *(envelope for _, envelope in play.hears())]
    assert [envelope.status for envelope in heard if isinstance(envelope, Response) and envelope.sid == other] == [200]
    mine = [envelope for envelope in heard if isinstance(envelope, Data)]
    assert gzip.decompress(head.body + b"".join(piece.payload for piece in mine)) == body
    assert mine[-1].ended and mine[-1].context is not None
    assert play.backend().asked == 1


async def test_a_connection_that_was_stopped_for_a_body_is_not_stopped_for_the_next_request(play: Play) -> None:
    sid, link = await asked(play)
    link.says(CHUNKED + chunk(NOISE[:30_000]) + b"0\r\nX-Sum: 7\r\n\r\n")
    assert link.transport.is_reading()
    await play.turn()
    head, *pieces = [envelope for _, envelope in play.hears()]
    assert isinstance(head, Response) and head.sid == sid and pieces[-1].trailers == b"x-sum: 7\r\n"
    assert gzip.decompress(b"".join(piece.payload for piece in pieces)) == NOISE[:30_000]
    other = play.asks(headers=ASKED, plan=RESPONSE_CODING)
    link.says(of_length(len(TEXT)) + TEXT)
    assert gzip.decompress(play.hears_response(other).body) == TEXT


async def test_credit_does_not_let_in_more_than_was_dealt_with(play: Play) -> None:
    sid, link = await asked(play)
    link.says(CHUNKED + chunk(NOISE[:200_000]))
    play.credits(sid, WINDOW)
    assert not link.transport.is_reading()
    await play.turn()
    assert link.transport.is_reading()
    play.cancels(sid)


async def test_what_has_come_before_a_body_breaks_off_is_not_lost(play: Play) -> None:
    sid, link = await asked(play)
    link.says(HTML + b"Content-Length: 300000\r\n\r\n" + NOISE[:200_000])
    play.actor._exchanges[sid].answer_cut(Outcome.CUT, "closed")
    head, *pieces = [envelope for _, envelope in play.hears()]
    assert isinstance(head, Response) and pieces[-1].error == "bad_gateway" and sid == head.sid
    assert zlib.decompressobj(31).decompress(head.body + b"".join(piece.payload for piece in pieces)) == NOISE[:200_000]


async def test_nobody_works_for_a_client_that_has_left(play: Play) -> None:
    sid, link = await asked(play)
    link.says(CHUNKED + chunk(NOISE[:200_000]))
    play.hears_response(sid)
    play.cancels(sid)
    await play.turn()
    assert play.hears_nothing()


async def test_long_bodies_get_a_bounded_time_of_each_turn_of_the_loop_and_take_turns_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("pingap.stages.lane.monotonic", clock)
    done: list[str] = []

    class Piecework:
        def __init__(self, name: str, pieces: int) -> None:
            self.name, self.left = name, pieces

        def work(self) -> bool:
            done.append(self.name)
            self.left -= 1
            clock.now += TURN / 2
            return self.left > 0

    turns = Turns(asyncio.get_running_loop())
    for name, pieces in (("a", 3), ("b", 1), ("c", 2)):
        turns.put(Piecework(name, pieces))
    seen = []
    while len(done) < 6:
        await asyncio.sleep(0)
        seen.append("".join(done))
    assert seen == ["ab", "abca", "abcaca"]
    turns.put(Piecework("d", 1))
    await asyncio.sleep(0)
    assert done[-1] == "d"


async def test_a_short_answer_that_breaks_off_gets_an_error_page(play: Play) -> None:
    sid, link = await asked(play)
    link.says(of_length(100) + b"half")
    link.closes()
    answered = play.hears_response(sid)
    assert (answered.status, answered.ended) == (502, True)
    assert b"content-encoding" not in answered.headers
    await play.passes(INLINE_PAUSE)
    assert play.hears_nothing()


async def test_a_stream_that_breaks_off_does_not_look_complete(play: Play) -> None:
    sid, link = await asked(play)
    link.says(CHUNKED + chunk(TEXT))
    play.hears_response(sid)
    link.closes()
    [cut] = data_of(play)
    assert (cut.payload, cut.ended, cut.error) == (b"", False, "bad_gateway")


async def test_a_short_answer_that_falls_silent_begins_and_is_cut_off(play: Play) -> None:
    serve(play, read_timeout=5.0)
    sid = play.asks(headers=ASKED, plan=RESPONSE_CODING)
    await play.turn()
    play.backend().link.says(of_length(100) + b"half")
    await play.passes(6)
    head, cut = [envelope for _, envelope in play.hears()]
    assert isinstance(head, Response) and zlib.decompressobj(31).decompress(head.body) == b"half"
    assert isinstance(cut, Data) and cut.error == "gateway_timeout" and cut.sid == sid


async def test_recall_finds_an_answer_that_is_being_waited_for(play: Play) -> None:
    sid, link = await asked(play)
    link.says(of_length(2))
    assert play.recalls(sid) == WILL_ANSWER
    link.says(b"ok")
    assert play.hears_response(sid).body == b"ok", "too short to be coded"


async def test_an_error_page_of_ours_is_not_coded(play: Play) -> None:
    serve(play)
    play.backend().refuses = ConnectionRefusedError("no")
    sid = play.asks(headers=ASKED, plan=RESPONSE_CODING)
    await play.turn()
    answered = play.hears_response(sid)
    assert answered.status == 502 and b"content-encoding" not in answered.headers


async def test_who_has_no_such_plan_gets_the_answer_as_it_is(play: Play) -> None:
    sid, link = await asked(play, plan=0)
    link.says(of_length(len(TEXT)) + TEXT)
    assert play.hears_response(sid).body == TEXT


async def test_a_changed_section_holds_for_new_requests(play: Play) -> None:
    serve(play)
    first = play.asks(headers=ASKED, plan=RESPONSE_CODING)
    serve(play, {"category": "compression", "gzip_level": 6, "min_length": 5000})
    second = play.asks(headers=ASKED, plan=RESPONSE_CODING)
    await play.turn()
    for link in play.backend().open:
        link.says(of_length(len(TEXT)) + TEXT)
    assert {envelope.sid: b"content-encoding: gzip" in envelope.headers for _, envelope in play.hears()} == {first: True, second: False}


async def test_grpc_web_is_coded_when_its_type_is_asked_for(play: Play) -> None:
    """After its translation, and the frame that says how it was cut off too."""
    message = b"\0\0\0\0\2hi"
    serve(play, {"category": "compression", "gzip_level": 6, "content_types": ["application/grpc-web-text"]})
    headers = ASKED + b"content-type: application/grpc-web-text\r\n"
    sid = play.asks(b"POST", headers=headers, body=b64encode(message), plan=RESPONSE_CODING)
    await play.turn()
    link = play.backend().link
    link.says(b"HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(message))
    answered = play.hears_response(sid)
    reader = zlib.decompressobj(31)
    assert reader.decompress(answered.body) == b64encode(message)
    link.closes()
    [cut] = data_of(play)
    assert cut.error and reader.decompress(cut.payload).startswith(b64encode(b"\x80")[:1]) and reader.eof


async def test_http2_gives_head_and_body_in_frames_of_their_own(play: Play) -> None:
    sid, link, stream = await asked_over_http2(play)
    assert play.hears_nothing()
    link.sends(stream, TEXT[:500])
    assert play.hears_nothing()
    link.sends(stream, TEXT[500:], ended=True)
    answered = play.hears_response(sid)
    assert (answered.ended, gzip.decompress(answered.body)) == (True, TEXT)


async def test_a_short_answer_may_have_trailers(play: Play) -> None:
    sid, link, stream = await asked_over_http2(play)
    link.sends(stream, TEXT)
    link.engine.send_trailers(stream, ((b"x-sum", b"7"),))
    link.speaks()
    (_, head), (_, last) = play.hears()
    assert isinstance(head, Response) and isinstance(last, Data) and head.sid == last.sid == sid
    assert not head.ended and (last.ended, last.trailers) == (True, b"x-sum: 7\r\n")
    assert gzip.decompress(head.body + last.payload) == TEXT


async def test_a_fault_of_ours_within_a_body_cuts_it_off(play: Play) -> None:
    sid, link = await asked(play)
    link.says(CHUNKED + chunk(NOISE[:100_000]))
    play.hears_response(sid)
    download: Any = play.actor._exchanges[sid]._download
    download._coded._encoder._coder = "no coder"
    await play.turn()
    [cut] = data_of(play)
    assert (cut.error, cut.ended) == ("internal", False)
    assert play.context.logged.pop()[0] == "error"
