"""`enable_tracer`: what the log tells of each connection to a backend."""

from __future__ import annotations

from typing import Any

import pytest

from pingap.stages.upstream.tracer import MOST
from tests.upstream.playbook import OK, Http2Link, Play


def told(play: Play) -> list[dict[str, Any]]:
    return [
        {"": message.removeprefix("backend connection "), **fields} for level, message, fields in play.context.logged if level == "info"
    ]


async def test_without_the_key_nothing_is_told(play: Play) -> None:
    play.serves()
    (await play.fetches()).closes()
    await play.turn()
    assert told(play) == []


async def test_a_connection_is_told_of_when_it_is_opened_and_when_the_backend_closes_it(play: Play) -> None:
    play.serves(enable_tracer=True)
    link = await play.fetches()
    link.connection.connect_seconds = ()
    await play.fetches()
    play.clock.now += 3.5
    link.closes()
    await play.turn()
    about = {"upstream": "api", "addr": "a:1"}
    assert told(play) == [
        {"": "opened", **about, "protocol": "HTTP/1.1"},
        {"": "closed", **about, "by": "backend", "why": "closed", "seconds": 3.5, "requests": 2},
    ]


async def ends(play: Play, how: str) -> None:
    """One connection, opened and ended."""
    if how == "reset by peer":
        (await play.fetches()).resets()
    elif how == "idle_timeout":
        await play.fetches()
        await play.passes(61)
    elif how == "upstream_keepalive_pool_size":
        sids = [play.asks(), play.asks()]
        await play.turn()
        for sid, link in zip(sids, play.backend().links, strict=True):
            link.says(OK)
            play.hears_response(sid)
        await play.passes(0.5)
    elif how == "its upstream has changed":
        await play.fetches()
        play.serves("b:1")
    elif how == "its backend has left":
        await play.fetches()
        play.resolves(api={"a:1": ["b"]})
    elif how == "pingap stops":
        await play.fetches()
        await play.actor.stop()
    elif how == "the answer says so":
        sid = play.asks()
        await play.turn()
        play.backend().link.says(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        play.hears_response(sid)
    elif how == "its request was given up":
        sid = play.asks()
        await play.turn()
        play.cancels(sid)
    elif how == "read_timeout":
        play.asks()
        await play.turn()
        await play.passes(8)
        play.hears()
    elif how == "spoke without being asked":
        (await play.fetches()).says(OK)
    elif how == "found closed, or with more to say":
        link = await play.fetches()
        link.closes(now=False)
        await play.fetches(b"POST")
    else:
        play.asks()
        await play.turn()
        play.backend().link.says(b"nonsense")
        play.hears()
    await play.turn()


@pytest.mark.parametrize(
    ("why", "by"),
    [
        ("reset by peer", "backend"),
        ("idle_timeout", "pingap"),
        ("upstream_keepalive_pool_size", "pingap"),
        ("its upstream has changed", "pingap"),
        ("its backend has left", "pingap"),
        ("pingap stops", "pingap"),
        ("the answer says so", "pingap"),
        ("its request was given up", "pingap"),
        ("read_timeout", "pingap"),
        ("spoke without being asked", "pingap"),
        ("found closed, or with more to say", "pingap"),
        ("backend does not speak HTTP/1", "pingap"),
    ],
)
async def test_who_closed_a_connection_and_why(play: Play, why: str, by: str) -> None:
    play.serves(enable_tracer=True, read_timeout=7.0, basic={"upstream_keepalive_pool_size": 1})
    await ends(play, why)
    closed = [(line["by"], line["why"]) for line in told(play) if line[""] == "closed"]
    assert closed == [(by, why)]


async def test_over_http2_it_is_one_connection_for_all_its_requests(play: Play) -> None:
    play.serves(alpn="h2", enable_tracer=True)
    sids = [play.asks(), play.asks()]
    await play.turn()
    link = play.backend().link
    assert isinstance(link, Http2Link)
    for stream in link.listens():
        link.answers(stream)
    assert {response.sid for _, response in play.hears()} == set(sids)
    link.leaves(99, 0)
    await play.turn()
    opened, closed = told(play)
    assert opened["protocol"] == "HTTP/2"
    assert (closed["by"], closed["why"], closed["requests"]) == ("pingap", "the backend has said GOAWAY", 2)


async def test_a_storm_of_connections_is_told_of_in_part(play: Play) -> None:
    play.serves(enable_tracer=True, idle_timeout=0.0)
    for _ in range(2 * MOST):
        await play.fetches()
    assert [line[""] for line in told(play)].count("opened") == MOST
    assert [line[""] for line in told(play)].count("closed") == MOST
