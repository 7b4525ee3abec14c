"""The files below a directory: found and opened by their names. All of it may wait for a disk, so it runs in threads.

Without `follows` no symbolic link leads out of the directory: names are opened one by one, each relative to the directory before it
and never through a link; what a link says is read and walked in the same way. So it does not matter what is renamed meanwhile.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Sequence
from functools import cache
from typing import Any, Final, NamedTuple

from pingap.stages.plugins.builtin.files.listing import MOST_ENTRIES, Entries, ListedName, in_order

Identity = tuple[int, int, int, int, int]
"""Device, inode, size, and the times of its content and of its inode, in nanoseconds: another one, or another content, has another."""

Check = tuple[bytes, Identity | bool]
"""A path, and what is there: True for a directory, False for nothing."""

MOST_LINKS: Final = 40
MOST_STEPS: Final = 4096
"""Of one walk: names that are looked at, those of links included."""

_FLAGS: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""A FIFO that nobody writes to would hold up the thread."""
_FOLDER: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

NOTHING: Final = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.ENXIO, errno.EILSEQ, errno.EINVAL))
"""Errors that say that there is no such file."""


class Outside(Exception):
    """A symbolic link leads out of the directory."""


class DiskPlace(NamedTuple):
    """What is at a path."""

    path: bytes
    """Absolute, and the way that was asked for."""
    status: os.stat_result
    descriptor: int
    """Of a regular file, opened for whoever asked; -1 for all else."""


class Tree:
    def __init__(self, root: bytes, follows: bool) -> None:
        """root: absolute. follows: symbolic links lead wherever they lead."""
        self.root = root
        self.follows = follows

    def path_of(self, names: Sequence[bytes]) -> bytes:
        return b"/".join((self.root.rstrip(b"/"), *names)) or b"/"

    def at(self, names: Sequence[bytes]) -> DiskPlace:
        """Raises OSError, and Outside."""
        path = self.path_of(names)
        if not self.follows:
            with _Walk(self.root) as walk:
                return DiskPlace(path, *walk.opened(names))
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            return DiskPlace(path, found, -1)
        return DiskPlace(path, *_regular(os.open(path, _FLAGS)))

    def entries(self, names: Sequence[bytes], shows_hidden: bool) -> Entries:
        """What is in a directory. Raises OSError, and Outside."""
        if self.follows:
            return _entries(os.scandir(self.path_of(names)), shows_hidden, None)
        with _Walk(self.root) as walk:
            walk.opened(names)
            folder = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=walk.folder)
        try:
            return _entries(os.scandir(folder), shows_hidden, lambda name: self._status(names, name))
        finally:
            os.close(folder)

    def _status(self, names: Sequence[bytes], name: bytes) -> os.stat_result | None:
        """What a link in a directory leads to."""
        try:
            place = self.at((*names, name))
        except (OSError, Outside):
            return None
        if place.descriptor >= 0:
            os.close(place.descriptor)
        return place.status


