"""Requests in gRPC-Web on their way through upstream: lengths, credit, retries, and who is not concerned."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest

from pingap.config.model import Location, Server, Snapshot, Upstream
from pingap.config.parts import Backend, Listen
from pingap.stages.messages import UNKNOWN, WINDOW, Data, Response
from tests.upstream.playbook import ACCEPT, Link, Play

TEXT = b"host: example\r\ncontent-type: application/grpc-web-text\r\n"
ASKED = b"POST / HTTP/1.1\r\nhost: example\r\ncontent-type: application/grpc\r\nte: trailers\r\n"
MESSAGE = b"\0\0\0\0\2hi"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n\r\n"


def frame_in_base64(trailers: bytes) -> bytes:
    return b64encode(b"\x80" + len(trailers).to_bytes(4, "big") + trailers)


def serve(
    play: Play, modules: tuple[str, ...] = ("grpc-web",), grpc_web: bool = True, addrs: tuple[str, ...] = ("a",), **location: Any
) -> None:
    """The location `site` translates, for requests that come in by the server `web`."""
    play.generation += 1
    snapshot = Snapshot(
        servers={"web": Server(addr=(Listen("127.0.0.1", 80),), locations=("site",), modules=modules)},
        locations={"site": Location(upstream="api", grpc_web=grpc_web, **location)},
        upstreams={"api": Upstream(addrs=tuple(Backend(name, 1, 1) for name in addrs))},
    )
    play.publishes(play.generation, snapshot)


async def link_of(play: Play, address: str = "a:1") -> Link:
    await play.turn()
    play.backend(address).answers_dials()
    await play.turn()
    return play.backend(address).link


async def test_the_rules_of_the_location_come_after_the_translation(play: Play) -> None:
    """By the client's own Content-Type it is known for gRPC-Web, and what is sent on may be called anything."""
    serve(play, proxy_set_headers=(("content-type", "application/grpc+x"),))
    sid = play.asks(b"POST", headers=TEXT, body=b64encode(MESSAGE))
    link = await link_of(play)
    said = link.hears()
    play.cancels(sid)
    assert b"\r\ncontent-type: application/grpc+x\r\n" in said and said.count(b"content-type") == 1
    assert said.endswith(MESSAGE)


async def test_a_call_in_base64_is_one_in_grpc_at_the_backend(play: Play) -> None:
    serve(play)
    sid = play.posts(b64encode(MESSAGE), headers=TEXT)
    link = await link_of(play)
    assert link.hears() == ASKED + b"content-length: 7\r\nconnection: te\r\n\r\n" + MESSAGE
    link.says(ANSWER + b"7\r\n" + MESSAGE + b"\r\n")
    response = play.hears_response(sid)
    assert (response.headers, response.length) == (b"content-type: application/grpc-web-text\r\n", UNKNOWN)
    assert (response.body, response.ended) == (b64encode(MESSAGE), False)
    link.says(b"0\r\ngrpc-status: 0\r\n\r\n")
    ((to, data),) = play.hears()
    assert (to, data) == (ACCEPT, Data(sid, frame_in_base64(b"grpc-status: 0\r\n"), True, "", False, None, b""))


async def test_a_body_that_streams_has_no_length_any_more_and_credit_is_for_what_the_client_sends(play: Play) -> None:
    serve(play)
    text = b64encode(bytes(WINDOW))
    sid = play.uploads(length=len(text), headers=TEXT)
    link = await link_of(play)
    assert link.hears() == ASKED + b"transfer-encoding: chunked\r\nconnection: te\r\n\r\n"
    assert play.hears_credit(sid) == WINDOW
    play.sends(sid, text[:WINDOW])
    assert play.hears_credit(sid) == WINDOW
    assert len(link.hears()) < WINDOW
    play.sends(sid, text[WINDOW:], ended=True)
    assert link.hears().endswith(b"0\r\n\r\n")
    play.cancels(sid)


