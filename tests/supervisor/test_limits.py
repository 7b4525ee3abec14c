"""What the system refuses for want of something is told with the limit."""

from __future__ import annotations

import errno
import os
import resource
import socket
import threading
from typing import Any

import msgpack
import pytest

from pingap import limits
from pingap.spawner import Spawner, load_into


def refuse(code: int) -> Any:
    def fork() -> int:
        raise OSError(code, os.strerror(code))

    return fork


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.EAGAIN, "try again"), "ulimit -u"),
        (RuntimeError("can't start new thread"), "ulimit -u"),
        (OSError(errno.EMFILE, "too many"), "ulimit -n"),
        (OSError(errno.ENOMEM, "no memory"), "memory"),
        (MemoryError(), "memory"),
    ],
)
def test_each_names_its_limit(error: BaseException, words: str) -> None:
    assert limits.is_one(error) and words in limits.explained(error)


def test_any_other_error_is_one_line() -> None:
    assert limits.explained(ValueError("no")) == "ValueError: no"
    assert limits.explained(FileNotFoundError(errno.ENOENT, "not there", "/x")) == "/x: not there"
    assert not limits.is_one(ValueError("no"))


def test_threads_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    before = threading.active_count()
    limits.try_threads()
    assert threading.active_count() == before

    def cannot(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", cannot)
    with pytest.raises(RuntimeError):
        limits.try_threads()


@pytest.mark.parametrize("code", [errno.EAGAIN, errno.ENOMEM])
def test_a_fork_that_fails_is_said_and_the_spawner_goes_on(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    monkeypatch.setattr("signal.set_wakeup_fd", lambda *_, **__: -1)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr(os, "fork", refuse(code))
    before = len(os.listdir("/proc/self/fd"))
    with here, there:
        spawner = Spawner(there, -1)
        assert spawner._obey({"do": "fork", "process": 7, "seats": []}, []) is None
        said = here.recv(65536).decode()
        assert '"unforked"' in said and '"process": 7' in said and "cannot be forked" in said
        reading, writing = os.pipe()
        assert spawner._obey({"do": "load"}, [writing]) is None
        with os.fdopen(reading, "rb") as file:
            assert "cannot be forked" in msgpack.unpackb(file.read())["failed"]
        for fd in (spawner._wake, spawner._woken):
            os.close(fd)
    assert len(os.listdir("/proc/self/fd")) == before - 2, "no descriptor is left open"


def test_a_loader_without_memory_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: object, **__: object) -> bytes:
        raise MemoryError

    monkeypatch.setattr(msgpack, "packb", no_memory)
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (4096, 4096))
    reading, writing = os.pipe()
    load_into(writing, {"loader": "builtins:max", "source": 1, "text": 2})
    with os.fdopen(reading, "rb") as file:
        assert msgpack.unpackb(file.read())["failed"].endswith("4096 bytes of address space (ulimit -v)")
