"""Where something is in a text, and how deep a text may be nested."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

DEEPEST: Final = 64
"""Levels of tables and lists in each other. No key needs more than four; what works on tables calls itself for each level."""

_OPENED: Final = re.compile(rf"(?:[\[{{][^\[\]{{}}]*+){{{DEEPEST}}}")


def place_of(name: str, text: str, at: int) -> str:
    """`FILE:line:column` of the character at `at`; both are counted from 1."""
    return f"{name}:{text.count(chr(10), 0, at) + 1}:{at - text.rfind(chr(10), 0, at)}"


def is_too_deep(tables: dict[str, Any]) -> bool:
    """More than DEEPEST levels. Without calling itself: that is what it is to keep from others."""
    level: list[Any] = [tables]
    for _ in range(DEEPEST + 1):
        level = [
            inner for outer in level for inner in (outer.values() if isinstance(outer, dict) else outer) if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


def path_of_larger(tables: dict[str, Any]) -> tuple[str | int, ...]:
    """Keys and indices that lead to a whole number of more than 64 bits with its sign, which TOML has not; empty when there is none."""
    for key, value in tables.items():
        if place := _larger(value, (key,)):
            return place
    return ()


def _larger(value: Any, place: tuple[str | int, ...]) -> tuple[str | int, ...]:
    if isinstance(value, int):
        return () if -(2**63) <= value < 2**63 else place
    entries: Iterable[tuple[str | int, Any]] = ()
    if isinstance(value, dict):
        entries = value.items()
    elif isinstance(value, list):
        entries = enumerate(value)
    for key, entry in entries:
        if found := _larger(entry, (*place, key)):
            return found
    return ()


def nested_at(text: str) -> int:
    """Where what is too deep begins, as far as brackets show it: those in texts and comments count, too. Else 0."""
    found = _OPENED.search(text)
    return found.start() if found else 0
