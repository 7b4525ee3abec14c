"""The three body decoders, cut in any way; h11's chunked reader as the oracle."""

from __future__ import annotations

from itertools import pairwise

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tests.kit.by_the_book  # noqa: F401 - mends h11
from pingap.stages.http1.body import MAX_LINE, MAX_OVERHEAD, BodyDecoder, ChunkedBody, CloseBody, LengthBody
from pingap.stages.http1.render import LAST_CHUNK, chunk
from pingap.stages.http1.rules import EVERY_NAME, ProtocolError


def cut(wire: bytes, cuts: list[int]) -> list[bytes]:
    """`wire` in portions that end at these places."""
    edges = sorted({at % (len(wire) + 1) for at in cuts} | {0, len(wire)})
    return [wire[a:b] for a, b in pairwise(edges)]


def read(body: BodyDecoder, portions: list[bytes]) -> tuple[bytes, bytes]:
    """(payload, what follows it): the loop that accept and upstream run."""
    payload, rest = [], b""
    for portion in portions:
        if body.done:
            rest += portion
        else:
            payload.append(body.feed(portion))
            rest = body.rest
    return b"".join(payload), rest


cuts = st.lists(st.integers(0, 10_000), max_size=8)


@given(st.binary(max_size=200), st.binary(max_size=50), cuts)
def test_a_body_of_a_given_length_ends_there_however_it_is_cut(payload: bytes, rest: bytes, places: list[int]) -> None:
    body = LengthBody(len(payload))
    assert read(body, cut(payload + rest, places)) == (payload, rest)
    assert body.done


@given(st.binary(min_size=1, max_size=100), cuts)
def test_a_body_of_a_given_length_is_not_done_before_its_last_byte(payload: bytes, places: list[int]) -> None:
    body = LengthBody(len(payload))
    assert read(body, cut(payload[:-1], places)) == (payload[:-1], b"")
    assert not body.done


def test_a_body_of_no_bytes_is_done_at_once() -> None:
    body = LengthBody(0)
    assert body.done
    assert body.rest == b""


@given(st.binary(max_size=200), cuts)
def test_a_body_until_close_is_never_done_by_itself(payload: bytes, places: list[int]) -> None:
    body = CloseBody()
    assert read(body, cut(payload, places)) == (payload, b"")
    assert not body.done


extensions = st.text('abc="; \t~', max_size=12).map(lambda text: f";{text}".encode() if text else b"")
trailers = st.lists(st.tuples(st.sampled_from([b"X-A", b"etag"]), st.binary(max_size=10).map(bytes.hex)), max_size=3)


@st.composite
def chunked_bodies(draw: st.DrawFn) -> tuple[bytes, bytes, bytes]:
    """(wire, payload, trailers in normal form) of a valid chunked body."""
    payloads = draw(st.lists(st.binary(min_size=1, max_size=40), max_size=6))
    wire = b""
    for payload in payloads:
        digits = b"%x" % len(payload)
        if draw(st.booleans()):
            digits = b"0" * draw(st.integers(0, 3)) + digits.upper()
        wire += digits + draw(extensions) + b"\r\n" + payload + b"\r\n"
    wire += b"0" * draw(st.integers(1, 3)) + draw(extensions) + b"\r\n"
    lines = draw(trailers)
    wire += b"".join(b"%b: %b\r\n" % (name, value.encode()) for name, value in lines) + b"\r\n"
    return wire, b"".join(payloads), b"".join(b"%b: %b\r\n" % (name.lower(), value.encode()) for name, value in lines)


@given(chunked_bodies(), st.binary(max_size=30), cuts)
def test_a_chunked_body_gives_its_payload_its_trailers_and_what_follows_however_it_is_cut(
    body: tuple[bytes, bytes, bytes], rest: bytes, places: list[int]
) -> None:
    wire, payload, lines = body
    decoder = ChunkedBody()
    assert read(decoder, cut(wire + rest, places)) == (payload, rest)
    assert decoder.done
    assert decoder.trailers == lines


@given(chunked_bodies(), st.sampled_from([b" ", b"   ", b"\t", b" \t "]), cuts)
def test_only_a_lenient_decoder_takes_white_space_behind_a_size(body: tuple[bytes, bytes, bytes], blank: bytes, places: list[int]) -> None:
    wire, payload, _ = body
    digits = len(wire) - len(wire.lstrip(b"0123456789abcdefABCDEF"))
    padded = cut(wire[:digits] + blank + wire[digits:], places)
    assert read(ChunkedBody(is_lenient=True), cut(wire, places)) == (payload, b"")
    assert read(ChunkedBody(is_lenient=True), padded) == (payload, b"")
    if wire[digits : digits + 1] == b";":  # there it has to be taken from anybody
        assert read(ChunkedBody(), padded) == (payload, b"")
        return
    with pytest.raises(ProtocolError):
        read(ChunkedBody(), padded)


@given(st.lists(st.binary(max_size=50), max_size=6), cuts)
def test_what_render_chunks_the_decoder_reads(payloads: list[bytes], places: list[int]) -> None:
    wire = b"".join(map(chunk, payloads)) + LAST_CHUNK
    assert read(ChunkedBody(), cut(wire, places)) == (b"".join(payloads), b"")


