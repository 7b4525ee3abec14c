"""Configuration in files: one TOML file, or a directory whose TOML files make one configuration.

A directory is read with all below it, in the order of the names, through symbolic links too, each directory
once; names that begin with a dot are left out (editors and Kubernetes keep their own there).
`?separation=true` after the path is accepted, for it is only about writing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pingap.config.problems import ConfigRefused, Problem

Print = tuple[str, int, int, int, int]
"""Of a file: path, inode, size, times of the last change of its content and of anything of it in nanoseconds.

The second time cannot be set by anybody: an edit that restores size and time (`touch -r`, `rsync -t`) is seen by it.
"""

Fingerprint = tuple[Print, ...]
"""For each file; one that is not there has zeros."""


@dataclass(frozen=True, slots=True)
class Document:
    """The text of one file."""

    name: str
    """The path: relative to the directory, or as given for a single file."""
    text: str


def locate(source: str | Path) -> Path:
    """The path that a `--conf` value names, `~` being the home directory; raises ConfigRefused for other storages."""
    text = str(source)
    if "://" in text:
        scheme = text.partition("://")[0]
        raise ConfigRefused([Problem(text, f"not supported yet: configuration in {scheme}", "give a file or directory")])
    path, _, query = text.partition("?")
    wrong = [part for part in query.split("&") if part and part.partition("=")[0] != "separation"]
    if wrong:
        raise ConfigRefused([Problem(path, f"not supported yet: {part.partition('=')[0]!r}") for part in wrong])
    return Path(os.path.expanduser(path))


def read(source: str | Path) -> tuple[Document, ...]:
    """All the text of a source. Raises ConfigRefused with a problem for each file that cannot be read."""
    root = locate(source)
    documents: list[Document] = []
    problems: list[Problem] = []
    for path in _files(root, problems):
        name = str(path.relative_to(root)) if path != root else str(path)
        try:
            # A byte order mark is what some editors put first, and TOML has no place for it.
            documents.append(Document(name, path.read_bytes().decode("utf-8-sig")))
        except OSError as error:
            problems.append(_unreadable(path, error))
        except UnicodeDecodeError as error:
            problems.append(Problem(str(path), f"not UTF-8 at byte {error.start}", "TOML files are UTF-8"))
    if problems:
        raise ConfigRefused(problems)
    return tuple(documents)


def fingerprint(source: str | Path, also: Iterable[str | Path] = ()) -> Fingerprint:
    """What changes when a file of the source changes, comes or goes; `also` names more files to look at.

    Two equal fingerprints mean that nothing needs reading again. It never fails: what cannot be looked at counts
    as not there, and reading it says why. Costs one `stat` a file.
    """
    return tuple(_print_of(path) for path in (*_files(locate(source), []), *map(Path, also)))


def _files(root: Path, problems: list[Problem]) -> list[Path]:
    """The files of a source; appends to `problems` why there are none."""
    if not root.is_dir():
        if root.suffix in (".hcl", ".kdl"):
            problems.append(Problem(str(root), f"not supported yet: {root.suffix[1:].upper()}", "write TOML"))
            return []
        return [root]
    found: dict[str, list[Path]] = {".toml": [], ".hcl": [], ".kdl": []}

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
        for name in sorted(names):
            suffix = os.path.splitext(name)[1]
            if suffix in found and not name.startswith("."):
                found[suffix].append(Path(folder, name))
            elif not suffix and not name.startswith(".") and not os.path.exists(os.path.join(folder, name)):
                problems.append(Problem(os.path.join(folder, name), "a link that leads nowhere", "was it meant to be a directory?"))
    if not found[".toml"] and not problems:
        others = found[".hcl"] + found[".kdl"]
        message = "not supported yet: HCL and KDL" if others else "the directory holds no .toml file"
        problems.append(Problem(str(root), message, "write TOML" if others else ""))
    return found[".toml"]


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
