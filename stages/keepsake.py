"""What an actor wants its next life to know, as a small file in the run dir.

It belongs to one run of pingap: it names that run by the time of its `pid` file (pingap/instance_dir.py), which each run writes
anew, and is not taken by another. It may hold secrets: mode 0600.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any, Final

import msgpack

VERSION: Final = 1


def save(run_dir: str, name: str, plain: Any) -> int:
    """Replaces the file as a whole; the run that it names. plain: what MessagePack can carry. Raises OSError."""
    path = os.path.join(run_dir, name)
    new = f"{path}.new"
    with suppress(FileNotFoundError):
        os.unlink(new)  # a crash left it; O_EXCL makes sure that the mode is ours
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        run = run_of(run_dir)
        file.write(msgpack.packb([VERSION, run, plain], use_bin_type=True))
    os.replace(new, path)
    return run


def restore(run_dir: str, name: str) -> Any:
    """What an earlier life in this run saved, None when there is none.

    Raises ValueError for a file that cannot be read as one of these, OSError for one that cannot be opened.
    """
    try:
        with open(os.path.join(run_dir, name), "rb") as file:
            packed = file.read()
    except FileNotFoundError:
        return None
    try:
        version, run, plain = msgpack.unpackb(packed, strict_map_key=False)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error
    return plain if [version, run] == [VERSION, run_of(run_dir)] else None


def is_lost(run_dir: str, name: str, run: int) -> bool:
    """Somebody has removed it, or it was saved while the run could not be named. run: what `save` gave."""
    now = run_of(run_dir)
    return bool(now) and (run != now or not os.path.lexists(os.path.join(run_dir, name)))


def run_of(run_dir: str) -> int:
    """What tells one run from another: the time of the pid file, which is the same when that has to be made anew."""
    with suppress(FileNotFoundError):
        return os.stat(os.path.join(run_dir, "pid")).st_mtime_ns
    return 0
