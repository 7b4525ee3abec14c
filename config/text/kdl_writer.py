"""Tables to KDL 2. Every item is a node at the top. What KDL does not show by itself (a list of one) is annotated where the
model does not say it: `(list)ports 80`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from pingap.config.problems import ConfigRefused, Problem, path_of
from pingap.config.storage.base import SINGLE
from pingap.config.text.blocks import BY_WORD, INNER, WORDS
from pingap.config.text.kdl import ENTRIES, LIST, TABLE, VALUE, as_key
from pingap.config.text.lists import list_keys

_INDENT: Final = "    "
_BARE: Final = re.compile(r"(?!(?:true|false|null|inf|nan)$)[A-Za-z_][A-Za-z0-9_-]*")
_ESCAPES: Final = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"})
_IN_LINES: Final = str.maketrans({"\\": "\\\\", "\r": "\\r"})
_MANY_QUOTES: Final = re.compile('"{3,}')
_NOT_PLAIN: Final = re.compile(
    r"[^\t\n -~\u00a1-\u167f\u1681-\u1fff\u2010-\u2027\u2030-\u205e\u2070-\u2fff\u3001-\ud7ff\ue000-\ufefe\uff00-\U0010ffff]"
)
"""What may not stand in a text as it is, and what nobody would see there."""


def written(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """The text of a whole configuration. Raises ConfigRefused for what KDL has no form for."""
    nodes = []
    for section, word in WORDS.items():
        if section not in tables:
            continue
        if section in SINGLE:
            nodes.append(f"{word} {_body(tables[section], section, (section,))}")
        else:
            nodes += [f"{word} {_quoted(name)} {_body(item, section, (section, name))}" for name, item in tables[section].items()]
    return "\n".join(nodes)


def _body(item: Mapping[str, Any], section: str, path: tuple[str, ...]) -> str:
    for key, value in item.items():
        if BY_WORD.get(key) in INNER.get(section, ()) and (as_key(section, key) != key or _has_tables(value)):
            raise ConfigRefused([Problem(path_of(*path, key), "in KDL this key would be a block", "there is no such key: take it out")])
    category = item.get("category")
    lists = list_keys(section, category) if isinstance(category, str) else list_keys(section)
    return _block(item, lists, 0, path) + "\n"


def _has_tables(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and any(isinstance(entry, dict | list) for entry in value))


def _block(table: Mapping[str, Any], lists: frozenset[str], depth: int, path: tuple[str | int, ...]) -> str:
    lines = [_node(key, value, key in lists, lists, depth + 1, (*path, key)) for key, value in table.items()]
    return "{\n" + "".join(lines) + _INDENT * depth + "}" if lines else "{\n" + _INDENT * depth + "}"


def _node(key: str, value: Any, is_list: bool, lists: frozenset[str], depth: int, path: tuple[str | int, ...]) -> str:
    """A key and its value, with its line end. is_list: who reads it takes it for a list by itself."""
    pad, name = _INDENT * depth, key if _BARE.fullmatch(key) or key == "-" else _quoted(key)
    if isinstance(value, dict):
        looks_otherwise = is_list or (len(value) == 1 and not set(value).isdisjoint(ENTRIES))
        return f"{pad}{f'({TABLE})' if looks_otherwise else ''}{name} {_block(value, lists, depth, path)}\n"
    if not isinstance(value, list):
        return f"{pad}{f'({VALUE})' if is_list else ''}{name} {_scalar(value, depth, path)}\n"
    if _has_tables(value):
        entry = "item" if all(isinstance(one, dict) for one in value) else "-"
        inner = "".join(_entry(entry, one, lists, depth + 1, (*path, index)) for index, one in enumerate(value))
        return f"{pad}{name} {{\n{inner}{pad}}}\n"
    values = "".join(f" {_scalar(one, depth, (*path, index), is_one_of=True)}" for index, one in enumerate(value))
    return f"{pad}{f'({LIST})' if len(value) < 2 and not is_list else ''}{name}{values}\n"


def _entry(name: str, value: Any, lists: frozenset[str], depth: int, path: tuple[str | int, ...]) -> str:
    if name == "item":
        return f"{_INDENT * depth}item {_block(value, lists, depth, path)}\n"
    return _node("-", value, False, lists, depth, path)


def _scalar(value: Any, depth: int, path: tuple[str | int, ...], is_one_of: bool = False) -> str:
    if isinstance(value, str):
        return (not is_one_of and _lined(value, depth)) or _quoted(value)
    if isinstance(value, bool):
        return f"#{str(value).lower()}"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value) if value - value == 0 else f"#{value}"
    raise ConfigRefused([Problem(path_of(*path), "KDL has no form for a date or time", "write it as text")])


def _quoted(text: str) -> str:
    return '"' + _escaped(text.translate(_ESCAPES)) + '"'


def _escaped(text: str) -> str:
    return _NOT_PLAIN.sub(lambda found: f"\\u{{{ord(found[0]):x}}}", text)


def _lined(text: str, depth: int) -> str:
    """A text of several lines; nothing where that form would change it: lines of spaces alone become empty."""
    lines = text.split("\n")
    if len(lines) < 2 or any(line and not line.strip() for line in lines):
        return ""
    pad = _INDENT * (depth + 1)
    inner = "".join(f"{pad}{_in_lines(line)}\n" if line else "\n" for line in lines)
    return f'"""\n{inner}{pad}"""'


def _in_lines(line: str) -> str:
    return _MANY_QUOTES.sub(lambda found: '\\"' * len(found[0]), _escaped(line.translate(_IN_LINES)))
