"""Requests that wait for their turn with `limit`: each is a timer, and there is room for so many in a process."""

from __future__ import annotations

import asyncio
from typing import Final

ROOM: Final = 4096
"""Requests that may wait at the same time, for all limits of a process together."""


class LimitQueue:
    """The room that they wait in. Who leaves gives its place in here back; what the limit has counted stays counted."""

    def __init__(self, room: int = ROOM) -> None:
        self._room = room
        self.waiting = 0

    async def wait_turn(self, seconds: float) -> bool:
        """Waits so many seconds; returns False at once when there is no room."""
        if self.waiting >= self._room:
            return False
        self.waiting += 1
        try:
            await asyncio.sleep(seconds)
        finally:
            self.waiting -= 1
        return True


QUEUE: Final = LimitQueue()
"""Of this process."""
