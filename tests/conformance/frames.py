"""RFC 9113 section 6: each type of frame; section 7: error codes."""

from __future__ import annotations

from pingap.stages.http2.engine import (
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    PROTOCOL_ERROR,
    STREAM_CLOSED,
)
from tests.conformance.peer import Peer
from tests.conformance.steps import (
    GET,
    POST,
    Case,
    acknowledges,
    answers,
    breaks,
    case,
    dies,
    fields,
    get,
    goaway,
    holds_back,
    lives,
    lives_or_ends,
    only_breaks,
    pieces,
    post,
    priority,
    rst,
    sends,
    sends_in_all,
    settings,
    window,
)
from tests.http2.wire import (
    ACK,
    CONTINUATION,
    DATA,
    END,
    END_HEADERS,
    HAS_PRIORITY,
    HEADERS,
    PADDED,
    PING,
    PRIORITY,
    PUSH,
    RST,
    SETTINGS,
    WINDOW,
    block,
    data,
    frame,
    u32,
)

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_STREAMS, INITIAL_WINDOW, MAX_FRAME, MAX_LIST = range(1, 7)
LARGEST = 2**31 - 1
MORE = block(((b"x-more", b"1"),))
BAD_SIZE = (FRAME_SIZE_ERROR, PROTOCOL_ERROR)


def begin(stream: int = 1, flags: int = END) -> bytes:
    """HEADERS whose block goes on."""
    return frame(HEADERS, flags, stream, block(GET))


def go_on(stream: int = 1, flags: int = 0) -> bytes:
    return frame(CONTINUATION, flags, stream, MORE)


