"""The body of an answer under credit: nothing lost, nothing turned round, no more than the window ahead of the client."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pingap.stages.messages import STREAM_WINDOW, WINDOW, Data, Response
from pingap.stages.upstream.download import BULK, GATHER_SECONDS
from tests.upstream.playbook import KERNEL_READ, Link, Play

KIB_64 = 64 * 1024


async def download(play: Play, head: bytes | None = None, version: int = 11) -> tuple[int, Link]:
    """An answer of many bytes has begun."""
    play.serves()
    sid = play.asks(version=version)
    await play.turn()
    link = play.backend().link
    link.says(head or b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (64 * WINDOW))
    play.hears_response(sid)
    return sid, link


def size(parts: list[tuple[bytes, bool, str]]) -> int:
    return sum(len(payload) for payload, _, _ in parts)


async def test_without_credit_no_more_than_a_window_and_one_read_is_sent(play: Play) -> None:
    sid, link = await download(play)
    link.says(b"x" * (4 * WINDOW))
    await play.turn()
    assert WINDOW <= size(play.hears_data(sid)) <= WINDOW + KERNEL_READ
    assert link.unread, "the rest is left to the kernel, and so to the backend"
    play.cancels(sid)


async def test_one_of_the_many_streams_of_a_connection_gets_a_smaller_window(play: Play) -> None:
    sid, link = await download(play, version=20)
    link.says(b"x" * (4 * WINDOW))
    await play.turn()
    assert STREAM_WINDOW <= size(play.hears_data(sid)) <= STREAM_WINDOW + KERNEL_READ
    play.cancels(sid)


async def test_reading_goes_on_when_credit_comes(play: Play) -> None:
    sid, link = await download(play)
    link.says(b"x" * (4 * WINDOW))
    await play.turn()
    got = size(play.hears_data(sid))
    for _ in range(3):
        play.credits(sid, KIB_64)
        await play.turn()
        got += size(play.hears_data(sid))
    assert got <= WINDOW + 3 * KIB_64 + KERNEL_READ
    play.credits(sid, 8 * WINDOW)
    await play.turn()
    await flushed(play)
    assert got + size(play.hears_data(sid)) == 4 * WINDOW
    play.cancels(sid)


async def test_credit_that_only_covers_the_overdraft_does_not_let_more_flow(play: Play) -> None:
    sid, link = await download(play)
    link.says(b"x" * (WINDOW - 1))
    link.says(b"x" * 1000)
    link.says(b"y" * 1000)
    assert size(play.hears_data(sid)) == WINDOW + 999
    play.credits(sid, 999)
    await play.turn()
    assert play.hears_nothing()
    play.credits(sid, 1)
    await play.turn()
    assert size(play.hears_data(sid)) == 1000
    play.cancels(sid)


async def test_the_body_in_the_heads_read_counts_too(play: Play) -> None:
    sid, link = await download(play, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % WINDOW + b"x" * 1000)
    link.says(b"x" * (WINDOW - 1001))
    assert size(play.hears_data(sid)) == WINDOW - 1001
    assert link.transport.is_reading()
    link.says(b"x")
    assert play.hears_data(sid) == [(b"x", True, "")]


async def test_while_the_client_is_slow_the_backend_is_not_late(play: Play) -> None:
    play.serves(read_timeout=2.0)
    sid = play.asks()
    await play.turn()
    link = play.backend().link
    link.says(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (3 * WINDOW) + b"x" * (3 * WINDOW))
    await play.turn()
    play.hears()
    await play.passes(100)
    assert play.hears_nothing()
    play.credits(sid, 4 * WINDOW)
    await play.turn()
    assert play.hears()[-1][1].ended
    assert not link.is_closed


async def test_when_reading_goes_on_the_backend_has_its_time_again(play: Play) -> None:
    play.serves(read_timeout=2.0)
    sid = play.asks()
    await play.turn()
    link = play.backend().link
    link.says(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (4 * WINDOW) + b"x" * WINDOW)
    await play.passes(100)
    play.credits(sid, 4 * WINDOW)
    play.hears()
    await play.passes(1.5)
    assert play.hears_nothing()
    await play.passes(1)
    assert play.hears_data(sid) == [(b"", False, "gateway_timeout")]


# -- gathering -----------------------------------------------------------------------------


async def bulk(play: Play) -> tuple[int, Link]:
    """A download of which so much has come that its reads are gathered."""
    sid, link = await download(play)
    for _ in range(BULK // KERNEL_READ + 1):
        link.says(b"a" * KERNEL_READ)
        play.credits(sid, KERNEL_READ)
    assert size(play.hears_data(sid)) < BULK + 2 * KERNEL_READ
    return sid, link


async def flushed(play: Play) -> None:
    """The timer of gathered reads has passed."""
    await asyncio.sleep(GATHER_SECONDS * 3)


async def test_gathered_reads_do_not_wait_for_long(play: Play) -> None:
    sid, link = await bulk(play)
    link.says(b"b" * KIB_64)
    await flushed(play)
    assert play.hears_data(sid)[-1] == (b"b" * KIB_64, False, "")
    play.cancels(sid)


async def test_gathered_reads_keep_their_order_up_to_the_end(play: Play) -> None:
    sid, link = await bulk(play)
    play.hears()
    await flushed(play)
    play.hears()
    left = 64 * WINDOW - (BULK + KERNEL_READ)
    sent = 0
    got = b""
    ends = []
    number = 0
    while sent < left:
        number += 1
        piece = bytes([number % 251]) * min(KIB_64 if number % 3 else 100, left - sent)
        sent += len(piece)
        link.says(piece)
        play.credits(sid, len(piece))
        for payload, ended, error in play.hears_data(sid):
            got += payload[:1] + payload[-1:] + len(payload).to_bytes(4, "big")
            ends.append(ended)
            assert not error
    expected = b""
    sent = number = 0
    while sent < left:
        number += 1
        length = min(KIB_64 if number % 3 else 100, left - sent)
        sent += length
        expected += bytes([number % 251]) * 2 + length.to_bytes(4, "big")
    assert got == expected
    assert ends == [False] * (len(ends) - 1) + [True]


@pytest.mark.parametrize("how", ["reset", "timeout"])
async def test_gathered_reads_come_before_the_error(play: Play, how: str) -> None:
    sid, link = await bulk(play)
    await flushed(play)
    play.hears()
    link.says(b"b" * KIB_64)
    assert play.hears_nothing(), "it is gathered"
    if how == "reset":
        link.resets()
        await play.turn()
    else:
        play.clock.now += 1000
        play._sweep()
    parts = play.hears_data(sid)
    kind = "bad_gateway" if how == "reset" else "gateway_timeout"
    assert [(payload[:1], error) for payload, _, error in parts] == [(b"b", ""), (b"", kind)]
    await flushed(play)
    assert play.hears_nothing(), "nothing may follow the error"


async def test_gathered_reads_of_a_body_that_ends_with_the_connection_end_with_it(play: Play) -> None:
    play.serves()
    sid = play.asks()
    await play.turn()
    link = play.backend().link
    link.says(b"HTTP/1.1 200 OK\r\n\r\n")
    for _ in range(BULK // KERNEL_READ + 2):
        link.says(b"a" * KERNEL_READ)
        play.credits(sid, KERNEL_READ)
    await flushed(play)
    play.hears()
    link.says(b"b" * KIB_64)
    link.closes()
    parts = play.hears_data(sid)
    assert b"".join(payload for payload, _, _ in parts) == b"b" * KIB_64
    assert [ended for _, ended, _ in parts] == [False] * (len(parts) - 1) + [True]
    await flushed(play)
    assert play.hears_nothing()


async def test_a_used_up_window_lets_gathered_reads_go_at_once(play: Play) -> None:
    sid, link = await bulk(play)
    play.hears()
    got = 0
    for _ in range(WINDOW // KIB_64 + 1):
        link.says(b"b" * KIB_64)
        got += size(play.hears_data(sid))
    assert got > WINDOW - KIB_64, "who waits for credit must not wait for it with bytes in hand"
    play.cancels(sid)


# -- all of it together ----------------------------------------------------------------------


steps = st.lists(
    st.one_of(
        st.tuples(st.just("says"), st.sampled_from([1, 100, 16_384, 65_536, 262_144])),
        st.tuples(st.just("credits"), st.sampled_from([1, 1000, 262_144, 1_000_000])),
        st.tuples(st.just("turn"), st.just(0)),
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(plan=steps, framing=st.sampled_from(["length", "chunked", "close"]), gathers=st.booleans())
async def test_a_body_arrives_whole_and_in_order_whatever_the_pace(plan: list[tuple[str, int]], framing: str, gathers: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        play = Play(patch)
        await play.begin()
        play.serves()
        first = 2 * BULK if gathers else 10
        total = first + sum(amount for word, amount in plan if word == "says")
        pattern = bytes(range(251))
        body = (pattern * (total // 251 + 1))[:total]
        sid = play.asks()
        await play.turn()
        link = play.backend().link
        heads = {"length": b"Content-Length: %d\r\n" % total, "chunked": b"Transfer-Encoding: chunked\r\n", "close": b""}
        link.says(b"HTTP/1.1 200 OK\r\n" + heads[framing] + b"\r\n")
        at = 0
        credit = WINDOW
        for word, amount in [("says", first), *plan]:
            if word == "says":
                piece = body[at : at + amount]
                at += amount
                link.says(b"%x\r\n%b\r\n" % (len(piece), piece) if framing == "chunked" else piece)
            elif word == "credits":
                credit += amount
                play.credits(sid, amount)
            else:
                await play.turn()
            sent = sum(len(e.payload if isinstance(e, Data) else e.body) for _, e in play.context.sent if isinstance(e, Data | Response))
            assert sent <= credit + KERNEL_READ, "the client gets no more ahead than it granted, but for one read"
        if framing == "chunked":
            link.says(b"0\r\n\r\n")
        elif framing == "close":
            link.closes()
        play.credits(sid, 100 * WINDOW)
        await play.turn()
        if framing == "close":
            link.pump()
        await play.turn()
        head, *parts = [envelope for _, envelope in play.hears()]
        assert b"".join([head.body, *(part.payload for part in parts)]) == body
        assert [part.ended for part in parts] == [False] * (len(parts) - 1) + [True]
        await play.end()


async def test_many_downloads_at_once_keep_apart(play: Play) -> None:
    play.serves()
    sids = [play.asks() for _ in range(8)]
    await play.turn()
    links = play.backend().links
    for link in links:
        link.says(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (3 * WINDOW))
    play.hears()
    got: dict[int, bytes] = dict.fromkeys(sids, b"")
    for _ in range(3 * WINDOW // KIB_64):
        for number, link in enumerate(links):
            link.says(b"%d" % number * KIB_64)
            play.credits(sids[number], KIB_64)
    for _, part in play.hears():
        got[part.sid] += part.payload
    assert [got[sid] == b"%d" % number * (3 * WINDOW) for number, sid in enumerate(sids)] == [True] * 8
