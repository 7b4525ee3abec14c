"""Dates as HTTP writes them (RFC 9110 section 5.6.7), and read as a cache is to read them (RFC 9111 section 4.2): in any case, and with
UTC for GMT. Decides only."""

from __future__ import annotations

import re
from calendar import monthrange, timegm
from functools import lru_cache
from typing import Final

_MONTHS: Final = {name: number for number, name in enumerate(b"jan feb mar apr may jun jul aug sep oct nov dec".split(), 1)}
_DAY: Final = rb"(?:mon|tue|wed|thu|fri|sat|sun)"
_TIME: Final = rb"([0-9]{2}):([0-9]{2}):([0-9]{2})"
_FIXDATE: Final = re.compile(_DAY + rb", ([0-9]{2}) ([a-z]{3}) ([0-9]{4}) " + _TIME + rb" (?:gmt|utc)")
_RFC850: Final = re.compile(rb"(?:mon|tues|wednes|thurs|fri|satur|sun)day, ([0-9]{2})-([a-z]{3})-([0-9]{2}) " + _TIME + rb" (?:gmt|utc)")
_ASCTIME: Final = re.compile(_DAY + rb" ([a-z]{3}) ([ 0-9][0-9]) " + _TIME + rb" ([0-9]{4})")


@lru_cache(maxsize=256)
def parse_date(text: bytes) -> int | None:
    """Seconds since 1970; None for what is none of the three forms, and for days before 1970."""
    if len(text) > 40:
        return None
    text = text.lower()
    if (found := _FIXDATE.fullmatch(text)) is not None:
        day, month, year, hour, minute, second = found.groups()
    elif (found := _RFC850.fullmatch(text)) is not None:
        day, month, year, hour, minute, second = found.groups()
        year = (b"19" if year >= b"70" else b"20") + year
    elif (found := _ASCTIME.fullmatch(text)) is not None:
        month, day, hour, minute, second, year = found.groups()
    else:
        return None
    number = _MONTHS.get(month)
    if (
        number is None
        or not 1 <= int(day) <= monthrange(int(year) or 1, number)[1]
        or int(hour) > 23
        or int(minute) > 59
        or int(second) > 60
        or int(year) < 1970
    ):
        return None
    return timegm((int(year), number, int(day), int(hour), int(minute), int(second)))
