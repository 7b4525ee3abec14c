"""Files that take the place of others as a whole, and writers that take turns."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

PATIENCE: Final = 10.0
"""Seconds that a writer waits for the one before it."""

_LOOK: Final = 0.002
"""Seconds between two looks whether it is our turn: a lock that is waited for cannot be given up."""

_NEW: Final = ".new"

LOCK: Final = ".pingap-lock"
"""Where directories cannot be locked: it stays, for a lock is of the file and not of its name."""


@contextmanager
def turn(folder: Path) -> Iterator[None]:
    """Until no other writer of ours is at work there. Raises OSError, TimeoutError among them after PATIENCE."""
    fd = _lockable(folder)
    try:
        until = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise TimeoutError(f"another writer has been at work for {PATIENCE:g} s") from None
                time.sleep(_LOOK)
        yield
    finally:
        os.close(fd)


def _lockable(folder: Path) -> int:
    """A descriptor for the lock: of the directory, or of a file in it where file systems (NFS) lock only what may be written."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pass
    except OSError as error:
        os.close(fd)
        if error.errno not in (errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.EOPNOTSUPP):
            raise
        return os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except BaseException:
        os.close(fd)
        raise
    return fd


def beside(path: Path, content: bytes) -> str:
    """A new file with the content, on the disk, with the permissions of the one that it is to replace. Its name."""
    fd, name = tempfile.mkstemp(_NEW, f".{path.name}.", path.parent)  # readable by its owner alone: there may be keys in it
    try:
        with os.fdopen(fd, "wb") as file:
            with suppress(FileNotFoundError):
                status = path.stat()
                with suppress(PermissionError):  # it is another user's, who lets us write: then it is ours from now on
                    os.fchown(file.fileno(), status.st_uid, status.st_gid)
                os.fchmod(file.fileno(), status.st_mode & 0o7777)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        os.unlink(name)
        raise
    return name


def clear(folder: Path, document: str = "") -> None:
    """Takes away what killed writers have left in a directory. For who has the turn: all of that is dead.

    document: only what was to become this file, or this file with a time behind.
    """
    left = re.compile(rf"\.{re.escape(document) or '.+'}(-[0-9]+)?\.[a-z0-9_]{{8}}{re.escape(_NEW)}", re.DOTALL)
    with suppress(OSError):
        for name in os.listdir(folder):
            if left.fullmatch(name):
                with suppress(OSError):
                    os.unlink(folder / name)


def flush(folder: Path) -> None:
    """The names in a directory are on the disk."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
