"""What the system refuses for want of processes, memory or descriptors, said in the words of the limit."""

from __future__ import annotations

import errno
import resource
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

from pingap.bus import descriptors as counts
from pingap.bus.descriptors import PER_PEER, kept, limit_now

THREADS: Final = 2
"""That ZeroMQ starts in each process."""

FEW_CONNECTIONS: Final = 4096
"""Fewer in a process than this are worth a note."""

LEAST_CONNECTIONS: Final = 16
"""With room for fewer than these nothing starts."""

_NO_THREAD: Final = "can't start new thread"


def explained(error: BaseException) -> str:
    """One line on an exception; of one that a limit caused, with the limit and what to raise."""
    text = str(error)
    if isinstance(error, OSError):
        text = error.strerror or text
        if error.filename:
            text = f"{error.filename}: {text}"
        if error.errno == errno.EAGAIN:
            return f"{text}: {processes()}"
        if error.errno == errno.ENOMEM:
            return f"{text}: {memory()}"
        if error.errno in (errno.EMFILE, errno.ENFILE):
            return f"{text}: {descriptors()}"
        return text
    if isinstance(error, MemoryError):
        return f"there is no memory left: {memory()}"
    if isinstance(error, RuntimeError) and _NO_THREAD in text:
        return f"no thread can be started: {processes()}"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def is_one(error: BaseException) -> bool:
    """Whether a limit caused an exception."""
    codes = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
    return (
        isinstance(error, MemoryError)
        or (isinstance(error, OSError) and error.errno in codes)
        or (isinstance(error, RuntimeError) and _NO_THREAD in str(error))
    )


def try_threads(count: int = THREADS) -> None:
    """Raises RuntimeError where so many threads cannot be started: ZeroMQ would abort the process without naming the limit."""
    barrier = threading.Barrier(count + 1)
    started: list[threading.Thread] = []
    try:
        for _ in range(count):
            thread = threading.Thread(target=_wait, args=(barrier,), daemon=True)
            thread.start()
            started.append(thread)
        _wait(barrier)
    finally:
        barrier.abort()
        for thread in started:
            thread.join()


def _wait(barrier: threading.Barrier) -> None:
    with suppress(threading.BrokenBarrierError):
        barrier.wait(1)


def processes() -> str:
    """What bounds the number of processes and threads here."""
    parts = [f"the user may have {_limit(resource.RLIMIT_NPROC)} processes and threads (ulimit -u)"]
    with suppress(OSError, ValueError, IndexError):
        group = Path("/proc/self/cgroup").read_text().rpartition("::")[2].strip()
        most = Path(f"/sys/fs/cgroup{group}/pids.max").read_text().strip()
        if most != "max":
            parts.append(f"the control group {most} (pids.max)")
    if (most := _limit(resource.RLIMIT_AS)) != "any number of":
        parts.append(f"a process {most} bytes of address space (ulimit -v)")
    return ", ".join(parts)


def memory() -> str:
    """What bounds memory here."""
    most = _limit(resource.RLIMIT_AS)
    if most == "any number of":
        return "the machine, or its control group, has no more memory"
    return f"a process may have {most} bytes of address space (ulimit -v)"


def descriptors() -> str:
    """What bounds open files here."""
    return f"a process may have {_limit(resource.RLIMIT_NOFILE)} files and sockets open (ulimit -n)"


def raise_descriptors() -> None:
    """Takes what the system allows: the soft limit is low for programs that use select, which none of ours does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def room_for_connections(actors: int, addresses: int, limit: int | None = None) -> int:
    """How many connections a process of the request path can have. limit: of descriptors; None is what holds here."""
    limit = limit_now() if limit is None else limit
    return limit - kept(limit) - PER_PEER * actors - addresses


def too_many(actors: int, addresses: int, limit: int | None = None) -> str:
    """Why so many actors, or addresses to listen on, cannot be had; "" when they can."""
    limit = limit_now() if limit is None else limit
    missing = LEAST_CONNECTIONS - room_for_connections(actors, addresses, limit)
    if missing <= 0:
        return ""
    return (
        f"{actors} actors and {addresses} addresses to listen on need {limit + missing} file descriptors in a process, "
        f"and one may have {limit}: raise the limit (ulimit -Hn, LimitNOFILE= of systemd) to that and one for each connection"
    )


def use_of(pid: int) -> tuple[int, int]:
    """How many files and sockets a process has open, and how many it may have; 0, 0 where one may not look."""
    try:
        most, _ = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    except (OSError, ValueError):
        return 0, 0
    return counts.in_use(pid), counts.UNBOUNDED if most == resource.RLIM_INFINITY else most


def _limit(kind: int) -> str:
    soft, _ = resource.getrlimit(kind)
    return "any number of" if soft == resource.RLIM_INFINITY else str(soft)
