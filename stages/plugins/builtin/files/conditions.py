"""Conditional requests (RFC 9110 section 13): whether a request is to be carried out, and whether its Range counts. Decides only."""

from __future__ import annotations

import calendar
import enum
import re
from functools import lru_cache
from typing import Final, NamedTuple

from pingap.plugin import Headers


class Precondition(enum.Enum):
    """What comes of the conditions of a request."""

    GO = 200
    NOT_MODIFIED = 304
    FAILED = 412


GO: Final = Precondition.GO
NOT_MODIFIED: Final = Precondition.NOT_MODIFIED
FAILED: Final = Precondition.FAILED


class Validators(NamedTuple):
    """What a representation is known by."""

    etag: bytes
    """With its quotes, and W/ if it is weak; b"" for none."""
    modified: int
    """Seconds since 1970; 0 for not known."""
    modified_line: bytes
    """The same as Last-Modified has it; b"" for none."""


def judge(headers: Headers, known: Validators) -> Precondition:
    """The order of section 13.2.2, for GET and HEAD of something that exists."""
    if (tags := headers.joined(b"if-match: ")) is not None:
        if not has_tag(tags, known.etag, is_strong=True):
            return FAILED
    elif (since := headers.first(b"if-unmodified-since: ")) is not None and known.modified:
        date = parse_date(since)
        if date is not None and known.modified > date:
            return FAILED
    if (tags := headers.joined(b"if-none-match: ")) is not None:
        return NOT_MODIFIED if has_tag(tags, known.etag, is_strong=False) else GO
    if (since := headers.first(b"if-modified-since: ")) is not None and known.modified:
        if since == known.modified_line:  # as most are: our own, sent back
            return NOT_MODIFIED
        date = parse_date(since)
        if date is not None and known.modified <= date:
            return NOT_MODIFIED
    return GO


def is_range_meant(headers: Headers, known: Validators) -> bool:
    """Whether If-Range, if there is one, names just this representation, by what is strong (section 13.1.5)."""
    value = headers.first(b"if-range: ")
    if value is None:
        return True
    if value.startswith((b'"', b"W/")):
        return value == known.etag and not value.startswith(b"W/")
    # A date is strong where the file had not changed for a while when it was first sent, which the strong tag says too.
    return value != b"" and value == known.modified_line and known.etag.startswith(b'"')


_TAG: Final = re.compile(rb'[ \t]*((?:W/)?"[\x21\x23-\x7e\x80-\xff]*")[ \t]*(?:,|\Z)|[ \t]*,')


def has_tag(tags: bytes, etag: bytes, *, is_strong: bool) -> bool:
    """Whether a list of entity tags has this one, by strong or weak comparison (section 8.8.3.2). `*` is whatever exists; what is no list
    has as much as there is before the mistake."""
    if tags.strip(b" \t") == b"*":
        return True
    if not etag:
        return False
    wanted = etag.removeprefix(b"W/")
    at = 0
    while at < len(tags) and (found := _TAG.match(tags, at)) is not None:
        tag = found[1]
        if tag is not None and tag.removeprefix(b"W/") == wanted and not (is_strong and (tag[0] == 87 or etag[0] == 87)):
            return True
        at = found.end()
    return False


# -- dates (section 5.6.7) --------------------------------------------------------

_MONTHS: Final = {name: number for number, name in enumerate(b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1)}
_DAY: Final = rb"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_TIME: Final = rb"([0-9]{2}):([0-9]{2}):([0-9]{2})"
_FIXDATE: Final = re.compile(_DAY + rb", ([0-9]{2}) ([A-Z][a-z]{2}) ([0-9]{4}) " + _TIME + rb" GMT")
_RFC850: Final = re.compile(rb"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, ([0-9]{2})-([A-Z][a-z]{2})-([0-9]{2}) " + _TIME + rb" GMT")
_ASCTIME: Final = re.compile(_DAY + rb" ([A-Z][a-z]{2}) ([ 0-9][0-9]) " + _TIME + rb" ([0-9]{4})")


@lru_cache(maxsize=256)
def parse_date(text: bytes) -> int | None:
    """Seconds since 1970; None for what is no date of HTTP: such a condition is ignored."""
    if (found := _FIXDATE.fullmatch(text)) is not None:
        day, month, year, *clock = found.groups()
    elif (found := _RFC850.fullmatch(text)) is not None:
        day, month, year, *clock = found.groups()
        year = (b"19" if year >= b"70" else b"20") + year
    elif (found := _ASCTIME.fullmatch(text)) is not None:
        month, day, *clock, year = found.groups()
    else:
        return None
    hour, minute, second = map(int, clock)
    number = _MONTHS.get(month)
    if number is None or not 1 <= int(day) <= 31 or hour > 23 or minute > 59 or second > 60 or int(year) < 1970:
        return None
    return calendar.timegm((int(year), number, int(day), hour, minute, second))
