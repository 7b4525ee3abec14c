"""The file of `[basic] pid_file`: the supervisor's process id, under a lock for as long as it lives.

The lock tells a running instance from a file that a killed one left: whoever cannot have it neither overwrites nor
removes the other's.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from typing import Protocol

from pingap.config.paths import why_no_pid_file


def holder_of(path: str) -> int | None:
    """Process id, 0 where that is not known, of the instance that has a pid file; None when none has. It is looked at, not locked."""
    try:
        with open(path, "rb") as file, open("/proc/locks") as locks:
            inode = os.fstat(file.fileno()).st_ino
            text = file.read(32).strip()
            if not any("FLOCK" in line and f":{inode} " in line for line in locks):
                return None
    except OSError:
        return None
    return int(text) if text.isdigit() else 0


class PidFileError(Exception):
    """The pid file cannot be had; the text says why."""


class NewOwner(Protocol):
    """Whom root gives the file to (config/accounts.py)."""

    @property
    def uid(self) -> int: ...

    @property
    def gid(self) -> int: ...


class PidFile:
    """Taken by `__init__`, given up by `release`, or handed over with its descriptor."""

    def __init__(self, path: str, owner: NewOwner | None = None, inherited: int = -1) -> None:
        """Raises PidFileError, also when another instance has it.

        owner: who this process will be, where only root may make the file. inherited: the locked descriptor of the instance
        that hands over, whose id stays in the file until `take_office`.
        """
        self._path = os.path.abspath(path)
        self._owner = owner
        self._is_held = True
        if inherited >= 0:
            self._fd = inherited
            return
        if reason := why_no_pid_file(self._path):
            raise PidFileError(f"basic.pid_file: {reason[0]}")
        try:
            self._fd = self._written()
        except OSError as error:
            raise PidFileError(f"basic.pid_file: {path}: {error.strerror or error}") from error

    @property
    def path(self) -> str:
        return self._path

    @property
    def descriptor(self) -> int:
        """What holds the lock."""
        return self._fd

    def give_away(self) -> None:
        """It is another instance's now, which has a copy of the descriptor: ours would keep the lock when that one lets go."""
        self._is_held = False
        os.close(self._fd)
        self._fd = -1

    def take_office(self) -> None:
        """An inherited one names this process from now on. Raises OSError and PidFileError."""
        if not self._is_ours(self._fd):  # somebody has removed it, and perhaps the one before has made it anew
            before, self._fd = self._fd, self._written()
            os.close(before)
            return
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def _written(self) -> int:
        fd = self._locked()
        if self._owner is not None:
            os.fchown(fd, self._owner.uid, self._owner.gid)
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        return fd

    def restore(self) -> bool:
        """Writes it again if somebody has removed it, and says so. Raises OSError and PidFileError."""
        if not self._is_held or os.path.lexists(self._path):
            return False
        self._owner = None  # by now this process is that user
        fd = self._written()
        os.close(self._fd)
        self._fd = fd
        return True

    def _locked(self) -> int:
        while True:
            no_link = os.O_NOFOLLOW if self._owner is not None else 0  # root gives away no file but this one
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | no_link, 0o644)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                other = os.pread(fd, 32, 0).decode(errors="replace").strip()
                os.close(fd)
                raise PidFileError(
                    f"basic.pid_file: {self._path} belongs to another pingap (pid {other or 'unknown'}) that is running: "
                    "stop that one, or give another path"
                ) from None
            if self._is_ours(fd):
                return fd
            os.close(fd)  # its owner removed it between our open and our lock

    def _is_ours(self, fd: int) -> bool:
        with suppress(OSError):
            return os.path.samestat(os.stat(self._path), os.fstat(fd))
        return False

    def release(self) -> None:
        """Removes the file, unless by now the path is somebody else's; leaves it empty where its directory is closed to this user."""
        if self._is_held and self._is_ours(self._fd):
            try:
                os.unlink(self._path)
            except OSError:
                with suppress(OSError):
                    os.ftruncate(self._fd, 0)
        if self._fd >= 0:
            os.close(self._fd)
