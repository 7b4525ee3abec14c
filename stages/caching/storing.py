"""Whether an answer is kept, and what is kept of it (RFC 9111 section 3), and for how long it is fresh (section 4.2)."""

from __future__ import annotations

from email.utils import formatdate
from typing import Final, NamedTuple

from pingap.stages.caching.directives import Directives, Said, said_to_us
from pingap.stages.caching.entry import ALWAYS_VALIDATE, AUTHORIZED, HEURISTIC, MUST_REVALIDATE, CacheEntry
from pingap.stages.caching.tags import tags_of
from pingap.stages.caching.vary import chosen_by, names_of
from pingap.stages.headers import cutter, value_of
from pingap.stages.http_dates import parse_date


class Policy(NamedTuple):
    """What an operator has set. Seconds."""

    max_ttl: float = 0.0
    """No answer is fresh for longer after it was received; 0 for no limit."""
    default_ttl: float = 0.0
    """For answers that say nothing of their lifetime; 0: by Last-Modified, if they have that."""
    check_cache_control: bool = False
    """Answers without Cache-Control (or a field that stands for it) are not stored."""
    strip_set_cookie: bool = False
    """Answers with Set-Cookie are stored without it; else they are not stored, unless it is kept."""
    stale_while: float = 0.0
    """Where an answer does not say stale-while-revalidate."""
    stale_error: float = 0.0
    """Where an answer does not say stale-if-error."""
    heuristic_part: float = 0.1
    """Of the time for which an answer had not changed when it was made (section 4.2.2)."""
    heuristic_most: float = 86400.0
    max_file_size: int = 0
    """Bytes of a body; 0 for no limit."""
    keep_set_cookie: bool = False
    """Answers with Set-Cookie are stored with it, and all clients get that cookie (RFC 9111 section 7.3 forbids nothing there)."""
    honours_requests: bool = False
    """What any client says in Cache-Control and Pragma counts (reuse.asked_of), not only what trusted ones say."""


class Storable(NamedTuple):
    """It is to be stored so."""

    entry: CacheEntry


class Unstorable(NamedTuple):
    """It is not to be stored."""

    rule: str
    """Which rule says so: "no-store", "private", "Set-Cookie", "Vary: *", "status 206"…"""
    lasting: bool
    """The next answer for this URL will most likely be the same: nobody need wait for it."""


_UNDERSTOOD: Final = frozenset(
    (200, 201, 202, 203, 204, 205, 300, 301, 302, 303, 307, 308, 400, 401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411, 412, 413)
    + (414, 415, 416, 417, 418, 421, 422, 423, 424, 425, 426, 428, 429, 431, 451, 500, 501, 502, 503, 504, 505, 506, 507, 508, 510, 511)
)
"""What must-understand means: statuses whose rules of caching we follow."""

HEURISTICALLY: Final = frozenset((200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501))
"""Statuses that may be fresh without having said so (RFC 9110 section 15.1), without 206."""

_DROPPED: Final = (
    b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade",
    b"proxy-authenticate", b"proxy-authentication-info", b"proxy-authorization", b"content-length", b"age",
)  # fmt: skip
"""Section 3.1, and what is written anew for each answer."""

_WITHOUT: Final = cutter(_DROPPED)


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
    is_of_itself: bool = False,
) -> Storable | Unstorable:
    """Of an answer to a request that went to the backend.

    method: of the request as the backend got it: a HEAD that was sent as GET is GET. request_headers: those by which the entry was
    looked for. length: of the body, None if it is not known yet (then the entry has 0). requested, received: seconds of the store's clock.
    wall: Unix seconds when it was received. is_of_itself: Content-Location names the URL of the request (invalidating.is_of_itself),
    which lets an answer to POST be stored for GET (RFC 9110 section 9.3.3).
    """
    if method != b"GET" and not (method == b"POST" and is_of_itself):
        return Unstorable("method", False)
    if status < 200 or status in (206, 304, 416):
        return Unstorable(f"status {status}", False)
    if length is not None and policy.max_file_size and length > policy.max_file_size:
        return Unstorable("max_file_size", True)
    said = said_to_us(headers)
    directives = said.directives
    if policy.check_cache_control and not said.is_said:
        return Unstorable("check_cache_control", True)
    if directives.must_understand and status not in _UNDERSTOOD:
        return Unstorable("must-understand", True)
    if directives.no_store and not directives.must_understand:
        return Unstorable(_named(said, "no-store"), True)
    if directives.private:
        return Unstorable(_named(said, "private"), True)
    is_authorized = has_line(request_headers, b"authorization: ")
    if is_authorized and not (directives.public or directives.must_revalidate or directives.s_maxage >= 0):
        return Unstorable("Authorization", False)  # section 3.5
    may_have_cookie = policy.strip_set_cookie or policy.keep_set_cookie or b"set-cookie" in directives.hidden
    if not may_have_cookie and has_line(headers, b"set-cookie: "):
        return Unstorable("Set-Cookie", True)
    names = names_of(headers)
    if names is None:
        return Unstorable("Vary: *", True)
    tags = tags_of(headers)
    if tags is None:
        return Unstorable("tags", True)

    lasts = lifetime_of(policy, said, status, headers, headers, received - requested, wall)
    if not lasts.may_be_stored or (method == b"POST" and not lasts.is_explicit):
        return Unstorable("no lifetime", status < 500)
    etag = value_of(headers, b"etag") or b""
    last_modified = value_of(headers, b"last-modified") or b""
    has_validator = bool(etag or last_modified)
    if not has_validator:
        if directives.no_cache:
            return Unstorable(_named(said, "no-cache"), True)
        if lasts.left <= 0 and directives.stale_error <= 0 and directives.stale_while <= 0:
            return Unstorable(lasts.rule or "no lifetime", status < 500)

    kept = _WITHOUT(headers)
    hidden = directives.hidden if not policy.strip_set_cookie else (*directives.hidden, b"set-cookie")
    if hidden:
        kept = cutter(hidden)(kept)
    if not has_line(kept, b"date: "):
        kept += b"date: %b\r\n" % formatdate(wall, usegmt=True).encode()
    entry = CacheEntry(
        key, status, kept, length or 0, received - lasts.age, received, received + lasts.left, 0.0, 0.0, AUTHORIZED if is_authorized else 0,
        etag, last_modified, lasts.date, lasts.left + lasts.age, lasts.rule, tags, (names,) if names else (),
        chosen_by(names, request_headers) if names else b"",
    )  # fmt: skip
    return Storable(with_stale_rules(entry, policy, directives, lasts))


