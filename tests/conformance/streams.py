"""RFC 9113 section 5: streams."""

from __future__ import annotations

from pingap.stages.http2.engine import CANCEL, NO_ERROR, PROTOCOL_ERROR, REFUSED_STREAM, STREAM_CLOSED
from tests.conformance.peer import Frame, Peer
from tests.conformance.steps import (
    GET,
    Case,
    answers,
    breaks,
    case,
    closes,
    dies,
    fields,
    get,
    lives,
    only_breaks,
    post,
    priority,
    rst,
    sends,
    settings,
    window,
)
from tests.http2.wire import CONTINUATION, END, END_HEADERS, GOAWAY, HAS_PRIORITY, HEADERS, PING, RST, block, data, frame, u32

MORE = block(((b"x-more", b"1"),))
NO_WINDOW = settings((4, 0))
CLOSED_STREAM = (STREAM_CLOSED, PROTOCOL_ERROR)


DISCARDED = "libnghttp2 discards what comes on a closed stream, as RFC 9113 section 5.1 allows; h2spec goes by RFC 7540"
GOES_BACK = "libnghttp2 discards HEADERS on an id that was passed over: it cannot tell them from trailers of a stream that was reset"
DEPRECATED = "libnghttp2 no longer looks into PRIORITY, which RFC 9113 deprecates"


def depends_on(stream: int) -> bytes:
    return frame(HEADERS, END | END_HEADERS | HAS_PRIORITY, 1, u32(stream) + b"\xff" + block(GET))


def too_many(peer: Peer) -> None:
    """One stream more than the server takes, all held open by a window of 0."""
    most = peer.remote[3]
    peer.send(NO_WINDOW + b"".join(get(1 + 2 * number) for number in range(most + 1)))
    refused = 1 + 2 * most
    only_breaks(refused, REFUSED_STREAM, PROTOCOL_ERROR)(peer)
    assert not [seen for seen in peer.seen if seen.kind == RST and seen.stream != refused], "a stream too many was refused"


def room_again(peer: Peer) -> None:
    """As many streams as there may be are open; they end, and others take their places."""
    most = peer.remote[3]
    peer.send(NO_WINDOW + b"".join(get(1 + 2 * number) for number in range(most)))
    lives(peer)
    peer.send(settings((4, 65535)))
    for number in range(most):
        assert peer.answer(1 + 2 * number).status == 200
    peer.send(get(3 + 2 * most))
    assert peer.answer(3 + 2 * most).status == 200


def goaway_tells_the_last_stream(peer: Peer) -> None:
    found = peer.until(lambda seen: seen.kind == GOAWAY, "GOAWAY")
    assert found.code == PROTOCOL_ERROR
    assert found.last_stream == 3
    peer.wait_closed()


def nothing_on_3(peer: Peer) -> None:
    lives(peer)
    assert 3 not in peer.answers


def no_reset_for_a_reset(peer: Peer) -> None:
    peer.send(post(1) + rst(1) + rst(1) + window(1, 1))
    peer.ping()
    assert not [seen for seen in peer.seen if seen.kind == RST], peer.history()


def reset_streams_end_at_once(peer: Peer) -> None:
    peer.send(NO_WINDOW + get(1))
    peer.until(lambda seen: seen.kind == HEADERS, "the answer begins")
    peer.send(rst(1) + settings((4, 65535)))
    peer.ping()

    def is_of_1(seen: Frame) -> bool:
        return seen.stream == 1 and seen.kind != HEADERS

    assert not [seen for seen in peer.seen if is_of_1(seen)], peer.history()


