"""When an authority may be asked again, as it says it: Retry-After, or words in a problem's detail. Decides only."""

from __future__ import annotations

import re
from calendar import timegm
from datetime import datetime
from typing import Final

from pingap.stages.http_dates import parse_date

_WORDS: Final = re.compile(r"retry after (\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.\d+)? ?(?:UTC|Z)", re.IGNORECASE)
"""Boulder: `too many certificates (5) already issued for this exact set of identifiers in the last 168h0m0s, retry after 2026-…`."""
MOST: Final = 31 * 86400.0
"""Seconds; whoever says more means something else."""


def after(header: str | None, now: float) -> float | None:
    """Of a Retry-After (RFC 9110 section 10.2.3), seconds since 1970. None: there is none, or it cannot be read."""
    text = (header or "").strip()
    if text.isascii() and text.isdigit() and len(text) < 12:
        return now + min(float(text), MOST)
    when = parse_date(text.encode("latin-1", "replace"))
    return None if when is None else min(max(float(when), now), now + MOST)


def told(detail: str, now: float) -> float | None:
    """Of the words of a problem, seconds since 1970."""
    found = _WORDS.search(detail)
    if found is None:
        return None
    try:
        when = datetime.strptime(f"{found[1]} {found[2]}", "%Y-%m-%d %H:%M:%S")
    except ValueError:
        return None
    return min(max(float(timegm(when.timetuple())), now), now + MOST)


def retry_at(header: str | None, detail: str, now: float) -> float | None:
    """The later of both, as both are to be kept."""
    said = [when for when in (after(header, now), told(detail, now)) if when is not None]
    return max(said) if said else None
