"""Files read without waiting: for a pipe of which nobody holds the other end one would wait without end."""

from __future__ import annotations

import errno
import os
import stat


def content_of(path: str | os.PathLike[str], longest: int = -1) -> bytes:
    """What is in a file; not more than `longest` bytes of it.

    Raises OSError, for what is no regular file too; ValueError for a path that none can have.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        mode = os.fstat(fd).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is no file but a pipe or a device", str(path))
        with os.fdopen(fd, "rb", closefd=False) as file:
            return file.read(longest)
    finally:
        os.close(fd)
