"""What a request gets of what is stored."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingap.stages.caching.entry import ALWAYS_VALIDATE, AUTHORIZED, HEURISTIC, MARKER, MUST_REVALIDATE, PURGED_SOFTLY, CacheEntry
from pingap.stages.caching.reuse import (
    FRESH,
    MISS,
    PLAIN,
    STALE_WHILE,
    UNAVAILABLE,
    VALIDATE,
    asked_of,
    decide,
    is_failure,
    is_fresh,
    may_be_stale_on_error,
)

ENTRY = CacheEntry(
    key=b"key",
    status=200,
    headers=b"",
    length=0,
    born=1000.0,
    stored=1000.0,
    fresh_until=1060.0,
    stale_while=10.0,
    stale_error=100.0,
    flags=0,
)
"""Fresh for a minute; then usable while it is validated for ten seconds, and for a hundred where the backend fails."""


def entry(flags: int = 0, **changes: float) -> CacheEntry:
    return msgspec.structs.replace(ENTRY, flags=flags, **changes)


@pytest.mark.parametrize(
    ("stored", "now", "kind"),
    [
        (entry(), 1000, FRESH),
        (entry(), 1059.9, FRESH),
        (entry(), 1060, STALE_WHILE),
        (entry(), 1069.9, STALE_WHILE),
        (entry(), 1070, VALIDATE),
        (entry(stale_while=0.0), 1060, VALIDATE),
        (entry(MUST_REVALIDATE), 1059, FRESH),
        (entry(MUST_REVALIDATE), 1060, VALIDATE),
        (entry(ALWAYS_VALIDATE), 1000, VALIDATE),
        (entry(MARKER), 1000, MISS),
        (entry(PURGED_SOFTLY), 1000, STALE_WHILE),
        (entry(PURGED_SOFTLY), 1070, VALIDATE),
        (entry(PURGED_SOFTLY, stale_while=0.0), 1000, VALIDATE),
        (entry(PURGED_SOFTLY | MUST_REVALIDATE), 1000, VALIDATE),
        (None, 1000, MISS),
    ],
)
def test_a_plain_request(stored: CacheEntry | None, now: float, kind: str) -> None:
    assert decide(stored, PLAIN, now).kind == kind
    if stored is not None:
        assert is_fresh(stored, now) == (kind == FRESH)


@pytest.mark.parametrize(
    ("line", "now", "kind", "rule"),
    [
        (b"cache-control: max-age=30\r\n", 1030, FRESH, "fresh"),
        (b"cache-control: max-age=30\r\n", 1031, VALIDATE, "request: max-age"),
        (b"cache-control: max-age=0\r\n", 1000.5, VALIDATE, "request: max-age"),
        (b"cache-control: min-fresh=10\r\n", 1050, FRESH, "fresh"),
        (b"cache-control: min-fresh=10\r\n", 1051, VALIDATE, "request: min-fresh"),
        (b"cache-control: max-stale=60\r\n", 1120, FRESH, "request: max-stale"),
        (b"cache-control: max-stale=60\r\n", 1121, VALIDATE, "stale"),
        (b"cache-control: max-stale\r\n", 90000, FRESH, "request: max-stale"),
        (b"cache-control: no-cache\r\n", 1000, VALIDATE, "request: no-cache"),
        (b"cache-control: no-store\r\n", 1000, MISS, "request: no-store"),
        (b"cache-control: only-if-cached\r\n", 1000, FRESH, "fresh"),
        (b"cache-control: only-if-cached\r\n", 1080, UNAVAILABLE, "request: only-if-cached"),
        (b"cache-control: only-if-cached, max-stale=60\r\n", 1080, FRESH, "request: max-stale"),
        (b"pragma: no-cache\r\n", 1000, VALIDATE, "request: no-cache"),
        (b"pragma: no-cache\r\ncache-control: max-age=5\r\n", 1000, FRESH, "fresh"),
        (b"pragma: foo\r\n", 1000, FRESH, "fresh"),
    ],
)
def test_what_a_trusted_client_asks_for(line: bytes, now: float, kind: str, rule: str) -> None:
    assert decide(ENTRY, asked_of(b"host: a\r\n" + line, is_trusted=True), now) == (kind, rule)


@given(
    st.sampled_from([0, MUST_REVALIDATE, PURGED_SOFTLY, HEURISTIC, AUTHORIZED, ALWAYS_VALIDATE]),
    st.floats(0, 100),
    st.floats(0, 100),
    st.lists(st.floats(900, 1400), min_size=2, max_size=6).map(sorted),
)
def test_an_answer_only_gets_older(flags: int, stale_while: float, stale_error: float, times: list[float]) -> None:
    stored = entry(flags, stale_while=stale_while, stale_error=stale_error)
    order = [FRESH, STALE_WHILE, VALIDATE]
    ages = [order.index(decide(stored, PLAIN, now).kind) for now in times]
    assert ages == sorted(ages)
    may = [may_be_stale_on_error(stored, now) for now in times]
    assert may == sorted(may, reverse=True)


def test_what_others_ask_for_says_nothing() -> None:
    """Else anybody could make every request go to the backend."""
    headers = b"cache-control: no-cache, no-store, max-age=0, only-if-cached\r\npragma: no-cache\r\n"
    assert asked_of(headers, is_trusted=False) is PLAIN
    asked = asked_of(headers + b"authorization: Basic eA==\r\n", is_trusted=False)
    assert asked.is_authorized and asked == PLAIN._replace(is_authorized=True)
    assert decide(ENTRY, asked, 1000).kind == FRESH


def test_a_header_whose_name_ends_alike_is_no_authorization() -> None:
    assert not asked_of(b"proxy-authorization: x\r\n", is_trusted=True).is_authorized


def test_must_revalidate_is_stronger_than_what_a_trusted_client_would_take() -> None:
    asked = asked_of(b"cache-control: max-stale=600\r\n", is_trusted=True)
    assert decide(entry(MUST_REVALIDATE), asked, 1080).kind == VALIDATE


def test_nothing_is_stored_and_only_that_is_wanted() -> None:
    assert decide(None, asked_of(b"cache-control: only-if-cached\r\n", is_trusted=True), 1000).kind == UNAVAILABLE


@pytest.mark.parametrize(
    ("stored", "now", "may"),
    [
        (entry(), 1100, True),
        (entry(), 1160, False),
        (entry(MUST_REVALIDATE), 1100, False),
        (entry(ALWAYS_VALIDATE), 1010, False),
        (entry(PURGED_SOFTLY), 1100, True),
    ],
)
def test_stale_on_error(stored: CacheEntry, now: float, may: bool) -> None:
    assert may_be_stale_on_error(stored, now) == may


def test_a_trusted_client_may_ask_for_stale_on_error() -> None:
    asked = asked_of(b"cache-control: stale-if-error=600\r\n", is_trusted=True)
    assert may_be_stale_on_error(ENTRY, 1600, asked)
    assert not may_be_stale_on_error(entry(MUST_REVALIDATE), 1100, asked)


def test_which_answers_are_failures() -> None:
    assert [status for status in range(100, 600) if is_failure(status)] == [500, 502, 503, 504]
