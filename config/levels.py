"""The level of the application log: a word, or directives as `RUST_LOG` has them, `info,accept=debug`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

LEVELS: Final = ("debug", "info", "warn", "error", "off")
_OTHER_WORDS: Final = {"trace": "debug", "warning": "warn"}
_ALL_OF_IT: Final = "pingap"
"""The name by which directives mean all of this program, as against the libraries of the reference."""
NAMES: Final = ("accept", "acme", "config", "discovery", "logging", "metrics", "plugins", "routing", "supervisor", "upstream")
"""Whose records there are."""


@dataclass(frozen=True, slots=True)
class Levels:
    """Directives, taken apart."""

    everywhere: str | None
    """None when only stages are named."""
    stages: Mapping[str, str]
    """Stage → level."""
    ignored: tuple[str, ...]
    """What is no level, or of no stage."""

    def __str__(self) -> str:
        """The same without what is ignored."""
        return ",".join(filter(None, (self.everywhere, *(f"{stage}={level}" for stage, level in self.stages.items()))))


def levels_of(text: str) -> Levels:
    """`level`, `stage=level`, in any case of letters, separated by commas; the last of several for the same counts."""
    of_all: str | None = None
    everywhere: str | None = None
    stages: dict[str, str] = {}
    ignored = []
    for word in filter(None, (part.strip() for part in text.split(","))):
        name, equals, written = word.rpartition("=")
        level = _OTHER_WORDS.get(written.lower(), written.lower())
        stage = name.removeprefix(f"{_ALL_OF_IT}::")
        if level not in LEVELS:
            ignored.append(word)
        elif not equals:
            everywhere = level
        elif name == _ALL_OF_IT:
            of_all = level
        elif stage in NAMES:
            stages[stage] = level
        else:
            ignored.append(word)
    return Levels(of_all or everywhere, stages, tuple(ignored))


def is_ignored(words: Iterable[str]) -> str:
    """The sentence on directives that mean nothing here."""
    return f"{', '.join(words)}: neither a level nor STAGE=LEVEL, and ignored"
