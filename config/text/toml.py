"""TOML 1.1 to tables, by tomli on every Python: its compiled form is the faster one, and all Pythons then take the same language."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import tomli

from pingap.config.problems import Problem
from pingap.config.text.places import DEEPEST, nested_at, place_of

_LONG_KEY: Final = re.compile(rf"""\.[ \t]*+(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){{{DEEPEST}}}""")
"""The parser needs memory and time for the square of a key's parts. It starts at a dot: for that it is found quickly."""

_LONG_NUMBER: Final = re.compile(r"[0-9](?:_?[0-9]){4000}")
"""Python refuses to read whole numbers that are longer than 4300 digits."""


def parse(name: str, text: str) -> dict[str, Any] | Problem:
    """The tables of a document, or why there are none. name: of the document."""
    if found := _LONG_KEY.search(text):
        return Problem(place_of(name, text, found.start()), f"not taken: a key of more than {DEEPEST} parts")
    try:
        return tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        at_end = " at the end of the file" if error.pos >= len(error.doc) else ""
        return Problem(f"{name}:{error.lineno}:{error.colno}", f"not TOML: {error.msg}{at_end}")
    except RecursionError:
        return Problem(place_of(name, text, nested_at(text)), f"not taken: tables or lists nested more than {DEEPEST} deep")
    except ValueError:
        found = _LONG_NUMBER.search(text)
        return Problem(place_of(name, text, found.start() if found else 0), "not taken: a number with thousands of digits")


def written(tables: Mapping[str, Any]) -> str:
    """The text of a whole configuration."""
    import tomli_w

    return tomli_w.dumps(tables)


def edited(text: str, section: str, name: str, item: dict[str, Any] | None) -> str:
    """The text with one item replaced, added, or, for None, taken out; all else stays as it was written, comments too.

    name: "" for a section that is itself the item. Raises ValueError when that cannot be done to this text. Takes a while
    (tomlkit is written for exactness), so it is not for the loop of a stage.
    """
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    wanted = _with_item(tomli.loads(text), section, name, item)
    if wanted == tomli.loads(text):
        return text  # byte for byte
    for is_anew in (False, True):  # of the few forms of nested tables that the first cannot do, the second can do most
        try:
            written = tomlkit.parse(text)
            _edit(written, [section, name] if name else [section], item, is_anew)
            result = tomlkit.dumps(written)
            if tomli.loads(result) == wanted:
                return result
        except (TOMLKitError, tomli.TOMLDecodeError, TypeError, AttributeError, KeyError, ValueError) as error:
            if is_anew:
                raise ValueError(f"it cannot be written as TOML: {error}") from error
    raise ValueError("its text is of a form that is not understood well enough to be changed: change it by hand")


def _with_item(tables: dict[str, Any], section: str, name: str, item: dict[str, Any] | None) -> dict[str, Any]:
    """What the edited text must come to."""
    outer = tables if not name else tables.setdefault(section, {})
    key = name or section
    if item is None:
        outer.pop(key, None)
        if name and not outer:
            del tables[section]
    else:
        outer[key] = item
    return tables


def _edit(table: Any, place: list[str], item: dict[str, Any] | None, is_anew: bool) -> None:
    """Does it to a table of tomlkit; unless `is_anew`, key by key, so that the comments of keys that stay stay with them."""
    import tomlkit

    key, *inner = place
    if inner:
        if key not in table:
            table.add(key, tomlkit.table(is_super_table=True))
        _edit(table[key], inner, item, is_anew)
        if not table[key]:
            del table[key]
    elif item is None:
        del table[key]
    elif key in table and not is_anew:
        _update(table[key], item)
    else:
        if key in table:
            del table[key]
        table.add(key, item)


def _update(table: Any, item: dict[str, Any]) -> None:
    for key in [key for key in table if key not in item]:
        del table[key]
    for key, value in item.items():
        if key not in table:
            table.add(key, value)
        elif isinstance(value, dict) and hasattr(table[key], "add"):
            _update(table[key], value)
        elif table[key] != value or type(table[key]) is bool or isinstance(value, bool):
            table[key] = value
