"""Long bodies that are worked on take turns, a piece each, and no turn of the loop goes to them for long."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections import deque
from time import monotonic
from typing import Final, Protocol

TURN: Final = 0.0001
"""Seconds of one turn of the loop that they get together, and one piece more: half a millisecond more of it cost who is beside them
twice as much time, and gained them 3 %."""

AT_ONCE: Final = 64 * 1024
"""Bytes of short pieces that are dealt with as they come, in one turn of the loop, before these too have to wait for their turn."""


class Worker(Protocol):
    """Somebody who has work of more than one piece."""

    def work(self) -> bool:
        """Does one piece of it. True: there is more. Raises nothing."""


class Turns:
    """Of one actor."""

    __slots__ = ("_is_called", "_loop", "_waiting", "left")

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[Worker] = deque()
        self._is_called = False
        self.left = AT_ONCE
        """Bytes that may still be dealt with at once in this turn of the loop."""

    def took(self, size: int) -> None:
        """So many were."""
        self.left -= size
        self._call()

    def put(self, worker: Worker) -> None:
        """It has work, and is not here yet."""
        self._waiting.append(worker)
        self._call()

    def _call(self) -> None:
        if not self._is_called:
            self._is_called = True
            self._loop.call_soon(self._pass)

    def _pass(self) -> None:
        self._is_called = False
        self.left = AT_ONCE
        until = monotonic() + TURN
        waiting = self._waiting
        while waiting:
            worker = waiting.popleft()
            if worker.work():
                waiting.append(worker)
            if monotonic() >= until:
                break
        if waiting:
            self._call()
