"""Shared HTTP/2 connections under many slow clients, chokes that are over, and settings and GOAWAYs that come in the middle."""

from __future__ import annotations

from typing import Any

import pytest

from pingap.stages.http2.engine import LocalSettings
from pingap.stages.messages import WINDOW, Response
from pingap.stages.upstream.places import RESETS
from tests.upstream.playbook import Http2Link, Play
from tests.upstream.test_http2 import heard, served, switches


@pytest.fixture(params=["h2", "ngh2"])
def serves(play: Play, request: pytest.FixtureRequest) -> Any:
    pytest.importorskip(request.param)

    def serve(**more: Any) -> Any:
        return play.serves("a:1", "least_conn", **({"alpn": "h2", "http2_engine": request.param} | more))

    return serve


async def test_a_hundred_slow_clients_leave_room_for_a_fast_one(play: Play, serves: Any) -> None:
    serves()
    sids = [play.asks() for _ in range(100)]
    link, (fast, *slow) = await heard(play)
    for stream in slow:
        link.starts(stream)
        for _ in range(8):
            link.sends(stream, b"x" * WINDOW)
        assert link.engine.room(stream) == 0
    play.hears()
    link.starts(fast)
    sent = 0
    for _ in range(20):
        sent += link.sends(fast, b"x" * 128 * 1024)
        link.listens()
    assert sent > WINDOW
    for sid in sids:
        play.cancels(sid)


async def test_a_choke_that_is_over_is_no_deadline_for_those_that_had_nothing_to_send(play: Play, serves: Any) -> None:
    serves(write_timeout=10.0)
    play.backend().settings = LocalSettings(window=8 * WINDOW, connection_window=16 * WINDOW)
    quiet, loud = play.uploads(), play.uploads()
    link, _ = await heard(play)
    link.stops_reading()
    for _ in range(4):
        play.sends(loud, b"u" * 256 * 1024)
        await play.turn()
    assert link.connection.choked
    link.reads()
    for _ in range(5):
        await play.passes(8)
        play.sends(loud, b"u")
        await heard(play)
    assert not any(isinstance(envelope, Response) for _, envelope in play.hears())
    play.cancels(quiet)
    play.cancels(loud)


@pytest.mark.parametrize("ended", [False, True])
async def test_the_backends_time_begins_when_its_window_is_full(play: Play, serves: Any, ended: bool) -> None:
    serves(write_timeout=10.0)
    sid = play.uploads()
    link, _ = await heard(play)
    link.acknowledges = False
    play.sends(sid, b"u" * 1000)
    play.sends(sid, b"u" * WINDOW, ended)
    await heard(play)
    play.hears()
    await play.passes(9)
    assert play.hears_nothing()
    await play.passes(2)
    assert play.hears_response(sid).status == 504


async def test_the_last_bytes_of_a_tunnel_wait_for_room(play: Play, serves: Any) -> None:
    serves()
    play.backend().settings = LocalSettings(enable_connect=True)
    sid = switches(play)
    link, (stream,) = await heard(play)
    link.starts(stream)
    link.sends(stream, b"", ended=True)
    link.acknowledges = False
    play.sends(sid, b"u" * 512 * 1024, ended=True)
    await heard(play)
    assert len(link.bodies[stream]) < 512 * 1024
    link.acknowledges = True
    link.engine.acknowledge(stream, LocalSettings().window)
    link.speaks()
    await heard(play)
    await heard(play)
    assert (len(link.bodies[stream]), stream in link.ended, link.reset) == (512 * 1024, True, {})
    assert not link.is_closed


async def test_the_last_bytes_of_a_tunnel_wait_though_the_backend_ends_its_half_after_them(play: Play, serves: Any) -> None:
    serves()
    play.backend().settings = LocalSettings(enable_connect=True)
    sid = switches(play)
    link, (stream,) = await heard(play)
    link.starts(stream)
    link.acknowledges = False
    play.sends(sid, b"u" * 512 * 1024, ended=True)
    await heard(play)
    link.sends(stream, b"", ended=True)
    link.acknowledges = True
    link.engine.acknowledge(stream, LocalSettings().window)
    link.speaks()
    await heard(play)
    await heard(play)
    assert (len(link.bodies[stream]), stream in link.ended, link.reset) == (512 * 1024, True, {})


