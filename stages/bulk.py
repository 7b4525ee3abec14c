"""Long bodies share the event loop: no turn of it reads much more than TURN bytes of them, so that what is short never waits long.

uvloop reads up to 8 MB from one socket before it looks at the next. With sixty
downloads at full speed a turn of the loop took 150 ms, and a small request needs
several. Who has read a lot pauses here, and goes on when it is its turn; or when
the pipe to the actor that gets what it reads has room again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import Final

from pingap.bus.pipes import Pipes
from pingap.stages.read_gate import BULK, ReadGate

LONG: Final = 16 * 1024
"""A read of fewer bytes is nothing to mind."""

TURN: Final = 1024 * 1024
"""Bytes that are read in one turn before the others have to wait for the next: a millisecond's work."""

AT_ONCE: Final = 4
"""Readers that go on in one turn: each reads up to 256 KB before it is the next one's turn."""


class Bulk:
    """Of one actor."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pipes: Pipes) -> None:
        self._loop = loop
        self._pipes = pipes
        self._left = TURN
        self._waiting: deque[tuple[ReadGate, int]] = deque()
        self._is_scheduled = False

    def took(self, size: int, gate: ReadGate, to: int) -> None:
        """So many bytes came through a gate, for the actor `to` (0: for none yet). It may be shut."""
        if to:
            self._pipes.sent(to, size)
        self._left -= size
        is_too_much = self._waiting or self._left <= 0 or (to and self._pipes.is_full(to))
        if is_too_much:
            gate.shut(BULK)
            self._waiting.append((gate, to))
        if not self._is_scheduled:
            self._schedule()

    def _schedule(self) -> None:
        self._is_scheduled = True
        self._loop.call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._is_scheduled = False
        self._left = TURN
        waiting, pipes = self._waiting, self._pipes
        go_on = AT_ONCE
        while waiting and go_on:
            gate, to = waiting.popleft()
            if to and pipes.is_full(to):
                pipes.when_open(to, partial(self._again, gate, to))
            else:
                gate.open(BULK)
                if not gate.reasons:
                    go_on -= 1
        if waiting:
            self._schedule()

    def _again(self, gate: ReadGate, to: int) -> None:
        self._waiting.append((gate, to))
        if not self._is_scheduled:
            self._schedule()
