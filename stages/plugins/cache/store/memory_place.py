"""Where a store in memory is, for a run dir: in it, if that is in memory itself, else under /dev/shm.

It belongs to one run of an instance, as keepsakes do (stages/keepsake.py): the next one begins with an empty store.
Under /dev/shm it says whose it is, so that an instance that starts elsewhere can remove what one has left that was killed.
Nothing of LMDB is needed here: the supervisor removes it (pingap/rundir.py).
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from hashlib import blake2b
from typing import Final

SHARED_MEMORY: Final = "/dev/shm"
NAME: Final = "cache"
BEGINNING: Final = "pingap-cache-"
OWNER: Final = ".run-dir"
"""File in a place: path of the run dir that it belongs to. No store has such a name (stages/caching/place.py)."""
USERS: Final = "users"
"""File of a store that whoever has it open holds locked (store_root.py)."""
YOUNG: Final = 60.0
"""Seconds: so long after a place was made, somebody may be about to open a store in it."""
_IN_MEMORY: Final = ("tmpfs", "ramfs")


def memory_place(run_dir: str) -> str:
    """Where it is. run_dir: of the instance's, not of one run in it; absolute."""
    if _is_in_memory(run_dir):
        return os.path.join(run_dir, NAME)
    return _shared_place(run_dir)


def made(path: str) -> None:
    """Makes it, private to this user. Raises OSError, PermissionError for what is another's."""
    with suppress(FileExistsError):
        os.mkdir(path, 0o700)
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise PermissionError(f"{path} is not a directory of user {os.geteuid()} that is closed to others: remove it")


def claim(place: str, run_dir: str) -> None:
    """Writes down in a place whose it is. run_dir: absolute. Raises OSError."""
    path, said = os.path.join(place, OWNER), os.fsencode(run_dir)
    if os.path.dirname(place) == SHARED_MEMORY and _read(path) != said:
        new = f"{path}.{os.getpid()}"
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600), "wb") as file:
            file.write(said)
        os.replace(new, path)


def claimed() -> Iterator[tuple[str, str]]:
    """Places of this user under /dev/shm, and whose they say that they are."""
    with suppress(OSError):
        for name in sorted(os.listdir(SHARED_MEMORY)):
            place = os.path.join(SHARED_MEMORY, name)
            if name.startswith(f"{BEGINNING}{os.geteuid()}-") and _is_own(place) and (said := _read(os.path.join(place, OWNER))):
                yield place, os.fsdecode(said)


def remove_unused(place: str) -> bool:
    """Removes it, unless a process has a store of it open, in whatever container, or may be about to; whether it did."""
    held: list[int] = []
    try:
        if time.time() - os.stat(os.path.join(place, OWNER)).st_mtime < YOUNG:
            return False
        for name in os.listdir(place):
            with suppress(FileNotFoundError, NotADirectoryError):
                held.append(os.open(os.path.join(place, name, USERS), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW))
                fcntl.flock(held[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(place, ignore_errors=True)
        return True
    except OSError:
        return False
    finally:
        for fd in held:
            os.close(fd)


def _is_own(path: str) -> bool:
    found = os.lstat(path)
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()


def _read(path: str) -> bytes:
    with suppress(OSError), open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW), "rb") as file:
        return file.read(4096)
    return b""


def remove_memory(run_dir: str) -> None:
    """The instance is over, or the one before was killed. What belongs to other users stays, but for root."""
    places = [os.path.join(run_dir, NAME)]
    ending = f"-{_digest(run_dir)}"
    with suppress(OSError):
        for name in os.listdir(SHARED_MEMORY):
            if name.startswith(BEGINNING) and name.endswith(ending):
                places.append(os.path.join(SHARED_MEMORY, name))
    for path in places:
        with suppress(OSError):
            if stat.S_ISDIR(os.lstat(path).st_mode):
                shutil.rmtree(path, ignore_errors=True)


def _shared_place(run_dir: str) -> str:
    return f"{SHARED_MEMORY}/{BEGINNING}{os.geteuid()}-{_digest(run_dir)}"


def _digest(run_dir: str) -> str:
    return blake2b(os.fsencode(os.path.abspath(run_dir)), digest_size=8).hexdigest()


def _is_in_memory(path: str) -> bool:
    """Whether it is on a file system that is in memory."""
    best, kind = "", ""
    with suppress(OSError), open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as mounts:
        real = os.path.realpath(path)
        for line in mounts:
            _, point, found, *_ = line.split(" ")
            point = point.replace("\\040", " ")
            if (real == point or real.startswith(point.rstrip("/") + "/")) and len(point) >= len(best):
                best, kind = point, found
    return kind in _IN_MEMORY
