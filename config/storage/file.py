"""Configuration in files: one file, or a directory whose files make one configuration.

A directory is read with all below it, in the order of the names, through symbolic links too, each directory
once; names that begin with a dot are left out (editors and Kubernetes keep their own there).

A document is written into a new file beside the old one, which then takes its place: a reader, and whoever comes back
after a loss of power, finds the old text or the new one as a whole. A link stays a link, and what it leads to is replaced.
Several documents change in one step through a journal (journal.py). Writers of ours take turns by a lock on the
directory. An editor knows nothing of that: what it writes in the instant between our last look and the replacement
is lost.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from pingap.config.problems import ConfigRefused, Problem
from pingap.config.storage import journal
from pingap.config.storage.base import (
    SINGLE,
    Document,
    Earlier,
    Fingerprint,
    NothingThere,
    NotWritten,
    Outdated,
    Print,
    Reading,
    after,
    same_version,
)
from pingap.config.storage.history import History
from pingap.config.storage.journal import Journal, Replacement
from pingap.config.storage.notice import Directories, Notice, directories_of
from pingap.config.storage.regular import content_of
from pingap.config.storage.replacing import beside, clear, flush, make_folder, make_root, turn
from pingap.config.text.formats import FORMATS, TOML

LOOKS: Final = 5
"""Times that files which change while they are read are read anew."""

LONGEST_NAME: Final = 200
"""Bytes of an item's name that is to be a file's: it gets a section before it and a time behind it in the history."""


class FileStorage:
    """See `Storage`. is_separate: each new item gets a file of its own. has_history: earlier texts are kept in `PATH-history`."""

    def __init__(self, path: str | Path, is_separate: bool = False, has_history: bool = False) -> None:
        self.root = Path(os.path.expanduser(path))
        self.trouble = ""
        self.is_separate = is_separate
        self._history = History(Path(f"{self.root}-history")) if has_history else None

    @property
    def base(self) -> str:
        return str(self.root if self.is_directory else self.root.parent)

    @property
    def is_directory(self) -> bool:
        """What is not there yet is one unless its name says that it is a file."""
        if self.root.is_dir():
            return True
        return not os.path.lexists(self.root) and self.root.suffix not in FORMATS

    def read(self) -> Reading:
        """Files that change meanwhile are read again: half of Kubernetes' new version and half of the old one is none."""
        for left in range(LOOKS, 0, -1):
            before = self.fingerprint()
            try:
                reading = self._read()
            except ConfigRefused:
                if left == 1 or self.fingerprint() == before:
                    raise
            else:
                if left == 1 or self.fingerprint() == before:
                    return reading
        raise AssertionError

    def _read(self) -> Reading:
        contents: dict[str, bytes] = {}
        problems: list[Problem] = []
        for path in _files(self.root, problems):
            try:
                contents[self._name(path)] = content_of(path)
            except OSError as error:
                if path == self.root and isinstance(error, FileNotFoundError):
                    raise NothingThere([_unreadable(path, error)]) from None
                problems.append(_unreadable(path, error))
        due = self._due(contents, problems)
        documents = []
        for name, content in sorted(contents.items()) if due else contents.items():
            try:
                # A byte order mark is what some editors put first, and TOML has no place for it.
                documents.append(Document(name, content.decode("utf-8-sig")))
            except UnicodeDecodeError as error:
                problems.append(Problem(str(self.file_of(name)), f"not UTF-8 at byte {error.start}", "files are UTF-8"))
        if problems:
            raise ConfigRefused(problems)
        if not documents:
            raise NothingThere([Problem(str(self.root), f"the directory holds no {TOML} file")])
        return Reading(tuple(documents))

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self.root)) if path != self.root else str(path)

    def file_of(self, name: str) -> Path:
        """Where a document is, a link perhaps."""
        return self.root / name if self.is_directory else self.root

    def fingerprint(self) -> Fingerprint:
        """Costs one `stat` a file. What cannot be looked at counts as not there, and reading it says why."""
        path = self.root / journal.NAME
        return prints_of([*_files(self.root, []), *([path] if path.exists() else [])])

    def follow(self, moved: Callable[[], None]) -> Callable[[], None]:
        return Notice(self._directories, moved).end

    def _directories(self) -> Directories:
        """Where something happens when the configuration changes."""
        if not self.root.is_dir():
            return directories_of([self.root])
        tree = [(Path(folder), names) for folder, names in _tree(self.root, lambda error: None)]
        links = [path for folder, names in tree for name in names if (path := folder / name).suffix in FORMATS and path.is_symlink()]
        return directories_of(links, [folder for folder, _ in tree])

    def history(self, document: str) -> tuple[Earlier, ...] | None:
        return self._history.earlier(self._kept_as(document)) if self._history else None

    def _kept_as(self, document: str) -> str:
        return document if self.is_directory else self.root.name

    # -- writing ------------------------------------------------------------------

    def home_of(self, section: str, name: str) -> str:
        if not self.is_directory:
            return str(self.root)
        if not self.is_separate or section in SINGLE:
            return f"{section}{TOML}"
        if not name or name.startswith(".") or any(sign in "/\\\x7f" or sign < " " for sign in name):
            raise NotWritten(f"{name!r} cannot be the name of a file")
        if len(_encoded(name)) > LONGEST_NAME:
            raise NotWritten(f"{name[:40]!r}… cannot be the name of a file: it is longer than {LONGEST_NAME} bytes")
        return f"{section}/{name}{TOML}"

    def write(self, document: Document, version: str) -> str:
        return self.replace((document,), (), version)

    def replace(
        self, written: Collection[Document], removed: Collection[str], version: str, like: Mapping[str, Collection[Path]] | None = None
    ) -> str:
        """like: of written documents, the files from which their items come: who cannot read those is not to read these.

        A new document of which that is not said is for those who can read all that is there.
        """
        names = [*(document.name for document in written), *removed]
        paths = {name: self._path_of(name) for name in names}
        if len(paths) != len(names):
            raise NotWritten(f"a document is named twice: {', '.join(sorted(names))}")
        for document in written:
            _encoded(document.name + document.text)
        what = names[0] if len(names) == 1 else str(self.root)
        folder = self.root if self.is_directory else Path(os.path.realpath(self.root)).parent
        try:
            make_root(folder)
            with turn(folder):
                self._finish()
                return self._replace({document.name: document for document in written}, removed, paths, version, like or {})
        except OSError as error:
            raise NotWritten(f"{what} cannot be written: {(error.strerror or str(error)).lower()}") from error

    def _replace(
        self,
        written: dict[str, Document],
        removed: Collection[str],
        paths: dict[str, Path],
        version: str,
        like: Mapping[str, Collection[Path]],
    ) -> str:
        """For who has the turn. Raises OSError besides."""
        before = self.fingerprint()
        reading = self._reading()
        same_version(reading, version)
        old = {document.name: document for document in reading.documents}
        if missing := [name for name in removed if name not in old]:
            raise NotWritten(f"{missing[0]} is not there")
        self._check_new({name: paths[name] for name in sorted(written.keys() - old.keys())}, old.keys() - set(removed))
        written = {name: document for name, document in written.items() if old.get(name) != document}
        self._clear(paths.values())
        for name in (*written, *removed):
            if self._history and name in old:
                self._history.keep(self._kept_as(name), old[name].text, self.file_of(name))
        there = [self.file_of(name) for name in old]
        new: dict[str, str] = {}
        replacements: dict[str, Replacement] = {}
        try:
            for name, document in written.items():
                make_folder(paths[name].parent)
                mine = [paths[name]] if name in old else []
                new[name] = beside(paths[name], document.text.encode(), [*mine, *like.get(name, ())] or there)
            if len(written) + len(removed) > 1:
                replacements = {
                    name: Replacement(_digest(paths[name]), written[name].text if name in written else None)
                    for name in (*written, *removed)
                }
                touched = [self.file_of(name) for name in replacements if name in old]
                touched += [path for paths_of_one in like.values() for path in paths_of_one]
                new[journal.NAME] = beside(self.root / journal.NAME, journal.packed(replacements), touched or there)
            if self.fingerprint() != before:
                raise Outdated("the configuration is being changed at this moment: read it again")
            if replacements:
                os.replace(new.pop(journal.NAME), self.root / journal.NAME)
                flush(self.root)
                with suppress(OSError):  # from here on it is so, and the next writer does what cannot be done now
                    self._do(replacements, new)
            else:
                for name in written:
                    os.replace(new.pop(name), paths[name])
                    flush(paths[name].parent)
                for name in removed:
                    self._remove(name)
        except BaseException:
            for left in new.values():
                with suppress(OSError):
                    os.unlink(left)
            raise
        return Reading(after(reading.documents, written.values(), removed)).version

    def _reading(self) -> Reading:
        try:
            return self.read()
        except NothingThere:
            return Reading(())
        except ConfigRefused as refused:
            raise Outdated(f"the configuration cannot be read any more: {refused.problems[0]}") from None

    def _path_of(self, name: str) -> Path:
        """Where a document is in truth: links are followed. Raises NotWritten for a name that is not one of this storage."""
        if not self.is_directory:
            if name != str(self.root):
                raise NotWritten(f"{name}: there is one document here, {self.root}")
            return Path(os.path.realpath(self.root))
        parts = Path(name).parts
        if os.path.isabs(name) or not parts or any(part.startswith(".") for part in parts) or "\0" in name:
            raise NotWritten(f"{name!r} is no file of the directory")
        if Path(name).suffix not in FORMATS:
            raise NotWritten(f"{name!r} would not be read: it has no suffix such as {TOML}")
        return Path(os.path.realpath(self.root / name))

    def _check_new(self, new: Mapping[str, Path], others: Iterable[str]) -> None:
        """Raises NotWritten for a document that would come to be where this configuration is not, or hide another one."""
        root = os.path.realpath(self.root) if self.is_directory else ""
        taken = {_folded(other): other for other in others}
        for name, path in new.items():
            if root and not path.is_relative_to(root):
                raise NotWritten(f"{name} would be outside of the directory: a link leads to {path.parent}")
            if (other := taken.setdefault(_folded(name), name)) != name:
                raise NotWritten(f"{name} differs from {other} in nothing but case, which not every file system can tell apart")

    def _clear(self, paths: Iterable[Path]) -> None:
        """paths: of files that are about to be written, which may be elsewhere."""
        for path in paths:
            clear(path.parent, path.name)
        if self.is_directory:
            for folder, folders, _ in os.walk(self.root):
                folders[:] = [name for name in folders if not name.startswith(".")]
                clear(Path(folder))

    # -- the journal --------------------------------------------------------------

    def _due(self, contents: dict[str, bytes], problems: list[Problem]) -> bool:
        """Puts into contents what the journal says of them. False: there is none."""
        path = self.root / journal.NAME
        try:
            replacements = journal.unpacked(content_of(path))
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            problems.append(_unreadable(path, error))
            return False
        except ValueError:
            problems.append(
                Problem(str(path), "is no journal of an unfinished change", "remove it, and look whether all files are as they should be")
            )
            return False
        for name, one in replacements.items():
            if one.is_due(contents.get(name)):
                contents.pop(name, None)
                if one.text is not None:
                    contents[name] = one.text.encode()
        return True

    def _finish(self) -> None:
        """Does what a killed writer could not. For who has the turn. Raises OSError."""
        path = self.root / journal.NAME
        if not self.is_directory or not path.exists():
            return
        try:
            replacements = journal.unpacked(content_of(path))
        except ValueError:
            return  # reading says so
        self._do(replacements, {})

    def _do(self, replacements: Journal, new: dict[str, str]) -> None:
        """new: files that have the text already; what was used is taken out of it."""
        folders = set()
        for name, one in replacements.items():
            path = self._path_of(name)
            if not one.is_due(_content(path)):
                continue
            if one.text is None:
                self._remove(name)
                continue
            if name not in new:
                make_folder(path.parent)
            os.replace(new.pop(name, "") or beside(path, one.text.encode(), [path, self.root / journal.NAME]), path)
            folders.add(path.parent)
        for folder in folders:
            flush(folder)
        os.unlink(self.root / journal.NAME)
        flush(self.root)

    def _remove(self, name: str) -> None:
        """Of a link, the link."""
        path = self.file_of(name)
        os.unlink(path)
        flush(path.parent)
        while (path := path.parent) != self.root and self.is_directory:
            try:
                os.rmdir(path)
            except OSError:
                break


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise NotWritten(f"{text[error.start : error.end]!r} is no letter, and cannot be written") from error


