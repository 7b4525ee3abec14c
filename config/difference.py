"""What a new snapshot changes, as text for people: what was and what is, without secrets, and not longer than one can read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from hashlib import sha256
from typing import Any, Final

from pingap.config.diff import SINGLE_SECTIONS, Changes
from pingap.config.model import Snapshot
from pingap.config.pem import der_of
from pingap.config.problems import path_of
from pingap.config.secrecy import MASK, is_secret, is_within, masked_value
from pingap.config.written import as_written

MOST_LINES: Final = 200
"""Of a difference: a configuration of thousands of items may be replaced as a whole."""

LONGEST_SHOWN: Final = 200
"""Characters of a value that are shown."""

MOST_ENTRIES: Final = 8
"""Entries of a list up to which all are shown; of a longer one only those that came or went."""

_UNSET: Final = object()


class _Secret:
    """Paths of secret values: what lies inside of one is secret, and so is as a whole what has one inside."""

    def __init__(self, paths: AbstractSet[str]) -> None:
        self._paths = paths
        self._around = {path[:at] for path in paths for at, sign in enumerate(path) if sign in ".["}

    def __contains__(self, path: str) -> bool:
        return path in self._around or is_within(path, self._paths)


def difference(old: Snapshot, new: Snapshot, changes: Changes) -> tuple[str, ...]:
    """Lines as the reference writes them: `++ [ADDED] …`, `-- [REMOVED] …`, `[MODIFIED] …` with `- key = …`, `+ key = …`.

    changes: of the same two. A value that is secret is `***` on either side: that it changed is all that is said of it.
    """
    secret = _Secret({*old.secret, *new.secret})
    lines: list[str] = []
    items = len(changes.added) + len(changes.removed) + len(changes.modified)
    for told, part in enumerate(_parts(old, new, changes, secret)):
        if len(lines) + len(part) > MOST_LINES and lines:
            return (*lines, f"… and {items - told} more")
        if len(part) > MOST_LINES:
            part = [*part[:MOST_LINES], f"… and {len(part) - MOST_LINES} lines more"]
        lines += part
    return tuple(lines)


def _parts(old: Snapshot, new: Snapshot, changes: Changes, secret: _Secret) -> Iterator[list[str]]:
    """The lines of one item after the other."""
    for path in changes.added:
        yield [f"++ [ADDED] {path}"]
    for path in changes.removed:
        yield [f"-- [REMOVED] {path}"]
    for place in changes.modified:
        before, after = (_values(place, _item(snapshot, place), secret) for snapshot in (old, new))
        lines = [f"[MODIFIED] {path_of(*place)}"]
        for key in dict.fromkeys((*before, *after)):
            was, now = before.get(key, _NOTHING), after.get(key, _NOTHING)
            if was[0] != now[0]:
                lines += _sides(key, was[1], now[1])
        yield lines


_Value = tuple[Any, Any]
"""A value, and what may be shown of it; `_UNSET` for a key that is not there."""

_NOTHING: Final[_Value] = (_UNSET, _UNSET)


def _item(snapshot: Snapshot, place: tuple[str, ...]) -> Any:
    section = getattr(snapshot, place[0])
    return section if place[0] in SINGLE_SECTIONS else section[place[1]]


def _values(place: tuple[str, ...], item: Any, secret: _Secret) -> dict[str, _Value]:
    """By key; the keys of tables inside are `outer.inner`."""
    found: dict[str, _Value] = {}
    if is_dataclass(item) and not isinstance(item, type):
        for spec in fields(item):
            if spec.name != "remark" and (value := getattr(item, spec.name)) != spec.default:
                found[spec.name] = (value, _shown(place, spec.name, as_written(type(item), spec.name, value), "", secret))
        return found
    category = item.get("category")
    for key, value in item.items():
        if key != "remark":
            found |= _flat(path_of(key), value, _shown(place, key, value, category, secret))
    return found


def _flat(key: str, value: Any, shown: Any) -> dict[str, _Value]:
    if not isinstance(value, Mapping) or not isinstance(shown, Mapping):
        return {key: (value, shown)}
    found: dict[str, _Value] = {}
    for inner, entry in value.items():
        found |= _flat(f"{key}.{path_of(inner)}", entry, shown[inner])
    return found


def _shown(place: tuple[str, ...], key: str, value: Any, category: Any, secret: _Secret) -> Any:
    """What may be shown of a value."""
    path = path_of(*place, key)
    if is_secret(place[0], key, value, category) or path in secret:
        return MASK
    if key == "tls_cert":
        return _certificate(value)
    if key == "client_ca":
        return f"SHA-256 {sha256(value.encode()).hexdigest()[:32]}" if value else ""  # of several, any may be another
    return masked_value(value, by_name=place[0] == "plugins")


def _certificate(pem: str) -> str:
    der = der_of(pem)
    return f"SHA-256 {sha256(der).hexdigest()[:32]}" if der else "?"


def _sides(key: str, was: Any, now: Any) -> Iterator[str]:
    if isinstance(was, list) and isinstance(now, list) and max(len(was), len(now)) > MOST_ENTRIES:
        had, has = ({_hashable(entry) for entry in entries} for entries in (was, now))
        gone, come = [entry for entry in was if _hashable(entry) not in has], [entry for entry in now if _hashable(entry) not in had]
        if not gone and not come:
            yield f"  {key}: the order of its {len(now)} entries"
        if gone:
            yield f"- {key} = {_text(gone)} of {len(was)}"
        if come:
            yield f"+ {key} = {_text(come)} of {len(now)}"
        return
    for sign, value in (("-", was), ("+", now)):
        if value is not _UNSET:
            yield f"{sign} {key} = {_text(value)}"


def _hashable(entry: Any) -> Any:
    """The same for equal entries: a list may have thousands, and each is looked for among them."""
    return entry if isinstance(entry, str) else ("", json.dumps(entry, sort_keys=True, default=str))


def _text(value: Any) -> str:
    """As TOML writes it, or nearly; on one line, without what a terminal would act on."""
    text = value if value == MASK else json.dumps(value, ensure_ascii=False, default=str)
    text = "".join(sign if sign.isprintable() else f"\\u{ord(sign):04x}" for sign in text)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}… ({len(text)} characters)"
