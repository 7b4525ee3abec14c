"""Actors of one process hand envelopes over in memory, once per loop turn.

Delivery is never a call from within `send`: an actor is not entered again while it
is still at work, and the order is that of the sends, as over a socket.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final

DRAIN: Final = 512
"""Envelopes handed over before the event loop gets a turn for its sockets."""

Receivers = dict[type, Callable[[Any], None]]
"""Class of message → what takes it."""


class LocalMail:
    """Queue between the actors of one process."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.queue: deque[tuple[Receivers, Any]] = deque()
        self.scheduled = False
        self.addressees: dict[int, Receivers] = {}
        """By actor id."""
        self.refused = 0

    def schedule(self) -> None:
        """To be called after an append to `queue` while nothing is scheduled; `Link.send` does that in place: it is hot."""
        self.scheduled = True
        self._loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        queue = self.queue
        left = DRAIN
        try:
            while queue and left:
                left -= 1
                receivers, envelope = queue.popleft()
                receive = receivers.get(type(envelope))
                if receive is None:
                    self.refused += 1
                else:
                    receive(envelope)
        finally:
            # Also when a receiver raised: the rest must not wait for the next send.
            if queue:
                self._loop.call_soon(self._deliver)
            else:
                self.scheduled = False
