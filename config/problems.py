"""What is wrong with a configuration, and what should be known of one that is taken: all of it at once, each with its place and a hint."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """What a problem and a note have in common: a place, and what is said of it."""

    path: str
    """The key, as `upstreams.api.addrs[1]`; for text that is not TOML, `FILE:line:column`. Empty for what concerns no key."""
    message: str
    """What is so, without the path."""
    hint: str = ""
    """What to do about it; may be empty."""
    source: str = ""
    """The file that holds the key, where there are several."""

    def __post_init__(self) -> None:
        # A name of a file may be in no encoding: as Python has it, it can be neither printed nor sent to another process.
        for name in ("path", "message", "hint", "source"):
            text = getattr(self, name)
            if not text.isascii():
                object.__setattr__(self, name, text.encode("utf-8", "backslashreplace").decode())

    def __str__(self) -> str:
        where = f"{self.path} ({self.source})" if self.source else self.path
        return (f"{where}: " if where else "") + self.message + (f"\n    {self.hint}" if self.hint else "")


@dataclass(frozen=True, slots=True)
class Problem(Finding):
    """One thing that must change before the configuration can be used."""


@dataclass(frozen=True, slots=True)
class Note(Finding):
    """One thing that is taken all the same and that the operator should know: what has no effect, or another than it seems to have.

    Its path may be of several places of which the same is said: some of them, and how many more there are.
    """


class ConfigRefused(Exception):
    """A configuration has problems; `problems` is all of them, in the order of the sections. `notes`: what would be told if it had none."""

    def __init__(self, problems: Iterable[Problem], notes: Iterable[Note] = ()) -> None:
        self.problems = tuple(problems)
        self.notes = tuple(notes)
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
    import difflib  # every stage knows the model, and so this module

    close = difflib.get_close_matches(word.lower(), sorted(known), n=1, cutoff=likeness)
    return f"did you mean {close[0]!r}?" if close else ""


def choices(words: Iterable[str]) -> str:
    """A hint that lists what may be written."""
    return f"one of: {', '.join(words)}"
