"""How much lies in the pipe to each peer. What is short waits behind what is long there, so long bodies must not queue up.

A sender of long bodies tells how much it sends (`sent`). Behind each STEP bytes a MARK
travels along, which the receiver's process sends back as ECHO when it has dealt with
what came before it. What no ECHO has come for lies in the pipe; beyond LIMIT the
sender waits (`when_open`). A full pipe of ZeroMQ would be too late a sign: it holds
a thousand messages of megabytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from pingap.bus.messages import Echo, Mark

STEP: Final = 512 * 1024
LIMIT: Final = 4 * 1024 * 1024
"""Bytes: some milliseconds of the receiver's work, and enough to keep it busy until an ECHO is back."""


class _Pipe:
    __slots__ = ("echoed", "marked", "sent", "waiting")

    def __init__(self) -> None:
        self.sent = self.marked = self.echoed = 0
        self.waiting: list[Callable[[], None]] = []

    @property
    def is_full(self) -> bool:
        return self.sent - self.echoed > LIMIT


class Pipes:
    """Those of one actor."""

    def __init__(self, own: int, send: Callable[[int, Any], None]) -> None:
        self._own = own
        self._send = send
        self._pipes: dict[int, _Pipe] = {}

    def sent(self, to: int, size: int) -> None:
        """So many bytes are being sent there."""
        pipe = self._pipes.get(to)
        if pipe is None:
            pipe = self._pipes[to] = _Pipe()
        pipe.sent += size
        if pipe.sent - pipe.marked >= STEP:
            pipe.marked = pipe.sent
            self._send(to, Mark(self._own, pipe.sent))

    def is_full(self, to: int) -> bool:
        """Nothing long should be sent there now."""
        pipe = self._pipes.get(to)
        return pipe is not None and pipe.is_full

    def when_open(self, to: int, go_on: Callable[[], None]) -> None:
        """Calls `go_on` once the pipe is full no more, or its end is gone."""
        self._pipes[to].waiting.append(go_on)

    def echoed(self, echo: Echo) -> None:
        """An ECHO has come."""
        pipe = self._pipes.get(echo.sender)
        if pipe is not None:
            pipe.echoed = max(pipe.echoed, echo.sent)
            if pipe.waiting and not pipe.is_full:
                self._go_on(pipe)

    def forget(self, gone: Iterable[int]) -> None:
        """These actors are dead."""
        for peer in gone:
            pipe = self._pipes.pop(peer, None)
            if pipe is not None:
                self._go_on(pipe)

    @staticmethod
    def _go_on(pipe: _Pipe) -> None:
        waiting, pipe.waiting = pipe.waiting, []
        for go_on in waiting:
            go_on()
