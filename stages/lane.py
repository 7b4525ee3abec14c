"""Handshakes take turns: many clients that come at once must not hold up those that are served already."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections import deque
from time import monotonic
from typing import Final, Protocol

TURN: Final = 0.002
"""Seconds of one turn of the loop that handshakes may take: an RSA key makes each cost a millisecond."""


class Shaking(Protocol):
    """A connection in its handshake."""

    def shake(self) -> None:
        """Goes on with it as far as the bytes that are here allow. Called again after errors of others, so it may raise."""


class Lane:
    """Lets handshakes pass one after the other, a few a turn of the loop, so that what is served already goes on."""

    __slots__ = ("_is_called", "_loop", "_waiting")

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[Shaking] = deque()
        self._is_called = False

    def put(self, transport: Shaking) -> None:
        """`transport` has got bytes of its handshake."""
        self._waiting.append(transport)
        self._call()

    def _call(self) -> None:
        if not self._is_called:
            self._is_called = True
            self._loop.call_soon(self._pass)

    def _pass(self) -> None:
        until = monotonic() + TURN
        waiting = self._waiting
        try:
            while waiting:
                waiting.popleft().shake()
                if monotonic() >= until:
                    break
        finally:  # an error in one must not stop those behind it
            self._is_called = False
            if waiting:
                self._call()
