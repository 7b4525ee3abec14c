"""What this stage knows and the next life of it is to know, in the run dir itself: it outlives processes, `pingap restart` and
`pingap upgrade`, and `pingap down` removes it (pingap/rundir.py).

Keepsakes (stages/keepsake.py) belong to one run, which ends with a restart. This may hold secrets: mode 0600.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any, Final

import msgpack

MOST: Final = 16 << 20
"""Bytes that are read."""


class RunDirFile:
    """Methods raise OSError."""

    def __init__(self, instance_dir: str, name: str) -> None:
        """instance_dir: `Context.run_dir`, which is in the run dir."""
        self._path: Final = os.path.join(instance_dir, os.pardir, name)

    def read(self) -> Any:
        """None when there is nothing, or nothing of ours."""
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        with open(fd, "rb") as file:
            packed = file.read(MOST)
        try:
            return msgpack.unpackb(packed)
        except (ValueError, TypeError, msgpack.UnpackException):
            return None

    def write(self, plain: Any) -> None:
        """Replaces it as a whole. plain: what MessagePack can carry."""
        new = f"{self._path}.{os.getpid()}"
        with suppress(FileNotFoundError):
            os.unlink(new)  # a crash left it; O_EXCL makes sure that the mode is ours
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(msgpack.packb(plain))
        os.replace(new, self._path)
