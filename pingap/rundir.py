"""The run dir: where the bus's sockets are, who holds it, and what an instance that was killed left there.

pid         the supervisor's process id, under an exclusive flock for as long as it lives
processes   `pid start-time` of every process, so that the next instance can end what a killed one left
config.last                                                  what the config stage goes on with after a crash
health.last, backends.last                                   the same for discovery
control, config.pub, discovery.pub, events.pub, <stage>.<replica>.<id>   ZeroMQ's sockets
"""

from __future__ import annotations

import fcntl
import os
import pwd
import signal
import stat
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from pingap.polling import ready

SOCKET_PATH: Final = 107
"""Bytes that the path of a unix socket may have (sun_path, without its final NUL)."""

LONGEST_NAME: Final = len("/discovery.1023.9999999")
"""The longest socket name that the bus makes in the run dir, with its slash."""

FILES: Final = ("processes", "config.last", "config.last.new", "health.last", "health.last.new", "backends.last", "backends.last.new")
"""What an instance leaves there besides sockets."""

LOCK_PATIENCE: Final = 0.5
"""Seconds for which a held lock is tried again: a command that only looks holds it for a moment."""

ENDING: Final = 2.0
"""Seconds that killed leftovers may take to go."""


class RunDirError(Exception):
    """The run dir cannot be used; the text says why."""


def default(env: dict[str, str] | os._Environ[str] = os.environ) -> str:
    """PINGAP_RUN_DIR, else the user's runtime directory, /run/pingap as root, or one in /tmp."""
    if named := env.get("PINGAP_RUN_DIR"):
        return named
    user = os.getuid()
    runtime = env.get("XDG_RUNTIME_DIR", "")
    with suppress(OSError):
        if runtime and os.stat(runtime).st_uid == user:  # sudo may leave another user's
            return os.path.join(runtime, "pingap")
    return "/run/pingap" if user == 0 else f"/tmp/pingap-{user}"


def check_length(path: str) -> None:
    """Raises RunDirError when the sockets in it would have longer paths than the system allows."""
    length = len(os.fsencode(path))
    if length + LONGEST_NAME > SOCKET_PATH:
        raise RunDirError(
            f"the run dir {path} is {length} bytes long; unix sockets allow {SOCKET_PATH - LONGEST_NAME}: give a shorter one with --run-dir"
        )


def supervisor_of(path: str) -> int | None:
    """Process id of the supervisor that holds this run dir, None when there is none. Raises PermissionError when one may not look."""
    try:
        with open(os.path.join(path, "pid"), "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                text = file.read().strip()
                return int(text) if text.isdigit() else 0
    except PermissionError:
        raise
    except OSError:
        return None
    return None


def owner_of(path: str) -> str:
    """Name of the user that a directory, or the nearest above it that can be seen, belongs to; "" when nobody is to be told."""
    path = os.path.abspath(path)
    while True:
        try:
            user = os.stat(path).st_uid
        except PermissionError:
            path = os.path.dirname(path)
        except OSError:
            return ""
        else:
            with suppress(KeyError):
                return pwd.getpwuid(user).pw_name
            return f"user id {user}"


def others() -> list[str]:
    """Run dirs in the usual places that belong to other users."""
    found = []
    with suppress(OSError):
        for path in ("/run/pingap", *(entry.path for entry in os.scandir("/tmp") if entry.name.startswith("pingap-"))):
            with suppress(OSError):
                if os.path.isdir(path) and os.stat(path).st_uid != os.getuid():
                    found.append(path)
    return sorted(found)


class RunDir:
    """A run dir held by this process. Nobody else's until `release`, or until this process ends."""

    def __init__(self, path: str) -> None:
        """Takes the lock. Raises RunDirError when another instance has it or the directory is not usable."""
        self.path = os.path.abspath(path)
        check_length(self.path)
        try:
            _make_private(self.path)
            self._lock = self._locked(os.path.join(self.path, "pid"))
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            raise RunDirError(f"the run dir {self.path} cannot be used: {error.strerror or error}") from error

    def _locked(self, path: str) -> int:
        until = time.monotonic() + LOCK_PATIENCE
        while True:
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                with suppress(FileNotFoundError):
                    if os.stat(path).st_ino == os.fstat(lock).st_ino:
                        return lock
                # The one who held it removed the file between our open and our lock: another file counts now.
            except BlockingIOError:
                if time.monotonic() >= until:
                    other = os.pread(lock, 32, 0).decode(errors="replace").strip()
                    os.close(lock)
                    raise RunDirError(
                        f"pingap is already running in {self.path} (pid {other or 'unknown'}): "
                        "stop it with `pingap down`, or give another --run-dir"
                    ) from None
                time.sleep(0.02)
            os.close(lock)

    def clear(self) -> int:
        """Ends the processes of an instance that was killed, and removes its sockets; how many processes there were.

        They would finish their requests and go by themselves, but meanwhile they hold the addresses to listen on, and
        at their end they would remove sockets whose names are taken again.
        """
        ended = _end_leftovers(Path(self.path, "processes"))
        self._remove_files()
        return ended

    def record(self, pids: Iterable[int]) -> None:
        """Writes down which processes belong to this instance."""
        lines = [f"{pid} {started}\n" for pid in pids if (started := start_time(pid))]
        with suppress(OSError), open(os.path.join(self.path, "processes"), "w", encoding="ascii") as file:
            file.writelines(lines)

    def forget_socket(self, name: str) -> None:
        """Removes the socket of an actor that is gone."""
        with suppress(OSError):
            os.unlink(os.path.join(self.path, name))

    def release(self) -> None:
        """Leaves nothing behind but the empty directory."""
        self._remove_files()
        with suppress(OSError):
            os.unlink(os.path.join(self.path, "pid"))
        os.close(self._lock)

    def _remove_files(self) -> None:
        with suppress(OSError):
            for entry in os.scandir(self.path):
                with suppress(OSError):
                    if entry.name in FILES or stat.S_ISSOCK(entry.stat(follow_symlinks=False).st_mode):
                        os.unlink(entry.path)


def start_time(pid: int) -> int:
    """When a process started, in clock ticks since boot: with the pid it names a process for good. 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])


def _make_private(path: str) -> None:
    os.makedirs(path, mode=0o700, exist_ok=True)
    status = os.lstat(path)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise PermissionError(f"it is not a directory of user {os.getuid()}")
    if status.st_mode & 0o077:
        if os.listdir(path):  # it may be anybody's: to close it could lock others out
            raise PermissionError("it is open to other users and not empty: chmod 700, or give another --run-dir")
        os.chmod(path, 0o700)


def _end_leftovers(processes: Path) -> int:
    try:
        rows = [line.split() for line in processes.read_text(encoding="ascii").splitlines()]
    except (OSError, ValueError):
        return 0
    handles: list[int] = []
    for row in rows:
        if len(row) != 2 or not (row[0].isdigit() and row[1].isdigit()):
            continue
        pid, started = int(row[0]), int(row[1])
        with suppress(OSError):
            handle = os.pidfd_open(pid)
            if start_time(pid) == started:  # looked at while the handle keeps the pid from meaning another
                signal.pidfd_send_signal(handle, signal.SIGKILL)
                handles.append(handle)
            else:
                os.close(handle)
    until = time.monotonic() + ENDING
    for handle in handles:
        ready((handle,), until - time.monotonic())
        os.close(handle)
    return len(handles)
