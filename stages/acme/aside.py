"""Work that blocks, aside from the loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

Work = Callable[[], None]


def to_loop(loop: asyncio.AbstractEventLoop, call: Callable[..., Any], *args: Any) -> None:
    """From whatever thread: what is for an actor that has ended meanwhile is dropped."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(call, *args)


class AsideWork:
    """One thing after the other, in the order in which it was asked for, in a thread that holds up no end of the process.

    Work has to see to its own errors: what it raises ends its thread, with a traceback on stderr, and the next work begins another.
    """

    def __init__(self, name: str) -> None:
        """name: of the thread, for who looks from outside."""
        self._name = name
        self._queue: SimpleQueue[Work | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._is_stopped = False

    def do(self, work: Work) -> None:
        """Soon. From one thread only."""
        if self._is_stopped:
            return
        self._queue.put(work)
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """What is under way goes on; nothing else is begun."""
        self._is_stopped = True
        while not self._queue.empty():
            self._queue.get()
        self._queue.put(None)

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            work()
