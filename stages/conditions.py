"""Conditional requests (RFC 9110 section 13): whether a request is to be carried out, and whether its Range counts. Decides only.

`judge` is for whoever has the representation itself, and goes the whole way of section 13.2.2. A cache answers `is_unchanged` only: what
a client asks by If-Match and If-Unmodified-Since is for the origin (RFC 9111 section 4.3.2). `headers` is a request's block.
"""

from __future__ import annotations

import enum
import re
from typing import Final, NamedTuple

from pingap.stages.headers import joined, value_of
from pingap.stages.http_dates import parse_date


class Precondition(enum.Enum):
    """What comes of the conditions of a request."""

    GO = 200
    NOT_MODIFIED = 304
    FAILED = 412


GO: Final = Precondition.GO
NOT_MODIFIED: Final = Precondition.NOT_MODIFIED
FAILED: Final = Precondition.FAILED

CLEARLY: Final = 60
"""Seconds between Last-Modified and Date, from which on the former is taken for a strong validator: then no difference between the
clocks of those who wrote them, and no second change within the same second, is likely (section 8.8.2.2)."""


class Validators(NamedTuple):
    """What a representation is known by."""

    etag: bytes
    """With its quotes, and W/ if it is weak; b"" for none."""
    modified: int
    """Seconds since 1970; 0 for not known."""
    modified_line: bytes
    """The same as Last-Modified has it; b"" for none."""
    is_date_strong: bool
    """It cannot have changed later without another Last-Modified."""


NONE: Final = Validators(b"", 0, b"", False)


def validators_of(headers: bytes) -> Validators:
    """What the header block of an answer tells."""
    etag = value_of(headers, b"etag") or b""
    line = value_of(headers, b"last-modified") or b""
    modified = parse_date(line) if line else None
    if modified is None:
        return Validators(etag, 0, b"", False)
    date = parse_date(value_of(headers, b"date") or b"")
    return Validators(etag, modified, line, date is not None and date - modified >= CLEARLY)


def judge(headers: bytes, known: Validators) -> Precondition:
    """The order of section 13.2.2, for GET and HEAD of something that exists."""
    if means_another(headers, known):
        return FAILED
    return NOT_MODIFIED if is_unchanged(headers, known) else GO


def means_another(headers: bytes, known: Validators) -> bool:
    """Whether If-Match, or else If-Unmodified-Since, says that it is not for this representation (sections 13.1.1 and 13.1.4)."""
    if (tags := joined(headers, b"if-match")) is not None:
        return not has_tag(tags, known.etag, is_strong=True)
    if known.modified and (since := value_of(headers, b"if-unmodified-since")) is not None:
        date = parse_date(since)
        return date is not None and known.modified > date
    return False


def is_unchanged(headers: bytes, known: Validators) -> bool:
    """Whether the client has it, by If-None-Match, or else by If-Modified-Since (sections 13.1.2 and 13.1.3)."""
    if (tags := joined(headers, b"if-none-match")) is not None:
        return has_tag(tags, known.etag, is_strong=False)
    if known.modified and (since := value_of(headers, b"if-modified-since")) is not None:
        if since == known.modified_line:  # as most are: our own, sent back
            return True
        date = parse_date(since)
        return date is not None and known.modified <= date
    return False


def is_range_meant(headers: bytes, known: Validators) -> bool:
    """Whether If-Range, if there is one, names just this representation, by what is strong (section 13.1.5)."""
    value = value_of(headers, b"if-range")
    if value is None:
        return True
    if value.startswith((b'"', b"W/")):
        return value == known.etag and not value.startswith(b"W/")
    return known.is_date_strong and value != b"" and value == known.modified_line


_TAG: Final = re.compile(rb'[ \t]*((?:W/)?"[\x21\x23-\x7e\x80-\xff]*")[ \t]*(?:,|\Z)|[ \t]*,')


def has_tag(tags: bytes, etag: bytes, *, is_strong: bool) -> bool:
    """Whether a list of entity tags has this one, by strong or weak comparison (section 8.8.3.2). `*` is whatever exists; what is no list
    has as much as there is before the mistake. A tag that some origin wrote without quotes is found as it was written."""
    if tags.strip(b" \t") == b"*":
        return True
    if not etag:
        return False
    if not etag.startswith((b'"', b'W/"')):
        return not is_strong and etag in [one.strip(b" \t") for one in tags.split(b",")]
    wanted = etag.removeprefix(b"W/")
    at = 0
    while at < len(tags) and (found := _TAG.match(tags, at)) is not None:
        tag = found[1]
        if tag is not None and tag.removeprefix(b"W/") == wanted and not (is_strong and (tag[0] == 87 or etag[0] == 87)):
            return True
        at = found.end()
    return False
