"""One call in a thread of its own, so that the loop goes on: heartbeats must not wait for a slow disk or a big file."""

from __future__ import annotations

import asyncio
import ctypes
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeVar

T = TypeVar("T")

NICE: Final = 5
"""Requests come first, where there are more of them than CPUs: it still gets a third of what another process gets."""


def give_back() -> None:
    """Memory that a big job has left free goes back to the system: there are tens of megabytes of it after reading a big file."""
    with suppress(OSError, AttributeError):  # a C library other than glibc
        ctypes.CDLL(None).malloc_trim(0)


async def aside(call: Callable[[], T], seconds: float) -> T:
    """The result of `call()`. Raises what it raises, and TimeoutError after `seconds`; the thread is then left to itself.

    A daemon thread, not the loop's executor: that one is waited for at the end of the process, and a plugin module
    that never finishes importing would keep the process from ending.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: Exception | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    def work() -> None:
        with suppress(OSError):  # of this thread alone, as Linux has it
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        result: T | None = None
        error: Exception | None = None
        try:
            result = call()
        except Exception as failure:
            error = failure if not isinstance(failure, StopIteration) else RuntimeError("StopIteration")  # futures refuse that one
        except BaseException as failure:  # SystemExit in a task would end the loop: a plugin module that exits must not
            error = RuntimeError(f"{type(failure).__name__}: {failure}")
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=work, name="config aside", daemon=True).start()
    async with asyncio.timeout(seconds):
        return await done
