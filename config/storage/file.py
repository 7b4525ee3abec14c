"""Configuration in files: one TOML file, or a directory whose TOML files make one configuration.

A directory is read with all below it, in the order of the names; names that
begin with a dot are left out (editors and Kubernetes keep their own there).
`?separation=true` after the path is accepted, for it is only about writing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from config.problems import ConfigRefused, Problem

Fingerprint = tuple[tuple[str, int, int, int], ...]
"""For each file: path, inode, size, time of change in nanoseconds. A file that is not there has zeros."""


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
        raise ConfigRefused(
            [Problem(text, f"not supported yet: configuration in {scheme}", "give a file or directory")]
        )
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

    for folder, folders, names in os.walk(root, onerror=note):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            suffix = os.path.splitext(name)[1]
            if suffix in found and not name.startswith("."):
                found[suffix].append(Path(folder, name))
    if not found[".toml"] and not problems:
        others = found[".hcl"] + found[".kdl"]
        message = "not supported yet: HCL and KDL" if others else "the directory holds no .toml file"
        problems.append(Problem(str(root), message, "write TOML" if others else ""))
    return found[".toml"]


def _print_of(path: Path) -> tuple[str, int, int, int]:
    try:
        stat = path.stat()
    except OSError:
        return (str(path), 0, 0, 0)
    return (str(path), stat.st_ino, stat.st_size, stat.st_mtime_ns)


def _unreadable(path: str | Path, error: OSError) -> Problem:
    reason = (error.strerror or str(error)).lower()
    return Problem(str(path), f"cannot be read: {reason}")
