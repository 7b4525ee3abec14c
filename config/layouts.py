"""Where the items of a configuration stand: in which documents, moved to others or copied to another storage, as they are written.

Comments move with what they stand in or right above. Nothing is resolved: includes and `$ENV:NAME` stay what they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from pingap.config.gathering import in_two_files
from pingap.config.problems import ConfigRefused, Problem, path_of
from pingap.config.storage.base import SINGLE, Document, NotWritten, after
from pingap.config.text.formats import is_toml, tables_of
from pingap.config.text.items import NOWHERE, ItemPlace, TextItem, items_of, joined, remains_of

HomeOf = Callable[[str, str], str]
"""Section and name → the document for it. Raises NotWritten."""


@dataclass(frozen=True, slots=True)
class Relocation:
    """What has to be written and removed; all other documents stay."""

    written: tuple[Document, ...] = ()
    removed: tuple[str, ...] = ()
    uncommented: tuple[str, ...] = ()
    """Documents whose comments are lost, for their text is of a form that cannot be cut."""
    origins: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Written document → those from which items come into it."""


@dataclass(frozen=True, slots=True)
class Copying:
    """What becomes of a storage into which another one is copied. Paths, as `servers.web`."""

    relocation: Relocation
    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    """Those that only the target has, and keeps."""
    same: int = 0


def laid_out(documents: Iterable[Document], home_of: HomeOf) -> Relocation:
    """Every item goes where `home_of` says. Raises ConfigRefused for what cannot be read, NotWritten with every item that has no home."""
    before = _by_document(documents)
    homes = _homes((item.place for items in before.values() for item in items), home_of)
    wanted: dict[str, list[TextItem]] = {}
    for document, items in before.items():
        for item in items:
            wanted.setdefault(homes[item.place], [])
            if homes[item.place] == document.name:
                wanted[document.name].append(item)
    for document, items in before.items():
        for item in items:
            if homes[item.place] != document.name:
                wanted[homes[item.place]].append(item)
    by_name = {document.name: items for document, items in before.items()}
    bare = _bare(before)
    written = [Document(name, _text(name, items, bare.get(name, ""))) for name, items in wanted.items() if items != by_name.get(name)]
    removed = [document.name for document, items in before.items() if items and document.name not in wanted]
    touched = {*removed, *(document.name for document in written)}
    moves = ((homes[item.place], document.name) for document, items in before.items() for item in items)
    origins = _origins((home, origin) for home, origin in moves if home in touched)
    relocation = Relocation(_sorted(written), tuple(removed), _uncommented(before, touched, written), origins)
    _check(before, relocation)
    return relocation


def copied(source: Iterable[Document], target: Iterable[Document], home_of: HomeOf, deletes: bool = False) -> Copying:
    """The items of `source` come into `target`: where it has them already, else where `home_of` says.

    An item that says the same there stays as it is, comments too. deletes: what only the target has is taken out.
    Raises as `laid_out`.
    """
    sources, before = _by_document(source), _by_document(target)
    new = {item.place: item for items in sources.values() for item in items}
    there = {item.place for items in before.values() for item in items}
    homes = _homes((place for place in new if place not in there), home_of)
    origins = _origins((homes[item.place], one.name) for one, items in sources.items() for item in items if item.place in homes)
    wanted: dict[str, list[TextItem]] = {}
    changed: list[ItemPlace] = []
    gone: list[ItemPlace] = []
    same = 0
    for document, items in before.items():
        wanted[document.name] = []
        for old in items:
            item = new.get(old.place)
            if item is None:
                gone.append(old.place)
            elif item.value == old.value:
                same += 1
            else:
                changed.append(old.place)
            if item is not None or not deletes:
                wanted[document.name].append(old if item is None or item.value == old.value else item)
            elif comments := remains_of(old):
                wanted[document.name].append(TextItem(NOWHERE, comments, {}))
    for place, home in homes.items():
        wanted.setdefault(home, []).append(new[place])
    by_name = {document.name: items for document, items in before.items()}
    emptied = tuple(name for name, items in wanted.items() if by_name.get(name) and all(item.place == NOWHERE for item in items))
    bare = _bare(before)
    written = [
        Document(name, _text(name, items, bare.get(name, "")))
        for name, items in wanted.items()
        if items and items != by_name.get(name) and name not in emptied
    ]
    taken = {*homes, *changed}
    moved = [document.name for document, items in sources.items() if any(item.place in taken for item in items)]
    lost = dict.fromkeys((*_uncommented(sources, moved), *_uncommented(before, [document.name for document in written], written)))
    return Copying(
        Relocation(_sorted(written), emptied, tuple(lost), origins),
        added=tuple(map(_path, homes)),
        changed=tuple(map(_path, changed)),
        removed=tuple(map(_path, gone)) if deletes else (),
        left=() if deletes else tuple(map(_path, gone)),
        same=same,
    )


