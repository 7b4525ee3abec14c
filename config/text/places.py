"""Where something is in a text, and how deep a text may be nested."""

from __future__ import annotations

import re
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


def nested_at(text: str) -> int:
    """Where what is too deep begins, as far as brackets show it: those in texts and comments count, too. Else 0."""
    found = _OPENED.search(text)
    return found.start() if found else 0
