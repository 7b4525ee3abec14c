"""An instance's own directory, `<run dir>/<number>`: its sockets, and what the next one must know if this one is killed.

pid         the supervisor's process id; its time names this run (stages/keepsake.py)
processes   `pid start-time` of every process, so that the next instance can end what a killed one left
config.last                                                  what the config stage goes on with after a crash
health.last, backends.last, drains.last, circuits.last       the same for discovery
control, config.pub, discovery.pub, events.pub, <stage>.<replica>.<id>   ZeroMQ's sockets

Two instances are in one run dir while one hands over to the other, each in a directory of its own (pingap/rundir.py).
"""

from __future__ import annotations

import os
import shutil
import signal
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Final

from pingap.polling import ready

SUPERVISOR: Final = "supervisor"
"""First word of the first line of `processes`."""

MOST: Final = 1000
"""Numbers that such a directory may have."""

HANDED_ON: Final = ("health.last", "backends.last", "drains.last", "circuits.last")
"""What the next instance begins with; it reads the configuration for itself."""

ENDING: Final = 2.0
"""Seconds that killed leftovers may take to go."""


class InstanceDir:
    """Made by `__init__`, removed by `release`."""

    def __init__(self, run_dir: str, before: str = "") -> None:
        """Takes the lowest number that is free. before: the directory of an instance from which this one takes over. Raises OSError."""
        self._processes: list[str] = []
        self._written = 0
        for number in range(1, MOST):
            self.number = number
            self.path = os.path.join(run_dir, str(number))
            with suppress(FileExistsError):
                os.mkdir(self.path, 0o700)
                if before:
                    self._inherit(before)
                self._write_pid()
                return
        raise FileExistsError(f"{run_dir} has directories of {MOST - 1} instances")

    def give(self, uid: int, gid: int) -> None:
        """Makes it that user's, before this process becomes that user. Raises OSError."""
        for path in (self.path, *(entry.path for entry in os.scandir(self.path))):
            os.chown(path, uid, gid, follow_symlinks=False)

    def _inherit(self, before: str) -> None:
        """A dead backend is known to be dead. The run has the same name as the one before, or its keepsakes would not be taken."""
        owner = os.stat(os.path.dirname(self.path)).st_uid
        with suppress(OSError):
            self._written = os.lstat(os.path.join(before, "pid")).st_mtime_ns
        for name in HANDED_ON:
            with suppress(OSError):
                # The directory may be another user's, who could have put a link there: root reads only what is his.
                fd = os.open(os.path.join(before, name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
                with open(fd, "rb") as file:
                    found = os.fstat(fd)
                    if stat.S_ISREG(found.st_mode) and found.st_uid == owner and found.st_nlink == 1:
                        self._write(name, file.read())

    def restore(self) -> list[str]:
        """Makes anew what somebody has removed of it, sockets aside; names of that. Raises OSError."""
        restored = []
        if not os.path.isdir(os.path.dirname(self.path)):
            return []  # the run dir is for the instance that serves to make, with its mode
        if not os.path.exists(os.path.join(self.path, "pid")):
            with suppress(FileExistsError):
                os.mkdir(self.path, 0o700)
            self._write_pid()
            restored.append(str(self.number))
        if self._processes and not os.path.exists(os.path.join(self.path, "processes")):
            self._write_processes()
            restored.append("processes")
        return restored

    def _write_pid(self) -> None:
        path = os.path.join(self.path, "pid")
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w", encoding="ascii") as file:
            file.write(f"{os.getpid()}\n")
        if self._written:
            os.utime(path, ns=(self._written, self._written))
        else:
            self._written = os.stat(path).st_mtime_ns

    def record(self, pids: Iterable[int]) -> None:
        """Writes down which processes belong to this instance."""
        self._processes = [f"{SUPERVISOR} {os.getpid()} {start_time(os.getpid())}\n"]
        self._processes += [f"{pid} {started}\n" for pid in pids if (started := start_time(pid))]
        with suppress(OSError):
            self._write_processes()

    def _write_processes(self) -> None:
        self._write("processes", "".join(self._processes).encode())

    def _write(self, name: str, content: bytes) -> None:
        """As a whole: another instance may be reading. Raises OSError."""
        path = os.path.join(self.path, name)
        with open(os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(content)
        os.replace(f"{path}.new", path)

    def forget_socket(self, name: str) -> None:
        """Removes the socket of an actor that is gone."""
        with suppress(OSError):
            os.unlink(os.path.join(self.path, name))

    def release(self) -> None:
        """Leaves nothing behind."""
        shutil.rmtree(self.path, ignore_errors=True)


def instance_dirs(run_dir: str) -> Iterator[str]:
    """Those that are there, whoever's they are."""
    with suppress(OSError):
        for entry in sorted(os.scandir(run_dir), key=lambda entry: entry.name):
            if entry.name.isdigit() and entry.is_dir(follow_symlinks=False):
                yield entry.path


def living_supervisor(directory: str) -> int | None:
    """Whoever wrote `processes` there and still lives, whatever has become of its locks: its processes are no orphans."""
    try:
        words = _lines(directory)[0].split()
    except IndexError:
        return None
    if len(words) != 3 or words[0] != SUPERVISOR or not (words[1].isdigit() and words[2].isdigit()):
        return None
    pid = int(words[1])
    return pid if pid != os.getpid() and start_time(pid) == int(words[2]) else None


def end_leftovers(directory: str) -> int:
    """Ends the processes of an instance that was killed; how many there were.

    Of a user's directory only those of that user: root must not end what somebody else has written down there.
    """
    handles: list[int] = []
    whose = os.stat(directory).st_uid
    for row in (line.split() for line in _lines(directory)):
        if len(row) != 2 or not (row[0].isdigit() and row[1].isdigit()):
            continue
        pid, started = int(row[0]), int(row[1])
        with suppress(OSError):
            handle = os.pidfd_open(pid)
            # Looked at while the handle keeps the pid from meaning another.
            if start_time(pid) == started and whose in (0, os.stat(f"/proc/{pid}").st_uid):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
                handles.append(handle)
            else:
                os.close(handle)
    until = time.monotonic() + ENDING
    for handle in handles:
        ready((handle,), until - time.monotonic())
        os.close(handle)
    return len(handles)


def start_time(pid: int) -> int:
    """When a process started, in clock ticks since boot: with the pid it names a process for good. 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])


def _lines(directory: str) -> list[str]:
    try:
        with open(os.path.join(directory, "processes"), encoding="ascii") as file:
            return file.read().splitlines()
    except (OSError, ValueError):
        return []
