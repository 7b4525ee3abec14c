"""syncfs(2), which Python does not have."""

from __future__ import annotations

import ctypes
import os


def sync_file_system(fd: int) -> None:
    """Returns when all that was written to the file system of an open file is on its disk. Raises OSError."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if call is None:
        os.sync()
    elif call(fd):
        problem = ctypes.get_errno()
        raise OSError(problem, os.strerror(problem))