def _content(path: Path) -> bytes | None:
    try:
        return content_of(path)
    except FileNotFoundError:
        return None


def _digest(path: Path) -> str | None:
    content = _content(path)
    return None if content is None else journal.digest(content)


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


# -- looking ----------------------------------------------------------------------


def prints_of(files: Iterable[str | Path]) -> Fingerprint:
    """What changes when one of the files changes, comes or goes. It never fails."""
    return tuple(_print_of(Path(path)) for path in files)


def _files(root: Path, problems: list[Problem]) -> list[Path]:
    """The files of a source; appends to `problems` why there are none."""
    if not root.is_dir():
        return [root]
    found: list[Path] = []

    def note(error: OSError) -> None:
        problems.append(_unreadable(error.filename, error))

    for folder, names in _tree(root, note):
        for name in sorted(names):
            suffix = os.path.splitext(name)[1]
            if suffix in FORMATS:
                found.append(Path(folder, name))
            elif not suffix and not os.path.exists(os.path.join(folder, name)):
                problems.append(Problem(os.path.join(folder, name), "a link that leads nowhere", "was it meant to be a directory?"))
    return found


def _tree(root: Path, note: Callable[[OSError], None]) -> Iterator[tuple[str, list[str]]]:
    """Each directory once, with the names in it; none that begin with a dot."""
    seen = {_identity(str(root))}
    for folder, folders, names in os.walk(root, onerror=note, followlinks=True):
        inner, folders[:] = sorted(name for name in folders if not name.startswith(".")), []
        for name in inner:
            # One that was reached by another way, say by a link to a directory above, is not read again.
            if (one := _identity(os.path.join(folder, name))) not in seen:
                seen.add(one)
                folders.append(name)
        yield folder, [name for name in names if not name.startswith(".")]


def _print_of(path: Path) -> Print:
    try:
        stat = path.stat()
    except (OSError, ValueError):  # ValueError: a NUL, or what is no letter, in the path
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