CASES: list[Case] = [
    # -- 5.1, idle -------------------------------------------------------------
    case("5.1 idle: DATA is a connection error PROTOCOL_ERROR", data(1, b"test", True), dies(PROTOCOL_ERROR), h2spec="http2/5.1/1"),
    case("5.1 idle: RST_STREAM is a connection error PROTOCOL_ERROR", rst(1), dies(PROTOCOL_ERROR), h2spec="http2/5.1/2"),
    case("5.1 idle: WINDOW_UPDATE is a connection error PROTOCOL_ERROR", window(1, 100), dies(PROTOCOL_ERROR), h2spec="http2/5.1/3"),
    case(
        "5.1 idle: CONTINUATION is a connection error PROTOCOL_ERROR",
        frame(CONTINUATION, END_HEADERS, 1, block(GET)),
        dies(PROTOCOL_ERROR),
        h2spec="http2/5.1/4",
    ),
    case("5.1 idle: PRIORITY is accepted", priority(1), lives, h2spec="generic/2/1"),
    # -- half closed (remote) ----------------------------------------------------
    case(
        "5.1 half closed (remote): DATA is a stream error STREAM_CLOSED",
        get(1) + data(1, b"test", True),
        breaks(1, STREAM_CLOSED),
        h2spec="http2/5.1/5",
    ),
    case(
        "5.1 half closed (remote): HEADERS is a stream error STREAM_CLOSED",
        get(1) + get(1),
        breaks(1, STREAM_CLOSED),
        h2spec="http2/5.1/6",
    ),
    case(
        "5.1 half closed (remote): CONTINUATION is an error",
        get(1) + frame(CONTINUATION, END_HEADERS, 1, MORE),
        dies(*CLOSED_STREAM),
        h2spec="http2/5.1/7",
    ),
    case(
        "5.1 half closed (remote): WINDOW_UPDATE is accepted",
        NO_WINDOW + get(1) + window(1, 1),
        sends(1, 1),
        h2spec="generic/2/2",
    ),
    case(
        "5.1 half closed (remote): PRIORITY is accepted",
        NO_WINDOW + get(1) + priority(1) + window(1, 1),
        sends(1, 1),
        h2spec="generic/2/3",
    ),
    case("5.1 half closed (remote): RST_STREAM is accepted", get(1) + rst(1), lives, h2spec="generic/2/4"),
    # -- closed ------------------------------------------------------------------
    case(
        "5.1 closed by RST_STREAM: DATA is a stream error STREAM_CLOSED",
        post(1) + rst(1) + data(1, b"test", True),
        breaks(1, STREAM_CLOSED),
        h2spec="http2/5.1/8",
        ngh2=(DISCARDED, (post(1) + rst(1) + data(1, b"test", True), lives)),
    ),
    case(
        "5.1 closed by RST_STREAM: HEADERS is a stream error STREAM_CLOSED",
        post(1) + rst(1) + get(1),
        breaks(1, STREAM_CLOSED),
        h2spec="http2/5.1/9",
        ngh2=(DISCARDED, (post(1) + rst(1) + get(1), lives)),
    ),
    case(
        "5.1 closed by RST_STREAM: CONTINUATION is an error",
        post(1) + rst(1) + frame(CONTINUATION, END_HEADERS, 1, MORE),
        dies(*CLOSED_STREAM),
        h2spec="http2/5.1/10",
    ),
    case(
        "5.1 closed: DATA is an error STREAM_CLOSED",
        get(1),
        answers(1),
        data(1, b"test", True),
        breaks(1, STREAM_CLOSED),
        h2spec="http2/5.1/11",
        ngh2=(DISCARDED, (get(1), answers(1), data(1, b"test", True), lives)),
    ),
    case(
        "5.1 closed: HEADERS is a connection error STREAM_CLOSED",
        get(1),
        answers(1),
        get(1),
        dies(STREAM_CLOSED),
        h2spec="http2/5.1/12",
        ngh2=(DISCARDED, (get(1), answers(1), get(1), lives)),
    ),
    case(
        "5.1 closed: CONTINUATION is a connection error",
        get(1),
        answers(1),
        frame(CONTINUATION, END_HEADERS, 1, MORE),
        dies(*CLOSED_STREAM),
        h2spec="http2/5.1/13",
    ),
    case("5.1 closed: PRIORITY is accepted", get(1), answers(1), priority(1), lives, h2spec="generic/2/5"),
    case("5.1 closed: WINDOW_UPDATE and RST_STREAM are accepted for a while", get(1), answers(1), window(1, 9) + rst(1), lives),
    case("5.1 closed by a reset: nothing more comes on the stream", reset_streams_end_at_once),
    case("5.4.2 RST_STREAM is never the answer to RST_STREAM", no_reset_for_a_reset),
    # -- 5.1.1 -------------------------------------------------------------------
    case("5.1.1 an even stream id is a connection error PROTOCOL_ERROR", get(2), dies(PROTOCOL_ERROR), h2spec="http2/5.1.1/1"),
    case(
        "5.1.1 a stream id that goes back is a connection error PROTOCOL_ERROR",
        get(5) + get(3),
        dies(PROTOCOL_ERROR),
        h2spec="http2/5.1.1/2",
        ngh2=(GOES_BACK, (get(5) + get(3), answers(5), nothing_on_3)),
    ),
    case("5.1.1 stream ids may leave gaps", get(1) + get(101) + get(10001), answers(10001)),
    case("5.1.1 the last stream id can be used", get(2**31 - 1), answers(2**31 - 1), lives),
    case("5.1.1 even ids are idle, and their frames as wrong as others", rst(2), dies(PROTOCOL_ERROR)),
    # -- 5.1.2 -------------------------------------------------------------------
    case(
        "5.1.2 one stream too many is refused, and the others go on",
        too_many,
        h2spec="http2/5.1.2/1",
    ),
    case("5.1.2 a stream that has ended leaves room for another", room_again),
    # -- 5.3 ---------------------------------------------------------------------
    case("5.3 HEADERS that depends on itself is an error PROTOCOL_ERROR", depends_on(1), breaks(1, PROTOCOL_ERROR), h2spec="http2/5.3.1/1"),
    case(
        "5.3 PRIORITY that depends on itself is an error PROTOCOL_ERROR",
        priority(2, 2),
        breaks(2, PROTOCOL_ERROR),
        h2spec="http2/5.3.1/2",
        ngh2=(DEPRECATED, (priority(2, 2), lives)),
    ),
    case("5.3.2 priorities change nothing", priority(5, 3) + priority(3, 5, 0, True) + depends_on(7) + get(3) + get(5), answers(5)),
    # -- 5.4 ---------------------------------------------------------------------
    case("5.4.1 after a connection error the connection is closed", frame(PING, 0, 3, bytes(8)), closes, h2spec="http2/5.4.1/1"),
    case("5.4.1 before that, GOAWAY says why", frame(PING, 0, 3, bytes(8)), dies(PROTOCOL_ERROR), h2spec="http2/5.4.1/2"),
    case(
        "5.4.1 GOAWAY tells the last stream that was taken",
        get(1) + get(3),
        answers(3),
        frame(PING, 0, 3, bytes(8)),
        goaway_tells_the_last_stream,
    ),
    case(
        "5.4.2 a stream error leaves other streams alone",
        NO_WINDOW + get(1) + post(3) + fields(3, ((b"x", b"y"),)),
        only_breaks(3, PROTOCOL_ERROR),
        settings((4, 65535)),
        answers(1),
    ),
    case(
        "5.4.2 a stream that the client cancels leaves other streams alone",
        post(1) + get(3) + rst(1, CANCEL) + get(5),
        answers(3),
        answers(5),
    ),
    case("5.4.2 RST_STREAM with NO_ERROR is a reset as well", post(1) + rst(1, NO_ERROR) + get(3), answers(3)),
    # -- 5.5 ---------------------------------------------------------------------
    case("5.5 an extension frame is ignored", frame(0x16, 0, 0, bytes(8)), lives, h2spec="http2/5.5/1"),
    case(
        "5.5 an extension frame inside a header block is a connection error PROTOCOL_ERROR",
        frame(HEADERS, END, 1, block(GET)) + frame(0x16, 0, 0, bytes(8)),
        dies(PROTOCOL_ERROR),
        h2spec="http2/5.5/2",
    ),
    case(
        "5.5 an extension frame is ignored in every state of a stream",
        frame(0x17, 255, 9, b"") + post(1) + frame(0xFF, 5, 1, b"x") + data(1, b"", True) + frame(0x16, 1, 1, b"y"),
        answers(1),
        frame(0x16, 1, 1, b"z"),
        lives,
    ),
    case(
        "5.5 so is ORIGIN, ALTSVC and PRIORITY_UPDATE from a client",
        post(1) + frame(0x10, 0, 0, u32(1) + b"u=1") + data(1, b"", True),
        answers(1),
    ),
]
