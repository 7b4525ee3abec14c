"""The application log's records as lines: text for people, JSON for machines.

structlog is not used: importing it costs 18 MB and 70 ms here, for it imports rich,
in the one process whose share of the memory budget is 22 MB.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pingap.observability.access_format import when, when_utc
from pingap.observability.escape import plain

LEVELS: Final = ("debug", "info", "warn", "error")
OFF: Final = len(LEVELS)

_BARE: Final = re.compile(r"[^\s=\"\\]+")
_ALIASES: Final = {"trace": "debug", "warning": "warn"}


def level_number(level: str) -> int:
    """0 for debug to 3 for error, OFF for `off`. What is no level counts as info, which no filter would drop unasked."""
    level = level.lower()
    if level == "off":
        return OFF
    level = _ALIASES.get(level, level)
    return LEVELS.index(level) if level in LEVELS else 1


def as_text(record: Sequence[Any]) -> str:
    """`time LEVEL stage.replica message key=value …`; a traceback follows, indented so that no line of it can pass for a record."""
    _, at, level, stage, replica, message, fields = record[:7]
    line = f"{when(at)} {level.upper():5} {stage}.{replica} {plain(message)}"
    for key, value in fields.items():
        if key != "traceback":
            line += f" {plain(str(key))}={_value(value)}"
    trace = fields.get("traceback")
    if isinstance(trace, str) and trace:
        line += "".join(f"\n    | {plain(part)}" for part in trace.rstrip("\n").split("\n"))
    return line


def as_json(record: Sequence[Any]) -> str:
    """One object: time, level, stage, replica, message, and the fields under their own names (`field_…` if taken)."""
    _, at, level, stage, replica, message, fields = record[:7]
    whole: dict[str, Any] = {"time": when_utc(at), "level": level, "stage": stage, "replica": replica, "message": message}
    taken = frozenset(whole)
    for key, value in fields.items():
        whole[f"field_{key}" if key in taken else str(key)] = value
    return json.dumps(whole, default=_unknown)


def _value(value: Any) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    text = value if isinstance(value, str) else json.dumps(value, default=_unknown) if _is_nested(value) else str(value)
    return text if text.isprintable() and _BARE.fullmatch(text) else f'"{plain(text)}"'


def _is_nested(value: Any) -> bool:
    return isinstance(value, Mapping | list | tuple)


def _unknown(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else repr(value)
