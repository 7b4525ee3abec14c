"""Floods: each kind of frame that costs us more than its sender ends the connection, and ordinary traffic never does."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pingap.stages.http2.engine import ENHANCE_YOUR_CALM, FRAME_SIZE_ERROR, PREFACE, PROTOCOL_ERROR, Http2Error
from pingap.stages.http2.guard import DEFAULT, FloodGuard, for_lists_of
from tests.http2.wire import (
    CONTINUATION,
    DATA,
    END,
    END_HEADERS,
    GET,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PRIORITY,
    RST,
    SETTINGS,
    WINDOW,
    block,
    data,
    frame,
    headers,
    u32,
)

FLOODS: dict[str, tuple[bytes, int]] = {
    "rapid reset": (headers(1, GET, True) + frame(RST, 0, 1, u32(8)), 400),
    "ping": (frame(PING, 0, 0, b"12345678"), 100),
    "settings": (frame(SETTINGS), 50),
    "empty DATA": (data(1, b""), 100),
    "DATA of a pad length": (frame(DATA, PADDED, 1, b"\0"), 100),
    "priority": (frame(PRIORITY, 0, 1, u32(0) + b"\0"), 1000),
    "window update": (frame(WINDOW, 0, 1, u32(1)), 2000),
    "unknown frames": (frame(0x42, 0, 1, b"x"), 100),
}


def count_until_refused(guard: FloodGuard, feed: Callable[[FloodGuard, int], None], most: int = 10000) -> int:
    for count in range(most):
        try:
            feed(guard, count)
        except Http2Error as error:
            assert error.code == ENHANCE_YOUR_CALM
            return count
    return most


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_is_stopped_at_its_cap(name: str) -> None:
    raw, cap = FLOODS[name]
    assert count_until_refused(FloodGuard(), lambda guard, _: guard.came(raw, 0.0)) == cap


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_is_the_same_in_single_bytes(name: str) -> None:
    raw, cap = FLOODS[name]

    def feed(guard: FloodGuard, _: int) -> None:
        for at in range(len(raw)):
            guard.came(raw[at : at + 1], 0.0)

    assert count_until_refused(FloodGuard(), feed) == cap


@pytest.mark.parametrize("name", FLOODS)
def test_the_same_frames_slowly_are_no_flood(name: str) -> None:
    raw, _ = FLOODS[name]
    assert count_until_refused(FloodGuard(), lambda guard, count: guard.came(raw, count * 1.0), 3000) == 3000


def test_ordinary_traffic_is_never_counted() -> None:
    guard = FloodGuard(len(PREFACE))
    guard.came(PREFACE + frame(SETTINGS), 0.0)
    for _ in range(5000):
        guard.came(headers(1, GET, True) + headers(3, GET) + data(3, b"x" * 100) + data(3, b"", True), 0.0)


def test_window_updates_for_what_was_sent_are_no_flood() -> None:
    guard = FloodGuard()
    for _ in range(10000):
        guard.sent(16384)
        guard.came(frame(WINDOW, 0, 1, u32(16384)) + frame(WINDOW, 0, 0, u32(16384)), 0.0)


@pytest.mark.parametrize("name", ["ping", "window update"])
def test_what_answers_a_small_message_is_no_flood(name: str) -> None:
    """grpc-go pings with every message that it gets, and there are clients that open both windows with each."""
    raw, _ = FLOODS[name]
    guard = FloodGuard()
    for _ in range(10000):
        guard.sent(5)
        guard.came(raw * (2 if name == "window update" else 1), 0.0)


def test_as_many_resets_as_answers_are_no_flood() -> None:
    """A channel that carries the calls of many users: some of them leave, or set deadlines."""
    raw, cap = FLOODS["rapid reset"]
    guard = FloodGuard()
    for _ in range(10000):
        guard.came(raw, 0.0)
        guard.answered += 1
    assert count_until_refused(guard, lambda guard, _: guard.came(raw, 0.0)) == cap


FOR_EACH_STREAM = {
    **{name: FLOODS[name] for name in ("rapid reset", "empty DATA", "priority", "window update", "unknown frames")},
    "PRIORITY_UPDATE": (frame(0x10, 0, 0, u32(1) + b"u=3"), 1000),
}


@pytest.mark.parametrize("name", FOR_EACH_STREAM)
def test_one_for_every_answered_stream_is_no_flood_and_no_store_for_one(name: str) -> None:
    raw, cap = FOR_EACH_STREAM[name]
    guard = FloodGuard()
    for _ in range(10000):
        guard.came(raw, 0.0)
        guard.answered += 1
    assert count_until_refused(guard, lambda guard, _: guard.came(raw, 0.0)) == cap


def test_what_answers_are_worth_is_counted_for_each_kind_by_itself() -> None:
    guard = FloodGuard()
    for _ in range(3000):
        for raw, _ in FOR_EACH_STREAM.values():
            if raw[3] not in (PRIORITY, 0x10):  # those two share a counter
                guard.came(raw, 0.0)
        guard.answered += 1


def test_messages_long_ago_are_worth_no_flood_of_pings_now() -> None:
    raw, cap = FLOODS["ping"]
    guard = FloodGuard()
    for _ in range(10000):
        guard.sent(5)
    assert count_until_refused(guard, lambda guard, _: guard.came(raw, 0.0)) == cap


def test_resets_that_we_were_made_to_send_are_counted() -> None:
    assert count_until_refused(FloodGuard(), lambda guard, _: guard.forced(1, 0.0)) == 100


@pytest.mark.parametrize("size", [0, 1, 8192])
def test_a_header_block_in_too_many_pieces_is_stopped(size: int) -> None:
    guard = FloodGuard()
    guard.came(frame(HEADERS, END, 1, block(GET)), 0.0)
    stopped = count_until_refused(guard, lambda guard, _: guard.came(frame(CONTINUATION, 0, 1, b"x" * size), 0.0))
    assert stopped <= 32
    assert stopped * size <= 128 * 1024


def test_a_server_that_allows_longer_heads_takes_longer_blocks() -> None:
    floods = for_lists_of(1_000_000)
    guard = FloodGuard(0, floods)
    guard.came(frame(HEADERS, END, 1, b"x" * 16384), 0.0)
    stopped = count_until_refused(guard, lambda guard, _: guard.came(frame(CONTINUATION, 0, 1, b"x" * 16384), 0.0))
    assert 1_000_000 < stopped * 16384 < 2_100_000
    assert for_lists_of(1000) == DEFAULT


def test_large_heads_in_a_few_pieces_are_ordinary() -> None:
    guard = FloodGuard()
    for stream in range(1, 1001, 2):
        guard.came(frame(HEADERS, END, stream, b"x" * 16384) + frame(CONTINUATION, 0, stream, b"x" * 16384), 0.0)
        guard.came(frame(CONTINUATION, END_HEADERS, stream, b"x" * 16384), 0.0)


def test_a_frame_larger_than_we_announced_is_refused_before_it_is_collected() -> None:
    with pytest.raises(Http2Error) as caught:
        FloodGuard().came(frame(DATA, 0, 1, b"x" * 16385)[:9], 0.0)
    assert caught.value.code == FRAME_SIZE_ERROR


def test_priority_on_stream_0_is_an_error_whichever_the_engine() -> None:
    with pytest.raises(Http2Error) as caught:
        FloodGuard().came(frame(PRIORITY, 0, 1 << 31, u32(0) + b"\0"), 0.0)
    assert caught.value.code == PROTOCOL_ERROR


@pytest.mark.parametrize("size", [1, 2, 5, 9, 13, 1000])
def test_the_last_stream_of_a_goaway_is_taken_out_wherever_the_reads_end(size: int) -> None:
    goodbye = frame(GOAWAY, 0, 0, u32(2**31 - 1) + u32(0) + b"last words")
    came = PREFACE + headers(1, GET) + goodbye + data(1, b"\xff" * 40) + goodbye
    guard = FloodGuard(len(PREFACE))
    passed = b""
    for at in range(0, len(came), size):
        piece = came[at : at + size]
        guard.came(piece, 1.0)
        passed += guard.without_last_streams(piece) if guard.goodbyes else piece
    assert passed == came.replace(goodbye, goodbye.replace(u32(2**31 - 1), u32(0)))
