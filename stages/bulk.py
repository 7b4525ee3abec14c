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
from typing import Final, Protocol

from pingap.bus.pipes import Pipes

LONG: Final = 16 * 1024
"""A read of fewer bytes is nothing to mind."""

TURN: Final = 1024 * 1024
"""Bytes that are read in one turn before the others have to wait for the next: a millisecond's work."""

AT_ONCE: Final = 4
"""Readers that go on in one turn: each reads up to 256 KB before it is the next one's turn."""


class Reader(Protocol):
    """A connection that long bodies come in on."""

    transport: asyncio.Transport

    @property
    def may_read(self) -> bool:
        """False while it is stopped for a reason of its own: who ends that lets it read."""


class Bulk:
    """Of one actor."""

    def __init__(self, loop: asyncio.AbstractEventLoop, pipes: Pipes) -> None:
        self._loop = loop
        self._pipes = pipes
        self._left = TURN
        self._waiting: deque[tuple[Reader, int]] = deque()
        self._is_scheduled = False

    def took(self, size: int, reader: Reader, to: int) -> None:
        """So many bytes were read, for the actor `to` (0: for none yet). The reader may have to pause."""
        if to:
            self._pipes.sent(to, size)
        self._left -= size
        is_too_much = self._waiting or self._left <= 0 or (to and self._pipes.is_full(to))
        if is_too_much and not reader.transport.is_closing():
            reader.transport.pause_reading()
            self._waiting.append((reader, to))
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
            reader, to = waiting.popleft()
            if to and pipes.is_full(to):
                pipes.when_open(to, partial(self._again, reader, to))
            elif reader.may_read and not reader.transport.is_closing():
                reader.transport.resume_reading()
                go_on -= 1
        if waiting:
            self._schedule()

    def _again(self, reader: Reader, to: int) -> None:
        self._waiting.append((reader, to))
        if not self._is_scheduled:
            self._schedule()
