"""Where a cache keeps its answers: what `directory` of its settings says."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Final, Literal, NamedTuple
from urllib.parse import unquote

from pingap.config.problems import BadValue, choices, nearest
from pingap.config.quantities import parse_duration, parse_size, shown, whole_number

MEMORY: Final = "memory://"

LEAST_SIZE: Final = 1_000_000
"""Bytes of a whole cache."""

INACTIVE: Final = 48 * 3600.0
"""Seconds; as in the reference (pingap-cache/src/file.rs)."""

Said = tuple[str, str]
"""What is wrong, or worth a note, and a hint."""

_NAME_SIGNS: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
_LONGEST_NAME: Final = 64

_EFFECTLESS: Final[Mapping[str, str]] = {
    "levels": "there is no tree of directories here: an index knows where each body is",
    "reading_max": "a read that waits for the disk has a thread, and no more of them wait than there is room for",
    "writing_max": "what is written goes through one queue with a bound of its own",
    "cache_max": "the system keeps in memory what of a file is read often",
    "cache_file_max_weight": "the system keeps in memory what of a file is read often",
    "mode": "it has none in pingap 0.13.9 either",
}
"""Parameters of the reference's that change nothing here, and why."""


class CachePlace(NamedTuple):
    """One store is made for each (kind, path); all plugins that name it share it."""

    kind: Literal["memory", "disk"]
    path: str
    """Of "disk" an absolute directory; of "memory" the name behind `memory://`, mostly "": each name has a store of its own."""
    max_size: int = 0
    """Bytes that all of it may take, the index included; 0: see `percent`, and without that, of "disk" without a bound."""
    percent: int = 0
    """Of the budget for memory, in place of bytes; 0: all of it."""
    inactive: float = 0.0
    """Seconds after which an answer that nobody asked for goes, fresh or not; 0: never."""

    def size_within(self, budget: int) -> int:
        """Bytes that a cache in memory may take, where `budget` is what pingap may use for that."""
        return max(LEAST_SIZE, self.max_size or budget * (self.percent or 100) // 100)


class PlaceText(NamedTuple):
    """`directory`, read."""

    place: CachePlace
    """As far as it could be read."""
    wrongs: tuple[Said, ...]
    notes: tuple[Said, ...]


def read_place(text: str) -> PlaceText:
    """`""`, `memory://NAME?max_size=…`, or a path with `?max_size=…&inactive=…`. All that is wrong with it is told at once."""
    start, mark, query = text.partition("?")
    is_memory = text == "" or start.startswith(MEMORY) or (not start and bool(mark))
    wrongs: list[Said] = []
    notes: list[Said] = []
    if is_memory:
        path = start.removeprefix(MEMORY)
        if len(path) > _LONGEST_NAME or path.startswith(".") or set(path) - _NAME_SIGNS:
            wrongs.append(
                (f"{shown(path)} is not the name of a cache in memory", 'letters, digits, "_", "-", and "." within: "memory://images"')
            )
    else:
        path = start
        if "\0" in start:
            wrongs.append(("a path has no NUL", ""))
        elif "://" in start:
            wrongs.append((f"{shown(start)} is no directory", 'write a path, or "memory://" for memory'))
        path = os.path.abspath(os.path.expanduser(start.replace("\0", "")))
        if path == "/":
            wrongs.append(("the root directory cannot be a cache", "name a directory of its own"))
    place = CachePlace("memory" if is_memory else "disk", path, inactive=0.0 if is_memory else INACTIVE)
    if mark and not query:
        notes.append(("there is nothing behind its ?", "leave that out"))
    seen: set[str] = set()
    for pair in filter(None, query.split("&")):
        key, equals, value = pair.partition("=")
        key, value = unquote(key).strip(), unquote(value).strip()
        if key in seen:
            wrongs.append((f"{key} is there twice", "write it once"))
            continue
        seen.add(key)
        if key in _EFFECTLESS:
            notes.append((f"{key} has no effect: {_EFFECTLESS[key]}", "leave it out"))
        elif (read := _READ.get(key)) is None:
            known = [*_READ, *_EFFECTLESS]
            wrongs.append((f"there is no parameter {shown(key)}", nearest(key, known) or choices([*_READ])))
        elif not equals or not value:
            if is_memory and key == "max_size":
                notes.append(("max_size is empty: it may use the whole budget", "leave it out"))
            else:
                wrongs.append((f"{key} has no value", f'"?{key}={"10gb" if key == "max_size" else "2d"}"'))
        else:
            try:
                place = read(place, value)
            except BadValue as error:
                wrongs.append((f"{key}: {error.message}", error.hint))
    if place.kind == "disk" and not wrongs and not place.max_size:
        notes.append(("without a max_size it grows until the disk is full", 'add "?max_size=10gb"'))
    return PlaceText(place, tuple(wrongs), tuple(notes))


def _with_size(place: CachePlace, value: str) -> CachePlace:
    if place.kind == "memory" and value.isascii() and value.isdigit():
        percent = whole_number(value, 100)
        if not percent:
            raise BadValue(f"{shown(value)} is no percentage from 1 to 100", 'bytes have a unit: "max_size=256mb"')
        return place._replace(percent=percent)
    size = parse_size(value)
    if not size and place.kind == "disk":
        return place._replace(max_size=0)  # as in the reference: no bound
    if size < LEAST_SIZE:
        raise BadValue(f"{shown(value)} is less than 1mb, which the index alone may take", 'write a unit: "max_size=256mb"')
    return place._replace(max_size=size)


def _with_inactive(place: CachePlace, value: str) -> CachePlace:
    return place._replace(inactive=parse_duration(value))


_READ: Final[Mapping[str, Callable[[CachePlace, str], CachePlace]]] = {"max_size": _with_size, "inactive": _with_inactive}
