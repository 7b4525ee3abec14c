"""Configuration in files: one file, or a directory whose files make one configuration.

A directory is read with all below it, in the order of the names, through symbolic links too, each directory
once; names that begin with a dot are left out (editors and Kubernetes keep their own there).

A document is written into a new file beside the old one, which then takes its place: a reader, and whoever comes back
after a loss of power, finds the old text or the new one as a whole. A link stays a link, and what it leads to is replaced.
Writers of ours take turns by a lock on the directory. An editor knows nothing of that: what it writes in the instant
between our last look and the replacement is lost.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pingap.config.problems import ConfigRefused, Problem
from pingap.config.storage.base import SINGLE, Document, Fingerprint, NotWritten, Outdated, Print, Reading, same_version, with_document
from pingap.config.text.formats import FORMATS, LATER, TOML


class FileStorage:
    """See `Storage`. is_separate: each new item gets a file of its own."""

    def __init__(self, path: str | Path, is_separate: bool = False) -> None:
        self.root = Path(os.path.expanduser(path))
        self._is_separate = is_separate

    @property
    def base(self) -> str:
        return str(self.root if self.root.is_dir() else self.root.parent)

    def read(self) -> Reading:
        documents: list[Document] = []
        problems: list[Problem] = []
        for path in _files(self.root, problems):
            try:
                # A byte order mark is what some editors put first, and TOML has no place for it.
                documents.append(Document(self._name(path), path.read_bytes().decode("utf-8-sig")))
            except OSError as error:
                problems.append(_unreadable(path, error))
            except UnicodeDecodeError as error:
                problems.append(Problem(str(path), f"not UTF-8 at byte {error.start}", "TOML files are UTF-8"))
        if problems:
            raise ConfigRefused(problems)
        return Reading(tuple(documents))

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self.root)) if path != self.root else str(path)

    def changes(self) -> Fingerprint:
        """Costs one `stat` a file. What cannot be looked at counts as not there, and reading it says why."""
        return prints_of(_files(self.root, []))

    # -- writing ------------------------------------------------------------------

    def home_of(self, section: str, name: str) -> str:
        if not self.root.is_dir():
            return str(self.root)
        if not self._is_separate or section in SINGLE:
            return f"{section}{TOML}"
        if not name or name.startswith(".") or any(sign in name for sign in "/\\\0"):
            raise NotWritten(f"{name!r} cannot be the name of a file")
        return f"{section}/{name}{TOML}"

    def write(self, document: Document, version: str) -> str:
        path = self._path_of(document.name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with _turn(path.parent if self.root != path else self.root.parent):
                before = self.changes()
                reading = self._reading()
                same_version(reading, version)
                new = _beside(path, document.text.encode())
                try:
                    if self.changes() != before:
                        raise Outdated("the configuration is being changed at this moment: read it again")
                    os.replace(new, path)
                except BaseException:
                    with suppress(OSError):
                        os.unlink(new)
                    raise
                _flush(path.parent)
        except OSError as error:
            raise NotWritten(f"{document.name} cannot be written: {(error.strerror or str(error)).lower()}") from error
        return Reading(with_document(reading.documents, document)).version

    def _reading(self) -> Reading:
        try:
            return self.read()
        except ConfigRefused as refused:
            raise Outdated(f"the configuration cannot be read any more: {refused.problems[0]}") from None

    def _path_of(self, name: str) -> Path:
        """Where a document is in truth: links are followed. Raises NotWritten for a name that is not one of this storage."""
        if not self.root.is_dir():
            if name != str(self.root):
                raise NotWritten(f"{name}: there is one document here, {self.root}")
            return Path(os.path.realpath(self.root))
        parts = Path(name).parts
        if os.path.isabs(name) or not parts or any(part.startswith(".") for part in parts) or "\0" in name:
            raise NotWritten(f"{name!r} is no file of the directory")
        if Path(name).suffix not in FORMATS:
            raise NotWritten(f"{name!r} would not be read: it has no suffix such as {TOML}")
        return Path(os.path.realpath(self.root / name))


@contextmanager
def _turn(folder: Path) -> Iterator[None]:
    """Until no other writer of ours is at work there."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _beside(path: Path, content: bytes) -> str:
    """A new file with the content, on the disk, with the permissions of the one that it is to replace. Its name."""
    fd, name = tempfile.mkstemp(".new", f".{path.name}.", path.parent)  # readable by its owner alone: there may be keys in it
    try:
        with os.fdopen(fd, "wb") as file:
            with suppress(FileNotFoundError):
                status = path.stat()
                with suppress(PermissionError):  # it is another user's, who lets us write: then it is ours from now on
                    os.fchown(file.fileno(), status.st_uid, status.st_gid)
                os.fchmod(file.fileno(), status.st_mode & 0o7777)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        os.unlink(name)
        raise
    return name


def _flush(folder: Path) -> None:
    """The names in a directory are on the disk."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


# -- looking ----------------------------------------------------------------------


def prints_of(files: Iterable[str | Path]) -> Fingerprint:
    """What changes when one of the files changes, comes or goes. It never fails."""
    return tuple(_print_of(Path(path)) for path in files)


def _files(root: Path, problems: list[Problem]) -> list[Path]:
    """The files of a source; appends to `problems` why there are none."""
    if not root.is_dir():
        if root.suffix in LATER:
            problems.append(Problem(str(root), f"not supported yet: {LATER[root.suffix]}", "write TOML"))
            return []
        return [root]
    found: list[Path] = []
    others: list[Path] = []

    def note(error: OSError) -> None:
        problems.append(_unreadable(error.filename, error))

    seen = {_identity(str(root))}
    for folder, folders, names in os.walk(root, onerror=note, followlinks=True):
        inner, folders[:] = sorted(name for name in folders if not name.startswith(".")), []
        for name in inner:
            # One that was reached by another way, say by a link to a directory above, is not read again.
            if (one := _identity(os.path.join(folder, name))) not in seen:
                seen.add(one)
                folders.append(name)
        for name in sorted(name for name in names if not name.startswith(".")):
            suffix = os.path.splitext(name)[1]
            if suffix in FORMATS:
                found.append(Path(folder, name))
            elif suffix in LATER:
                others.append(Path(folder, name))
            elif not suffix and not os.path.exists(os.path.join(folder, name)):
                problems.append(Problem(os.path.join(folder, name), "a link that leads nowhere", "was it meant to be a directory?"))
    if not found and not problems:
        message = f"not supported yet: {' and '.join(LATER.values())}" if others else f"the directory holds no {TOML} file"
        problems.append(Problem(str(root), message, "write TOML" if others else ""))
    return found


def _print_of(path: Path) -> Print:
    try:
        stat = path.stat()
    except OSError:
        return (str(path), 0, 0, 0, 0)
    return (str(path), stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


def _identity(folder: str) -> tuple[int, int]:
    with suppress(OSError):
        stat = os.stat(folder)
        return (stat.st_dev, stat.st_ino)
    return (0, 0)


def _unreadable(path: str | Path, error: OSError) -> Problem:
    reason = (error.strerror or str(error)).lower()
    return Problem(str(path), f"cannot be read: {reason}")
