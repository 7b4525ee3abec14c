"""One item of a configuration, put into the text where it is or belongs; for who changes configurations on demand."""

from __future__ import annotations

from typing import Any

from pingap.config.problems import path_of
from pingap.config.storage.base import SINGLE, Document, NotWritten, Storage, same_version
from pingap.config.text import toml
from pingap.config.text.formats import tables_of


def put(storage: Storage, section: str, name: str, item: dict[str, Any] | None, version: str) -> str:
    """Writes an item as `item` says, all its keys; None takes it out. The new version of the configuration.

    section, name: as in `[servers.web]`; name is "" for [basic] and [bus]. Nothing is judged but that it can be written:
    check what comes of it before. Raises ConfigRefused for what cannot be read, NotWritten, and Outdated when `version`
    is not that of the configuration any more.
    """
    if bool(name) == (section in SINGLE):
        raise NotWritten(f"[{section}] has {'no items' if name else 'items: name one'}")
    reading = storage.read()
    same_version(reading, version)
    path = path_of(section, name) if name else section
    homes = [document for document in reading.documents if _has(document, section, name)]
    if len(homes) > 1:
        raise NotWritten(f"{path} is in two files: {homes[0].name} and {homes[1].name}")
    if homes:
        [home] = homes
    elif item is None:
        raise NotWritten(f"{path} is not there")
    else:
        home = _new_home(storage, reading.documents, section, name)
    try:
        text = toml.edited(home.text, section, name, item)
    except ValueError as error:
        raise NotWritten(f"{path} in {home.name}: {error}") from error
    return storage.write(Document(home.name, text), version)


def _has(document: Document, section: str, name: str) -> bool:
    tables = tables_of(document)
    table = tables.get(section) if isinstance(tables, dict) else None
    return table is not None and (not name or (isinstance(table, dict) and name in table))


def _new_home(storage: Storage, documents: tuple[Document, ...], section: str, name: str) -> Document:
    """The document for a new item: as it is, if it is there."""
    wanted = storage.home_of(section, name)
    return next((document for document in documents if document.name == wanted), Document(wanted, ""))
