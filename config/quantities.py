"""Durations and sizes: what people write, and seconds and bytes."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, Final

from pingap.config.problems import BadValue

# The units of the Rust crate humantime, with which the reference reads durations.
_UNITS = {
    1: ("ns", "nsec", "nanos"),
    1_000: ("us", "usec", "micros"),
    1_000_000: ("ms", "msec", "millis"),
    1_000_000_000: ("s", "sec", "secs", "second", "seconds"),
    60_000_000_000: ("m", "min", "mins", "minute", "minutes"),
    3_600_000_000_000: ("h", "hr", "hrs", "hour", "hours"),
    86_400_000_000_000: ("d", "day", "days"),
    604_800_000_000_000: ("w", "wk", "wks", "week", "weeks"),
    2_630_016_000_000_000: ("M", "month", "months"),
    31_557_600_000_000_000: ("y", "yr", "yrs", "year", "years"),
}
_NANOSECONDS = {name: factor for factor, names in _UNITS.items() for name in names}
_DURATION_PART = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]+)")

# The units of the Rust crate bytesize: kb is 1000 bytes, kib is 1024.
_BYTES = {"": 1, "b": 1} | {
    letter + suffix: base**power
    for power, letter in enumerate("kmgtpe", start=1)
    for suffix, base in (("", 1000), ("b", 1000), ("i", 1024), ("ib", 1024))
}
_SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*")
_LARGEST = 2**63 - 1

_REFERENCE = r"\$(?:ENV|FILE|SECRET):.+"  # a text that stands for another (references.py) may be written for any
_DURATION = rf"0|(?:\s*[0-9]+(?:\.[0-9]+)?\s*(?:{'|'.join(sorted(_NANOSECONDS, key=len, reverse=True))}))+\s*"
_SIZE_TEXT = r"\s*[0-9]+(?:\.[0-9]+)?\s*(?:[bB]|[kKmMgGtTpPeE](?:[iI]?[bB]|[iI])?)?\s*"
DURATION_SCHEMA: Final[dict[str, Any]] = {"type": "string", "pattern": f"^(?:{_DURATION}|{_REFERENCE})$", "examples": ["10s", "1h 30m"]}
SIZE_SCHEMA: Final[dict[str, Any]] = {
    "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": f"^(?:{_SIZE_TEXT}|{_REFERENCE})$"}],
    "examples": ["64KiB", "10MB"],
}
"""What may be written, as JSON Schema: for editors."""


def parse_duration(value: Any) -> float:
    """`10s`, `1h 30m`, `250ms` to seconds."""
    text = text_of(value, 'a duration such as "10s"').strip()
    if text == "0":
        return 0.0
    nanoseconds, at = Decimal(0), 0
    while at < len(text):
        part = _DURATION_PART.match(text, at)
        if part is None or part[2] not in _NANOSECONDS:
            hint = 'write a unit, as in "10s"' if part is None else "units are ns, us, ms, s, m, h, d, w, M, y"
            raise BadValue(f"{text!r} is not a duration", hint)
        nanoseconds += Decimal(part[1]) * _NANOSECONDS[part[2]]
        at = part.end()
    if not text or nanoseconds > _LARGEST:
        raise BadValue(f"{text!r} is not a duration", 'write "10s", "5m" or "1h 30m"')
    return int(nanoseconds) / 1e9


def parse_limit(value: Any) -> float:
    """A duration that something may take: 0 would leave it no time at all."""
    seconds = parse_duration(value)
    if not seconds:
        raise BadValue("must be more than 0", "leave the key out for the default")
    return seconds


def format_duration(seconds: float) -> str:
    """The shortest usual way to write a duration: `90.5` to `1m 30s 500ms`."""
    left, parts = round(seconds * 1e9), []
    for unit in ("d", "h", "m", "s", "ms", "us", "ns"):
        count, left = divmod(left, _NANOSECONDS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts) or "0s"


def parse_size(value: Any) -> int:
    """`4kb` (4000), `4KiB` (4096), `10MB`, or a whole number, to bytes."""
    if isinstance(value, int) and not isinstance(value, bool):
        size = Decimal(value)
    else:
        text = text_of(value, 'a size such as "10mb"')
        part = _SIZE.fullmatch(text)
        if part is None or part[2].lower() not in _BYTES:
            raise BadValue(f"{text!r} is not a size", "units are b, kb, mb, gb (of 1000) and kib, mib, gib (of 1024)")
        size = Decimal(part[1]) * _BYTES[part[2].lower()]
    if not 0 <= size <= _LARGEST:
        raise BadValue(f"{value!r} is not a size", "it must be between 0 and 8 EiB")
    return int(size)


def format_size(size: int) -> str:
    """The shortest exact way to write a size: `65536` to `64KiB`, `1000000` to `1MB`, `1001` to `1001`."""
    for unit in ("EiB", "EB", "PiB", "PB", "TiB", "TB", "GiB", "GB", "MiB", "MB", "KiB", "KB"):
        factor = _BYTES[unit.lower()]
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return str(size)


def text_of(value: Any, wanted: str) -> str:
    """`value` if it is text, or a problem that says what was `wanted`."""
    if isinstance(value, str):
        return value
    raise BadValue(f"expected {wanted}, got {describe(value)}")


def whole_number(text: str, most: int) -> int | None:
    """The number that some digits are; None for what is none, or more than `most`. Python reads no more than 4300 of them."""
    digits = text.lstrip("0") or text[:1]
    if not (text.isascii() and text.isdigit()) or len(digits) > len(str(most)) or int(digits) > most:
        return None
    return int(digits)


def shown(text: str) -> str:
    """A text as a message quotes it: of a long one the beginning."""
    return repr(text) if len(text) <= 60 else f"{text[:60]!r}…"


def describe(value: Any) -> str:
    """What a value of TOML is, in words, and the value itself where it is short."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, str):
        return f"the text {value!r}" if len(value) <= 60 else "a text"
    if isinstance(value, list):
        return "a list"
    return "a table" if isinstance(value, dict) else "a date or time"
