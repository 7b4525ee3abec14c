"""What is wrong with a configuration: all of it at once, each with its place and a hint."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that must change before the configuration can be used."""

    path: str
    """The key, as `upstreams.api.addrs[1]`; for text that is not TOML, `FILE:line:column`."""
    message: str
    """What is wrong, without the path."""
    hint: str = ""
    """What to do about it; may be empty."""
    source: str = ""
    """The file that holds the key, where there are several."""

    def __str__(self) -> str:
        where = f"{self.path} ({self.source})" if self.source else self.path
        return f"{where}: {self.message}" + (f"\n    {self.hint}" if self.hint else "")


class ConfigRefused(Exception):
    """A configuration has problems; `problems` is all of them, in the order of the sections."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        count = len(self.problems)
        head = "1 problem in the configuration:" if count == 1 else f"{count} problems in the configuration:"
        return "\n".join([head, *(f"  {line}" for problem in self.problems for line in str(problem).split("\n"))])


class BadValue(ValueError):
    """A parser refuses a value: what is wrong with it, and a hint."""

    def __init__(self, message: str, hint: str = "") -> None:
        self.message = message
        self.hint = hint
        super().__init__(message)


def path_of(*parts: str | int) -> str:
    """`("servers", "my.site", "addr", 1)` to `servers."my.site".addr[1]`, which TOML would write the same way."""
    path = ""
    for part in parts:
        if isinstance(part, int):
            path += f"[{part}]"
            continue
        bare = part.replace("-", "").replace("_", "")
        text = part if bare.isascii() and bare.isalnum() else f'"{part}"'
        path += f".{text}" if path else text
    return path


def nearest(word: str, known: Iterable[str], likeness: float = 0.6) -> str:
    """A hint that names the known word most like `word`, or nothing when none is. likeness: 1 is the same word."""
    close = difflib.get_close_matches(word.lower(), sorted(known), n=1, cutoff=likeness)
    return f"did you mean {close[0]!r}?" if close else ""


def choices(words: Iterable[str]) -> str:
    """A hint that lists what may be written."""
    return f"one of: {', '.join(words)}"
