"""The items of a document as pieces of its text, so that an item can move to another document with all that stands in and above it.

TOML is cut in front of each header of a table and of the comments above it; what is cut must be TOML by itself and
say what the document says, else (`servers = { … }`, `basic.name = "x"`, another language) the text of the item is made
anew from its tables. Joined in their order, the pieces of a document that was cut are its text, byte for byte.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import tomli

from pingap.config.problems import ConfigRefused, Problem
from pingap.config.storage.base import SINGLE, Document
from pingap.config.text import toml
from pingap.config.text.formats import is_toml, tables_of

ItemPlace = tuple[str, str]
"""Section and name, as ("servers", "web") of `[servers.web]`; the name is "" for what is an item by itself, as [basic]."""

_BLANK_END: Final = re.compile(r"\n[ \t\r]*\n\Z")
_HEADER: Final = re.compile(r"[ \t]*\[")
_LINE: Final = re.compile(r"[^\n]*\n|[^\n]+")
_TOKEN: Final = re.compile(r'''"""(?:\\.|[^\\])*?"""+|\'{3}.*?\'{3,}|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'|#[^\n]*|[\[{]|[\]}]|\n''', re.DOTALL)
"""Of TOML, what a line break may stand in, and what it may not: texts, comments, brackets."""


@dataclass(frozen=True, slots=True)
class TextItem:
    """One item."""

    place: ItemPlace
    text: str
    """TOML: its table with all within, and what stands above."""
    value: Any
    """What that text says."""
    is_as_written: bool = True
    """The text is a piece of the document, comments and all; else it was made from the value."""


def items_of(document: Document) -> list[TextItem]:
    """In their order. Raises ConfigRefused for what cannot be parsed."""
    tables = tables_of(document)
    if isinstance(tables, Problem):
        raise ConfigRefused([tables])
    wanted = dict(_values(tables))
    if is_toml(document):
        found = _cut(document.text)
        if found is not None and {item.place: item.value for item in found if item.place != NOWHERE} == wanted:
            return found
    return [TextItem(place, _dumped(place, value), value, False) for place, value in wanted.items()]


def joined(items: Iterable[TextItem], is_airy: bool = False) -> str:
    """The text of a document with these items. is_airy: a blank line comes between two of which neither has one."""
    parts: list[str] = []
    text = ""  # the end of what there is so far
    sections: set[str] = set()
    for item in items:
        section = item.place[0]
        more = _without_outer_header(item.text) if section in sections and item.place != NOWHERE else item.text
        sections.add(section)
        if text and not text.endswith("\n"):
            more = "\n" + more if not is_airy else "\n\n" + more.removeprefix("\n")
        elif is_airy and text and not _BLANK_END.search(text) and not more.startswith("\n"):
            more = "\n" + more
        parts.append(more)
        text = (text + more)[-_LOOK_BACK:]
    return "".join(parts)


def _without_outer_header(text: str) -> str:
    """Without the `[servers]` above a `[servers.web]`, which a document may have once, and only before the latter."""
    lines = text.split("\n")
    first = next(at for at, line in enumerate(lines) if _is_content(line))
    if not _is_outer_header(lines[first]):
        return text
    return "\n".join(lines[:first] + lines[first + 1 :])


def _is_outer_header(line: str) -> bool:
    try:
        [(section, table)] = tomli.loads(line).items()
    except ValueError:
        return False
    return section not in SINGLE and table == {}


NOWHERE: Final[ItemPlace] = ("", "")
"""Of a piece that is in no table: what stands behind or between them, comments."""


def _values(tables: dict[str, Any]) -> Iterator[tuple[ItemPlace, Any]]:
    for section, table in tables.items():
        if section in SINGLE or not isinstance(table, dict) or not all(isinstance(item, dict) for item in table.values()):
            yield (section, ""), table
        else:
            for name, item in table.items():
                yield (section, name), item


_LOOK_BACK: Final = 200
"""Letters in which a blank line is looked for; all of the text each time would take the square of its length."""


def _cut(text: str) -> list[TextItem] | None:
    """The pieces; None for a text that has something else than tables with headers, or one table in two places."""
    pieces: list[_Piece] = []
    above = ""
    for block, tables in _blocks(text):
        body, above = above + block, ""
        place = _place_of(block, tables)
        if place is None:
            return None
        if place == NOWHERE:
            above = body  # a comment, or an empty [servers]: it stays above what follows
        elif pieces and pieces[-1].place == place:
            pieces[-1].blocks.append(body)
        else:
            pieces.append(_Piece(place, [body], tables))
    if above:
        if not pieces:
            return None
        pieces[-1].after = above
    return [piece.item for piece in pieces] if len({piece.place for piece in pieces}) == len(pieces) else None


@dataclass(slots=True)
class _Piece:
    """An item as it is found: its tables one after the other."""

    place: ItemPlace
    blocks: list[str]
    tables: dict[str, Any]
    """What the first one says."""
    after: str = ""

    @property
    def item(self) -> TextItem:
        text = "".join(self.blocks)
        section, name = self.place
        try:
            tables = tomli.loads(text) if len(self.blocks) > 1 else self.tables
            return TextItem(self.place, text + self.after, tables[section][name] if name else tables[section])
        except (ValueError, KeyError):
            return TextItem(self.place, text, None)  # which is not what the document says: it is not taken


def _blocks(text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each header with what follows it and belongs to it, and with the comments that belong to it above; and what it says."""
    block: list[str] = []
    has_content = False
    at = 0
    inner = _inner_lines(text)
    for line in _LINE.findall(text):
        if has_content and at not in inner and _HEADER.match(line) and (tables := _tables(block)) is not None:
            end = _end_of(block)
            yield "".join(block[:end]), tables
            block = block[end:]
            has_content = False
        block.append(line)
        has_content = has_content or _is_content(line)
        at += len(line)
    if block:
        yield "".join(block), _tables(block) or {}


