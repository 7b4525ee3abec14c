"""The spellings of text in a target: what is written in the configuration, and what clients make of it (RFC 3986 section 2.1)."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final
from urllib.parse import unquote_to_bytes

_PLAIN: Final = b"0123456789_-abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_IN_NAMES: Final = bytes.maketrans(b". [", b"___")
_ESCAPE: Final = re.compile(rb"%[0-9A-Fa-f]{2}")


def as_sent(text: str) -> bytes:
    """Text of a path in the form in which it travels: what is not visible ASCII, and `#`, percent-encoded."""
    return b"".join(b"%c" % byte if 0x20 < byte < 0x7F and byte != 0x23 else b"%%%02X" % byte for byte in text.encode())


def one_case(text: bytes) -> bytes:
    """With the digits of its escapes as capitals: both cases of them are the same (section 2.1)."""
    return _ESCAPE.sub(lambda found: found[0].upper(), text) if b"%" in text else text


@lru_cache(maxsize=1024)
def parameter(name: str) -> bytes:
    """The name of a query parameter, or its value, as `one_case` gives that of a request. `name` as in the configuration."""
    return one_case(as_sent(name))


def loosely(name: bytes) -> bytes:
    """What the most lenient of backends take the name of a query parameter, or of a cookie, for: two that are the same here may be to one.

    Decoded, in lower case (ASP.NET), up to a NUL, without blanks around it, with `_` for dots, blanks and brackets, and `a[]` is `a` (PHP).
    """
    if not name.translate(None, _PLAIN):
        return name.lower()
    plain = unquote_to_bytes(name.replace(b"+", b" ")).partition(b"\0")[0].strip()
    start = plain.find(b"[")
    if start > 0 and plain.find(b"]", start) > 0:
        plain = plain[:start]
    return plain.translate(_IN_NAMES).lower()


def both_cases(value: bytes) -> str:
    """A regex, without anchors, for exactly this text with the digits of its escapes in either case; "" when it has no such digit."""
    if not any(found[0].lower() != found[0].upper() for found in _ESCAPE.finditer(value)):
        return ""
    parts = []
    position = 0
    for found in _ESCAPE.finditer(value):
        parts += [_literal(value[position : found.start()]), f"(?i:{found[0].decode()})"]
        position = found.end()
    return "".join((*parts, _literal(value[position:])))


def is_path(text: str) -> Callable[[bytes], bool]:
    """Whether a path, as sent, is this one. `text` as in the configuration."""
    value = as_sent(text)
    spellings = both_cases(value)
    if not spellings:
        return value.__eq__
    fits = re.compile(spellings.encode()).fullmatch
    return lambda path: fits(path) is not None


def _literal(text: bytes) -> str:
    return "".join(chr(byte) if chr(byte).isalnum() else f"\\x{byte:02x}" for byte in text)
