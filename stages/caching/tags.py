"""Tags of an answer, by which it can be purged: Cache-Tag (commas between them), Surrogate-Key (blanks)."""

from __future__ import annotations

from typing import Final

from pingap.stages.headers import joined, values_of

MOST: Final = 128
"""Tags of an answer."""

LONGEST: Final = 512
"""Bytes of a tag."""


def tags_of(headers: bytes) -> tuple[bytes, ...] | None:
    """In their order, each once. None for more, or longer ones, than are kept: an answer that no purge would find is not to be stored."""
    if headers.find(b"cache-tag: ") < 0 and headers.find(b"surrogate-key: ") < 0:
        return ()
    found: dict[bytes, None] = {}
    for tag in (joined(headers, b"cache-tag") or b"").split(b","):
        found[tag.strip(b" \t")] = None
    for value in values_of(headers, b"surrogate-key"):
        for tag in value.split():
            found[tag] = None
    found.pop(b"", None)
    if len(found) > MOST or any(len(tag) > LONGEST for tag in found):
        return None
    return tuple(found)
