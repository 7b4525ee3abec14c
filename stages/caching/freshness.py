"""For how long an answer is fresh, and what it may be used for after that (RFC 9111 section 4.2, RFC 5861)."""

from __future__ import annotations

from typing import Final, NamedTuple

from pingap.stages.caching.directives import Directives, Said
from pingap.stages.caching.entry import ALWAYS_VALIDATE, AUTHORIZED, HEURISTIC, MUST_REVALIDATE, CacheEntry
from pingap.stages.caching.policy import Policy
from pingap.stages.headers import value_of
from pingap.stages.http_dates import parse_date

HEURISTICALLY: Final = frozenset((200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501))
"""Statuses that may be fresh without having said so (RFC 9110 section 15.1), without 206."""


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
    lifetime: float
    """Seconds that it was given, its age aside."""
    may_be_stored: bool
    """It says something of its lifetime, or has a status of those that may be kept without (section 3)."""


def lifetime_of(policy: Policy, said: Said, status: int, headers: bytes, new_headers: bytes, delay: float, wall: float) -> Lasting:
    """Of an answer that has just been received. headers: with what was known of it before; new_headers: as they came, which Age and Date
    are read from. delay: seconds that it took."""
    directives = said.directives
    date_line = value_of(new_headers, b"date")
    date = parse_date(date_line) if date_line is not None else None
    made = wall if date is None else float(date)
    age_value = _age_of(new_headers)
    # Section 4.2.3 has two ways. Date is when it was made, to a second: that is exact for what comes from the origin itself, however
    # long it has thought. What has been in a cache tells its Age, which counts from when it was asked for.
    age = max(0.0, wall - made - 1.0)
    if age_value is not None or date is None:
        age = max(age, (age_value or 0) + max(0.0, delay))

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
    if age_value is not None and age_value < 0:
        age = max(0.0, wall - made - 1.0)
        left, rule = min(left, 0.0), "Age"  # it cannot be read: nothing is known of how old it is
    elif policy.max_ttl and left > policy.max_ttl:
        left, rule = policy.max_ttl, "max_ttl"
    elif is_explicit and rule != "Expires" and said.by:
        rule = f"{said.by}: {rule}"
    may_be_stored = is_explicit or status in HEURISTICALLY or directives.public
    return Lasting(age, left, made, rule, is_explicit, is_guess, lifetime, may_be_stored)


def with_stale_rules(entry: CacheEntry, policy: Policy, directives: Directives, lasts: Lasting) -> CacheEntry:
    """The entry with what it says of being used when it is stale (section 4.2.4, RFC 5861).

    s-maxage forbids that as proxy-revalidate does, but not what the same answer allows in so many words: `s-maxage=1,
    stale-while-revalidate=59` means what all CDNs take it for (docs/decisions/0041). What the settings allow is for answers that are
    shared for some time at least: one that has no lifetime, or one of 0, may be another for each user, and only the origin can say whose
    it is. An answer of which nothing gives a lifetime is validated each time, as if it had said no-cache.
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
        is_shared = lasts.lifetime > 0
        stale_while = (policy.stale_while if is_shared else 0.0) if stale_while < 0 else stale_while
        stale_error = (policy.stale_error if is_shared else 0.0) if stale_error < 0 else stale_error
        if not lasts.rule and not stale_while and not stale_error:
            flags |= ALWAYS_VALIDATE | MUST_REVALIDATE
    if lasts.is_guess:
        flags |= HEURISTIC
    return CacheEntry(
        entry.key, entry.status, entry.headers, entry.length, entry.born, entry.stored, entry.fresh_until, stale_while, stale_error, flags,
        entry.etag, entry.last_modified, entry.date, entry.lifetime, entry.rule, entry.tags, entry.vary, entry.chosen_by, entry.reason,
        entry.spelled, entry.body_id,
    )  # fmt: skip


def last_modified_of(headers: bytes) -> bytes:
    """As the answer has it; b"" for none, and for what is no date: no origin could compare it."""
    value = value_of(headers, b"last-modified")
    return b"" if value is None or parse_date(value) is None else value


def _age_of(headers: bytes) -> int | None:
    """Seconds of the Age line, None if there is none, -1 for what is not one number of seconds (docs/decisions/0041)."""
    value = value_of(headers, b"age")
    if value is None:
        return None
    if not value.isdigit() or len(value) > 12 or headers.count(b"\nage: ") + headers.startswith(b"age: ") > 1:
        return -1
    return int(value)
