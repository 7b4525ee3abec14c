"""Waiting for events with a deadline, and figures from /proc."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from pingap.workshop.kit.ports import free_port

__all__ = ["eventually", "free_port", "is_alive", "low_port", "pss", "session_members", "state_of", "title", "until"]

T = TypeVar("T")


def until(happened: Callable[[], T | None], seconds: float, what: str, every: float = 0.02) -> T:
    """The first true answer of `happened`. Fails the test when there is none within `seconds`."""
    end = time.monotonic() + seconds
    while True:
        answer = happened()
        if answer:
            return answer
        if time.monotonic() >= end:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(every)


async def eventually(is_so: Callable[[], object], seconds: float = 5, every: float = 0.002, said: Callable[[], object] = str) -> None:
    """Lets the loop run until `is_so`. Fails the test, with what `said` says, when that takes longer."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, f"not within {seconds:g} s: {said()}"
        await asyncio.sleep(every)


def low_port() -> int:
    """A port that only root may bind, and that nobody has."""
    for port in range(1023, 600, -1):
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no low port is free")


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the state on; [] when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def is_alive(pid: int) -> bool:
    """False for one that is gone or a zombie."""
    fields = _stat(pid)
    return bool(fields) and fields[0] not in "ZX"


def state_of(pid: int) -> str:
    """R, S, T (stopped), Z …; empty when gone."""
    fields = _stat(pid)
    return fields[0] if fields else ""


def session_members(session: int) -> list[int]:
    """Living processes of a session: all descendants of its leader, also those whose parent is gone."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = _stat(int(name))
            if fields and fields[0] not in "ZX" and int(fields[3]) == session:
                found.append(int(name))
    return found


def pss(pids: Iterable[int], kinds: Sequence[str] = ("Pss:",)) -> int:
    """Proportional set size of all these processes together, bytes. kinds: the lines of smaps_rollup that count."""
    total = 0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith(tuple(kinds))) * 1024
    return total


def title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""
