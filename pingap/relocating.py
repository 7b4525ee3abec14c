"""Configurations put into another layout, or copied to another storage: what the commands do, without what they say."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pingap.config import layouts
from pingap.config.followed import followed
from pingap.config.layouts import Copying, Relocation
from pingap.config.problems import path_of
from pingap.config.storage.base import Document, NotWritten, Proposed, Reading, Storage, after, reading_of
from pingap.config.storage.file import FileStorage
from pingap.config.storage.places import storage_of

FILE: Final = "file"
ITEM: Final = "item"
TYPE: Final = "type"


@dataclass(frozen=True, slots=True)
class Migration:
    """A change of layout. place: as `-c` names what comes of it; source: as the old one was named."""

    source: str
    place: str
    origin: FileStorage
    target: FileStorage
    version: str
    relocation: Relocation
    is_in_place: bool


def planned(source: str, layout: str | None, into: str | None) -> Migration:
    """layout: FILE, ITEM, TYPE, or None for what `source` says. into: another place; None is the same or one beside.

    Raises ConfigRefused, NotWritten.
    """
    storage = storage_of(source)
    if not isinstance(storage, FileStorage):
        raise NotWritten(f"{source} has a document for each item already, and no other layout")
    reading = storage.read()
    path, _, query = source.partition("?")
    is_directory = storage.root.is_dir()
    if into and "://" in into:
        raise NotWritten(f"{into} is no place for files: `pingap config sync` copies to there")
    new = storage_of(into) if into else None
    into, _, more = (into or "").partition("?")
    as_it_is = FILE if not is_directory else ITEM if storage.is_separate else TYPE
    wanted = layout or (ITEM if isinstance(new, FileStorage) and new.is_separate else as_it_is)
    options = {part.partition("=")[0]: part for part in (*query.split("&"), *more.split("&")) if part}
    options.pop("separation", None)
    query = "&".join((*(["separation=true"] if wanted == ITEM else []), *options.values()))
    if not into and is_directory == (wanted != FILE):
        place = _place(path, query)
        target = storage_of(place)
        assert isinstance(target, FileStorage)
        relocation = layouts.laid_out(reading.documents, target.home_of)
        return Migration(source, place, storage, target, reading.version, relocation, True)
    place = _place(into or _beside(storage.root, wanted), query)
    target = storage_of(place)
    assert isinstance(target, FileStorage)
    if os.path.lexists(target.root):
        raise NotWritten(f"{target.root} is there already: name another place with --into, or copy to it with `pingap config sync`")
    if (wanted == FILE) == target.is_directory:
        raise NotWritten(f"{target.root} would be a {'directory' if target.is_directory else 'file'}: a file is what ends in .toml")
    if lost := list(_left_behind(reading.documents, storage, target)):
        raise NotWritten("\n".join(lost))
    copying = layouts.copied(reading.documents, (), target.home_of)
    return Migration(source, place, storage, target, Reading(()).version, copying.relocation, False)


def done(plan: Migration, backup: str | None) -> str:
    """Does it. Where copies of the files are that it changed; "" when it changed none. Raises NotWritten."""
    touched = [document.name for document in plan.relocation.written] + list(plan.relocation.removed)
    kept = ""
    if plan.is_in_place and touched:
        there = [path for name in touched if (path := plan.target.root / name if plan.target.is_directory else plan.target.root).exists()]
        kept = _kept(plan.target.root, there, backup)
    plan.target.replace(plan.relocation.written, plan.relocation.removed, plan.version, _origins(plan.relocation, plan.origin))
    return kept


def _kept(root: Path, paths: Iterable[Path], backup: str | None) -> str:
    """Copies files into a directory that is not there yet. Raises NotWritten."""
    folder = Path(backup or f"{root}-{time.strftime('%Y%m%d-%H%M%S')}")
    while not backup and folder.exists():
        folder = folder.with_name(f"{folder.name}-2")
    try:
        folder.mkdir(mode=0o700, parents=True)
        for path in paths:
            copy = folder / (path.relative_to(root) if path != root else path.name)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, copy)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise NotWritten(f"copies of the files cannot be put into {folder}: {reason}; name another directory with --backup") from error
    return str(folder)


def sync(source: Storage, target: Storage, deletes: bool = False, is_dry: bool = False, is_unchecked: bool = False) -> Copying:
    """Copies, or for `is_dry` tells what that would do. is_unchecked: what comes of it may have problems on this host.

    Raises ConfigRefused, NotWritten.
    """
    documents = source.read().documents
    there = reading_of(target)
    copying = layouts.copied(documents, there.documents, target.home_of, deletes)
    if deletes and not (copying.added or copying.changed or copying.same):
        raise NotWritten("there is no item to copy, and all that the target has would be taken out")
    relocation = copying.relocation
    if not is_unchecked:
        from pingap.loading import load_for_check

        load_for_check(Proposed(target.base, after(there.documents, relocation.written, relocation.removed)))
    if not is_dry and (relocation.written or relocation.removed):
        if isinstance(source, FileStorage) and isinstance(target, FileStorage) and not there.documents:
            target.replace(relocation.written, relocation.removed, there.version, _origins(relocation, source))
        else:
            target.replace(relocation.written, relocation.removed, there.version)
    return copying


def _left_behind(documents: Collection[Document], source: Storage, target: Storage) -> Iterator[str]:
    """Each relative path that would lead elsewhere, or nowhere, from where the configuration goes."""
    here, there = (os.path.realpath(storage.base) for storage in (source, target))
    for name, table in followed(documents).plugins.items() if here != there else ():
        path = table.get("path") if isinstance(table, dict) and table.get("category") == "python" else None
        if (
            not isinstance(path, str)
            or "\0" in path
            or os.path.isabs(os.path.expanduser(path))
            or os.path.exists(os.path.join(there, path))
        ):
            continue
        way = f"put the file there too, or write the whole path: {os.path.join(here, path)}"
        yield f"{path_of('plugins', name)}.path: {path!r} starts at the place of the configuration, which would be {there}; {way}"


def _origins(relocation: Relocation, source: FileStorage) -> dict[str, list[Path]]:
    """The files from which the items of a document come."""
    return {name: [source.file_of(one) for one in sorted(names)] for name, names in relocation.origins.items()}


def _beside(root: Path, layout: str) -> str:
    return f"{root}.toml" if layout == FILE else str(root.with_suffix("")) if root.suffix else f"{root}.d"


def _place(path: str, query: str) -> str:
    return f"{path}?{query}" if query else path