def _inner_lines(text: str) -> set[int]:
    """Where lines begin that are in a text of several lines, or in a list."""
    found: set[int] = set()
    depth = 0
    for token in _TOKEN.finditer(text):
        word = token[0]
        if word in "[{":
            depth += 1
        elif word in "]}":
            depth -= 1
        elif word != "\n":
            found.update(token.start() + match.end() for match in re.finditer("\n", word))
        elif depth > 0:
            found.add(token.end())
    return found


def _end_of(block: list[str]) -> int:
    """The number of lines that belong to it: comments behind a blank line, or all if there is none, belong to what follows."""
    last = max((at for at, line in enumerate(block) if _is_content(line)), default=-1) + 1
    end = next((at for at in range(last, len(block)) if not block[at].strip()), last)
    while end < len(block) and not block[end].strip():
        end += 1
    has_texts = any(quotes in line for quotes in ('"""', "'''") for line in block)
    return len(block) if has_texts and _tables(block[:end]) is None else end  # a text may have lines that look like comments


def remains_of(item: TextItem) -> str:
    """What stays when an item is taken out: comments that a blank line keeps apart from it, above and below."""
    lines = _LINE.findall(item.text)
    first = next(at for at, line in enumerate(lines) if _is_content(line))
    while first and lines[first - 1].strip():
        first -= 1
    return "".join(lines[:first] + lines[_end_of(lines) :])


def _is_content(line: str) -> bool:
    return line.strip() != "" and not line.lstrip().startswith("#")


def _tables(block: list[str]) -> dict[str, Any] | None:
    """None in the middle of a list, or of a text of several lines."""
    try:
        return tomli.loads("".join(block))
    except ValueError:
        return None


def _place_of(block: str, tables: dict[str, Any]) -> ItemPlace | None:
    """Of the one header in it; NOWHERE for comments, and an empty `[servers]`.

    None: there is something without a header, or an item that is not a table of its own.
    """
    if not tables:
        return NOWHERE
    header = next(line for line in block.split("\n") if _is_content(line))
    if not _HEADER.match(header) or len(tables) != 1:
        return None
    [(section, table)] = tables.items()
    if section in SINGLE:
        return (section, "")
    if not isinstance(table, dict):
        return None
    if not table:
        return NOWHERE
    if "." in header and len(table) == 1:
        return (section, next(iter(table)))
    return None if any(isinstance(item, dict) for item in table.values()) else (section, "")


def _dumped(place: ItemPlace, value: Any) -> str:
    section, name = place
    return toml.written({section: {name: value} if name else value})
