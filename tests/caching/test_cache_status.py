"""The Cache-Status line, read by another implementation of structured fields."""

from __future__ import annotations

from typing import Any

import http_sf
from hypothesis import given
from hypothesis import strategies as st

from pingap.stages.caching.cache_status import MISS, STALE, URI_MISS, forwarded, hit


def read(line: bytes) -> dict[str, Any]:
    """What others understand of it."""
    name, _, value = line.partition(b": ")
    assert name == b"cache-status" and value.endswith(b"\r\n")
    parsed: Any = http_sf.parse(value[:-2], tltype="list")
    ((member, parameters),) = parsed
    assert str(member) == "pingap"
    return {key: str(one) if key == "fwd" else one for key, one in parameters.items()}


def test_a_hit() -> None:
    assert hit(376.9) == b"cache-status: pingap; hit; ttl=376\r\n"
    assert read(hit(-0.5)) == {"hit": True, "ttl": -1}
    assert read(hit(5, key=b"https://a/", detail="max-age")) == {"hit": True, "ttl": 5, "key": "https://a/", "detail": "max-age"}


def test_what_went_on() -> None:
    assert forwarded(URI_MISS) == b"cache-status: pingap; fwd=uri-miss\r\n"
    assert read(forwarded(STALE, status=304, ttl=60, is_stored=True)) == {"fwd": "stale", "fwd-status": 304, "ttl": 60, "stored": True}
    assert read(forwarded(MISS, is_collapsed=True, detail="no-store")) == {"fwd": "miss", "collapsed": True, "detail": "no-store"}


@given(st.binary(max_size=50), st.text(max_size=50))
def test_any_key_is_a_string(key: bytes, detail: str) -> None:
    found = read(forwarded(MISS, key=key, detail=detail))
    assert ("key" in found) == bool(key) and ("detail" in found) == bool(detail)


def test_keys_tell_what_they_are() -> None:
    assert read(hit(1, key=b'a"b\\c\0\xff%'))["key"] == 'a"b\\c%00%ff%'
    assert len(hit(1, key=b"x" * 5000)) < 1100
