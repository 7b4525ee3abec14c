"""What a cache keeps of an answer, beside its body.

Times are seconds of the store's clock: it goes on evenly while the machine runs, and over its restarts where the store survives those.
"""

from __future__ import annotations

from typing import Final

import msgspec

MUST_REVALIDATE: Final = 1
"""Never to be used stale, whatever else is allowed: must-revalidate, proxy-revalidate, s-maxage (RFC 9111 section 5.2.2)."""

ALWAYS_VALIDATE: Final = 2
"""no-cache: to be used only after it was validated, fresh or not (section 5.2.2.4)."""

HEURISTIC: Final = 4
"""Its lifetime is a guess (section 4.2.2)."""

MARKER: Final = 8
"""No answer, but which request headers choose between those that are stored for the same URL: `vary` has the sets of names."""

PURGED_SOFTLY: Final = 16
"""Stale from a soft purge on, whatever its times say; may be used while it is validated, as other stale ones."""

AUTHORIZED: Final = 32
"""The request had Authorization, and the answer allows sharing (section 3.5)."""

DERIVED: Final = 64
"""No answer: what some hook made of the body of one, to be used with that only (derived.py)."""


class CacheEntry(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One stored answer. What it says about itself was decided when it was stored, so that a hit decides little."""

    key: bytes
    """Whole key of the URL, namespace included (keys.py); of a variant the URL's, too."""
    status: int
    headers: bytes
    """Header block in normal form: without hop-by-hop lines, Content-Length, Age, and what no-cache="…" or private="…" name."""
    length: int
    """Bytes of the body."""
    born: float
    """When the origin made it, as far as Age, Date and the time of travel tell: age is now minus this (section 4.2.3)."""
    stored: float
    """When it was received or last validated."""
    fresh_until: float
    stale_while: float
    """Seconds after `fresh_until` for which it may be used while it is validated in the background (RFC 5861 section 3)."""
    stale_error: float
    """The same where the origin fails (section 4)."""
    flags: int
    etag: bytes = b""
    """As the answer had it, quotes and W/ included; b"" for none."""
    last_modified: bytes = b""
    date: float = 0.0
    """Unix seconds of its Date line."""
    lifetime: float = 0.0
    """Seconds of freshness that it was given, from `born` on."""
    rule: str = ""
    """What gave the lifetime: "s-maxage", "max-age", "Expires", "heuristic", "pingap-cache-control: max-age", "max_ttl", "default_ttl"…"""
    tags: tuple[bytes, ...] = ()
    """Cache-Tag, Surrogate-Key."""
    vary: tuple[tuple[bytes, ...], ...] = ()
    """Of a MARKER: sets of header names, lower case, sorted; the newest first. Else at most one: those that chose this answer."""
    chosen_by: bytes = b""
    """What those header lines were in the request, normalised (vary.py)."""
    reason: bytes = b""
    """The backend's phrase, if it is not the usual one."""
    spelled: tuple[bytes, ...] = ()
    """As in `Response.spelled`."""
    body_id: int = 0
    """Of the body, which stays when a 304 makes the head fresh: another one for each that was fetched; 0 for none. Of a DERIVED one: of the
    body that it was made of."""


class FileSpot(msgspec.Struct, frozen=True, gc=False):
    """A body that is a file of the store's."""

    path: str
    """Absolute."""
    is_in_memory: bool = False
    """Opening and reading it never waits for a disk: it is on tmpfs."""


class StoredAnswer(msgspec.Struct, frozen=True):
    """An entry as the store gives it."""

    entry: CacheEntry
    body: bytes | FileSpot
    number: int
    """Of this version of it, never used again in this store: a change that names it is made only if it is still there."""
