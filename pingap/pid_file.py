"""The file of `[basic] pid_file`: the supervisor's process id, under a lock for as long as it lives.

The lock tells a running instance from a file that a killed one left: whoever cannot have it neither overwrites nor
removes the other's.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress

from pingap.config.paths import why_no_pid_file


class PidFileError(Exception):
    """The pid file cannot be had; the text says why."""


class PidFile:
    """Taken by `__init__`, given up by `release`."""

    def __init__(self, path: str) -> None:
        """Raises PidFileError, also when another instance has it."""
        self._path = os.path.abspath(path)
        if reason := why_no_pid_file(self._path):
            raise PidFileError(f"basic.pid_file: {reason[0]}")
        try:
            self._fd = self._written()
        except OSError as error:
            raise PidFileError(f"basic.pid_file: {path}: {error.strerror or error}") from error

    def _written(self) -> int:
        fd = self._locked()
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        return fd

    def restore(self) -> bool:
        """Writes it again if somebody has removed it, and says so. Raises OSError and PidFileError."""
        if os.path.lexists(self._path):
            return False
        fd = self._written()
        os.close(self._fd)
        self._fd = fd
        return True

    def _locked(self) -> int:
        while True:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY, 0o644)
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
        """Removes the file, unless by now the path is somebody else's."""
        if self._is_ours(self._fd):
            with suppress(OSError):
                os.unlink(self._path)
        os.close(self._fd)
