"""Frozen dataclasses to plain data and back, without a schema library and without checks.

It serves snapshots between processes, which were checked before they were sent.
A key with its default is left out: thousands of locations then cost little.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")
Revive = Callable[[Any], Any]

# Reading type hints takes longer than a whole snapshot; each class is read once.
_DEFAULTS: dict[type, tuple[tuple[str, Any], ...]] = {}
_REVIVERS: dict[type, tuple[tuple[str, Revive], ...]] = {}


def to_wire(item: Any) -> dict[str, Any]:
    """The fields of a dataclass that do not have their default, as MessagePack can carry them."""
    return {name: _plain(value) for name, value in set_fields(item).items()}


def set_fields(item: Any) -> dict[str, Any]:
    """The fields of a dataclass that do not have their default, as they are."""
    kind = type(item)
    defaults = _DEFAULTS.get(kind) or _DEFAULTS.setdefault(kind, _defaults(kind))
    return {name: value for name, default in defaults if (value := getattr(item, name)) is not default and value != default}


def from_wire(kind: type[T], data: Mapping[str, Any]) -> T:
    """The dataclass of type `kind` that `to_wire` gave `data` for; lists become tuples where the type says so."""
    revivers = _REVIVERS.get(kind) or _REVIVERS.setdefault(kind, _revivers(kind))
    return kind(**{name: revive(data[name]) for name, revive in revivers if name in data})


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return to_wire(value)
    if isinstance(value, tuple | list):
        return [_plain(entry) for entry in value]
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    return value


def _defaults(kind: type) -> tuple[tuple[str, Any], ...]:
    return tuple((spec.name, _default(spec)) for spec in fields(kind))


def _default(spec: Field[Any]) -> Any:
    if spec.default_factory is not MISSING:
        return spec.default_factory()
    return spec.default


def _revivers(kind: type) -> tuple[tuple[str, Revive], ...]:
    hints = get_type_hints(kind)
    return tuple((spec.name, _reviver(hints[spec.name])) for spec in fields(kind))


def _reviver(hint: Any) -> Revive:
    """How a value of type `hint` comes back from plain data."""
    if isinstance(hint, type) and is_dataclass(hint):
        return lambda data: from_wire(hint, data)
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        inner = _reviver(next(arg for arg in args if arg is not type(None)))
        return lambda data: None if data is None else inner(data)
    if origin is tuple:
        entry = _reviver(args[0])
        # Pairs such as (name, value) hold plain text only, so that one reviver serves all places.
        return lambda data: tuple([entry(value) for value in data])
    if origin is not None and origin is not Literal and issubclass(origin, Mapping) and origin is not dict:
        entry = _reviver(args[1])
        return lambda data: {key: entry(value) for key, value in data.items()}
    return _as_written if origin is dict else _same


def _same(value: Any) -> Any:
    return value


def _as_written(value: Any) -> Any:
    """A section of a plugin as TOML gives it: the bus unpacks arrays as tuples, the plugin's own model expects lists."""
    if isinstance(value, Mapping):
        return {key: _as_written(entry) for key, entry in value.items()}
    if isinstance(value, tuple | list):
        return [_as_written(entry) for entry in value]
    return value