def _by_document(documents: Iterable[Document]) -> dict[Document, list[TextItem]]:
    """Raises ConfigRefused with every document that cannot be parsed, and every item that is in two."""
    found: dict[Document, list[TextItem]] = {}
    seen: dict[ItemPlace, str] = {}
    problems: list[Problem] = []
    for document in documents:
        try:
            found[document] = items_of(document)
        except ConfigRefused as refused:
            problems += refused.problems
            continue
        for item in found[document]:
            if item.place in seen:
                problems.append(in_two_files(_path(item.place), seen[item.place], document.name))
            seen[item.place] = document.name
    if problems:
        raise ConfigRefused(problems)
    return found


def _homes(places: Iterable[ItemPlace], home_of: HomeOf) -> dict[ItemPlace, str]:
    found: dict[ItemPlace, str] = {}
    problems: list[str] = []
    for section, name in places:
        try:
            is_known = name or section in SINGLE
            found[section, name] = home_of(section, name) if is_known else home_of("basic", "")
        except NotWritten as error:
            problems.append(f"{_path((section, name))}: {error}")
    if problems:
        raise NotWritten("\n".join(problems))
    return found


def _origins(moves: Iterable[tuple[str, str]]) -> dict[str, frozenset[str]]:
    """moves: into which document an item comes, from which one."""
    found: dict[str, set[str]] = {}
    for home, origin in moves:
        found.setdefault(home, set()).add(origin)
    return {home: frozenset(names) for home, names in found.items()}


def _bare(before: Mapping[Document, list[TextItem]]) -> dict[str, str]:
    """The texts of documents without an item: items may be there that somebody has put into comments."""
    return {document.name: document.text for document, items in before.items() if not items and document.text.strip()}


def _text(name: str, items: list[TextItem], above: str = "") -> str:
    """above: what stays there, if the whole can be read then."""
    if not is_toml(Document(name, "")):
        raise NotWritten(f"{name} is in a language that pingap reads and does not write into: choose a place that is TOML")
    # What is no table (of an unknown key) cannot stand behind a header.
    ordered = sorted(items, key=lambda item: isinstance(item.value, dict))
    if above:
        text = joined([TextItem(NOWHERE, above, {}), *ordered], is_airy=True).rstrip() + "\n"
        if isinstance(tables_of(Document(name, text)), dict):
            return text
    return joined(ordered, is_airy=True).rstrip() + "\n"


def _uncommented(before: Mapping[Document, list[TextItem]], touched: Iterable[str], written: Iterable[Document] = ()) -> tuple[str, ...]:
    """touched: those whose text is to be another one, or used for another one. written: what comes of them where they are."""
    names = frozenset(touched)
    new = {document.name: document.text for document in written}
    return tuple(
        document.name
        for document, items in before.items()
        if document.name in names and ("#" in document.text or "//" in document.text)
        if (not all(item.is_as_written for item in items) if items else document.text.rstrip() not in new.get(document.name, ""))
    )


def _check(before: Mapping[Document, list[TextItem]], relocation: Relocation) -> None:
    """That it is the same configuration. A fault of ours would end here rather than in the files."""
    old = dict(_all(before))
    new = dict(_all(_by_document(after(before, relocation.written, relocation.removed))))
    if old != new:
        raise AssertionError("the configuration would be another one: nothing is written")


def _all(documents: Mapping[Document, list[TextItem]]) -> Iterator[tuple[ItemPlace, object]]:
    return ((item.place, item.value) for items in documents.values() for item in items)


def _sorted(documents: Iterable[Document]) -> tuple[Document, ...]:
    return tuple(sorted(documents, key=lambda document: document.name))


def _path(place: ItemPlace) -> str:
    section, name = place
    return path_of(section, name) if name else section
