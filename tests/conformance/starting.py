"""RFC 9113 section 3: how a connection begins, and section 4: frames."""

from __future__ import annotations

from pingap.stages.http2.engine import COMPRESSION_ERROR, FRAME_SIZE_ERROR, PREFACE, PROTOCOL_ERROR
from tests.conformance.peer import Peer
from tests.conformance.steps import (
    GET,
    POST,
    Case,
    answers,
    breaks,
    case,
    closes,
    dies,
    fields,
    get,
    lives,
    pieces,
    post,
    priority,
    settings,
)
from tests.http2.wire import ACK, CONTINUATION, DATA, END, END_HEADERS, HEADERS, PING, SETTINGS, WINDOW, block, data, frame, u32

UNKNOWN = 0x16
ZEROS = bytes(8)


def begins_with_settings(peer: Peer) -> None:
    first = peer.next()
    assert first.kind == SETTINGS, peer.history()
    assert first.flags == 0, peer.history()
    assert first.stream == 0, peer.history()


def bytewise(peer: Peer) -> None:
    raw = PREFACE + frame(SETTINGS) + get(1)
    for at in range(len(raw)):
        peer.send(raw[at : at + 1])
    peer.answer(1)


CASES: list[Case] = [
    # -- 3.4 ------------------------------------------------------------------
    case("3.4 a client's preface is accepted", PREFACE + settings((4, 65535)), begins_with_settings, h2spec="generic/1/1", raw=True),
    case(
        "3.4 the first frame that a server sends is SETTINGS",
        PREFACE + settings((4, 65535)),
        begins_with_settings,
        h2spec="http2/3.5/1",
        raw=True,
    ),
    case("3.4 what is no preface ends the connection", b"INVALID CONNECTION PREFACE\r\n\r\n", closes, h2spec="http2/3.5/2", raw=True),
    case("3.4 a preface that goes wrong in its second half ends the connection", PREFACE[:18] + b"XX\r\n\r\n", closes, raw=True),
    case("3.4 a preface may come byte by byte", bytewise, raw=True),
    case("3.4 a client need not wait for the server's SETTINGS", PREFACE + frame(SETTINGS) + get(1), answers(1), raw=True),
    case("3.4 a client that does not begin with SETTINGS is refused", PREFACE + frame(PING, 0, 0, ZEROS), dies(PROTOCOL_ERROR), raw=True),
    case("3.4 an acknowledgement is no beginning", PREFACE + frame(SETTINGS, ACK), dies(PROTOCOL_ERROR), raw=True),
    case("3.4 requests before SETTINGS are refused", PREFACE + get(1), dies(PROTOCOL_ERROR), raw=True),
    # -- 4.1 ------------------------------------------------------------------
    case("4.1 a frame of an unknown type is ignored", frame(UNKNOWN, 0, 0, ZEROS), lives, h2spec="http2/4.1/1"),
    case("4.1 flags without a meaning are ignored: PING", frame(PING, 0x16, 0, ZEROS), lives, h2spec="http2/4.1/2"),
    case("4.1 flags without a meaning are ignored: HEADERS", fields(1, GET, END | 0xD2 & ~0x20), answers(1)),
    case("4.1 flags without a meaning are ignored: DATA", post(1) + frame(DATA, END | 0xF6, 1, b"abc"), answers(1)),
    case("4.1 flags without a meaning are ignored: WINDOW_UPDATE", frame(WINDOW, 0xFF, 0, u32(1)), lives),
    case("4.1 the reserved bit is ignored: PING", frame(PING, 0x16, 1 << 31, ZEROS), lives, h2spec="http2/4.1/3"),
    case("4.1 the reserved bit is ignored: HEADERS", frame(HEADERS, END | END_HEADERS, 1 << 31 | 1, block(GET)), answers(1)),
    case(
        "4.1 the reserved bit is ignored: an increment",
        frame(SETTINGS, 0, 0, b"\0\4" + u32(0)) + get(1) + frame(WINDOW, 0, 1, u32(1 << 31 | 1000)),
        answers(1),
    ),
    # -- 4.2 ------------------------------------------------------------------
    case("4.2 a DATA frame of 2^14 bytes is accepted", post(1) + data(1, b"x" * 16384, True), answers(1), h2spec="http2/4.2/1"),
    case(
        "4.2 a DATA frame above SETTINGS_MAX_FRAME_SIZE is FRAME_SIZE_ERROR",
        post(1) + data(1, b"x" * 16385, True),
        breaks(1, FRAME_SIZE_ERROR),
        h2spec="http2/4.2/2",
    ),
    case(
        "4.2 a HEADERS frame above SETTINGS_MAX_FRAME_SIZE is a connection error FRAME_SIZE_ERROR",
        frame(HEADERS, END | END_HEADERS, 1, block((*GET, *((b"x-%d" % n, b"x" * 4000) for n in range(5))))),
        dies(FRAME_SIZE_ERROR),
        h2spec="http2/4.2/3",
    ),
    case("4.2 so is SETTINGS above it", frame(SETTINGS, 0, 0, (b"\0\4" + u32(65535)) * 2731), dies(FRAME_SIZE_ERROR)),
    case("4.2 so is CONTINUATION above it", pieces(1, b"", b"x" * 16385), dies(FRAME_SIZE_ERROR)),
    case("4.2 a frame too large is refused by its header alone", post(1) + b"\xff\xff\xff\0\0\0\0\0\1", breaks(1, FRAME_SIZE_ERROR)),
    case("4.2 an empty DATA frame ends a request", post(1) + data(1, b"", True), answers(1)),
    # -- 4.3 ------------------------------------------------------------------
    case(
        "4.3 a header block that cannot be decoded is a connection error COMPRESSION_ERROR",
        frame(HEADERS, END | END_HEADERS, 1, b"\x40"),
        dies(COMPRESSION_ERROR),
        h2spec="http2/4.3/1",
    ),
    case(
        "4.3 PRIORITY inside a header block is a connection error PROTOCOL_ERROR",
        frame(HEADERS, 0, 1, block(GET)) + priority(1) + frame(CONTINUATION, END_HEADERS, 1, block(((b"x", b"y"),))),
        dies(PROTOCOL_ERROR),
        h2spec="http2/4.3/2",
    ),
    case(
        "4.3 HEADERS of another stream inside a header block is a connection error PROTOCOL_ERROR",
        frame(HEADERS, 0, 1, block(GET)) + get(3) + frame(CONTINUATION, END_HEADERS, 1, block(((b"x", b"y"),))),
        dies(PROTOCOL_ERROR),
        h2spec="http2/4.3/3",
    ),
    case("4.3 so is PING inside a header block", frame(HEADERS, 0, 1, block(GET)) + frame(PING, 0, 0, ZEROS), dies(PROTOCOL_ERROR)),
    case(
        "4.3 so is CONTINUATION of another stream inside a header block",
        frame(HEADERS, 0, 1, block(GET)) + frame(CONTINUATION, END_HEADERS, 3),
        dies(PROTOCOL_ERROR),
    ),
    case(
        "4.3 a block that ends inside a field is a connection error COMPRESSION_ERROR",
        frame(HEADERS, END | END_HEADERS, 1, block(GET)[:-3]),
        dies(COMPRESSION_ERROR),
    ),
    case(
        "4.3 the block of a malformed request is decoded all the same",
        frame(HEADERS, END | END_HEADERS, 1, block(GET) + b"\x40\1X\1y")
        + frame(HEADERS, END | END_HEADERS, 3, block(GET) + b"\x40\1a\1b")
        + frame(HEADERS, END | END_HEADERS, 5, block(GET) + b"\xbe"),
        answers(5),
    ),
    case(
        "4.3 a block may be split anywhere",
        pieces(1, *(block(POST)[at : at + 9] for at in range(0, len(block(POST)), 9)), flags=END),
        answers(1),
    ),
]
