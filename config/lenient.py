"""What the reference takes and this program takes otherwise, or takes for nothing: the one table of it.

It is for who migrates, where strictness would only hurt: each value that is taken is either the same thing in other
words, or nothing that anybody relies on. Whatever guards something is not here: that is refused instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pingap.config.problems import Note
from pingap.config.unsupported import path_of_key

NOTHING: Final = object()
"""Instead of a value: the key is left out."""


@dataclass(frozen=True, slots=True)
class Lenience:
    """How a value is taken."""

    message: str
    """What is to be known of it; empty where there is nothing to be known."""
    hint: str = ""
    value: Any = NOTHING
    """What it is taken for."""


Rule = Callable[[Any, Mapping[str, Any]], Lenience | None]
"""Given a value as it is written, and the item that has it: how it is taken, or None for as it is."""


def dead(message: str, hint: str = "leave it out") -> Rule:
    """The rule of a key that means nothing, whatever its value."""
    return lambda value, item: Lenience(message, hint)


_CACHE: Final = dead("without effect, as in pingap 0.13.9", "a plugin of the category cache has its own `directory` and `max_size`")

RULES: Final[Mapping[str, Mapping[str, Rule]]] = {
    "basic": {
        "cache_directory": _CACHE,
        "cache_max_size": _CACHE,
        "work_stealing": dead("without effect: processes share no tasks"),
        "listener_tasks_per_fd": dead("without effect: each accept process has one loop for all that it listens on"),
    },
}
"""Section → key → rule; of plugins: `plugins.CATEGORY`."""


def take(section: str, path: str, table: dict[str, Any]) -> Iterator[Note]:
    """Changes in `table`, one item of `section`, what is taken otherwise, and tells each of it."""
    if section == "plugins":
        section = f"plugins.{table.get('category')}"
    for key, rule in RULES.get(section, {}).items():
        taken = rule(table[key], table) if key in table else None
        if taken is None:
            continue
        if taken.value is NOTHING:
            del table[key]
        else:
            table[key] = taken.value
        if taken.message:
            yield Note(path_of_key(path, key), taken.message, taken.hint)
