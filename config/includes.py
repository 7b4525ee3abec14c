"""Includes: the values of storages, read as TOML and put over the keys of a server, a location or an upstream.

A storage is read once, however many items name it, and what is wrong with it is told once. One that was wrong gives no
keys: what would follow from that is not told as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pingap.config.problems import Problem, nearest, path_of
from pingap.config.storage.base import Document
from pingap.config.text.formats import tables_of

KEY: Final = "includes"

INCLUDING: Final = ("servers", "locations", "upstreams")
"""Sections whose items may have it."""

_KEY: Final = re.compile(r"""(?m)^[ \t]*+\[*+[ \t]*+(?:(?P<bare>[\w-]++)|"(?P<quoted>[^"\n]*+)"|'(?P<literal>[^'\n]*+)')[ \t]*+[=.\]]""")
"""What begins a line and may be a key, or the first part of one."""

_PLACE: Final = re.compile(r"value:(\d+):(\d+)$")


@dataclass(frozen=True, slots=True)
class IncludeKeys:
    """What a storage gives to the items that include it."""

    keys: Mapping[str, Any]
    lines: Mapping[str, int]
    """Key → its line, as in `IncludedFrom`."""


@dataclass(frozen=True, slots=True)
class IncludedFrom:
    """Where an included key is written."""

    storage: str
    line: int
    """Of the storage's value, counted from 1; 0 when it was not found."""

    @property
    def place(self) -> str:
        """In words: `storages.common line 2`."""
        return path_of("storages", self.storage) + (f" line {self.line}" if self.line else "")


@dataclass(slots=True)
class ExpandedItem:
    """An item with what it includes put over its own keys."""

    table: dict[str, Any]
    origins: dict[str, IncludedFrom] = field(default_factory=dict)
    """By key, of those that were included."""
    problems: list[Problem] = field(default_factory=list)


class IncludeShelf:
    """The storages of one configuration, for includes."""

    def __init__(self, texts: Mapping[str, str], declared: frozenset[str], filled: Callable[[Any, str], Any]) -> None:
        """texts: the readable values of usable storages, by name. declared: all names, usable or not.

        filled: (a parsed value, the name of its storage) → the same with what it refers to (`$ENV:NAME`) filled in.
        """
        self._texts = texts
        self._declared = declared
        self._filled = filled
        self._read: dict[str, IncludeKeys] = {}
        self.problems: list[Problem] = []
        """What is wrong with storages that were included so far."""

    def expanded(self, path: str, table: Mapping[str, Any]) -> ExpandedItem:
        """The item at `path` without its `includes`, which are put over the other keys; of a wrong type they stay for the model."""
        item = ExpandedItem(dict(table))
        names = table.get(KEY)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            return item
        del item.table[KEY]
        seen = set[str]()
        for index, name in enumerate(names):
            where = f"{path}.{KEY}[{index}]"
            if name in seen:
                item.problems.append(Problem(where, f"{name!r} is there twice", "keep one"))
            elif name not in self._declared:
                hint = nearest(name, self._declared) or f"add [{path_of('storages', name)}]"
                item.problems.append(Problem(where, f"storage {name!r} does not exist", hint))
            else:
                self._put(item, where, name)
            seen.add(name)
        return item

    def _put(self, item: ExpandedItem, where: str, name: str) -> None:
        shared = self._shared(name)
        for key, value in shared.keys.items():
            origin = IncludedFrom(name, shared.lines.get(key, 0))
            if key in item.origins:
                message = f"{origin.place} has {key!r}, and so has {item.origins[key].place}"
                item.problems.append(Problem(where, message, "leave it in one of them"))
                continue
            item.table[key], item.origins[key] = value, origin

    def _shared(self, name: str) -> IncludeKeys:
        if name not in self._read:
            text = self._texts.get(name)
            self._read[name] = IncludeKeys({}, {}) if text is None else self._parsed(name, text)
        return self._read[name]

    def _parsed(self, name: str, text: str) -> IncludeKeys:
        path = path_of("storages", name, "value")
        tables = tables_of(Document("value", text))
        if isinstance(tables, Problem):
            place = _PLACE.search(tables.path)
            where = f"line {place[1]}, column {place[2]}: " if place else ""
            self.problems.append(Problem(path, f"{where}{tables.message}", 'includes are TOML: lines such as read_timeout = "10s"'))
            return IncludeKeys({}, {})
        if KEY in tables:
            self.problems.append(Problem(path, "an include cannot include others", "name all of them where they are included"))
            del tables[KEY]
        return IncludeKeys(self._filled(tables, name), dict(_lines(tables, text)))


def _lines(keys: Mapping[str, Any], text: str) -> Iterator[tuple[str, int]]:
    """Of each key that is found, its first line."""
    left = set(keys)
    line, counted = 1, 0
    for found in _KEY.finditer(text):
        key = found["bare"] or found["quoted"] or found["literal"]
        if key in left:
            left.remove(key)
            line, counted = line + text.count("\n", counted, found.start()), found.start()
            yield key, line
