"""One item of a configuration, put into the text where it is or belongs; for who changes configurations on demand."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from pingap.config.problems import ConfigRefused, choices, nearest, path_of
from pingap.config.storage.base import SECTIONS, SINGLE, Document, NotWritten, Storage, reading_of, same_version
from pingap.config.text import toml
from pingap.config.text.formats import is_toml, tables_of
from pingap.config.text.items import TextItem, items_of, joined, remains_of


@dataclass(frozen=True, slots=True)
class EarlierItem:
    """What an item was."""

    until: int
    """As of `Earlier`."""
    item: TextItem


def put(storage: Storage, section: str, name: str, item: dict[str, Any] | None, version: str) -> str:
    """Writes an item as `item` says, all its keys; None takes it out. The new version of the configuration.

    section, name: as in `[servers.web]`; name is "" for [basic] and [bus]. Nothing is judged but that it can be written:
    check what comes of it before. Raises ConfigRefused for what cannot be read, NotWritten, and Outdated when `version`
    is not that of the configuration any more.
    """
    path = _checked(section, name)
    reading = reading_of(storage)
    same_version(reading, version)
    home = _home(storage, reading.documents, section, name)
    if item is None and not _has(home, section, name):
        raise NotWritten(f"{path} is not there")
    _check_language(home, path)
    try:
        text = _edited(home, section, name, item)
    except ValueError as error:
        raise NotWritten(f"{path} in {home.name}: {error}") from error
    if item is None and not text.strip() and _is_alone(storage, section, name, home.name):
        return storage.replace((), [home.name], version)
    return storage.write(Document(home.name, text), version)


def _has(document: Document, section: str, name: str) -> bool:
    tables = tables_of(document)
    table = tables.get(section) if isinstance(tables, dict) else None
    return table is not None and (not name or (isinstance(table, dict) and name in table))


def _check_language(home: Document, path: str) -> None:
    """Raises NotWritten."""
    if not is_toml(home):
        way = f"change it by hand, or make TOML of it: pingap -c {home.name} --to-toml"
        raise NotWritten(f"{path} in {home.name}: items are written in TOML only; {way}")


def _edited(home: Document, section: str, name: str, item: dict[str, Any] | None) -> str:
    """The text of a document with an item as it is to be. Raises ValueError."""
    items = items_of(home)
    if not all(one.is_as_written for one in items):
        return toml.edited(home.text, section, name, item)
    place = (section, name)
    mine = next((one for one in items if one.place == place), None)
    if item is not None:
        new = TextItem(place, toml.edited(mine.text if mine else "", section, name, item), item)
        if mine:
            below = mine.text[len(mine.text.rstrip()) :] or "\n"  # the blank lines that keep it apart from what follows
            new = replace(new, text=new.text.rstrip() + below)
            return joined(new if one is mine else one for one in items)
        return joined([TextItem(("", ""), home.text, None), new], is_airy=True) if home.text else new.text
    return "".join(remains_of(one) if one.place == place else one.text for one in items)


def _is_alone(storage: Storage, section: str, name: str, document: str) -> bool:
    """Whether the document is for this item and no other."""
    return name != "" and storage.home_of(section, name) == document != storage.home_of(section, f"{name}-")


def earlier(storage: Storage, section: str, name: str) -> tuple[EarlierItem, ...] | None:
    """What an item was before its document was changed, the newest first; None: the storage keeps no history.

    Raises ConfigRefused, NotWritten.
    """
    _checked(section, name)
    home = _home(storage, reading_of(storage).documents, section, name)
    texts = storage.history(home.name)
    if texts is None:
        return None
    found: list[EarlierItem] = []
    before = _item(home, section, name)
    for text in texts:
        item = _item(Document(home.name, text.text), section, name)
        if item is not None and (before is None or item.text != before.text):
            found.append(EarlierItem(text.until, item))
        before = item
    return tuple(found)


def restored(storage: Storage, section: str, name: str, item: TextItem) -> tuple[Document, str]:
    """The document with an item as it was, comments too; and the version against which to write it.

    Raises ConfigRefused, NotWritten.
    """
    reading = reading_of(storage)
    home = _home(storage, reading.documents, section, name)
    _check_language(home, _checked(section, name))
    items = items_of(home) if home.text else []
    place = (section, name)
    if any(one.place == place for one in items):
        return Document(home.name, joined(item if one.place == place else one for one in items)), reading.version
    return Document(home.name, joined([*items, item], is_airy=True)), reading.version


def _item(document: Document, section: str, name: str) -> TextItem | None:
    """As far as the document can be read: an earlier one may have been broken."""
    try:
        return next((item for item in items_of(document) if item.place == (section, name)), None)
    except ConfigRefused:
        return None


def _checked(section: str, name: str) -> str:
    """The path of an item. Raises NotWritten for what can be none."""
    if section not in SECTIONS:
        raise NotWritten(f"there is no section [{section}]: {nearest(section, SECTIONS) or choices(SECTIONS)}")
    if bool(name) == (section in SINGLE):
        raise NotWritten(f"[{section}] has {'no items' if name else 'items: name one'}")
    return path_of(section, name) if name else section


def _home(storage: Storage, documents: tuple[Document, ...], section: str, name: str) -> Document:
    """The document that has an item, else the one where it belongs, as it is, if it is there."""
    homes = [document for document in documents if _has(document, section, name)]
    if len(homes) > 1:
        raise NotWritten(f"{_checked(section, name)} is in two files: {homes[0].name} and {homes[1].name}")
    if homes:
        return homes[0]
    wanted = storage.home_of(section, name)
    return next((document for document in documents if document.name == wanted), Document(wanted, ""))
