"""Bodies that are made of a stored one, as its compressed form is: kept beside it, and used as long as just that body is there.

They are found by a key like that of a variant, of what they were made of and a name: so they lie beside their URL, and go with it when it
is purged. When that is fetched anew they are made anew, and take the place of those before.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from typing import Final

from pingap.stages.caching.entry import DERIVED, CacheEntry

_KEPT: Final = 4096
"""Variants and names whose end of a key is remembered."""


def derived_key(entry: CacheEntry, name: str) -> bytes:
    """name: what tells it from other things that are made of the same."""
    return entry.key + _end(entry.vary, entry.chosen_by, name)


@lru_cache(_KEPT)
def _end(vary: tuple[tuple[bytes, ...], ...], chosen_by: bytes, name: str) -> bytes:
    of = b"\n".join([b",".join(names) for names in vary])
    return b"\0\0" + blake2b(b"%b\n%b\0%b" % (of, chosen_by, name.encode()), digest_size=16, person=b"derived").digest()


def derived_entry(entry: CacheEntry, length: int, now: float) -> CacheEntry:
    """entry: of what it was made of. length: bytes of what was made."""
    # fmt: off
    return CacheEntry(
        entry.key, 200, b"", length, entry.born, now, entry.fresh_until, entry.stale_while, entry.stale_error, DERIVED,
        tags=entry.tags, body_id=entry.body_id,
    )
    # fmt: on


def is_made_of(made: CacheEntry, entry: CacheEntry) -> bool:
    """Whether it was made of the body that this answer has."""
    return made.flags & DERIVED != 0 and made.body_id == entry.body_id and entry.body_id != 0
