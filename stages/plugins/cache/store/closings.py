"""Stores that this process is closing: each in a thread, as that may take as long as a disk or another process that writes does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Final

LOOK: Final = 0.01
"""Seconds."""

_threads: dict[str, threading.Thread] = {}
"""By the path of the store; some have ended."""


def close_in_thread(path: str, close: Callable[[], None]) -> threading.Thread:
    """At most one for a path: who opens it again waits for the one before (`closing_of`)."""
    for known in [known for known, thread in _threads.items() if not thread.is_alive()]:
        del _threads[known]
    thread = _threads[path] = threading.Thread(target=close, name="cache closing", daemon=True)
    thread.start()
    return thread


def closing_of(path: str) -> threading.Thread | None:
    """What still closes the store there."""
    return _threads.get(path)


async def all_closed(longest: float) -> None:
    """At the end of the process: waits for them, so many seconds at most."""
    until = asyncio.get_running_loop().time() + longest
    while any(thread.is_alive() for thread in _threads.values()) and asyncio.get_running_loop().time() < until:  # noqa: ASYNC110  # threads
        await asyncio.sleep(LOOK)