NO_STREAMS = bytes.fromhex("000006 04 00 00000000 0003 00000000")
"""SETTINGS with MAX_CONCURRENT_STREAMS 0."""


async def test_an_idle_connection_that_allows_no_streams_any_more_is_closed(play: Play, serves: Any) -> None:
    serves(max_connections=1)
    link = await served(play)
    link.says(NO_STREAMS)
    await play.turn()
    assert link.is_closed
    assert await served(play) is not link


async def test_a_connection_that_allows_no_streams_any_more_is_closed_after_its_last(play: Play, serves: Any) -> None:
    serves(max_connections=1)
    sid = play.asks()
    link, (stream,) = await heard(play)
    link.says(NO_STREAMS)
    later = play.asks()
    await play.turn()
    link.answers(stream)
    assert play.hears_response(sid).status == 200
    other, (stream,) = await heard(play)
    other.answers(stream)
    assert play.hears_response(later).status == 200
    assert (link.is_closed, other.is_closed) == (True, False)


async def test_a_goaway_that_leaves_out_many_ends_nothing_of_what_it_names(play: Play, serves: Any) -> None:
    serves(max_h2_streams=300)
    play.backend().settings = LocalSettings(max_streams=400)
    await served(play)
    sids = [play.asks() for _ in range(200)]
    link, streams = await heard(play)
    link.leaves(streams[49])
    await play.turn()
    link.answers(streams[0])
    assert play.hears_response(sids[0]).status == 200
    for sid in sids:
        play.cancels(sid)


async def leave(play: Play, count: int) -> None:
    """So many requests whose clients leave at once."""
    for _ in range(count):
        sid = play.asks()
        await play.turn()
        play.cancels(sid)
        await play.turn()


async def test_clients_that_leave_in_crowds_do_not_use_up_what_a_backend_bears(play: Play, serves: Any) -> None:
    serves()
    stays = play.asks()
    link, (stream,) = await heard(play)
    await leave(play, 2 * int(RESETS.burst) + 100)
    for each in play.backend().links:
        assert isinstance(each, Http2Link)
        each.listens()
    assert [len(each.reset) for each in play.backend().links] == [201, 201, 98]  # type: ignore[attr-defined]
    link.answers(stream)
    assert play.hears_response(stays).status == 200
    await play.turn()
    assert [each.is_closed for each in play.backend().links] == [True, True, False]


async def test_clients_that_leave_now_and_then_do_not_matter(play: Play, serves: Any) -> None:
    serves()
    for _ in range(10):
        await leave(play, 100)
        await play.passes(5)
    assert len(play.backend().links) == 1


async def test_where_there_may_be_one_connection_only_it_goes_on_whoever_leaves(play: Play, serves: Any) -> None:
    serves(max_connections=1)
    stays = play.asks()
    link, (stream,) = await heard(play)
    await leave(play, 300)
    link.listens()
    link.answers(stream)
    assert play.hears_response(stays).status == 200
    assert not link.is_closed


async def test_an_upload_outlives_a_window_that_shrinks_below_nothing(play: Play, serves: Any) -> None:
    serves()
    sid = play.uploads()
    link, (stream,) = await heard(play)
    link.acknowledges = False
    play.sends(sid, b"a" * 256 * 1024)
    await heard(play)
    link.says(bytes.fromhex("000006 04 00 00000000 0004 00000400"))  # INITIAL_WINDOW_SIZE 1024: 255 KiB less than nothing
    play.sends(sid, b"b" * 1024, ended=True)
    await heard(play)
    assert len(link.bodies[stream]) == 256 * 1024
    link.says(bytes.fromhex("000004 08 00") + stream.to_bytes(4, "big") + (255 * 1024).to_bytes(4, "big"))
    await heard(play)
    assert stream not in link.ended
    link.says(bytes.fromhex("000006 04 00 00000000 0004 00000800"))
    assert b"b" * 1024 in link.hears()
    play.cancels(sid)
