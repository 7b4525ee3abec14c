"""Frames that cost the server more than their sender (RFC 9113 section 10.5): the connection ends, and only that one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pingap.stages.http2.engine import (
    COMPRESSION_ERROR,
    ENHANCE_YOUR_CALM,
    FRAME_SIZE_ERROR,
    PREFACE,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    STREAM_CLOSED,
)
from tests.conformance.conftest import Server
from tests.conformance.peer import Peer
from tests.conformance.steps import GET, dies, fields, get, post, priority, request, rst, window
from tests.http2.wire import CONTINUATION, DATA, END, END_HEADERS, HEADERS, PADDED, PING, PRIORITY, SETTINGS, block, data, frame, u32

pytestmark = pytest.mark.alone


def over(streams: int, one: Callable[[int], bytes]) -> bytes:
    """The same on so many streams, one after the other."""
    return b"".join(one(1 + 2 * number) for number in range(streams))


UPPER = (*GET, (b"X", b"y"))
ENTRY = b"\x40\x01x" + b"\x7f\xa1\x1e" + b"y" * 4000
"""A field of 4000 bytes for the dynamic table: one byte names it from then on."""

FLOODS: dict[str, bytes] = {
    "rapid reset (CVE-2023-44487)": over(1000, lambda stream: get(stream) + rst(stream)),
    "rapid reset of requests with bodies": over(1000, lambda stream: post(stream) + rst(stream)),
    "PING (CVE-2019-9512)": frame(PING, 0, 0, bytes(8)) * 500,
    "SETTINGS (CVE-2019-9515)": frame(SETTINGS, 0, 0, b"\0\4" + u32(65535)) * 300,
    "empty SETTINGS": frame(SETTINGS) * 300,
    "empty DATA (CVE-2019-9518)": post(1) + data(1, b"") * 500,
    "DATA of nothing but a pad length": post(1) + frame(DATA, PADDED, 1, b"\0") * 500,
    "CONTINUATION (CVE-2024-27316)": frame(HEADERS, END, 1, block(GET)) + frame(CONTINUATION, 0, 1, block(((b"x", b"y"),))) * 500,
    "empty CONTINUATION": frame(HEADERS, END, 1, block(GET)) + frame(CONTINUATION, 0, 1) * 500,
    "CONTINUATION without an end": frame(HEADERS, 0, 1, b"\x00\x01x\x7f\xff\xff\x7f" + b"y" * 8000)
    + frame(CONTINUATION, 0, 1, b"y" * 16384) * 30,
    "WINDOW_UPDATE": post(1) + window(1, 1) * 4000,
    "WINDOW_UPDATE of the connection": window(0, 1) * 4000,
    "PRIORITY": b"".join(priority(1 + 2 * (number % 500)) for number in range(3000)),
    "zero-length fields (CVE-2019-9516)": over(300, lambda stream: frame(HEADERS, END | END_HEADERS, stream, block(GET) + b"\0\0\0" * 50)),
    "unknown frames": frame(0x77, 0, 0, b"x") * 500,
    "GOAWAY": frame(7, 0, 0, bytes(8)) * 500,
    "made you reset (CVE-2025-8671): increments of 0": over(300, lambda stream: post(stream) + window(stream, 0)),
    "made you reset: DATA after the end": over(300, lambda stream: get(stream) + data(stream, b"x")),
    "made you reset: HEADERS after the end": over(300, lambda stream: get(stream) + get(stream)),
    "made you reset: malformed requests": over(300, lambda stream: fields(stream, UPPER, END)),
    "made you reset: bodies unlike their length": over(300, lambda stream: post(stream, (b"content-length", b"1")) + data(stream, b"xyz")),
    "made you reset: malformed trailers": over(300, lambda stream: post(stream) + fields(stream, ((b":path", b"/"),), END)),
    "made you reset: PRIORITY of a wrong length": over(300, lambda stream: post(stream) + frame(PRIORITY, 0, stream, bytes(4))),
    "a header list that unpacks to megabytes": frame(HEADERS, END | END_HEADERS, 1, block(GET) + ENTRY)
    + frame(HEADERS, END | END_HEADERS, 3, block(GET) + b"\xbe" * 4000),
    "streams beyond the limit": over(1000, post),
}

ERRORS = (ENHANCE_YOUR_CALM, PROTOCOL_ERROR, STREAM_CLOSED, FRAME_SIZE_ERROR, COMPRESSION_ERROR)
"""What is an error in itself may end the connection before anybody has counted it."""


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_ends_its_connection_and_no_other(server: Server, name: str) -> None:
    with server.peer() as bystander, server.peer() as flooder:
        flooder.send(FLOODS[name])
        bystander.send(get(1))
        assert bystander.answer(1).status == 200
        is_error = "made you reset" in name or name.startswith(("zero-length", "CONTINUATION without", "streams beyond", "a header list"))
        dies(*ERRORS if is_error else (ENHANCE_YOUR_CALM,))(flooder)
        bystander.send(get(3))
        assert bystander.answer(3).status == 200
        bystander.ping()


def test_what_ordinary_clients_do_is_no_flood(server: Server) -> None:
    """A browser cancels many requests, and many small windows are opened for an answer in small frames."""
    with server.peer() as peer:
        for stream in range(1, 401, 2):
            peer.send(get(stream) + (rst(stream) if stream % 4 == 1 else priority(stream)))
        for stream in range(3, 401, 4):
            assert peer.answer(stream).status == 200
            peer.send(window(0, 6) + window(stream, 6))
        for _ in range(20):
            peer.ping()
        assert not peer.goaways()


def test_resets_beside_as_many_answers_are_no_flood(server: Server) -> None:
    """What a proxy or a gRPC channel sends that carries the requests of many: some of them leave."""
    with server.peer() as peer:
        for stream in range(1, 2401, 4):
            peer.send(post(stream) + rst(stream) + get(stream + 2))
            assert peer.answer(stream + 2).status == 200
        peer.ping()
        assert not peer.goaways()


def test_a_ping_with_each_message_is_no_flood(server: Server) -> None:
    """As grpc-go does, to measure how much the path takes; and there are clients that open both windows for each frame."""
    with server.peer() as peer:
        for stream in range(1, 801, 2):
            peer.send(get(stream))
            got = peer.answer(stream)
            peer.ping()
            peer.send(window(0, len(got.body)))
        assert not peer.goaways()


def test_a_request_that_is_reset_before_its_body_began_reaches_nobody(server: Server) -> None:
    with server.peer() as peer:
        never = fields(1, request(b"POST", b"/never")) + rst(1)
        peer.send(never + fields(3, request(b"POST", b"/never")) + rst(3) + get(5))
        assert peer.answer(5).status == 200
        peer.ping()
    assert not server.origin.seen("/never")


def test_a_list_of_fields_above_the_cap_is_431(server: Server) -> None:
    """What max_header_bytes and max_headers say is said in HTTP; only twice as much breaks the connection."""
    with server.peer() as peer:
        limit = peer.remote[6]
        big = (b"x-big", b"y" * 4000)
        peer.send(whole(1, [big] * (limit // 4000 + 2)))
        assert peer.answer(1).status == 431
        peer.send(whole(3, [(b"x-small", b"y")] * 300))
        assert peer.answer(3).status == 431
        peer.send(get(5))
        assert peer.answer(5).status == 200


def whole(stream: int, more: list[tuple[bytes, bytes]]) -> bytes:
    """A GET whose block needs CONTINUATION."""
    raw = block((*GET, *more))
    parts = [raw[at : at + 16384] for at in range(0, len(raw), 16384)]
    out = frame(HEADERS, END | (END_HEADERS if len(parts) == 1 else 0), stream, parts[0])
    for part in parts[1:]:
        out += frame(CONTINUATION, END_HEADERS if part is parts[-1] else 0, stream, part)
    return out


def test_streams_that_are_refused_can_be_tried_again(server: Server) -> None:
    """Before a client knows the limit, what is beyond it costs a stream and not the connection."""
    with Peer(server.port, raw=True) as peer:
        peer.send(PREFACE + frame(SETTINGS, 0, 0, b"\0\4" + u32(0)) + over(140, get) + frame(SETTINGS, 0, 0, b"\0\4" + u32(65535)))
        streams = range(1, 281, 2)

        def is_over(stream: int) -> bool:
            return stream in peer.answers and (peer.answers[stream].ended or peer.answers[stream].code is not None)

        peer.until(lambda _: all(map(is_over, streams)), "all streams end")
        for stream in streams:
            answer = peer.answers[stream]
            assert answer.status == 200 or answer.code == REFUSED_STREAM, (stream, answer.status, answer.code)
        assert not peer.goaways()
