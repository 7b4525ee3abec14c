"""Names as parts of paths and of keys: small letters, digits, `-`, `.` and `_` as they are, all else as `%xx`, and back again.

Capitals are `%xx`, too: a file system that takes `A` for `a` would have two tokens be one.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Final

from pingap.stages.acme.store.base import StoreError

LONGEST: Final = 1024
"""Bytes of a name."""

_PLAIN: Final = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789-._")
_WRITTEN: Final = re.compile(r"%([0-9a-f]{2})")
_MOST: Final = 100
"""Signs of a file's name; file systems take 255, those that encrypt names 143, and what is written beside it has a longer one."""


def part_of(name: str) -> str:
    """`name` as a part of a key. Raises StoreError for what can be no name."""
    try:
        told = name.encode()
    except UnicodeEncodeError:
        told = b""
    if not 1 <= len(told) <= LONGEST:
        raise StoreError(f"{name[:60]!r} is no name: these are texts of 1 to {LONGEST} bytes")
    written = "".join(chr(byte) if byte in _PLAIN else f"%{byte:02x}" for byte in told)
    return f"%2e{written[1:]}" if written[0] == "." else written


def name_of(part: str) -> str | None:
    """The name whose part this is; None when it is nobody's."""
    try:
        name = _WRITTEN.sub(lambda match: chr(int(match[1], 16)), part).encode("latin-1").decode()
        return name if part_of(name) == part else None
    except (UnicodeError, StoreError):
        return None


def file_of(name: str) -> str:
    """`name` as the name of a file. One that would be too long is cut, and told from others by its digest. Raises StoreError."""
    part = part_of(name)
    return part if len(part) <= _MOST else f"{part[:60]}~{sha256(name.encode()).hexdigest()[:32]}"
