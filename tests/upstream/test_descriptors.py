"""When this process may have no more sockets: what idles gives way, else 503 at once, one line a minute, and no backend is blamed."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

import pytest

from pingap.bus.descriptors import Descriptors, kept
from pingap.stages.upstream.troubles import SHORT_PAUSE
from tests.upstream.playbook import OK, Play


@pytest.fixture(autouse=True)
def is_told(play: Play) -> Iterator[None]:
    """That it was told is expected here; elsewhere an error in the log fails a test."""
    yield
    play.context.logged.clear()


def may_have(play: Play, connections: int) -> None:
    for limit in range(connections + 64, 10_000):
        descriptors = Descriptors(limit)
        if limit - kept(limit) == connections:
            play.actor.pools.descriptors = descriptors
            break


async def test_the_request_beyond_the_last_descriptor_is_refused_at_once_and_the_others_go_on(play: Play) -> None:
    play.serves()
    may_have(play, 2)
    busy = [play.asks(target=b"/%d" % number) for number in range(2)]
    await play.turn()
    for _ in range(3):
        sid = play.asks()
        await play.turn()
        assert play.hears_response(sid).status == 503
    assert play.backend().asked == 2
    for sid, link in zip(busy, play.backend().links, strict=True):
        link.hears()
        link.says(OK)
        assert play.hears_response(sid).status == 200
    await play.fetches()
    assert play.backend().asked == 2


async def test_an_idle_connection_to_another_backend_gives_way(play: Play) -> None:
    play.serves("a:1 b:2", "round_robin")
    may_have(play, 1)
    for _ in range(4):  # each goes to the other one in turn
        sid = play.asks()
        await play.turn()
        (link,) = [link for address in ("a:1", "b:2") for link in play.backend(address).open]
        link.says(OK)
        assert play.hears_response(sid).status == 200
    assert play.backend("a:1").asked == play.backend("b:2").asked == 2


async def test_one_line_a_minute_tells_and_no_backend_is_blamed(play: Play) -> None:
    play.serves()
    may_have(play, 1)
    busy = play.asks()
    await play.turn()

    async def refused() -> None:
        sid = play.asks()
        await play.turn()
        assert play.hears_response(sid).status == 503

    for _ in range(5):
        await refused()
    lines = [(level, message) for level, message, _ in play.context.logged]
    assert [level for level, _ in lines] == ["error"]
    assert "ulimit -n" in lines[0][1]
    play.clock.now += SHORT_PAUSE
    await refused()
    assert len(play.context.logged) == 2
    play.backend().link.says(OK)
    assert play.hears_response(busy).status == 200


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE])
async def test_what_the_system_has_no_descriptor_for_is_not_tried_at_every_backend(play: Play, code: int) -> None:
    play.serves("a:1 b:2", "round_robin")
    for address in ("a:1", "b:2"):
        play.backend(address).refuses = OSError(code, os.strerror(code))
    sid = play.asks()
    await play.turn()
    assert play.hears_response(sid).status == 503
    assert play.backend("a:1").asked + play.backend("b:2").asked == 1


async def test_connections_that_have_ended_and_failed_connects_count_no_more(play: Play) -> None:
    play.serves()
    may_have(play, 1)
    for _ in range(3):
        play.backend().refuses = OSError(errno.ECONNREFUSED, "refused")
        sid = play.asks()
        await play.turn()
        assert play.hears_response(sid).status == 502
        play.backend().refuses = None
        (await play.fetches()).closes()
        await play.turn()
