"""Clients of HTTP/2 that obey GOAWAY: whoever tells them so in time is not to lose a stream."""

from __future__ import annotations

import threading
from collections import Counter
from types import TracebackType
from typing import Self

from pingap.stages.http2.engine import Fields
from tests.conformance.peer import Closed, Peer
from tests.http2.wire import WINDOW, frame, headers, u32
from tests.kit.waiting import until


def asks(target: str) -> Fields:
    return ((b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"test.local"), (b":path", target.encode()))


class Http2Load:
    """Connections that ask for `/echo/…` on several streams at a time, round after round, in threads of their own."""

    def __init__(self, port: int, connections: int = 2, in_flight: int = 4) -> None:
        """in_flight: on each connection."""
        self._port = port
        self._in_flight = in_flight
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,), daemon=True) for number in range(connections)]
        self._rounds = [0] * connections
        self.statuses: Counter[int] = Counter()
        self.moved = 0
        """Connections that were left because of a GOAWAY."""
        self.wrong: list[str] = []

    def __enter__(self) -> Self:
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
        goals = [done + rounds for done in self._rounds]
        until(lambda: self.wrong or all(done >= goal for done, goal in zip(self._rounds, goals, strict=True)), 15, f"{rounds} rounds more")

    def _run(self, number: int) -> None:
        try:
            while not self._stop.is_set():
                self._converse(number)
        except (AssertionError, OSError, Closed) as error:
            self.wrong.append(repr(error))

    def _converse(self, number: int) -> None:
        with Peer(self._port) as peer:
            peer.send(frame(WINDOW, 0, 0, u32(2**30)))  # it acknowledges nothing
            stream = 1
            while not self._stop.is_set() and not peer.goaways():
                batch = range(stream, stream + 2 * self._in_flight, 2)
                peer.send(b"".join(headers(one, asks(f"/echo/{number}/{one}"), ended=True) for one in batch))
                for one in batch:
                    answer = peer.answer(one, 10)
                    self.statuses[answer.status] += 1
                    if answer.status == 200 and f"/echo/{number}/{one} ".encode() not in answer.body:
                        self.wrong.append(f"stream {one} of {number} got {answer.body[:60]!r}")
                stream += 2 * self._in_flight
                self._rounds[number] += 1
            self.moved += bool(peer.goaways())
