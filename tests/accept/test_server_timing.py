"""`Server-Timing`: what the developer tools of a browser are told of where an answer's time went."""

from __future__ import annotations

from typing import Any

import pytest

from pingap.stages.accept.server_timing import timed
from pingap.stages.http2.engine import Head
from pingap.stages.messages import Report, Response
from tests.accept.playbook import Play, get
from tests.accept.test_http2 import Browser

STAMPS = (1.0, 1.001, 1.002, 1.003, 1.010, 1.0125, 1.013, 1.0329)
REPORT = Report("l", "u", "127.0.0.1:9", 200, True, 1, STAMPS, (), "", {}, "")


def line(context: dict[str, Any], stamps: tuple[float, ...] = STAMPS, addr: str = "127.0.0.1:9") -> str:
    report = Report("l", "u", addr, 200, True, 1, stamps, (), "", context, "")
    headers = timed(Response(1, 2, 200, b"server-timing: db;dur=1\r\n", 0, b"", True, report, ()), 1.0, 1.0409).headers
    before, _, rest = headers.decode().partition("\r\n")
    assert before == "server-timing: db;dur=1", "what the backend says stays"
    return rest


@pytest.mark.parametrize(
    ("context", "said"),
    [
        ({}, ""),
        ({"plugin_seconds": {"auth": 0.0029}}, "plugin.auth;dur=2, plugin;dur=2, "),
        (
            {"plugin_seconds": {"a": 0.0029, "b": 0.0004, "pingap:x": 0.01}},
            "plugin.a;dur=2, plugin.pingap_x;dur=10, plugin;dur=12, ",
        ),
        ({"plugin_seconds": {'a", b\r\nx: y': 0.002}}, "plugin.a___b__x__y;dur=2, plugin;dur=2, "),
        ({"plugin_seconds": "of a capture"}, ""),
        ({"cache_lookup_time": 0.0021}, "cache.lookup;dur=2.1, "),
        ({"cache_lookup_time": 0.0000734, "cache_lock_time": 0.25}, "cache.lookup;dur=0.073, cache.lock;dur=250, "),
        ({"cache_lookup_time": "of a capture", "cache_lock_time": float("inf")}, ""),
        ({"plugin_seconds": {"auth": "long", "geo": float("inf"), "id": [1]}}, ""),
    ],
)
def test_the_reference_s_words_in_its_order(context: dict[str, Any], said: str) -> None:
    upstream = "upstream.connect;dur=2, upstream.processing;dur=20, upstream;dur=22"
    assert line(context) == f"server-timing: {upstream}, {said}total;dur=40\r\n"


def test_what_neither_a_backend_nor_a_cache_said_has_none() -> None:
    assert line({}, addr="") == ""
    assert line({"cache_lookup_time": 0.001}, stamps=STAMPS[:4], addr="") == "server-timing: cache.lookup;dur=1.0, total;dur=40\r\n"
    assert line({}, stamps=STAMPS[:4]) == "server-timing: total;dur=40\r\n"


@pytest.mark.parametrize("enabled", [True, False])
async def test_servers_say_it_where_it_is_enabled(play: Play, enabled: bool) -> None:
    client = play.connects(enable_server_timing=enabled)
    client.says(get())
    play.answers(play.hears_request(), report=REPORT)
    assert (b"\r\nserver-timing: upstream.connect;dur=2," in client.hears()) is enabled


async def test_over_http2_as_well(play: Play) -> None:
    browser = Browser(play, "h2", enable_server_timing=True)
    browser.asks()
    play.answers(play.hears_request(), report=REPORT)
    [head] = [event for event in await browser.listens() if isinstance(event, Head)]
    assert dict(head.fields)[b"server-timing"].startswith(b"upstream.connect;dur=2, ")
