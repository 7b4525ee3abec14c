"""Nothing is written past the log: not by a finalizer, a thread or a library."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading

import pytest

from pingap.bus import strays


class Faulty:
    def __del__(self) -> None:
        raise RuntimeError("in a finalizer")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_what_nobody_catches_is_told_and_not_written(capfd: pytest.CaptureFixture[str]) -> None:
    told: list[tuple[str, str, BaseException | None]] = []
    with strays.told_to(asyncio.get_running_loop(), lambda *what: told.append(what)):
        one = Faulty()
        del one
        gc.collect()
        thread = threading.Thread(target=lambda: 1 / 0, name="worker")
        thread.start()
        await asyncio.to_thread(thread.join)
        logging.getLogger("asyncio").warning("socket.send() raised %s", "exception.")
        logging.getLogger("some.library").error("%s is wrong", "it")
        logging.getLogger("some.library").info("not asked for")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert [(level, type(error)) for level, _, error in told] == [
        ("error", RuntimeError),
        ("error", ZeroDivisionError),
        ("warn", type(None)),
        ("error", type(None)),
    ]
    assert [text.partition(" in <")[0] for _, text, _ in told][1:] == [
        "a thread ended with an exception: worker",
        "asyncio: socket.send() raised exception.",
        "some.library: it is wrong",
    ]
    assert capfd.readouterr().err == ""
