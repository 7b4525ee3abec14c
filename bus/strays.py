"""What Python and its libraries would write to stderr by themselves: it goes to the application log, like all else.

An exception that no caller could get (in a finalizer, a callback of C code, a thread), and what libraries say to `logging`. A peer
can cause some of it as often as it likes, and stderr is a terminal, or a pipe that nobody may read.
"""

from __future__ import annotations

import logging
import sys
import threading
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Tell = Callable[[str, str, BaseException | None], None]
"""Called in the loop with a level of the application log, a text and what was raised."""


@contextmanager
def told_to(loop: AbstractEventLoop, tell: Tell) -> Iterator[None]:
    """Until the end of the block, all that of this process, from whatever thread, is told."""

    def put(level: str, text: str, error: BaseException | None) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(tell, level, text, error)

    def unraisable(stray: Any) -> None:
        where = f" in {stray.object!r}"[:200] if stray.object is not None else ""
        put("error", (stray.err_msg or "an exception that nobody could catch") + where, stray.exc_value)

    def in_thread(stray: Any) -> None:
        if not isinstance(stray.exc_value, SystemExit):
            put("error", f"a thread ended with an exception: {stray.thread.name if stray.thread else '?'}", stray.exc_value)

    before = sys.unraisablehook, threading.excepthook
    handler = _Handler(put)
    sys.unraisablehook, threading.excepthook = unraisable, in_thread
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        sys.unraisablehook, threading.excepthook = before
        logging.getLogger().removeHandler(handler)


class _Handler(logging.Handler):
    def __init__(self, put: Tell) -> None:
        super().__init__(logging.WARNING)
        self._put = put

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except Exception:  # a format and arguments that do not fit: logging itself would print that
            text = str(record.msg)
        level = "error" if record.levelno >= logging.ERROR else "warn"
        self._put(level, f"{record.name}: {text}", record.exc_info[1] if record.exc_info else None)
