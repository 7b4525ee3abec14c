"""What a PURGE request asks for: one URL, all URLs that begin alike, all of a namespace or host, or all with a tag."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Final, NamedTuple

from pingap.stages.caching.tags import LONGEST, MOST, tags_of
from pingap.stages.headers import value_of

SOFT: Final = b"pingap-purge"
FASTLY_SOFT: Final = b"fastly-soft-purge"

NOT_PURGED: Final = -1
"""In place of the number of stored answers: the store could not do it."""

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


class Purged(NamedTuple):
    """What came of it."""

    done: int
    """Stored answers that it was about."""
    failed: int
    """Orders that the store could not do."""


def added_up(results: Iterable[int]) -> Purged:
    """results: of the orders to the store."""
    numbers = list(results)
    return Purged(sum(number for number in numbers if number != NOT_PURGED), numbers.count(NOT_PURGED))


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
    if value_of(headers, b"cache-tag") is None and value_of(headers, b"surrogate-key") is None:
        return None
    tags = tags_of(headers)
    if tags is None:
        raise NotAPurge(f"one request names at most {MOST} tags, each of at most {LONGEST} bytes")
    if not tags:
        raise NotAPurge("Cache-Tag or Surrogate-Key names no tag")
    return tags
