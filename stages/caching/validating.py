"""Asking whether what is stored is still right, and what comes of a 304 (RFC 9111 sections 4.3 and 3.2)."""

from __future__ import annotations

from email.utils import formatdate
from typing import Final

from pingap.stages.caching.directives import said_to_us
from pingap.stages.caching.entry import CacheEntry
from pingap.stages.caching.freshness import last_modified_of, lifetime_of, with_stale_rules
from pingap.stages.caching.policy import Policy
from pingap.stages.caching.tags import tags_of
from pingap.stages.caching.vary import names_of
from pingap.stages.headers import cutter, has_line, value_of, without_names_of
from pingap.stages.http_dates import parse_date

_CONDITION_NAMES: Final = (b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since", b"if-range", b"range")
_CONDITIONS: Final = cutter(_CONDITION_NAMES)


def conditions_of(entry: CacheEntry) -> bytes:
    """Lines for the request to the backend; b"" for an entry that has no validator: then it is fetched anew."""
    lines = b""
    if entry.etag:
        lines = b"if-none-match: %b\r\n" % entry.etag
    if entry.last_modified:
        lines += b"if-modified-since: %b\r\n" % entry.last_modified
    return lines


def without_conditions(request_headers: bytes) -> bytes:
    """A request's block as it goes to the backend: for the whole answer, since it is for others, too. Without the client's own conditions
    and range, that is."""
    if request_headers.find(b"range: ") < 0 and request_headers.find(b"\nif-") < 0 and not request_headers.startswith(b"if-"):
        return request_headers
    return _CONDITIONS(request_headers)


def only_conditions(request_headers: bytes) -> bytes:
    """The lines of a request's block that `without_conditions` takes out."""
    if without_conditions(request_headers) is request_headers:
        return b""
    lines = request_headers.split(b"\r\n")[:-1]
    return b"".join([line + b"\r\n" for line in lines if line.partition(b":")[0] in _CONDITION_NAMES])


_OF_THE_BODY: Final = (
    b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade",
    b"proxy-authenticate", b"proxy-authentication-info", b"proxy-authorization", b"age",
    b"x-cache-status", b"x-cache-lookup", b"x-cache-lock",
    b"content-length", b"content-encoding", b"content-range", b"content-md5", b"content-digest", b"repr-digest", b"digest", b"etag",
    b"vary",
)  # fmt: skip
"""What a 304 cannot change: what is never stored, what describes the body that is stored, and what chose it."""

_OF_THE_HEAD: Final = cutter((*_OF_THE_BODY, b"set-cookie"))
_WITH_COOKIES: Final = cutter(_OF_THE_BODY)


def freshened(policy: Policy, entry: CacheEntry, headers_304: bytes, requested: float, received: float, wall: float) -> CacheEntry | None:
    """What the entry is after a 304 that came for its conditions (see conditions_of). requested, received: seconds of the store's clock;
    wall: Unix seconds when it came.

    None: it is about another answer than the one that is stored, or forbids to keep that: it is to go. It may answer the request that has
    brought the 304, which says just that.
    """
    if not _belongs(entry, headers_304):
        return None
    if not has_line(headers_304, b"date: "):
        headers_304 += b"date: %b\r\n" % formatdate(wall, usegmt=True).encode()
    is_kept = policy.keep_set_cookie and not policy.strip_set_cookie
    new = _WITH_COOKIES(headers_304) if is_kept else _OF_THE_HEAD(headers_304)
    headers = without_names_of(entry.headers, new) + new
    said = said_to_us(headers)
    directives = said.directives
    if directives.no_store or directives.private:
        return None
    if directives.hidden:
        headers = cutter(directives.hidden)(headers)
    tags = tags_of(headers)
    if tags is None:
        return None
    lasts = lifetime_of(policy, said, entry.status, headers, headers_304, received - requested, wall)
    last_modified = last_modified_of(headers)
    fresh = CacheEntry(
        entry.key, entry.status, headers, entry.length, received - lasts.age, received, received + lasts.left, 0.0, 0.0, entry.flags,
        entry.etag, last_modified, lasts.date, lasts.left + lasts.age, lasts.rule, tags, entry.vary, entry.chosen_by, entry.reason,
        entry.spelled, entry.body_id,
    )  # fmt: skip
    return with_stale_rules(fresh, policy, directives, lasts)


def _belongs(entry: CacheEntry, headers_304: bytes) -> bool:
    """The validators of section 4.3.4. We have asked with those of one entry, so that another ETag than its own is a mistake of the
    backend, and a common one (Apache's mod_deflate leaves its own suffix out in a 304): the entry keeps its own."""
    names = names_of(headers_304)
    if names is None or (names and (names,) != entry.vary):
        return False
    if entry.etag and has_line(headers_304, b"etag: "):
        return True
    modified = value_of(headers_304, b"last-modified")
    if modified is None or not entry.last_modified or modified == entry.last_modified:
        return True
    return parse_date(modified) == parse_date(entry.last_modified)
