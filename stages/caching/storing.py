"""Whether an answer is kept, and what is kept of it (RFC 9111 section 3)."""

from __future__ import annotations

from email.utils import formatdate
from typing import Final, NamedTuple

from pingap.stages.caching.directives import Said, said_to_us
from pingap.stages.caching.entry import AUTHORIZED, CacheEntry
from pingap.stages.caching.freshness import last_modified_of, lifetime_of, with_stale_rules
from pingap.stages.caching.policy import Policy
from pingap.stages.caching.tags import tags_of
from pingap.stages.caching.vary import chosen_by, names_of
from pingap.stages.headers import cutter, has_line, value_of


class Storable(NamedTuple):
    """It is to be stored so."""

    entry: CacheEntry


class Unstorable(NamedTuple):
    """It is not to be stored."""

    rule: str
    """Which rule says so: "no-store", "private", "Set-Cookie", "Vary: *", "status 206"…"""
    is_usual: bool
    """The next answer for this URL will most likely be the same: nobody need wait for it. Never of what may well be about this request
    alone: with Authorization, or a status that blames the client."""


_UNDERSTOOD: Final = frozenset(
    (200, 201, 202, 203, 204, 205, 300, 301, 302, 303, 307, 308, 400, 401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411, 412, 413)
    + (414, 415, 416, 417, 418, 421, 422, 423, 424, 425, 426, 428, 429, 431, 451, 500, 501, 502, 503, 504, 505, 506, 507, 508, 510, 511)
)
"""What must-understand means: statuses whose rules of caching we follow."""

_DROPPED: Final = (
    b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade",
    b"proxy-authenticate", b"proxy-authentication-info", b"proxy-authorization", b"content-length", b"age",
    b"x-cache-status", b"x-cache-lookup", b"x-cache-lock",
)  # fmt: skip
"""Section 3.1, and what is written anew for each answer."""

_WITHOUT: Final = cutter(_DROPPED)


_OF_THE_URL: Final = frozenset((404, 405, 410, 414, 501))
"""Errors that are the same whoever asks."""

_OF_ALL: Final = frozenset((200, 203, 204, 300, 301, 308, 404, 410))
"""What is there, or that there is nothing. Not where to log in, nor that this client may not, or not so often."""


def _is_of_the_url(status: int, request_headers: bytes) -> bool:
    return (status < 400 or status in _OF_THE_URL) and not has_line(request_headers, b"authorization: ")


def tells_of_all(status: int, request_headers: bytes) -> bool:
    """An answer that is not stored says that what is, for others, is not what there is any more."""
    return status in _OF_ALL and not has_line(request_headers, b"authorization: ")


def judge(
    policy: Policy,
    key: bytes,
    method: bytes,
    request_headers: bytes,
    status: int,
    headers: bytes,
    length: int | None,
    requested: float,
    received: float,
    wall: float,
) -> Storable | Unstorable:
    """Of an answer to a request that went to the backend.

    method: of the request as the backend got it: a HEAD that was sent as GET is GET. request_headers: those by which the entry was
    looked for. length: of the body, None if it is not known yet (then the entry has 0). requested, received: seconds of the store's clock.
    wall: Unix seconds when it was received.
    """
    if method != b"GET":
        return Unstorable("method", False)
    may_last = _is_of_the_url(status, request_headers)
    if status < 200 or status in (206, 226, 304, 416):
        return Unstorable(f"status {status}", False)
    if length is not None and policy.max_file_size and length > policy.max_file_size:
        return Unstorable("max_file_size", may_last)
    said = said_to_us(headers)
    directives = said.directives
    if policy.check_cache_control and not said.is_said:
        return Unstorable("check_cache_control", may_last)
    if directives.must_understand and status not in _UNDERSTOOD:
        return Unstorable("must-understand", may_last)
    if directives.no_store and not directives.must_understand:
        return Unstorable(_named(said, "no-store"), may_last)
    if directives.private:
        return Unstorable(_named(said, "private"), may_last)
    is_authorized = has_line(request_headers, b"authorization: ")
    if is_authorized and not (directives.public or directives.must_revalidate or directives.s_maxage >= 0):
        return Unstorable("Authorization", False)  # section 3.5
    may_have_cookie = policy.strip_set_cookie or policy.keep_set_cookie or b"set-cookie" in directives.hidden
    if not may_have_cookie and has_line(headers, b"set-cookie: "):
        return Unstorable("Set-Cookie", may_last)
    names = names_of(headers)
    if names is None:
        return Unstorable("Vary: *", may_last)
    tags = tags_of(headers)
    if tags is None:
        return Unstorable("tags", may_last)

    lasts = lifetime_of(policy, said, status, headers, headers, received - requested, wall)
    if not lasts.may_be_stored:
        return Unstorable("no lifetime", may_last)
    etag = value_of(headers, b"etag") or b""
    last_modified = last_modified_of(headers)
    has_validator = bool(etag or last_modified)
    if not has_validator:
        if directives.no_cache:
            return Unstorable(_named(said, "no-cache"), may_last)
        if lasts.left <= 0 and directives.stale_error <= 0 and directives.stale_while <= 0:
            return Unstorable(lasts.rule or "no lifetime", may_last)

    kept = _WITHOUT(headers)
    hidden = directives.hidden if not policy.strip_set_cookie else (*directives.hidden, b"set-cookie")
    if hidden:
        kept = cutter(hidden)(kept)
    if not has_line(kept, b"date: "):
        kept += b"date: %b\r\n" % formatdate(wall, usegmt=True).encode()
    if status == 200 and not has_line(kept, b"accept-ranges: "):
        kept += b"accept-ranges: bytes\r\n"  # for it will be this cache that has parts of it
    entry = CacheEntry(
        key, status, kept, length or 0, received - lasts.age, received, received + lasts.left, 0.0, 0.0, AUTHORIZED if is_authorized else 0,
        etag, last_modified, lasts.date, lasts.left + lasts.age, lasts.rule, tags, (names,) if names else (),
        chosen_by(names, request_headers) if names else b"",
    )  # fmt: skip
    return Storable(with_stale_rules(entry, policy, directives, lasts))


def _named(said: Said, directive: str) -> str:
    return f"{said.by}: {directive}" if said.by else directive
