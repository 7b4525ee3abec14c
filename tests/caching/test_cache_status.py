"""The Cache-Status line, read by another implementation of structured fields."""

from __future__ import annotations

from typing import Any

import http_sf
from hypothesis import given
from hypothesis import strategies as st

from pingap.stages.caching.cache_status import BYPASS, STALE, URI_MISS, forwarded, hit


def read(line: bytes) -> dict[str, Any]:
    """What others understand of it."""
    name, _, value = line.partition(b": ")
    assert name == b"cache-status" and value.endswith(b"\r\n")
    parsed: Any = http_sf.parse(value[:-2], tltype="list")
    ((member, parameters),) = parsed
    assert str(member) == "pingap"
    return {key: str(one) if key == "fwd" else one for key, one in parameters.items()}


def test_a_hit() -> None:
    assert hit(376.4) == b"cache-status: pingap; hit; ttl=376\r\n"
    assert read(hit(-0.7)) == {"hit": True, "ttl": -1}
    assert read(hit(59.99, "max-age")) == {"hit": True, "ttl": 60, "detail": "max-age"}, "that of max-age=60, at once"


def test_what_went_on() -> None:
    assert forwarded(URI_MISS) == b"cache-status: pingap; fwd=uri-miss\r\n"
    assert read(forwarded(STALE, status=304, ttl=60, is_stored=True)) == {"fwd": "stale", "fwd-status": 304, "ttl": 60, "stored": True}
    assert read(forwarded(URI_MISS, is_collapsed=True, detail="no-store")) == {"fwd": "uri-miss", "collapsed": True, "detail": "no-store"}


@given(st.text(max_size=50))
def test_any_detail_is_a_string(detail: str) -> None:
    assert ("detail" in read(forwarded(BYPASS, detail=detail))) == bool(detail)


def test_a_detail_is_ascii_and_bounded() -> None:
    assert read(hit(1, 'a"b\\c\0ü%'))["detail"] == 'a"b\\c%00?%'
    assert len(hit(1, "x" * 5000)) < 1100