def padding_returns(peer: Peer) -> None:
    """Padding counts against the windows (section 6.1): the server must give it back like data, or the client stalls."""
    peer.send(post(1))
    one = frame(DATA, PADDED, 1, b"\xff" + b"x" + bytes(255))
    room = peer.remote.get(INITIAL_WINDOW, 65535)
    sent = 0
    for _ in range(3 * room // 257):
        while sent + 257 > room:
            room += int.from_bytes(peer.until(lambda seen: seen.kind == WINDOW and seen.stream == 1, "a window").body, "big")
        peer.send(one)
        sent += 257
    peer.send(data(1, b"", True))
    assert peer.answer(1).status == 200


CASES: list[Case] = [
    # -- 6.1 DATA ----------------------------------------------------------------
    case("6.1 DATA is accepted", post(1) + data(1, b"test", True), answers(1), h2spec="generic/3.1/1"),
    case("6.1 several DATA frames are accepted", post(1) + data(1, b"test") + data(1, b"test", True), answers(1), h2spec="generic/3.1/2"),
    case(
        "6.1 DATA with padding is accepted",
        post(1) + frame(DATA, END | PADDED, 1, b"\5test" + bytes(5)),
        answers(1),
        h2spec="generic/3.1/3",
    ),
    case("6.1 DATA on stream 0 is a connection error PROTOCOL_ERROR", data(0, b"test", True), dies(PROTOCOL_ERROR), h2spec="http2/6.1/1"),
    case(
        "6.1 DATA on a stream that takes none is a stream error STREAM_CLOSED",
        fields(1, POST, END) + data(1, b"test", True),
        breaks(1, STREAM_CLOSED),
        h2spec="http2/6.1/2",
    ),
    case(
        "6.1 padding longer than the frame is a connection error PROTOCOL_ERROR",
        post(1, (b"content-length", b"4")) + frame(DATA, END | PADDED, 1, b"\6Test"),
        dies(PROTOCOL_ERROR),
        h2spec="http2/6.1/3",
    ),
    case("6.1 so is padding as long as the frame", post(1) + frame(DATA, END | PADDED, 1, b"\5Test"), dies(PROTOCOL_ERROR)),
    case("6.1 DATA may be nothing but padding", post(1) + frame(DATA, END | PADDED, 1, b"\4" + bytes(4)), answers(1)),
    case("6.1 PADDED without a pad length is a connection error", post(1) + frame(DATA, END | PADDED, 1), dies(*BAD_SIZE)),
    case("6.1 padding that is not zero may be accepted", post(1) + frame(DATA, END | PADDED, 1, b"\2abXY"), answers(1)),
    case("6.1 the windows of padding are given back", padding_returns),
    # -- 6.2 HEADERS ---------------------------------------------------------------
    case("6.2 HEADERS is accepted", get(1), answers(1), h2spec="generic/3.2/1"),
    case(
        "6.2 HEADERS with padding is accepted",
        frame(HEADERS, END | END_HEADERS | PADDED, 1, b"\x08" + block(GET) + bytes(8)),
        answers(1),
        h2spec="generic/3.2/2",
    ),
    case(
        "6.2 HEADERS with priority is accepted",
        frame(HEADERS, END | END_HEADERS | HAS_PRIORITY, 1, u32(0) + b"\xff" + block(GET)),
        answers(1),
        h2spec="generic/3.2/3",
    ),
    case(
        "6.2 HEADERS with both is accepted",
        frame(HEADERS, END | END_HEADERS | HAS_PRIORITY | PADDED, 1, b"\3" + u32(1 << 31) + b"\0" + block(GET) + bytes(3)),
        answers(1),
    ),
    case(
        "6.2 PRIORITY where CONTINUATION is due is a connection error PROTOCOL_ERROR",
        begin() + priority(1) + go_on(1, END_HEADERS),
        dies(PROTOCOL_ERROR),
        h2spec="http2/6.2/1",
    ),
    case(
        "6.2 HEADERS of another stream where CONTINUATION is due is a connection error PROTOCOL_ERROR",
        begin() + get(3) + go_on(),
        dies(PROTOCOL_ERROR),
        h2spec="http2/6.2/2",
    ),
    case("6.2 HEADERS on stream 0 is a connection error PROTOCOL_ERROR", get(0), dies(PROTOCOL_ERROR), h2spec="http2/6.2/3"),
    case(
        "6.2 padding longer than the frame is an error PROTOCOL_ERROR",
        frame(HEADERS, END | END_HEADERS | PADDED, 1, bytes((len(block(GET)) + 2,)) + block(GET)),
        breaks(1, PROTOCOL_ERROR),
        h2spec="http2/6.2/4",
    ),
    case(
        "6.2 HEADERS too short for its priority is an error",
        frame(HEADERS, END | END_HEADERS | HAS_PRIORITY, 1, bytes(4)),
        breaks(1, *BAD_SIZE),
    ),
    case("6.2 PADDED without a pad length is an error", frame(HEADERS, END | END_HEADERS | PADDED, 1), breaks(1, *BAD_SIZE)),
    case("6.2 a block of no fields is malformed", frame(HEADERS, END | END_HEADERS, 1), only_breaks(1, PROTOCOL_ERROR)),
    # -- 6.3 PRIORITY --------------------------------------------------------------
    case("6.3 PRIORITY with weight 1 is accepted", priority(1, 0, 0) + get(1), answers(1), h2spec="generic/3.3/1"),
    case("6.3 PRIORITY with weight 256 is accepted", priority(1, 0, 255) + get(1), answers(1), h2spec="generic/3.3/2"),
    case("6.3 PRIORITY with a dependency is accepted", priority(3, 1, 255) + get(1), answers(1), h2spec="generic/3.3/3"),
    case("6.3 PRIORITY with an exclusive dependency is accepted", priority(1, 0, 255, True) + get(1), answers(1), h2spec="generic/3.3/4"),
    case("6.3 PRIORITY of an idle stream does not use up lower ids", priority(3) + get(1), answers(1), h2spec="generic/3.3/5"),
    case("6.3 PRIORITY on stream 0 is a connection error PROTOCOL_ERROR", priority(0), dies(PROTOCOL_ERROR), h2spec="http2/6.3/1"),
    case(
        "6.3 PRIORITY of another length than 5 is an error FRAME_SIZE_ERROR",
        get(1) + frame(PRIORITY, 0, 1, b"\x80\0\0\1"),
        breaks(1, FRAME_SIZE_ERROR),
        h2spec="http2/6.3/2",
    ),
    # -- 6.4 RST_STREAM ------------------------------------------------------------
    case("6.4 RST_STREAM is accepted", post(1) + rst(1), lives, h2spec="generic/3.4/1"),
    case("6.4 RST_STREAM on stream 0 is a connection error PROTOCOL_ERROR", rst(0), dies(PROTOCOL_ERROR), h2spec="http2/6.4/1"),
    case("6.4 RST_STREAM of an idle stream is a connection error PROTOCOL_ERROR", rst(1), dies(PROTOCOL_ERROR), h2spec="http2/6.4/2"),
    case(
        "6.4 RST_STREAM shorter than 4 is a connection error FRAME_SIZE_ERROR",
        get(1) + frame(RST, 0, 1, bytes(3)),
        dies(FRAME_SIZE_ERROR),
        h2spec="http2/6.4/3",
    ),
    case(
        "6.4 RST_STREAM longer than 4 is a connection error FRAME_SIZE_ERROR", get(1) + frame(RST, 0, 1, bytes(5)), dies(FRAME_SIZE_ERROR)
    ),
    # -- 6.5 SETTINGS --------------------------------------------------------------
    case(
        "6.5 SETTINGS is acknowledged",
        settings((1, 4096), (2, 1), (3, 100), (4, 65535), (5, 16384), (6, 100)),
        acknowledges,
        h2spec="generic/3.5/1",
    ),
    case(
        "6.5 an acknowledgement with a payload is a connection error FRAME_SIZE_ERROR",
        frame(SETTINGS, ACK, 0, b"\0"),
        dies(FRAME_SIZE_ERROR),
        h2spec="http2/6.5/1",
    ),
    case(
        "6.5 SETTINGS on a stream is a connection error PROTOCOL_ERROR",
        frame(SETTINGS, 0, 1, b"\0\3\0\0\0\x64"),
        dies(PROTOCOL_ERROR),
        h2spec="http2/6.5/2",
    ),
    case(
        "6.5 SETTINGS of an odd length is a connection error FRAME_SIZE_ERROR",
        frame(SETTINGS, 0, 0, b"\0\3\0"),
        dies(FRAME_SIZE_ERROR),
        h2spec="http2/6.5/3",
    ),
    case("6.5 empty SETTINGS is acknowledged", frame(SETTINGS), acknowledges),
    case("6.5.2 ENABLE_PUSH of 2 is a connection error PROTOCOL_ERROR", settings((2, 2)), dies(PROTOCOL_ERROR), h2spec="http2/6.5.2/1"),
    case(
        "6.5.2 INITIAL_WINDOW_SIZE above 2^31-1 is a connection error FLOW_CONTROL_ERROR",
        settings((4, 1 << 31)),
        dies(FLOW_CONTROL_ERROR),
        h2spec="http2/6.5.2/2",
    ),
    case(
        "6.5.2 MAX_FRAME_SIZE below 2^14 is a connection error PROTOCOL_ERROR",
        settings((5, 16383)),
        dies(PROTOCOL_ERROR),
        h2spec="http2/6.5.2/3",
    ),
    case(
        "6.5.2 MAX_FRAME_SIZE above 2^24-1 is a connection error PROTOCOL_ERROR",
        settings((5, 1 << 24)),
        dies(PROTOCOL_ERROR),
        h2spec="http2/6.5.2/4",
    ),
    case("6.5.2 MAX_FRAME_SIZE may be anything between", settings((5, 16384)) + settings((5, (1 << 24) - 1)) + get(1), answers(1)),
    case("6.5.2 an unknown setting is ignored", settings((0xFF, 1)), lives, h2spec="http2/6.5.2/5"),
    case("6.5.2 no headers are refused for MAX_HEADER_LIST_SIZE 0, which is advice", settings((6, 0)) + get(1), answers(1)),
    case("6.5.2 MAX_CONCURRENT_STREAMS 0 of a client is about pushes only", settings((3, 0)) + get(1), answers(1)),
    case("6.5.2 a table of 0 bytes is obeyed", settings((1, 0)) + get(1) + get(3), answers(1), answers(3), get(5), answers(5)),
    case(
        "6.5.3 values of one setting are taken in their order",
        settings((4, 100), (4, 1)),
        acknowledges,
        get(1),
        sends(1, 1),
        h2spec="http2/6.5.3/1",
    ),
    case("6.5.3 SETTINGS is acknowledged at once", settings((2, 0)), acknowledges, h2spec="http2/6.5.3/2"),
    case("6.5.3 each SETTINGS is acknowledged", frame(SETTINGS) * 3, acknowledges, acknowledges, acknowledges),
    # -- 6.6, 8.4 PUSH_PROMISE -------------------------------------------------------
    case(
        "8.4 PUSH_PROMISE from a client is a connection error PROTOCOL_ERROR",
        frame(PUSH, END_HEADERS, 1, u32(3) + block(GET)),
        dies(PROTOCOL_ERROR),
        h2spec="http2/8.2/1",
    ),
    case("6.6 also on a stream that is open", post(1) + frame(PUSH, END_HEADERS, 1, u32(2) + block(GET)), dies(PROTOCOL_ERROR)),
    # -- 6.7 PING --------------------------------------------------------------------
    case("6.7 PING is acknowledged", lives, h2spec="generic/3.7/1"),
    case("6.7 PING is acknowledged with its payload", frame(PING, 0, 0, b"h2spec\0\0"), lives, h2spec="http2/6.7/1"),
    case("6.7 an acknowledgement is not answered", frame(PING, ACK, 0, b"invalid\0"), lives, h2spec="http2/6.7/2"),
    case(
        "6.7 PING on a stream is a connection error PROTOCOL_ERROR", frame(PING, 0, 1, bytes(8)), dies(PROTOCOL_ERROR), h2spec="http2/6.7/3"
    ),
    case(
        "6.7 PING of another length than 8 is a connection error FRAME_SIZE_ERROR",
        frame(PING, 0, 0, bytes(6)),
        dies(FRAME_SIZE_ERROR),
        h2spec="http2/6.7/4",
    ),
    # -- 6.8 GOAWAY ------------------------------------------------------------------
    case("6.8 GOAWAY is accepted", goaway(debug=b"h2spec"), lives_or_ends, h2spec="generic/3.8/1"),
    case("6.8 GOAWAY on a stream is a connection error PROTOCOL_ERROR", goaway(stream=1), dies(PROTOCOL_ERROR), h2spec="http2/6.8/1"),
    case("6.8 GOAWAY shorter than 8 is a connection error FRAME_SIZE_ERROR", frame(7, 0, 0, bytes(7)), dies(FRAME_SIZE_ERROR)),
    case(
        "6.8 a client that says GOAWAY gets its answers",
        settings((4, 0)) + get(1) + get(3) + goaway(),
        window(1, 99) + window(3, 99),
        answers(1),
        answers(3),
    ),
    # -- 6.9 WINDOW_UPDATE -------------------------------------------------------------
    case("6.9 WINDOW_UPDATE of the connection is accepted", window(0, 1), lives, h2spec="generic/3.9/1"),
    case("6.9 WINDOW_UPDATE of a stream is accepted", get(1) + window(1, 1), answers(1), h2spec="generic/3.9/2"),
    case("6.9 an increment of 0 is a connection error PROTOCOL_ERROR", window(0, 0), dies(PROTOCOL_ERROR), h2spec="http2/6.9/1"),
    case(
        "6.9 an increment of 0 on a stream is a stream error PROTOCOL_ERROR",
        post(1) + window(1, 0),
        breaks(1, PROTOCOL_ERROR),
        h2spec="http2/6.9/2",
    ),
    case(
        "6.9 WINDOW_UPDATE of another length than 4 is a connection error FRAME_SIZE_ERROR",
        frame(WINDOW, 0, 0, b"\0\0\1"),
        dies(FRAME_SIZE_ERROR),
        h2spec="http2/6.9/3",
    ),
    case(
        "6.9.1 no more DATA is sent than a window of 1 allows", settings((4, 1)), acknowledges, get(1), sends(1, 1), h2spec="http2/6.9.1/1"
    ),
    case("6.9.1 nothing is sent into a window of 0", settings((4, 0)), acknowledges, get(1), holds_back(1), window(1, 2), sends(1, 2)),
    case(
        "6.9.1 a connection window above 2^31-1 is a connection error FLOW_CONTROL_ERROR",
        window(0, LARGEST) * 2,
        dies(FLOW_CONTROL_ERROR),
        h2spec="http2/6.9.1/2",
    ),
    case(
        "6.9.1 a stream window above 2^31-1 is a stream error FLOW_CONTROL_ERROR",
        post(1) + window(1, LARGEST) * 2,
        breaks(1, FLOW_CONTROL_ERROR),
        h2spec="http2/6.9.1/3",
    ),
    case(
        "6.9.1 a window may be as large as 2^31-1",
        settings((4, 0)) + get(1) + window(1, LARGEST),
        answers(1),
        window(0, LARGEST - 65535),
        lives,
    ),
    case(
        "6.9.2 a change of the initial window changes the windows of open streams",
        settings((4, 0)),
        acknowledges,
        get(1),
        holds_back(1),
        settings((4, 1)),
        sends(1, 1),
        h2spec="http2/6.9.2/1",
    ),
    case(
        "6.9.2 such a change may make a window negative",
        settings((4, 3)),
        acknowledges,
        get(1),
        sends(1, 3),
        settings((4, 2)),
        acknowledges,
        window(1, 2),
        sends(1, 1),
        h2spec="http2/6.9.2/2",
    ),
    case(
        "6.9.2 a window that is negative takes nothing until it is paid back",
        settings((4, 4)),
        acknowledges,
        get(1),
        sends(1, 4),
        settings((4, 0)),
        acknowledges,
        window(1, 4),
        sends(1),
        window(1, 1),
        sends(1, 1),
        settings((4, 65535)),
        answers(1),
    ),
    case(
        "6.9.2 an initial window above 2^31-1 is a connection error FLOW_CONTROL_ERROR",
        frame(SETTINGS, 0, 0, b"\0\4\x80\0\0\0"),
        dies(FLOW_CONTROL_ERROR),
        h2spec="http2/6.9.2/3",
    ),
    case(
        "6.9.2 so is one that lifts a stream's window above it",
        settings((4, 100)) + post(1) + window(1, LARGEST - 100) + settings((4, 101)),
        dies(FLOW_CONTROL_ERROR),
    ),
    case(
        "6.9.2 the connection's window does not change with it",
        settings((4, 1 << 20)) + get(1, path=b"/big"),
        sends_in_all(1, 65535),
    ),
    # -- 6.10 CONTINUATION ---------------------------------------------------------------
    case("6.10 CONTINUATION is accepted", pieces(1, block(GET)[:5], block(GET)[5:], flags=END), answers(1), h2spec="generic/3.10/1"),
    case(
        "6.10 two CONTINUATION frames are accepted",
        pieces(1, block(GET)[:5], block(GET)[5:10], block(GET)[10:], flags=END),
        answers(1),
        h2spec="generic/3.10/2",
    ),
    case(
        "6.10 CONTINUATION frames with fields of their own are accepted",
        begin() + go_on() + go_on(1, END_HEADERS),
        answers(1),
        h2spec="http2/6.10/1",
    ),
    case(
        "6.10 another frame after CONTINUATION is a connection error PROTOCOL_ERROR",
        begin(1, 0) + go_on() + data(1, b"test", True),
        dies(PROTOCOL_ERROR),
        h2spec="http2/6.10/2",
    ),
    case(
        "6.10 CONTINUATION on stream 0 is a connection error PROTOCOL_ERROR",
        begin() + go_on(0, END_HEADERS),
        dies(PROTOCOL_ERROR),
        h2spec="http2/6.10/3",
    ),
    case(
        "6.10 CONTINUATION after a whole block is a connection error PROTOCOL_ERROR",
        get(1) + go_on(1, END_HEADERS),
        dies(PROTOCOL_ERROR),
        h2spec="http2/6.10/4",
    ),
    case(
        "6.10 CONTINUATION after the last CONTINUATION is a connection error PROTOCOL_ERROR",
        begin() + go_on(1, END_HEADERS) + go_on(1, END_HEADERS),
        dies(PROTOCOL_ERROR),
        h2spec="http2/6.10/5",
    ),
    case(
        "6.10 CONTINUATION after DATA is a connection error PROTOCOL_ERROR",
        begin(1, 0) + data(1, b"test", True) + go_on() + go_on(0, END_HEADERS),
        dies(PROTOCOL_ERROR),
        h2spec="http2/6.10/6",
    ),
    case("6.10 CONTINUATION may be empty", begin() + frame(CONTINUATION, 0, 1) + frame(CONTINUATION, END_HEADERS, 1), answers(1)),
    case(
        "6.10 END_STREAM is of HEADERS and not of CONTINUATION",
        begin(1, 0) + go_on(1, END | END_HEADERS) + data(1, b"abc", True),
        answers(1),
    ),
    # -- 7 ---------------------------------------------------------------------------
    case("7 GOAWAY with an unknown code does no harm", goaway(0xFF), lives_or_ends, h2spec="http2/7/1"),
    case("7 RST_STREAM with an unknown code is a reset", post(1) + rst(1, 0xFF), lives, h2spec="http2/7/2"),
]
