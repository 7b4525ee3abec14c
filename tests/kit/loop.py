"""A loop whose turns the test takes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable


class Turns:
    """What is called soon waits until the test says so."""

    def __init__(self) -> None:
        self.waiting: deque[Callable[[], None]] = deque()

    def call_soon(self, callback: Callable[[], None], /) -> None:
        self.waiting.append(callback)

    def take(self) -> bool:
        """One turn; False when nothing waits."""
        if not self.waiting:
            return False
        self.waiting.popleft()()
        return True
