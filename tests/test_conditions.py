"""Conditional requests (RFC 9110 section 13) and the dates of HTTP."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingap.stages.conditions import FAILED, GO, NOT_MODIFIED, Validators, is_range_meant, judge
from pingap.stages.http_dates import parse_date

WHEN = 1_000_000_000
NOW, BEFORE, AFTER = (formatdate(WHEN + shift, usegmt=True) for shift in (0, -1, 1))
KNOWN = Validators(b'"a"', WHEN, NOW.encode(), True)
WEAK = KNOWN._replace(etag=b'W/"a"', is_date_strong=False)


def headers(*lines: str) -> bytes:
    return "".join(f"{line}\r\n" for line in lines).encode("latin-1")


@pytest.mark.parametrize(
    ("lines", "verdict"),
    [
        ([], GO),
        (['if-match: "a"'], GO),
        (["if-match: *"], GO),
        (['if-match: "b", "a"'], GO),
        (['if-match: "b"', 'if-match: "a"'], GO),
        (['if-match: "b"'], FAILED),
        (['if-match: W/"a"'], FAILED),
        (["if-match: a"], FAILED),
        ([f"if-unmodified-since: {NOW}"], GO),
        ([f"if-unmodified-since: {AFTER}"], GO),
        ([f"if-unmodified-since: {BEFORE}"], FAILED),
        (["if-unmodified-since: yesterday"], GO),
        (['if-match: "a"', f"if-unmodified-since: {BEFORE}"], GO),
        (['if-none-match: "a"'], NOT_MODIFIED),
        (['if-none-match: W/"a"'], NOT_MODIFIED),
        (["if-none-match: *"], NOT_MODIFIED),
        (['if-none-match: "b", , W/"c" ,"a"'], NOT_MODIFIED),
        (['if-none-match: "b"'], GO),
        (['if-none-match: "x,"a"'], GO),
        ([f"if-modified-since: {NOW}"], NOT_MODIFIED),
        ([f"if-modified-since: {AFTER}"], NOT_MODIFIED),
        ([f"if-modified-since: {BEFORE}"], GO),
        (["if-modified-since: "], GO),
        (['if-none-match: "b"', f"if-modified-since: {NOW}"], GO),
        (['if-none-match: "a"', f"if-modified-since: {BEFORE}"], NOT_MODIFIED),
        (['if-match: "b"', 'if-none-match: "a"'], FAILED),
        (['if-match: "a"', 'if-none-match: "a"'], NOT_MODIFIED),
        ([f"if-unmodified-since: {BEFORE}", f"if-modified-since: {NOW}"], FAILED),
    ],
)
def test_conditions_in_the_order_of_the_rfc(lines: list[str], verdict: object) -> None:
    assert judge(headers(*lines), KNOWN) is verdict


def test_a_weak_tag_serves_caches_and_not_those_who_write() -> None:
    assert judge(headers('if-none-match: "a"'), WEAK) is NOT_MODIFIED
    assert judge(headers('if-match: W/"a"'), WEAK) is FAILED
    assert judge(headers("if-match: *"), WEAK) is GO


def test_what_has_no_validators_is_always_sent_whole() -> None:
    nothing = Validators(b"", 0, b"", False)
    assert judge(headers('if-none-match: ""', f"if-modified-since: {NOW}"), nothing) is GO
    assert judge(headers(f"if-unmodified-since: {BEFORE}"), nothing) is GO
    assert not is_range_meant(headers(f"if-range: {NOW}"), nothing)
    assert not is_range_meant(headers("if-range: "), nothing)


@pytest.mark.parametrize(
    ("value", "known", "meant"),
    [
        ('"a"', KNOWN, True),
        ('"b"', KNOWN, False),
        ('W/"a"', KNOWN, False),
        ('W/"a"', WEAK, False),
        ('"a"', WEAK, False),
        (NOW, KNOWN, True),
        (NOW, WEAK, False),
        (AFTER, KNOWN, False),
        (BEFORE, KNOWN, False),
        ("junk", KNOWN, False),
        ("", KNOWN._replace(modified=0, modified_line=b""), False),
    ],
)
def test_if_range_wants_just_the_same(value: str, known: Validators, meant: bool) -> None:
    assert is_range_meant(headers(f"if-range: {value}"), known) is meant


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Sun, 06 Nov 1994 08:49:37 GMT", 784111777),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 784111777),
        ("Sun Nov  6 08:49:37 1994", 784111777),
        ("SUN, 06 NOV 1994 08:49:37 gmt", 784111777),
        ("Sun, 06 Nov 1994 08:49:37 UTC", 784111777),
        ("Sun, 31 Nov 1994 08:49:37 GMT", None),
        ("Sun, 06 Nov 1994 08:49:37 +0000", None),
        ("Sun, 06 Foo 1994 08:49:37 GMT", None),
        ("Sun, 06 Nov 1994 28:49:37 GMT", None),
        ("Sun, 6 Nov 1994 08:49:37 GMT", None),
        ("784111777", None),
        ("", None),
    ],
)
def test_the_three_forms_of_dates(text: str, seconds: int | None) -> None:
    assert parse_date(text.encode()) == seconds


@given(st.integers(0, 4_000_000_000))
def test_every_date_that_we_write_we_read(seconds: int) -> None:
    assert parse_date(formatdate(seconds, usegmt=True).encode()) == seconds


@given(st.binary(max_size=40))
def test_any_bytes_are_a_condition(value: bytes) -> None:
    raw = value.replace(b"\r", b"").replace(b"\n", b"").decode("latin-1")
    for name in ("if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range"):
        judge(headers(f"{name}: {raw}"), KNOWN)
        is_range_meant(headers(f"{name}: {raw}"), KNOWN)