async def test_the_window_of_an_answer_is_counted_in_what_the_client_gets(play: Play) -> None:
    serve(play)
    sid = play.posts(b64encode(MESSAGE), headers=TEXT)
    link = await link_of(play)
    link.says(ANSWER + b"%x\r\n\0%b" % (2 * WINDOW + 5, (2 * WINDOW).to_bytes(4, "big")))
    for _ in range(64):
        link.says(bytes(WINDOW // 32))
    heard = play.hears()
    size = sum(len(envelope.body if isinstance(envelope, Response) else envelope.payload) for _, envelope in heard)
    assert WINDOW <= size <= WINDOW + WINDOW // 16
    assert link.unread
    play.cancels(sid)


async def test_less_than_a_character_is_not_sent_on(play: Play) -> None:
    serve(play)
    sid = play.posts(b64encode(MESSAGE), headers=TEXT)
    link = await link_of(play)
    link.says(ANSWER)
    assert play.hears_response(sid).body == b""
    link.says(b"2\r\n\0\0\r\n")
    assert play.hears_nothing()
    link.says(b"5\r\n\0\0\2hi\r\n")
    assert play.hears_data(sid) == [(b64encode(MESSAGE), False, "")]
    play.cancels(sid)


async def test_what_is_no_base64_is_refused_before_a_backend_is_asked(play: Play) -> None:
    serve(play)
    sid = play.posts(b"not base64", headers=TEXT)
    response = play.hears_response(sid)
    assert response.status == 400 and response.report is not None and response.report.error == "bad_request"
    assert not play.backend().asked


async def test_what_is_no_base64_in_a_stream_ends_the_request(play: Play) -> None:
    serve(play)
    sid = play.uploads(headers=TEXT)
    link = await link_of(play)
    play.hears()
    play.sends(sid, b"AAAA")
    play.sends(sid, b"****")
    assert play.hears_response(sid).status == 400
    assert link.is_closed


async def test_a_second_attempt_is_asked_the_same(play: Play) -> None:
    serve(play, addrs=("a", "b"))
    backends = [play.backend("a:1"), play.backend("b:1")]
    for backend in backends:
        backend.hangs = True
    sid = play.posts(b64encode(MESSAGE), headers=TEXT)
    await play.turn()
    first, second = sorted(backends, key=lambda backend: -backend.asked)
    first.refuses = ConnectionRefusedError()
    for backend in (first, second):
        backend.answers_dials()
        await play.turn()
    heard = second.link.hears()
    assert heard.startswith(ASKED) and heard.endswith(MESSAGE)
    play.cancels(sid)


JSON = b"host: example\r\ncontent-type: application/json\r\n"


@pytest.mark.parametrize(
    ("modules", "grpc_web", "headers"), [((), True, TEXT), (("grpc-web",), False, TEXT), (("grpc-web",), True, JSON)], ids=str
)
async def test_others_are_not_concerned(play: Play, modules: tuple[str, ...], grpc_web: bool, headers: bytes) -> None:
    """Servers without the module, locations without the key, and requests that are not gRPC-Web."""
    serve(play, modules, grpc_web)
    sid = play.posts(b"AAAA", headers=headers)
    link = await link_of(play)
    assert link.hears() == b"POST / HTTP/1.1\r\n" + headers + b"content-length: 4\r\n\r\nAAAA"
    link.says(b"HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nContent-Length: 2\r\n\r\nok")
    response = play.hears_response(sid)
    assert (response.headers, response.body) == (b"content-type: application/grpc\r\n", b"ok")


@pytest.mark.parametrize("sends", [b"", b"9\r\n\0\0\0\0\4half\r\n", b"5\r\n\0\0\0\0\4\r\n"], ids=["between", "after another", "within"])
async def test_an_answer_that_breaks_off_ends_with_a_status_unless_it_does_so_within_a_message(play: Play, sends: bytes) -> None:
    serve(play)
    sid = play.posts(b64encode(MESSAGE), headers=TEXT)
    link = await link_of(play)
    link.says(ANSWER + b"7\r\n" + MESSAGE + b"\r\n" + sends)
    play.hears_response(sid)
    link.resets()
    await play.turn()
    *_, (to, data) = play.hears()
    assert (to, data.ended, data.error) == (ACCEPT, False, "bad_gateway")
    status = b"grpc-status: 14\r\ngrpc-message: The answer was cut off. The backend gave no valid answer.\r\n"
    assert data.payload == (b"" if sends.endswith(b"\4\r\n") else frame_in_base64(status))
