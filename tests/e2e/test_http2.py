"""HTTP/2 clients while something happens to the stages behind them: their connections stay, and every stream gets its own answer."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.peer import Peer
from tests.e2e.harness import Pingap, site
from tests.e2e.http2_load import Http2Load, asks
from tests.e2e.origins import Nginx
from tests.http2.wire import headers
from tests.kit.waiting import until

CONNECTIONS = 3
STREAMS = 6
"""In flight on each connection."""


@pytest.fixture(scope="module")
def split(nginx: Nginx) -> Iterator[Pingap]:
    server = 'enabled_h2 = true\naccess_log = "{dir}/access.log {proto} {uri} {status}"'
    with Pingap(site([nginx.port], location='plugins = ["pingap:requestId"]', server=server), "split") as instance:
        yield instance


@pytest.mark.parametrize("stage", ["routing", "plugins", "upstream", "logging", "config"])
def test_no_connection_closes_when_a_stage_is_killed(split: Pingap, stage: str) -> None:
    with Http2Load(split.port, CONNECTIONS, STREAMS) as streams:
        old = split.pid(stage)
        os.kill(old, signal.SIGKILL)
        split.wait_restarted(stage, old)
        streams.advance(20)
    assert not streams.wrong and not streams.moved
    assert set(streams.statuses) <= {200, 502, 503}
    failed = sum(count for status, count in streams.statuses.items() if status != 200)
    assert failed <= (0 if stage in ("logging", "config") else CONNECTIONS * STREAMS), streams.statuses


def test_a_reload_and_more_replicas_are_not_noticed(split: Pingap, nginx: Nginx) -> None:
    with Http2Load(split.port, CONNECTIONS, STREAMS) as streams:
        text = split.config.read_text()
        split.config.write_text(text.replace('plugins = ["pingap:requestId"]', "weight = 100"))
        split.wait_output("configuration committed .*weight")
        assert split.command("scale", "routing=2").returncode == 0
        streams.advance(20)
        assert split.command("scale", "routing=1").returncode == 0
        streams.advance(20)
        split.config.write_text(text)
    assert not streams.wrong and not streams.moved
    assert set(streams.statuses) == {200}


def test_the_log_says_what_was_spoken(split: Pingap) -> None:
    with Peer(split.port) as peer:
        peer.send(headers(1, asks("/echo/logged"), ended=True))
        assert peer.answer(1).status == 200
    log = Path(split.dir / "access.log")
    until(lambda: "HTTP/2.0 /echo/logged 200" in log.read_text(), 5, "the line is written")


def test_http2_is_spoken_to_new_connections_once_a_reload_allows_it(nginx: Nginx, placement: str) -> None:
    with Pingap(site([nginx.port]), placement) as proxy:
        with Peer(proxy.port, raw=True) as peer:
            peer.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            assert peer.http1_head().startswith(b"HTTP/1.1 505 ")
        proxy.write_config(site([nginx.port], server="enabled_h2 = true"))
        proxy.wait_output("configuration committed .*enabled_h2")
        with Peer(proxy.port) as peer:
            peer.send(headers(1, asks("/echo/now"), ended=True))
            assert peer.answer(1).status == 200
