"""A shelf in a directory, which several instances may share.

    <kind>/<name>     a value: a line that says what it is, a checksum, then the rest (`_Stored`) as msgpack
    <kind>/.*.new     one that is being written
    leases/<name>     locked (flock) by who has the lease, with a text that says who that is

The kernel gives a lock back when its holder dies, whatever killed him. What is only half there, or was put there by others,
is not believed: it is as if there was nothing, and that is told.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Final

import msgspec

from pingap.config.storage.replacing import beside, clear, flush, give, make_root, turn
from pingap.stages.acme.store.base import KINDS, Kind, StoreError, ValueUnreadable
from pingap.stages.acme.store.naming import file_of

_FIRST: Final = b"pingap acme 1\n"
_DIGEST: Final = 32
_MOST: Final = 4 << 20
"""Bytes of a file that is read: what is larger is none of ours."""

_LEASES: Final = "leases"
_FOLDER: Final = 0o700
_FILE: Final = 0o600
_UNLOCKABLE: Final = (errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class _Stored(msgspec.Struct, array_like=True):
    """What a file has."""

    kind: str
    name: str
    end: float
    """Unix time after which it is to be forgotten; 0: never."""
    value: bytes


_DECODER: Final = msgspec.msgpack.Decoder(_Stored)


def _nobody(_: str) -> None:
    return None


class FileShelf:
    """See `Shelf`. The directory is made when something is put there."""

    def __init__(self, root: str, told: Callable[[str], None] = _nobody, clock: Callable[[], float] = time.time) -> None:
        """told: gets, once of each file, what is wrong and does no harm. clock: Unix time, the same for all who share it."""
        self._root = Path(root)
        self._told = told
        self._clock = clock
        self._known: set[str] = set()
        self._was_there = False
        """The directory, at some time of this life: what has become of a mount that is lost is no empty directory."""

    # -- values -------------------------------------------------------------------

    def get(self, kind: Kind, name: str) -> bytes | None:
        path = self._root / kind / file_of(name)
        with self._doing("read", path):
            try:
                found = self._read(path, kind)
            except OSError as error:
                if not self._is_of_one(path):
                    raise
                raise ValueUnreadable(self._why("read", path, error)) from error
        if found is None or found.name != name:
            return None
        if self._is_over(found):
            self._forget(path, kind)
            return None
        return found.value

    def put(self, kind: Kind, name: str, value: bytes, seconds: float | None = None) -> None:
        path = self._root / kind / file_of(name)
        end = 0.0 if seconds is None else self._clock() + seconds
        rest = msgspec.msgpack.encode(_Stored(kind, name, end, value))
        content = _FIRST + sha256(rest).digest() + rest
        if len(content) > _MOST:
            raise StoreError(f"{kind} {name!r} has {len(value)} bytes, more than are kept")
        with self._doing("written", path):
            self._make(path.parent)
            with turn(path.parent):
                clear(path.parent)
                if seconds is not None:  # these are few and short-lived, and nobody may ask for them again
                    self._sweep(kind)
                new = beside(path, content, like=(path.parent,), mode=_FILE)
                try:
                    # Two changes within a tick of the kernel's clock would have the same time: `version` has to see both.
                    now = max(time.time_ns(), _changed(path) + 1)
                    os.utime(new, ns=(now, now))
                    os.replace(new, path)
                except BaseException:
                    os.unlink(new)
                    raise
                flush(path.parent)

    def drop(self, kind: Kind, name: str) -> None:
        path = self._root / kind / file_of(name)
        with self._doing("removed", path), suppress(FileNotFoundError), turn(path.parent):
            os.unlink(path)
            flush(path.parent)

    def names(self, kind: Kind) -> list[str]:
        return list(self.values(kind))

    def values(self, kind: Kind) -> dict[str, bytes]:
        found = {}
        for path in self._files(kind):
            with self._doing("read", path):
                try:
                    stored = self._read(path, kind)
                except OSError as error:
                    if not self._is_of_one(path):
                        raise
                    self._tell(f"{self._why('read', path, error)}; what was in it is got anew")
                    continue
            if stored is not None and self._is_over(stored):
                self._forget(path, kind)
            elif stored is not None:
                found[stored.name] = stored.value
        return dict(sorted(found.items()))

    def version(self) -> str:
        digest = blake2b(digest_size=16)
        for kind in KINDS:
            for path in self._files(kind):
                with self._doing("read", path), suppress(FileNotFoundError):
                    status = path.lstat()
                    who_may = (status.st_mode, status.st_uid, status.st_gid)  # what could not be read is tried again
                    digest.update(repr((kind, path.name, status.st_ino, status.st_mtime_ns, who_may)).encode())
        return digest.hexdigest()

    # -- leases -------------------------------------------------------------------

    def lease(self, name: str, seconds: float) -> FileLease | None:
        """seconds: without effect, as the kernel sees the end of a holder at once."""
        path = self._root / _LEASES / file_of(name)
        with self._doing("locked", path):
            self._make(path.parent)
            while True:
                fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, _FILE)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if _is_at(fd, path):
                        give(fd, path.parent.stat())
                        return FileLease(fd, path)
                    os.close(fd)  # it was removed by hand, between our two steps
                except OSError as error:
                    os.close(fd)
                    if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                        return None
                    raise

    def holder(self, name: str) -> str:
        path = self._root / _LEASES / file_of(name)
        with self._doing("read", path), suppress(FileNotFoundError):
            return path.read_bytes()[:300].decode(errors="replace").strip()
        return ""

    # -- within -------------------------------------------------------------------

    def _files(self, kind: Kind) -> list[Path]:
        folder = self._root / kind
        with self._doing("read", folder):
            try:
                return [folder / name for name in sorted(os.listdir(folder)) if not name.startswith(".")]
            except FileNotFoundError:
                return []

    def _read(self, path: Path, kind: Kind) -> _Stored | None:
        """What is to be believed. Raises OSError."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENXIO):  # a link, a socket
                raise
            self._foreign(path)
            return None
        try:
            status = os.fstat(fd)
            content = b""
            if stat.S_ISREG(status.st_mode):
                with os.fdopen(fd, "rb", closefd=False) as file:
                    content = file.read(_MOST + 1)
            found = _believed(content)
            if found is None or found.kind != kind or file_of(found.name) != path.name:
                self._foreign(path)
                return None
            if status.st_mode & 0o077:
                self._close(fd, path, status)
            return found
        finally:
            os.close(fd)

    def _is_of_one(self, path: Path) -> bool:
        """What is wrong with a file is not wrong with all of its directory. Raises OSError."""
        os.listdir(path.parent)
        return os.access(path.parent, os.R_OK | os.X_OK, effective_ids=True)

    def _foreign(self, path: Path) -> None:
        self._tell(f"{path} is not used: it is damaged, or pingap has not written it; remove it")

    def _close(self, fd: int, path: Path, status: os.stat_result) -> None:
        """A key that others could read is closed to them: volumes are opened to a group when they are mounted."""
        try:
            os.fchmod(fd, _FILE)
            self._tell(f"{path} was open to others (mode {stat.S_IMODE(status.st_mode):04o}): it is {_FILE:04o} now")
        except OSError:
            self._tell(f"{path} is open to others (mode {stat.S_IMODE(status.st_mode):04o}): chmod 600 {path}")

    def _make(self, folder: Path) -> None:
        """The directory, and the one above it. Raises OSError."""
        if not self._root.is_dir():
            make_root(self._root, _FOLDER)
            self._was_there = True
        try:
            folder.mkdir(_FOLDER)
        except FileExistsError:
            for one in (self._root, folder):
                if (mode := stat.S_IMODE(one.stat().st_mode)) & 0o022:
                    self._tell(f"{one} can be written by others (mode {mode:04o}), who could put certificates there: chmod 700 {one}")
            return
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            give(fd, self._root.stat())  # root may have been asked to do what another user's instance goes on with
        finally:
            os.close(fd)
        flush(self._root)

    def _is_over(self, found: _Stored) -> bool:
        return 0 < found.end <= self._clock()

    def _forget(self, path: Path, kind: Kind) -> None:
        """If it still is over, now that nobody else writes. Who may only read leaves it there."""
        with suppress(OSError), turn(path.parent):
            found = self._read(path, kind)
            if found is not None and self._is_over(found):
                os.unlink(path)

    def _sweep(self, kind: Kind) -> None:
        """Takes away all of a kind that is over. For who has the turn."""
        for path in self._files(kind):
            with suppress(OSError):
                found = self._read(path, kind)
                if found is not None and self._is_over(found):
                    os.unlink(path)

    def _tell(self, text: str) -> None:
        if text not in self._known:
            self._known.add(text)
            self._told(text)

    @contextmanager
    def _doing(self, what: str, path: Path) -> Iterator[None]:
        try:
            if self._root.is_dir():
                self._was_there = True
            elif self._was_there:
                raise StoreError(f"{self._root} was there and is not any more: mount it again, or make it anew (mkdir {self._root})")
            yield
        except OSError as error:
            raise StoreError(self._why(what, path, error)) from error

    def _why(self, what: str, path: Path, error: OSError) -> str:
        why = "another process is at work there" if isinstance(error, TimeoutError) else (error.strerror or str(error)).lower()
        hint = self._hint(error)
        return f"{path} cannot be {what}: {why}" + (f": {hint}" if hint else "")

    def _hint(self, error: OSError) -> str:
        another = "give another directory with acme_directory in [basic]"
        match error.errno:
            case errno.EACCES | errno.EPERM:
                return f"{self._root} and all in it must belong to user id {os.geteuid()}, which pingap runs as: chown it, or {another}"
            case errno.EROFS:
                return another
            case errno.ENOSPC | errno.EDQUOT:
                return f"make room there, or {another}"
            case errno.ENOTDIR | errno.EEXIST | errno.EISDIR | errno.ELOOP:
                return f"{self._root} must be a directory of its own: {another}"
            case code if code in _UNLOCKABLE:
                return f"this file system has no locks (flock), so that instances could not take turns: {another}"
        return ""


class FileLease:
    """See `Lease`."""

    def __init__(self, fd: int, path: Path) -> None:
        """fd: of the file, locked. Raises OSError, with fd closed by who has opened it."""
        self._fd = fd
        self._path = path
        text = f"{socket.gethostname()}:{os.getpid()}\n".encode()
        os.pwrite(fd, text, 0)
        os.ftruncate(fd, len(text))

    def renew(self) -> bool:
        if self._fd >= 0 and not _is_at(self._fd, self._path):  # removed by hand: others lock another file
            self.release()
        return self._fd >= 0

    def release(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with suppress(OSError):
                os.ftruncate(fd, 0)
            with suppress(OSError):
                os.close(fd)


def _believed(content: bytes) -> _Stored | None:
    start = len(_FIRST) + _DIGEST
    rest = content[start:]
    if content[:start] != _FIRST + sha256(rest).digest():
        return None
    try:
        return _DECODER.decode(rest)
    except msgspec.DecodeError:
        return None


def _changed(path: Path) -> int:
    """When, in nanoseconds; 0 for what is not there."""
    try:
        return path.lstat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _is_at(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.lstat())
    except OSError:
        return False
