"""What a PURGE request asks for: one URL, all URLs that begin alike, all of a namespace or host, or all with a tag."""

from __future__ import annotations

import enum
from typing import Final, NamedTuple

from pingap.stages.headers import joined, value_of, values_of

MOST_TAGS: Final = 256
"""That one request may name."""

MOST_TAG_BYTES: Final = 1024

SOFT: Final = b"pingap-purge"
FASTLY_SOFT: Final = b"fastly-soft-purge"

_ALL: Final = b"/*"


class PurgeScope(enum.Enum):
    """How much goes."""

    URL = "url"
    PREFIX = "prefix"
    ALL = "all"
    TAGS = "tags"


class PurgeAsked(NamedTuple):
    """What a request asks for."""

    scope: PurgeScope
    target: bytes
    """Of URL: path and query, as they are looked up; of PREFIX: the path with which they begin; else b""."""
    tags: tuple[bytes, ...]
    is_soft: bool
    """What is there becomes stale, and may be used while it is validated; nothing is removed."""


class NotAPurge(ValueError):
    """The request asks for nothing that could be done; the text says why."""


def asked_for(original: bytes, target: bytes, headers: bytes) -> PurgeAsked:
    """What a PURGE request asks for. Raises NotAPurge.

    original: its target as the client sent it, which says how much is meant. target: the same after the location's rewrite, under
    which answers are stored. headers: its header block.
    """
    is_soft = _is_soft(headers)
    if (tags := _tags(headers)) is not None:
        return PurgeAsked(PurgeScope.TAGS, b"", tags, is_soft)
    if original == _ALL:
        return PurgeAsked(PurgeScope.ALL, b"", (), is_soft)
    if not original.endswith(_ALL) or original.find(b"?") >= 0:
        return PurgeAsked(PurgeScope.URL, target, (), is_soft)
    path, mark, query = target.partition(b"?")
    if mark and query.endswith(b"*"):
        return PurgeAsked(PurgeScope.PREFIX, path, (), is_soft)  # rewritten into a query, whose parameters a key may sort or leave out
    if path.endswith(b"*") and not mark:
        return PurgeAsked(PurgeScope.PREFIX, path[:-1], (), is_soft)
    return PurgeAsked(PurgeScope.URL, target, (), is_soft)  # rewritten to one and the same, whatever it was


def _is_soft(headers: bytes) -> bool:
    wanted = value_of(headers, SOFT)
    if wanted is None:
        return value_of(headers, FASTLY_SOFT) == b"1"
    if (word := wanted.strip().lower()) not in (b"soft", b"hard"):
        raise NotAPurge("Pingap-Purge is soft or hard")
    return word == b"soft"


def _tags(headers: bytes) -> tuple[bytes, ...] | None:
    """Those that the request names; None if it has no such line."""
    listed, spaced = joined(headers, b"cache-tag"), values_of(headers, b"surrogate-key")
    if listed is None and not spaced:
        return None
    named = [tag for part in (listed or b"").split(b",") if (tag := part.strip())]
    tags = tuple(dict.fromkeys((*named, *b" ".join(spaced).split())))
    if not tags:
        raise NotAPurge("Cache-Tag or Surrogate-Key names no tag")
    if len(tags) > MOST_TAGS:
        raise NotAPurge(f"at most {MOST_TAGS} tags are purged by one request")
    if max(map(len, tags)) > MOST_TAG_BYTES:
        raise NotAPurge(f"a tag has at most {MOST_TAG_BYTES} bytes")
    return tags


class KeyParts(NamedTuple):
    """The key of a stored answer, taken apart (keys.py): `namespace \\0 URL [\\0 part …]`."""

    namespace: bytes
    url: bytes
    """The key of the URL with its namespace, without the parts that `headers` adds."""
    has_parts: bool


def parts_of(key: bytes) -> KeyParts:
    first = key.find(b"\0")
    end = key.find(b"\0", first + 1)
    return KeyParts(key[:first], key if end < 0 else key[:end], end >= 0)