def _regular(descriptor: int) -> tuple[os.stat_result, int]:
    """It may have become something else between the look at it and the opening."""
    try:
        found = os.fstat(descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    if stat.S_ISREG(found.st_mode):
        return found, descriptor
    os.close(descriptor)
    return found, -1


class _Walk:
    """One way down from the root. Holds one directory open at a time."""

    def __init__(self, root: bytes) -> None:
        self._root = root
        self.folder = -1
        """Where it has come to."""

    def __enter__(self) -> _Walk:
        self._go(os.open(self._root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        return self

    def __exit__(self, *why: object) -> None:
        self._go(-1)

    def _go(self, folder: int) -> None:
        before, self.folder = self.folder, folder
        if before >= 0:
            os.close(before)

    def opened(self, names: Sequence[bytes]) -> tuple[os.stat_result, int]:
        """As DiskPlace has it. `folder` is the directory itself, or the one that the file is in."""
        pending = list(reversed(names))
        below: list[bytes] = []  # directories, none of them a link
        links = steps = 0
        while pending:
            name = pending.pop()
            steps += 1
            if steps > MOST_STEPS:
                raise OSError(errno.ELOOP, "the way by symbolic links is too long")
            if name == b"..":
                if not below:
                    raise Outside
                pending += reversed(below[:-1])
                below.clear()
                self._restart()
                continue
            found = os.stat(name, dir_fd=self.folder, follow_symlinks=False)
            if stat.S_ISLNK(found.st_mode):
                links += 1
                if links > MOST_LINKS:
                    raise OSError(errno.ELOOP, "too many symbolic links")
                target = os.readlink(name, dir_fd=self.folder)
                if target.startswith(b"/"):
                    target = self._below_root(target)
                    below.clear()
                    self._restart()
                pending += [part for part in reversed(target.split(b"/")) if part not in (b"", b".")]
            elif stat.S_ISDIR(found.st_mode):
                self._go(os.open(name, _FOLDER, dir_fd=self.folder))
                below.append(name)
            elif pending:
                raise NotADirectoryError(errno.ENOTDIR, "not a directory", name)
            elif stat.S_ISREG(found.st_mode):
                return _regular(os.open(name, _FLAGS | os.O_NOFOLLOW, dir_fd=self.folder))
            else:
                return found, -1
        return os.fstat(self.folder), -1

    def _restart(self) -> None:
        self._go(os.open(self._root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))

    def _below_root(self, target: bytes) -> bytes:
        for root in {self._root, os.path.realpath(self._root)}:
            start = root.rstrip(b"/") + b"/"
            if (target + b"/").startswith(start):
                return target[len(start) :]
        raise Outside


def _entries(found: Any, shows_hidden: bool, follow: Any) -> Entries:
    """found: of scandir. follow: gives the status of what a link leads to; None: as the system has it."""
    entries: list[ListedName] = []
    with found as scan:
        for one in scan:
            name = os.fsencode(one.name)
            if name.startswith(b".") and not shows_hidden:
                continue
            if len(entries) == MOST_ENTRIES:
                return Entries(in_order(entries), False)
            try:
                status = follow(name) if follow is not None and one.is_symlink() else one.stat()
            except OSError:
                continue  # a link to nowhere; or gone meanwhile
            if status is not None and (stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode)):
                entries.append(ListedName(name, stat.S_ISDIR(status.st_mode), status.st_size, int(status.st_mtime)))
    return Entries(in_order(entries), True)


# -- what was found, looked at again ------------------------------------------------


def identity_of(status: os.stat_result) -> Identity:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def is_current(checks: Sequence[Check]) -> bool:
    """Whether at these paths there is still what was there."""
    for path, known in checks:
        try:
            found = os.stat(path)
        except OSError as error:
            if known is False and error.errno in NOTHING:
                continue
            return False
        if known is True:
            if not stat.S_ISDIR(found.st_mode):
                return False
        elif known is False or (
            found.st_mtime_ns != known[3]
            or found.st_size != known[2]
            or found.st_ino != known[1]
            or found.st_ctime_ns != known[4]
            or found.st_dev != known[0]
        ):
            return False
    return True


# -- file systems -------------------------------------------------------------------

_LOCAL: Final = frozenset(
    # ext2 to ext4, XFS, Btrfs, tmpfs, ramfs, overlay, F2FS, ZFS, squashfs, EROFS, bcachefs: linux/magic.h and their own sources
    (0xEF53, 0x58465342, 0x9123683E, 0x01021994, 0x858458F6, 0x794C7630, 0xF2F52010, 0x2FC12FC1, 0x73717368, 0xE0F5E1E2, 0xCA451A4E)
)
"""Of these, what has been looked at lately is in memory; no network and nobody's program (FUSE) is asked."""


@cache
def _statfs() -> Any:
    """Of the C library: Python has only statvfs(3), which leaves out the type. None where there is none."""
    import ctypes  # only for those who have files: it takes half a megabyte

    library = ctypes.CDLL(None, use_errno=True)
    return getattr(library, "statfs64", None) or getattr(library, "statfs", None)


def is_local(path: bytes) -> bool:
    """Whether a path, or what there is of it, is on file systems that answer from memory. path: absolute."""
    statfs = _statfs()
    if statfs is None:
        return False
    import ctypes

    room = ctypes.create_string_buffer(512)
    at = 0
    while at >= 0:  # all that is above it is looked at too when it is looked up
        at = path.find(b"/", at + 1)
        if statfs(path[: at if at >= 0 else None] or b"/", room) != 0:
            return ctypes.get_errno() in NOTHING  # no more of it is there
        if int.from_bytes(room.raw[: ctypes.sizeof(ctypes.c_long)], sys.byteorder) & 0xFFFFFFFF not in _LOCAL:  # its first word is the type
            return False
    return True
