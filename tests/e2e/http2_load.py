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

IN_FLIGHT = 4


class Http2Load:
    """Connections, each with four streams at a time, round after round, in threads of their own."""

    def __init__(self, port: int, connections: int = 2) -> None:
        self._port = port
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(connections)]
        self.statuses: Counter[int] = Counter()
        self.moved = 0
        """Connections that were left because of a GOAWAY."""
        self.wrong: list[str] = []

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        until(lambda: self.statuses.total() > 20 or self.wrong, 15, "it runs")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(20)
        assert not any(thread.is_alive() for thread in self._threads)

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._converse()
        except (AssertionError, OSError, Closed) as error:
            self.wrong.append(repr(error))

    def _converse(self) -> None:
        with Peer(self._port) as peer:
            peer.send(frame(WINDOW, 0, 0, u32(2**30)))  # it acknowledges nothing
            stream = 1
            while not self._stop.is_set() and not peer.goaways():
                batch = range(stream, stream + 2 * IN_FLIGHT, 2)
                peer.send(b"".join(headers(one, _asks(one), ended=True) for one in batch))
                for one in batch:
                    self.statuses[peer.answer(one, 10).status] += 1
                stream += 2 * IN_FLIGHT
            self.moved += bool(peer.goaways())


def _asks(stream: int) -> Fields:
    return ((b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"load.local"), (b":path", b"/echo/%d" % stream))
