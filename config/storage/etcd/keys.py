"""Which key of etcd a document has, and where its earlier texts are: as the reference has them."""

from __future__ import annotations

import os.path
import re
from typing import Final

from pingap.config.storage.base import SINGLE, NotWritten
from pingap.config.text.formats import FORMATS, TOML

_LONGEST: Final = 1024
"""Bytes of a key that we write: etcd itself has no limit but that of a whole request."""

_EARLIER: Final = re.compile(rb"[0-9]+-([0-9]{1,11})")
"""What follows the key of a document in its history: the revision of the text, and when it was replaced."""


def home_of(section: str, name: str) -> str:
    """The document of an item: one each. Raises NotWritten for a name that none can have."""
    if section in SINGLE:
        return f"{section}{TOML}"
    if not name or any(sign in name for sign in "/\\\0"):
        raise NotWritten(f"{name!r} cannot be part of a key")
    return checked(f"{section}/{name}{TOML}")


def checked(document: str) -> str:
    """`document`, if it is a name under which one can be written. Raises NotWritten."""
    parts = document.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\\" in document or "\0" in document:
        raise NotWritten(f"{document!r} is no name of a document: there are parts between slashes, none of them empty, . or ..")
    if os.path.splitext(document)[1] not in FORMATS:
        raise NotWritten(f"{document!r} has no suffix that says its language, such as {TOML}")
    try:
        size = len(document.encode())
    except UnicodeEncodeError:
        raise NotWritten(f"{document!r} has signs that cannot be written in UTF-8") from None
    if size > _LONGEST:
        raise NotWritten(f"{document[:60]!r}… is longer than {_LONGEST} bytes")
    return document


def end_of(prefix: bytes) -> bytes:
    """What comes after all keys that begin with `prefix`."""
    for at in range(len(prefix) - 1, -1, -1):
        if prefix[at] < 0xFF:
            return prefix[:at] + bytes((prefix[at] + 1,))
    return b"\0"


def earlier(revision: int, now: float) -> str:
    """What follows the key of a document, and a slash, in the key of an earlier text. revision: its own."""
    return f"{revision}-{int(now)}"


def until(rest: bytes) -> int | None:
    """When a text was replaced, in Unix seconds; None when the key is none that was written for that."""
    match = _EARLIER.fullmatch(rest)
    return int(match[1]) if match else None
