"""Work that many bring at once waits for its turn, so that those who are served already are not held up: handshakes (tls.py),
long bodies that are worked on (upstream/turns.py)."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections import deque
from time import monotonic
from typing import Final, Protocol


class Worker(Protocol):
    """Somebody who has work."""

    def work(self) -> bool:
        """Does one piece of it. True: there is more. Called again after errors of others, so it may raise."""


class Lane:
    """Lets workers do a piece each, one after the other, for a bounded part of each turn of the loop."""

    __slots__ = ("_is_called", "_loop", "_seconds", "_waiting")

    def __init__(self, loop: AbstractEventLoop, seconds: float) -> None:
        """seconds: of one turn of the loop that they get together, and the piece that was begun in it."""
        self._loop = loop
        self._seconds: Final = seconds
        self._waiting: deque[Worker] = deque()
        self._is_called = False

    def put(self, worker: Worker) -> None:
        """It has work, and is not here yet."""
        self._waiting.append(worker)
        self._call()

    def _call(self) -> None:
        if not self._is_called:
            self._is_called = True
            self._loop.call_soon(self._pass)

    def _pass(self) -> None:
        until = monotonic() + self._seconds
        waiting = self._waiting
        try:
            while waiting:
                worker = waiting.popleft()
                if worker.work():
                    waiting.append(worker)
                if monotonic() >= until:
                    break
        finally:  # an error in one must not stop those behind it
            self._is_called = False
            if waiting:
                self._call()
