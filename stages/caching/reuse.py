"""What a request gets of what is stored (RFC 9111 sections 4 and 5.2.1, RFC 5861)."""

from __future__ import annotations

from typing import Final, NamedTuple

from pingap.stages.caching.directives import LONGEST, parse_cache_control, parse_pragma
from pingap.stages.caching.entry import ALWAYS_VALIDATE, MARKER, MUST_REVALIDATE, PURGED_SOFTLY, CacheEntry
from pingap.stages.headers import joined

FRESH: Final = "fresh"
"""It is the answer."""

STALE_WHILE: Final = "stale-while"
"""It is the answer, and is to be validated behind it (RFC 5861 section 3)."""

VALIDATE: Final = "validate"
"""The backend is to be asked first, with the entry's conditions if it has some; if that fails: may_be_stale_on_error."""

MISS: Final = "miss"
"""Nothing that is stored helps."""

UNAVAILABLE: Final = "unavailable"
"""504: the client wants what is stored, and there is none that it takes."""


class AskedFor(NamedTuple):
    """What a request says to caches. Seconds are -1 for what it does not say."""

    max_age: int = -1
    max_stale: int = -1
    min_fresh: int = -1
    stale_error: int = -1
    no_cache: bool = False
    no_store: bool = False
    """Neither is what is stored used, nor the answer stored."""
    only_if_cached: bool = False
    is_authorized: bool = False


PLAIN: Final = AskedFor()
_AUTHORIZED: Final = AskedFor(is_authorized=True)


def asked_of(request_headers: bytes, is_trusted: bool) -> AskedFor:
    """is_trusted: the client is one whose wishes count; of others, PLAIN or that they have Authorization."""
    is_authorized = request_headers.find(b"authorization: ") >= 0 and (
        request_headers.find(b"\nauthorization: ") >= 0 or request_headers.startswith(b"authorization: ")
    )
    if is_trusted:
        control = joined(request_headers, b"cache-control")
        if control is not None:
            said = parse_cache_control(control)
            return AskedFor(
                max_age=said.max_age,
                max_stale=said.max_stale,
                min_fresh=said.min_fresh,
                stale_error=said.stale_error,
                no_cache=said.no_cache,
                no_store=said.no_store,
                only_if_cached=said.only_if_cached,
                is_authorized=is_authorized,
            )
        pragma = joined(request_headers, b"pragma")
        if pragma is not None and parse_pragma(pragma):  # section 5.4
            return AskedFor(no_cache=True, is_authorized=is_authorized)
    return _AUTHORIZED if is_authorized else PLAIN


class Use(NamedTuple):
    """What is to be done with an entry."""

    kind: str
    rule: str
    """Which rule says so, for people."""


_FRESH: Final = Use(FRESH, "fresh")
_STALE_WHILE: Final = Use(STALE_WHILE, "stale-while-revalidate")
_STALE: Final = Use(VALIDATE, "stale")
_MUST: Final = Use(VALIDATE, "must-revalidate")
_NO_CACHE: Final = Use(VALIDATE, "no-cache")
_PURGED: Final = Use(VALIDATE, "purged softly")
_NOTHING: Final = Use(MISS, "nothing stored")
_VARIES: Final = Use(MISS, "vary")

_UNUSABLE: Final = MARKER | ALWAYS_VALIDATE | PURGED_SOFTLY


def is_fresh(entry: CacheEntry, now: float) -> bool:
    """It is an answer for a plain request, without more ado."""
    return now < entry.fresh_until and not entry.flags & _UNUSABLE


def decide(entry: CacheEntry | None, asked: AskedFor, now: float) -> Use:
    """entry: the one for this request (of a URL with a marker: the variant's), or None. now: seconds of the store's clock."""
    if entry is None:
        use = _NOTHING
    else:
        flags = entry.flags
        if now < entry.fresh_until and not flags & _UNUSABLE:
            use = _FRESH
        elif flags & MARKER:
            use = _VARIES
        elif flags & ALWAYS_VALIDATE:
            use = _NO_CACHE
        elif flags & MUST_REVALIDATE:
            use = _MUST
        elif entry.stale_while > 0.0 and now < entry.fresh_until + entry.stale_while:
            use = _STALE_WHILE
        elif flags & PURGED_SOFTLY:
            use = _PURGED
        else:
            use = _STALE
    if asked is PLAIN or asked is _AUTHORIZED:
        return use
    return _as_asked(use, entry, asked, now)


def _as_asked(use: Use, entry: CacheEntry | None, asked: AskedFor, now: float) -> Use:
    if asked.no_store:
        use = Use(MISS, "request: no-store")
    elif entry is not None and use.kind is not MISS:
        if asked.no_cache:
            use = Use(VALIDATE, "request: no-cache")
        elif 0 <= asked.max_age < now - entry.born:
            use = Use(VALIDATE, "request: max-age")
        elif asked.min_fresh >= 0 and entry.fresh_until - now < asked.min_fresh:
            use = Use(VALIDATE, "request: min-fresh")
        elif use is _STALE and 0 <= now - entry.fresh_until <= asked.max_stale:
            use = Use(FRESH, "request: max-stale")
    if asked.only_if_cached and use.kind is not FRESH and use.kind is not STALE_WHILE:
        return Use(UNAVAILABLE, "request: only-if-cached")
    return use


def may_be_stale_on_error(entry: CacheEntry, now: float, asked: AskedFor = PLAIN) -> bool:
    """It is the answer where the backend fails (see is_failure), or is not to be reached at all."""
    if entry.flags & (MUST_REVALIDATE | ALWAYS_VALIDATE | MARKER):
        return False
    return now < entry.fresh_until + max(entry.stale_error, float(min(asked.stale_error, LONGEST)))


def is_failure(status: int) -> bool:
    """Of a backend's answer: one that stale-if-error is for (RFC 5861 section 4)."""
    return status in (500, 502, 503, 504)
