"""The last committed generation on disk: a restarted config actor goes on from it, whatever the files say by then.

It belongs to one run of pingap: it names that run by its `pid` file (pingap/rundir.py),
which is written anew by each, and is not taken by another. It may hold secrets: mode 0600.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any, Final

import msgpack

from config.model import Snapshot
from stages.config.core import Loaded, Stored

NAME: Final = "config.last"
VERSION: Final = 1


def save(run_dir: str, stored: Stored) -> None:
    """Replaces the file as a whole. Raises OSError."""
    plain = {
        "version": VERSION,
        "run": run_of(run_dir),
        "number": stored.number,
        "wire": stored.loaded.wire,
        "code": stored.loaded.code,
        "booted": stored.booted.to_wire(),
    }
    path = os.path.join(run_dir, NAME)
    new = f"{path}.new"
    with suppress(FileNotFoundError):
        os.unlink(new)  # a crash left it; O_EXCL makes sure that the mode is ours
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(msgpack.packb(plain, use_bin_type=True))
    os.replace(new, path)


def restore(run_dir: str) -> Stored | None:
    """What an earlier life in this run saved, None when there is none.

    Raises ValueError for a file that cannot be used, OSError for one that cannot be read.
    """
    try:
        with open(os.path.join(run_dir, NAME), "rb") as file:
            packed = file.read()
    except FileNotFoundError:
        return None
    try:
        plain: dict[str, Any] = msgpack.unpackb(packed, strict_map_key=False)
        if plain["version"] != VERSION or plain["run"] != run_of(run_dir):
            return None
        wire = plain["wire"]
        loaded = Loaded(Snapshot.from_wire(wire["snapshot"]), wire, plain["code"])
        return Stored(plain["number"], loaded, Snapshot.from_wire(plain["booted"]))
    except (ValueError, LookupError, TypeError, AttributeError, msgpack.UnpackException) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def run_of(run_dir: str) -> list[int]:
    """What tells one run from another: nothing but the pid file lasts exactly as long as a run."""
    with suppress(FileNotFoundError):
        status = os.stat(os.path.join(run_dir, "pid"))
        return [status.st_ino, status.st_mtime_ns]
    return [0, 0]
