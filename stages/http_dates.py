"""Dates as HTTP writes them (RFC 9110 section 5.6.7). Decides only."""

from __future__ import annotations

import calendar
import re
from functools import lru_cache
from typing import Final

_MONTHS: Final = {name: number for number, name in enumerate(b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1)}
_DAY: Final = rb"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_TIME: Final = rb"([0-9]{2}):([0-9]{2}):([0-9]{2})"
_FIXDATE: Final = re.compile(_DAY + rb", ([0-9]{2}) ([A-Z][a-z]{2}) ([0-9]{4}) " + _TIME + rb" GMT")
_RFC850: Final = re.compile(rb"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, ([0-9]{2})-([A-Z][a-z]{2})-([0-9]{2}) " + _TIME + rb" GMT")
_ASCTIME: Final = re.compile(_DAY + rb" ([A-Z][a-z]{2}) ([ 0-9][0-9]) " + _TIME + rb" ([0-9]{4})")


@lru_cache(maxsize=256)
def parse_date(text: bytes) -> int | None:
    """Seconds since 1970; None for what is none of the three forms, and for days before 1970."""
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
    if number is None or not 1 <= int(day) <= 31 or int(hour) > 23 or int(minute) > 59 or int(second) > 60 or int(year) < 1970:
        return None
    return calendar.timegm((int(year), number, int(day), int(hour), int(minute), int(second)))
