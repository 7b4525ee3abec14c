"""How long accept waits for an answer of which nothing is heard: longer than all who serve it, and not for ever."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pingap.config.model import Location, Server, Snapshot, Upstream
from pingap.config.parts import Backend
from pingap.stages.accept import patience
from pingap.stages.accept.compiled import compile_generation
from pingap.stages.accept.patience import HOOK, LONGEST_WAIT, MARGIN, REMOVED, SLOW
from pingap.stages.plugins.user_code import WHOLE
from pingap.stages.steps import finished
from pingap.stages.streams import LOOK
from pingap.stages.upstream import core, dial, waiting
from tests.accept.playbook import PLUGINS, ROUTING, UPSTREAM, Play, get

FAST = Upstream(addrs=(Backend("127.0.0.1", 1),), pending_timeout=6.0, connection_timeout=1.0, read_timeout=400.0, write_timeout=5.0)
ONE_TRY = 6 + 3 * 1 + 400 + 5


def patience_of(location: Location, upstream: Upstream = FAST, others: tuple[Upstream, ...] = (), **plugins: Any) -> float:
    """Beyond what is the same for all."""
    upstreams = {"u": upstream, **{f"other{n}": one for n, one in enumerate(others)}}
    server = Server(addr=(), locations=("l",), downstream_read_timeout=7.0)
    snapshot = Snapshot(servers={"web": server}, locations={"l": location}, upstreams=upstreams, plugins=plugins)
    return finished(compile_generation(snapshot, {})).patience["web"] - MARGIN - 7.0


def test_what_it_takes_from_others_is_what_they_have() -> None:
    assert patience.CONNECT == dial.DEFAULT_CONNECT_TIMEOUT
    assert patience.LONGEST_WAIT == waiting.LONGEST_WAIT
    assert patience.RETRIES == core.DEFAULT_RETRIES
    assert patience.HOOK == WHOLE


@pytest.mark.parametrize(
    ("location", "seconds"),
    [
        (Location(upstream="u"), 4 * ONE_TRY),
        (Location(upstream="u", max_retries=0), ONE_TRY),
        (Location(upstream="u", max_retry_window=20.0), 20 + ONE_TRY),
        (Location(upstream="u", max_retries=0, max_retry_window=1e6), ONE_TRY),
    ],
)
def test_all_tries_count_as_far_as_they_are_allowed(location: Location, seconds: float) -> None:
    assert patience_of(location) == pytest.approx(seconds)


def test_where_an_upstream_sets_no_limit_its_stage_does() -> None:
    once = Location(upstream="u", max_retries=0)
    assert patience_of(once, replace(FAST, connection_timeout=None)) == pytest.approx(ONE_TRY - 3 + 30)
    assert patience_of(once, replace(FAST, total_connection_timeout=2.0)) == pytest.approx(ONE_TRY - 1)
    assert patience_of(once, replace(FAST, read_timeout=1.0)) == pytest.approx(ONE_TRY - 400 + LONGEST_WAIT)


def test_who_may_choose_an_upstream_may_choose_the_slowest() -> None:
    slow = replace(FAST, read_timeout=4000.0)
    assert patience_of(Location(upstream="u", max_retries=0), FAST, (slow,)) == pytest.approx(ONE_TRY)
    assert patience_of(Location(upstream="$one", max_retries=0), FAST, (slow,)) == pytest.approx(ONE_TRY + 3600)


@pytest.mark.parametrize(
    ("section", "seconds"),
    [
        ({"category": "python", "timeout": "100s"}, 200),
        ({"category": "python"}, 2 * HOOK),
        ({"category": "mock", "delay": "90s"}, 2 * HOOK + 90),
        ({"category": "limit", "delay": 5, "max_wait": "90s"}, 2 * HOOK + 90),
        ({"category": "python", "delay": 5, "timeout": 3}, 2 * HOOK),
    ],
)
def test_plugins_have_what_they_may_take_and_more(section: dict[str, Any], seconds: float) -> None:
    location = Location(upstream="u", plugins=("p",), max_retries=0)
    assert patience_of(location, p=section) == pytest.approx(SLOW * (ONE_TRY + seconds))


async def test_a_client_is_told_and_may_go_on(play: Play) -> None:
    server = Server(addr=(), locations=("l",))
    snapshot = Snapshot(servers={"web": server}, locations={"l": Location(upstream="u", max_retries=0)}, upstreams={"u": FAST})
    play.commits(2, snapshot=snapshot)
    client = play.connects(keepalive_timeout=75)
    client.says(get())
    play.hears_request()
    bound = MARGIN + server.downstream_read_timeout + ONE_TRY
    await play.passes(bound)
    assert client.hears() == b""
    await play.passes(3 * LOOK)
    assert client.hears().startswith(b"HTTP/1.1 504 ")
    assert play.hears_cancels() == {ROUTING, PLUGINS, UPSTREAM}
    assert (play.event.status, play.event.error) == (504, "gateway_timeout")
    client.says(get())
    play.answers(play.hears_request())
    assert client.hears().startswith(b"HTTP/1.1 200 ")


async def test_a_server_that_is_gone_from_the_file_has_a_bound_too(play: Play) -> None:
    client = play.connects()
    client.says(get())
    play.hears_request()
    play.clock.now += LOOK
    await play.passes(LOOK)
    play.clock.now += REMOVED
    await play.passes(LOOK)
    assert client.hears().startswith(b"HTTP/1.1 504 ")
