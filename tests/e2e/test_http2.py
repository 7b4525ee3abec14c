"""HTTP/2 clients while something happens to the stages behind them: their connections stay, and every stream gets its own answer."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import pytest

from pingap.stages.http2.engine import Fields
from tests.conformance.peer import Closed, Peer
from tests.e2e.harness import Pingap, site
from tests.e2e.origins import Nginx
from tests.http2.wire import WINDOW, frame, headers, u32
from tests.kit.waiting import until

CONNECTIONS = 3
STREAMS = 6
"""In flight on each connection."""


def asks(target: str) -> Fields:
    return ((b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"test.local"), (b":path", target.encode()))


class Streams:
    """Connections that ask for `/echo/N` on several streams at a time, round after round, in threads of their own."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(CONNECTIONS)]
        self.rounds = [0] * CONNECTIONS
        self.statuses: Counter[int] = Counter()
        self.wrong: list[str] = []

    def __enter__(self) -> Streams:
        for thread in self._threads:
            thread.start()
        self.advance(5)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(20)
        assert not any(thread.is_alive() for thread in self._threads)

    def advance(self, rounds: int) -> None:
        """Waits until every connection has had so many rounds more."""
        goals = [done + rounds for done in self.rounds]
        until(lambda: self.wrong or all(done >= goal for done, goal in zip(self.rounds, goals, strict=True)), 15, f"{rounds} rounds more")

    def _run(self, number: int) -> None:
        try:
            with Peer(self._port) as peer:
                peer.send(frame(WINDOW, 0, 0, u32(2**30)))  # it acknowledges nothing
                stream = 1
                while not self._stop.is_set():
                    batch = range(stream, stream + 2 * STREAMS, 2)
                    peer.send(b"".join(headers(one, asks(f"/echo/{number}/{one}"), ended=True) for one in batch))
                    for one in batch:
                        answer = peer.answer(one, 10)
                        self.statuses[answer.status] += 1
                        if answer.status == 200 and f"/echo/{number}/{one} ".encode() not in answer.body:
                            self.wrong.append(f"stream {one} of {number} got {answer.body[:60]!r}")
                    stream += 2 * STREAMS
                    self.rounds[number] += 1
        except (AssertionError, OSError, Closed) as error:
            self.wrong.append(repr(error))


@pytest.fixture(scope="module")
def split(nginx: Nginx) -> Iterator[Pingap]:
    server = 'enabled_h2 = true\naccess_log = "{dir}/access.log {proto} {uri} {status}"'
    with Pingap(site([nginx.port], location='plugins = ["pingap:requestId"]', server=server), "split") as instance:
        yield instance


@pytest.mark.parametrize("stage", ["routing", "plugins", "upstream", "logging", "config"])
def test_no_connection_closes_when_a_stage_is_killed(split: Pingap, stage: str) -> None:
    with Streams(split.port) as streams:
        old = split.pid(stage)
        os.kill(old, signal.SIGKILL)
        split.wait_restarted(stage, old)
        streams.advance(20)
    assert not streams.wrong
    assert set(streams.statuses) <= {200, 502, 503}
    failed = sum(count for status, count in streams.statuses.items() if status != 200)
    assert failed <= (0 if stage in ("logging", "config") else CONNECTIONS * STREAMS), streams.statuses


def test_a_reload_and_more_replicas_are_not_noticed(split: Pingap, nginx: Nginx) -> None:
    with Streams(split.port) as streams:
        text = split.config.read_text()
        split.config.write_text(text.replace('plugins = ["pingap:requestId"]', "weight = 100"))
        split.wait_output("configuration committed .*weight")
        assert split.command("scale", "routing=2").returncode == 0
        streams.advance(20)
        assert split.command("scale", "routing=1").returncode == 0
        streams.advance(20)
        split.config.write_text(text)
    assert not streams.wrong
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