def h11_reads(portions: list[bytes]) -> bytes | None:
    """Payload of a complete chunked body as h11 reads it, None when it refuses or waits for more."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    connection.next_event()
    payload = b""
    try:
        for portion in portions:
            connection.receive_data(portion)
            while True:
                event = connection.next_event()
                if isinstance(event, h11.EndOfMessage):
                    return payload
                if not isinstance(event, h11.Data):
                    break
                payload += bytes(event.data)
    except h11.RemoteProtocolError:
        return None
    return None


def we_read(portions: list[bytes]) -> bytes | None:
    decoder = ChunkedBody()
    try:
        payload, _ = read(decoder, portions)
    except ProtocolError:
        return None
    return payload if decoder.done else None


pieces = st.sampled_from([
    b"0", b"1", b"5", b"a", b"F", b"\r\n", b"\r", b"\n", b"0\r\n", b"0\r\n\r\n", b"1\r\nx\r\n", b"5\r\nhello\r\n",
    b";", b";a=b", b" ", b"\t",
    b"+", b"-",
    b"0x", b"x", b"hello", b"\0", b"X-A: 1\r\n", b":", b"\x0b", b"\xff",
])  # fmt: skip


@given(st.lists(pieces, max_size=10).map(b"".join), cuts)
@settings(max_examples=400)
def test_whatever_we_accept_h11_accepts_with_the_same_payload(wire: bytes, places: list[int]) -> None:
    ours = we_read(cut(wire, places))
    if ours is not None:
        assert h11_reads([wire]) == ours


@given(
    chunked_bodies(),
    st.integers(0, 10_000),
    st.sampled_from([b"\r", b"\n", b"\0", b" ", b":", b"0", b"\r\n", b"", b"x", b";"]),
    st.booleans(),
    cuts,
)
@settings(max_examples=400)
def test_a_chunked_body_with_one_change_is_never_read_otherwise_than_h11_reads_it(
    body: tuple[bytes, bytes, bytes], at: int, inserted: bytes, replace: bool, places: list[int]
) -> None:
    wire = body[0]
    at %= len(wire)
    wire = wire[:at] + inserted + wire[at + replace :]
    ours = we_read(cut(wire, places))
    assert ours == we_read([wire])
    if ours is not None:
        assert h11_reads([wire]) == ours


def test_where_h11_is_more_lenient_than_we_are() -> None:
    """Not one of these makes a body of another content: we refuse, it forgives."""
    forgiven_by_h11 = [
        b"5 \r\nhello\r\n0\r\n\r\n",  # blank after the size
        b"5;a\x01\r\nhello\r\n0\r\n\r\n",  # control character in an extension
        b"0000000000000005\r\nhello\r\n0\r\n\r\n",  # more than 15 digits
    ]
    for wire in forgiven_by_h11:
        assert h11_reads([wire]) == b"hello"
        assert we_read([wire]) is None


@given(cuts)
def test_trailers_of_the_names_that_are_not_wanted_are_dropped(places: list[int]) -> None:
    wire = b"0\r\nX-A: 1\r\nx-ab: 2\r\nx-a: 3\r\nX-B: 4\r\nDate: x\r\n\r\n"
    for unwanted, left in (((), b"x-a: 1\r\nx-ab: 2\r\nx-a: 3\r\nx-b: 4\r\n"), ({b"x-a"}, b"x-ab: 2\r\nx-b: 4\r\n"), (EVERY_NAME, b"")):
        decoder = ChunkedBody(unwanted)
        assert read(decoder, cut(wire, places)) == (b"", b"")
        assert decoder.trailers == left


def test_extensions_and_trailers_cannot_be_sent_for_ever() -> None:
    decoder = ChunkedBody()
    one = b"1;" + b"a" * 1000 + b"\r\nx\r\n"
    with pytest.raises(ProtocolError):
        for _ in range(MAX_OVERHEAD // 1000 + 1):
            decoder.feed(one)
    decoder = ChunkedBody()
    decoder.feed(b"0\r\n")
    with pytest.raises(ProtocolError):
        for _ in range(MAX_OVERHEAD // 1000 + 1):
            decoder.feed(b"x: " + b"a" * 1000 + b"\r\n")


@pytest.mark.parametrize("start", [b"5;", b"0\r\nx: ", b""], ids=["extension", "trailer", "size"])
def test_a_line_that_never_ends_is_refused_once_it_is_too_long(start: bytes) -> None:
    decoder = ChunkedBody()
    with pytest.raises(ProtocolError):
        decoder.feed(start)
        for _ in range(MAX_LINE + 1):
            decoder.feed(b"0")
    assert len(decoder._buffer) <= MAX_LINE + 1


def test_a_large_chunk_is_handed_on_without_being_collected() -> None:
    decoder = ChunkedBody()
    assert decoder.feed(b"100000\r\n" + b"a" * 1000) == b"a" * 1000
    assert decoder._buffer == b""
    portion = b"b" * 65536
    assert decoder.feed(portion) == portion
