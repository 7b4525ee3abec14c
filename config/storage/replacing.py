"""Files that take the place of others as a whole, and writers that take turns."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import tempfile
import time
from collections.abc import Iterable, Iterator
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
        fd = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        give(fd, folder.stat())  # root's would let no other writer in
        return fd
    except BaseException:
        os.close(fd)
        raise
    return fd


def beside(path: Path, content: bytes, like: Iterable[Path] = (), mode: int | None = None) -> str:
    """A new file with the content, on the disk, for the users that the one has which it is to replace. Its name.

    like: it is for those of the strictest of these files instead. Where none is there it is for its owner alone: there may be keys in it.
    mode: instead of the one's that it is like.
    """
    fd, name = tempfile.mkstemp(_NEW, f".{path.name}.", path.parent)
    try:
        with os.fdopen(fd, "wb") as file:
            if status := _strictest(like or (path,)):
                give(file.fileno(), status)
                os.fchmod(file.fileno(), status.st_mode & 0o7777 if mode is None else mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        os.unlink(name)
        raise
    return name


def give(fd: int, status: os.stat_result) -> None:
    """Owner and group of another file, as far as we may: who lets us write what is his has it ours from now on."""
    with suppress(PermissionError):
        os.fchown(fd, -1, status.st_gid)
        os.fchown(fd, status.st_uid, -1)


def _strictest(paths: Iterable[Path]) -> os.stat_result | None:
    """Of those that are there. Who reads all of them, as the instance does whose they are, can read what is as this one is."""
    found = []
    for path in paths:
        with suppress(FileNotFoundError, NotADirectoryError):
            found.append(path.stat())
    return min(found, key=lambda status: (status.st_mode & 0o077).bit_count(), default=None)


def make_root(folder: Path, mode: int = 0o777) -> None:
    """A directory, with all above it that are not there, on the disk. Raises OSError."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(mode, parents=True, exist_ok=True)
    for one in reversed(missing):
        flush(one.parent)


def make_folder(folder: Path) -> None:
    """As `make_root`, for one in a directory of a configuration: each is for those whom the one above it is for. Raises OSError."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    status = folder.parent.stat()
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        give(fd, status)
        os.fchmod(fd, status.st_mode & 0o7777)
    finally:
        os.close(fd)
    flush(folder.parent)


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
