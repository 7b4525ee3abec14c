"""Bodies that are made of a stored one, as its compressed form is: kept beside it, and used as long as just that version is there.

They are found by the key of what they were made of and a name. They lie within the range of keys of its URL, so that they go with it when
it is purged. When it is fetched or validated anew they are made anew, and take the place of those before.
"""

from __future__ import annotations

from typing import Final

from pingap.stages.caching.entry import DERIVED, CacheEntry
from pingap.stages.caching.vary import variant_key

_MARK: Final = b"\0\0derived "


def derived_key(entry: CacheEntry, name: bytes) -> bytes:
    """name: what tells it from other things that are made of the same."""
    key = variant_key(entry.key, entry.vary[0], entry.chosen_by) if entry.vary else entry.key
    return key + _MARK + name


def derived_entry(entry: CacheEntry, number: int, length: int, now: float) -> CacheEntry:
    """entry, number: of what it was made of. length: bytes of what was made."""
    # fmt: off
    return CacheEntry(
        entry.key, 200, b"", length, entry.born, now, entry.fresh_until, entry.stale_while, entry.stale_error, DERIVED,
        tags=entry.tags, of=number,
    )
    # fmt: on


def is_made_of(entry: CacheEntry, number: int) -> bool:
    """Whether it was made of the version that has this number."""
    return entry.flags & DERIVED != 0 and entry.of == number
