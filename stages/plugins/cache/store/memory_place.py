"""Where a store in memory is, for a run dir: in it, if that is in memory itself, else under /dev/shm.

It belongs to one run of an instance, as keepsakes do (stages/keepsake.py): the next one begins with an empty store.
Nothing of LMDB is needed here: the supervisor removes it (pingap/rundir.py).
"""

from __future__ import annotations

import os
import shutil
import stat
from contextlib import suppress
from hashlib import blake2b
from typing import Final

SHARED_MEMORY: Final = "/dev/shm"
NAME: Final = "cache"
BEGINNING: Final = "pingap-cache-"
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
