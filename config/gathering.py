"""The documents of a configuration put together, and what is wrong with how they share it out. No item is looked into."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from pingap.config.problems import ConfigRefused, Problem, choices, nearest, path_of
from pingap.config.quantities import describe
from pingap.config.storage.base import SECTIONS, SINGLE, Document
from pingap.config.text.formats import tables_of

_ESCAPED_WORD: Final = re.compile(r"\\[uUx\s]")


@dataclass(slots=True)
class Gathered:
    """As far as it can be read."""

    tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By section; in it by name, but for [basic] and [bus]. What should be an item may be no table."""
    origins: dict[str, str] = field(default_factory=dict)
    """The document of each item, by its path."""
    is_whole: bool = True
    """Every document could be parsed."""
    problems: list[Problem] = field(default_factory=list)

    def _add(self, document: Document) -> None:
        tables = tables_of(document)
        if isinstance(tables, Problem):
            self.is_whole = False
            self.problems.append(tables)
            return
        for section, table in tables.items():
            if section not in SECTIONS:
                hint = nearest(section, SECTIONS) or choices(SECTIONS)
                self.problems.append(Problem(path_of(section), "unknown section", hint, document.name))
            elif not isinstance(table, dict):
                self.problems.append(no_table(section, table, document.name))
            elif section in SINGLE:
                if self._is_first(section, document):
                    self.tables[section] = table
            else:
                for name, item in table.items():
                    if self._is_first(path_of(section, name), document):
                        self.tables.setdefault(section, {})[name] = item

    def _is_first(self, path: str, document: Document) -> bool:
        if path in self.origins:
            self.problems.append(in_two_files(path, self.origins[path], document.name))
            return False
        self.origins[path] = document.name
        return True


def gathered(documents: Iterable[Document]) -> Gathered:
    found = Gathered()
    for document in documents:
        found._add(document)
    return found


def no_table(path: str, value: object, source: str = "") -> Problem:
    """Of what should be a section, or an item of one."""
    return Problem(path, f"expected a table, got {describe(value)}", f"write [{path}]", source)


def in_two_files(path: str, first: str, second: str) -> Problem:
    return Problem(path, f"is in two files: {first} and {second}", "keep one")


def section_in(documents: Iterable[Document], section: str, is_whole: bool = False) -> dict[str, Any]:
    """The items of a section as far as they can be read, unchecked: for who must know of files that they name.

    is_whole: it raises ConfigRefused where a document that may have some cannot be read, or has something else there, or has it again.
    """
    found: dict[str, Any] = {}
    first = ""
    for document in documents:
        if not _may_have(section, document.text):
            continue
        tables = tables_of(document)
        items = tables.get(section) if isinstance(tables, dict) else None
        if is_whole and found and items and section in SINGLE:
            raise ConfigRefused([in_two_files(section, first, document.name)])
        if isinstance(items, dict):
            found |= items
            first = first or (document.name if items else "")
        elif is_whole and isinstance(tables, Problem):
            raise ConfigRefused([tables])
        elif is_whole and items is not None:
            raise ConfigRefused([no_table(section, items, document.name)])
    return found


def _may_have(section: str, text: str) -> bool:
    """False when there is no such section for sure: to parse thousands of locations once more takes a second."""
    # HCL and KDL have a word for one item of a section, too; and a name in quotes may have escapes.
    return section.removesuffix("s") in text or _ESCAPED_WORD.search(text) is not None
