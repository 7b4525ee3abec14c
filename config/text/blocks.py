"""What HCL and KDL have in common: blocks with names, in each other, to the tables that TOML would give.

    server "web" { location "api" { upstream "app" { … } } }

says the same as three tables side by side, of which each names the next. Facts: the reference's config_convert.rs; it
loses what is nested elsewhere (an upstream in a server), which is taken or refused here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from pingap.config.problems import choices, nearest
from pingap.config.storage.base import SINGLE

Table = dict[str, Any]

_NAMED: Final = ("server", "location", "upstream", "certificate", "plugin", "storage", "stage")
WORDS: Final = {"basic": "basic", **{f"{word}s": word for word in _NAMED}, "bus": "bus"}
"""Section → the word that opens a block of it."""

BY_WORD: Final = {word: section for section, word in WORDS.items()} | {section: section for section in WORDS}
"""The word that opens a block, singular or plural → the section."""

INNER: Final[dict[str, tuple[str, ...]]] = {
    "servers": ("locations", "plugins", "certificates", "upstreams"),
    "locations": ("upstreams", "plugins"),
}
"""Section → sections whose blocks may stand in its blocks."""

_NAMED_IN: Final = {("servers", "locations"): "locations", ("locations", "plugins"): "plugins"}
"""(outer, inner) section → the key of the outer one that lists the names of the inner ones."""


class BadText(Exception):
    """A text is not taken. at: where, counted in characters from 0.

    The message quotes no value: which of them are secret is not known before the text can be read.
    """

    def __init__(self, at: int, message: str, hint: str = "") -> None:
        self.at, self.message, self.hint = at, message, hint
        super().__init__(message)


@dataclass(slots=True)
class Block:
    """`word "name" { keys… blocks… }`."""

    word: str
    at: int
    """Where its word stands."""
    name: str | None
    keys: Table = field(default_factory=dict)
    blocks: list[Block] = field(default_factory=list)


def section_of(word: str, at: int, outer: str = "") -> str:
    """The section that a block belongs to. outer: that of the block around it. Raises BadText."""
    section = BY_WORD.get(word)
    if not outer:
        if section is None:
            raise BadText(at, f"{word!r} is no section", nearest(word, BY_WORD) or choices(WORDS.values()))
        return section
    if section is None or section not in INNER.get(outer, ()):
        raise BadText(at, f"a block {word!r} cannot stand in {WORDS[outer]!r}", _elsewhere(word, section, outer))
    return section


def _elsewhere(word: str, section: str | None, outer: str) -> str:
    if section is not None:
        return "write it at the top of the file"
    inner = [WORDS[one] for one in INNER.get(outer, ())]
    return nearest(word, inner) or f"for a table write `{word} = {{ … }}`, for a list of tables `{word} = [{{ … }}]`"


def lifted(blocks: Iterable[Block]) -> dict[str, Any]:
    """The tables, all blocks lifted out of each other. Raises BadText."""
    tables: dict[str, Any] = {}
    for block in blocks:
        section = section_of(block.word, block.at)
        if section not in SINGLE:
            _put(tables, section, block)
            continue
        if block.name is not None:
            raise BadText(block.at, f"{section!r} has no name")
        if section in tables:
            raise BadText(block.at, f"{section!r} is there twice", "keep one")
        if block.blocks:
            section_of(block.blocks[0].word, block.blocks[0].at, section)
        tables[section] = block.keys
    return tables


def _put(tables: dict[str, Any], section: str, block: Block) -> None:
    word = WORDS[section]
    if block.name is None:
        raise BadText(block.at, f"{block.word!r} without a name", f'write: {word} "NAME" {{ … }}')
    items = tables.setdefault(section, {})
    if block.name in items:
        raise BadText(block.at, f"{word} {block.name!r} is there twice", "keep one")
    items[block.name] = block.keys
    for inner in block.blocks:
        inner_section = section_of(inner.word, inner.at, section)
        _put(tables, inner_section, inner)
        if key := _NAMED_IN.get((section, inner_section)):
            names = block.keys.setdefault(key, [])
            if isinstance(names, list) and inner.name not in names:
                names.append(inner.name)
        elif section == "locations":
            block.keys.setdefault("upstream", inner.name)
