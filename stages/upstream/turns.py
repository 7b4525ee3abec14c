"""Long bodies that are worked on take turns, a piece each, and no turn of the loop goes to them for long."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from typing import Final

from pingap.stages.lane import Lane, Worker

TURN: Final = 0.0001
"""Seconds of one turn of the loop that they get together, and one piece more: half a millisecond more of it cost who is beside them
twice as much time, and gained them 3 %."""

AT_ONCE: Final = 64 * 1024
"""Bytes of short pieces that are dealt with as they come, in one turn of the loop, before these too have to wait for their turn."""


class Turns:
    """Of one actor."""

    __slots__ = ("_lane", "_loop", "left")

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._lane = Lane(loop, TURN)
        self.left = AT_ONCE
        """Bytes that may still be dealt with at once in this turn of the loop."""

    def took(self, size: int) -> None:
        """So many were."""
        if self.left == AT_ONCE:
            self._loop.call_soon(self._begin)
        self.left -= size

    def _begin(self) -> None:
        """Another turn of the loop."""
        self.left = AT_ONCE

    def put(self, worker: Worker) -> None:
        """It has more than that, and is not here yet."""
        self._lane.put(worker)