class Lasting(NamedTuple):
    """For how long an answer is fresh."""

    age: float
    """Seconds that it was old when it was received (section 4.2.3)."""
    left: float
    """Seconds from then on for which it is fresh; 0 or less: it is stale."""
    date: float
    """Unix seconds."""
    rule: str
    is_explicit: bool
    is_guess: bool
    may_be_stored: bool
    """It says something of its lifetime, or has a status of those that may be kept without (section 3)."""


def lifetime_of(policy: Policy, said: Said, status: int, headers: bytes, new_headers: bytes, delay: float, wall: float) -> Lasting:
    """Of an answer that has just been received. headers: with what was known of it before; new_headers: as they came, which Age and Date
    are read from. delay: seconds that it took."""
    directives = said.directives
    date_line = value_of(new_headers, b"date")
    date: float | None = parse_date(date_line) if date_line is not None else None
    age_value = _age_of(new_headers)
    has_age = age_value >= 0
    age = max(0.0, float(int(wall)) - date if date is not None else 0.0, max(age_value, 0) + max(0.0, delay))
    made = wall if date is None else date

    lifetime, rule, is_explicit, is_guess = 0.0, "", True, False
    if directives.s_maxage >= 0:
        lifetime, rule = float(directives.s_maxage), "s-maxage"
    elif directives.max_age >= 0:
        lifetime, rule = float(directives.max_age), "max-age"
    elif said.has_expires and (expires := value_of(headers, b"expires")) is not None:
        until = parse_date(expires)
        lifetime, rule = max(0.0, until - made) if until is not None else 0.0, "Expires"
    else:
        is_explicit = False
        if (status in HEURISTICALLY or directives.public) and not directives.no_cache:
            if policy.default_ttl > 0:
                lifetime, rule = policy.default_ttl, "default_ttl"
            elif (modified_line := value_of(headers, b"last-modified")) is not None:
                modified = parse_date(modified_line)
                if modified is not None and modified < made:
                    lifetime = min((made - modified) * policy.heuristic_part, policy.heuristic_most)
                    rule, is_guess = "heuristic", True
    left = lifetime if rule == "default_ttl" else lifetime - age  # default_ttl is from now on: it is not the origin that has said it
    if not has_age:
        left, rule = min(left, 0.0), "Age"  # it cannot be read: nothing is known of how old it is
    elif policy.max_ttl and left > policy.max_ttl:
        left, rule = policy.max_ttl, "max_ttl"
    elif is_explicit and rule != "Expires" and said.by:
        rule = f"{said.by}: {rule}"
    may_be_stored = is_explicit or status in HEURISTICALLY or directives.public
    return Lasting(age, left, made, rule, is_explicit, is_guess, may_be_stored)


def with_stale_rules(entry: CacheEntry, policy: Policy, directives: Directives, lasts: Lasting) -> CacheEntry:
    """The entry with what it says of being used when it is stale (section 4.2.4, RFC 5861).

    s-maxage forbids that as proxy-revalidate does, but not what the same answer allows in so many words: `s-maxage=1,
    stale-while-revalidate=59` means what all CDNs take it for (docs/decisions/0041).
    """
    flags = entry.flags & AUTHORIZED
    stale_while, stale_error = float(directives.stale_while), float(directives.stale_error)
    if directives.no_cache:
        flags |= ALWAYS_VALIDATE
    if directives.no_cache or directives.must_revalidate:
        stale_while = stale_error = 0.0
        flags |= MUST_REVALIDATE
    elif directives.s_maxage >= 0:
        stale_while, stale_error = max(stale_while, 0.0), max(stale_error, 0.0)
        if not stale_while and not stale_error:
            flags |= MUST_REVALIDATE
    else:
        stale_while = policy.stale_while if stale_while < 0 else stale_while
        stale_error = policy.stale_error if stale_error < 0 else stale_error
    if lasts.is_guess:
        flags |= HEURISTIC
    return CacheEntry(
        entry.key, entry.status, entry.headers, entry.length, entry.born, entry.stored, entry.fresh_until, stale_while, stale_error, flags,
        entry.etag, entry.last_modified, entry.date, entry.lifetime, entry.rule, entry.tags, entry.vary, entry.chosen_by, entry.reason,
        entry.spelled,
    )  # fmt: skip


def has_line(headers: bytes, line: bytes) -> bool:
    """line: `name: ` in lower case."""
    return headers.startswith(line) or headers.find(b"\n" + line) >= 0


def _named(said: Said, directive: str) -> str:
    return f"{said.by}: {directive}" if said.by else directive


def _age_of(headers: bytes) -> int:
    """Seconds of the Age line, 0 for none, -1 for what is not one number of seconds (docs/decisions/0041)."""
    value = value_of(headers, b"age")
    if value is None:
        return 0
    if not value.isdigit() or len(value) > 12 or headers.count(b"\nage: ") + headers.startswith(b"age: ") > 1:
        return -1
    return int(value)
