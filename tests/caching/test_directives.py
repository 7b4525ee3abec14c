"""What Cache-Control, targeted fields and Surrogate-Control say."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pingap.stages.caching.directives import (
    LONGEST,
    NONE,
    Directives,
    parse_cache_control,
    parse_pragma,
    parse_surrogate,
    parse_targeted,
    said_to_us,
)


def block(*lines: str) -> bytes:
    return "".join(f"{line}\r\n" for line in lines).encode()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", {}),
        ("max-age=60", {"max_age": 60}),
        ("MaX-aGe=60", {"max_age": 60}),
        (' max-age="60" ', {"max_age": 60}),
        ("max-age=003600", {"max_age": 3600}),
        ("max-age=0", {"max_age": 0}),
        ("max-age=2147483647", {"max_age": 2147483647}),
        ("max-age=2147483649", {"max_age": LONGEST}),
        ("max-age=99999999999", {"max_age": LONGEST}),
        ("max-age=" + "9" * 100, {"max_age": LONGEST}),
        ("foobar, max-age=60, foo=bar", {"max_age": 60}),
        (
            "max-age=60, s-maxage=5, stale-while-revalidate=7, stale-if-error=8",
            {"max_age": 60, "s_maxage": 5, "stale_while": 7, "stale_error": 8},
        ),
        ("no-store,no-cache,private,public", {"no_store": True, "no_cache": True, "private": True, "public": True}),
        ("must-revalidate", {"must_revalidate": True}),
        ("proxy-revalidate", {"must_revalidate": True}),
        ("must-understand, no-transform, only-if-cached", {"must_understand": True, "only_if_cached": True}),
        ("max-stale, min-fresh=3", {"max_stale": LONGEST, "min_fresh": 3}),
        ("max-stale=5", {"max_stale": 5}),
        # What is in quotes is one argument.
        ('extension="max-age=3600", max-age=1', {"max_age": 1}),
        ('max-age=1, extension="max-age=3600"', {"max_age": 1}),
        ('extension="no-store, private", max-age=1', {"max_age": 1}),
        (r'extension="a\", no-store", max-age=1', {"max_age": 1}),
        # Names of lines, or what is none.
        ('private="set-cookie"', {"hidden": (b"set-cookie",)}),
        ("private=Set-Cookie", {"hidden": (b"set-cookie",)}),
        ('no-cache="a, B", private="c,a"', {"hidden": (b"a", b"b", b"c")}),
        ('no-cache=""', {"no_cache": True}),
        ('private="a b"', {"private": True}),
        ('private="x", private', {"private": True, "hidden": (b"x",)}),
        ("no-cache=" + ",".join("abcdefghijk"), {"hidden": (b"a",)}),
        # The first of two counts; of what contradicts itself, all of it is said.
        ("max-age=60, max-age=30", {"max_age": 60}),
        ("max-age=60, no-store", {"max_age": 60, "no_store": True}),
        # What cannot be read is over, or forbids.
        ("max-age", {"max_age": 0}),
        ("max-age=", {"max_age": 0}),
        ("max-age=-3600", {"max_age": 0}),
        ("max-age='3600'", {"max_age": 0}),
        ("max-age=3600.0", {"max_age": 0}),
        ("max-age=3600a", {"max_age": 0}),
        ("max-age= 3600", {"max_age": 0}),
        ("max-age =3600", {"max_age": 0}),
        ("max-age=٣", {"max_age": 0}),
        ('max-age="60', {"max_age": 0}),
        ("no-store=maybe", {"no_store": True}),
        ('foo="bar, no-store', {"no_store": True}),
        ("max-age=60; no-store", {"max_age": 60, "no_store": True}),
        ("no-store no-cache", {"no_store": True, "no_cache": True}),
        ("max-age=60 private", {"max_age": 0, "private": True}),
        ("foo=bar private", {"private": True}),
        ("x" * 3000 + ", max-age=60", {"no_store": True}),
    ],
)
def test_cache_control(text: str, said: dict[str, Any]) -> None:
    assert parse_cache_control(text.encode()) == Directives(**said)


@given(st.binary(max_size=400))
@example(b'"\\' * 100)
def test_nothing_that_is_written_there_does_harm(value: bytes) -> None:
    found = parse_cache_control(value)
    assert all(-1 <= number <= LONGEST for number in found[:6])


@given(st.text(alphabet='abc-=", \t\\;12', max_size=60))
def test_nothing_hides_a_no_store_that_stands_before_it_or_on_a_line_of_its_own(text: str) -> None:
    assert parse_cache_control(f"no-store, {text}".encode()).no_store
    if text.count('"') % 2 == 0 and "\\" not in text:
        assert parse_cache_control(f"{text}, no-store".encode()).no_store


def test_a_long_hostile_field_is_read_at_once() -> None:
    """Quotes that never end: each of them looks for its end."""
    assert parse_cache_control(b'"\\' * 1000).max_age == -1


@pytest.mark.parametrize(("text", "is_no_cache"), [("no-cache", True), ("foo , No-Cache", True), ("no-cachet", False), ("", False)])
def test_pragma(text: str, is_no_cache: bool) -> None:
    assert parse_pragma(text.encode()) == is_no_cache


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("max-age=60", {"max_age": 60}),
        ("max-age=60;ext=1, no-store", {"max_age": 60, "no_store": True}),
        ("max-age=60, max-age=30", {"max_age": 30}),  # as dictionaries have it: the last one
        ("no-store=?0, public", {"public": True}),
        ("max-age=99999999999", {"max_age": LONGEST}),
        ('private="set-cookie"', {"hidden": (b"set-cookie",)}),
        ('private=""', {"private": True}),
        ("must-revalidate, stale-while-revalidate=5", {"must_revalidate": True, "stale_while": 5}),
        # Of another type than the directive's: ignored (section 2.1). The field is there all the same, and stands for the others.
        ("max-age=60.5", {}),
        ("max-age=-1", {}),
        ('max-age="60"', {}),
        ("no-store=1", {}),
        ("max-age=(1 2)", {}),
        ("none", {}),
    ],
)
def test_targeted_fields(text: str, said: dict[str, Any]) -> None:
    assert parse_targeted(text.encode()) == Directives(**said)


@pytest.mark.parametrize("text", ["", " ", "max-age=60,", "Max-Age=60", "max-age=", "=", '"', "max-age=60 no-store", "max-age =60"])
def test_a_targeted_field_that_is_not_well_formed_is_not_there(text: str) -> None:
    assert parse_targeted(text.encode()) is None


@given(st.binary(max_size=300))
@example(b"a=" + b"9" * 20)
@example(b"a=:" + b"!" * 5)
def test_any_targeted_field_is_read_or_ignored(value: bytes) -> None:
    parse_targeted(value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("max-age=60", {"max_age": 60}),
        ("max-age=60+30", {"max_age": 60, "stale_while": 30}),
        ("foobar, MaX-aGe=60", {"max_age": 60}),
        ("no-store", {"no_store": True}),
        ('content="ESI/1.0", max-age=5', {"max_age": 5}),
        ("max-age=60;pingap", {"max_age": 60}),
        ("max-age=60;Pingap , max-age=5", {"max_age": 60}),
        ("no-store, max-age=60;pingap", {"max_age": 60}),
        ("max-age =60", {"max_age": 60}),
        ("max-age=sixty", {"max_age": 0}),
    ],
)
def test_surrogate_control(text: str, said: dict[str, Any]) -> None:
    assert parse_surrogate(text.encode()) == Directives(**said)


@pytest.mark.parametrize("text", ["", "foo", "max-age=60;another", "no-store;another", 'content="ESI/1.0"'])
def test_a_surrogate_control_that_says_nothing_to_us(text: str) -> None:
    assert parse_surrogate(text.encode()) is None


@pytest.mark.parametrize(
    ("lines", "said", "by"),
    [
        ([], {}, ""),
        (["cache-control: max-age=60"], {"max_age": 60}, ""),
        (["cache-control: max-age=60", "cache-control: s-maxage=5"], {"max_age": 60, "s_maxage": 5}, ""),
        (["cache-control: no-store", "cdn-cache-control: max-age=60"], {"max_age": 60}, "cdn-cache-control"),
        (["cdn-cache-control: max-age=60", "pingap-cache-control: max-age=5"], {"max_age": 5}, "pingap-cache-control"),
        (["cdn-cache-control: no-store", "cache-control: max-age=5"], {"no_store": True}, "cdn-cache-control"),
        (["cdn-cache-control: none", "cache-control: max-age=5"], {}, "cdn-cache-control"),
        (["cdn-cache-control: max-age=", "cache-control: max-age=5"], {"max_age": 5}, ""),
        (
            ["pingap-cache-control: ", "cdn-cache-control: max-age=1", "cdn-cache-control: public"],
            {"max_age": 1, "public": True},
            "cdn-cache-control",
        ),
        (["x-cdn-cache-control: max-age=60"], {}, ""),
        (["surrogate-control: max-age=60", "cdn-cache-control: max-age=5"], {"max_age": 5}, "cdn-cache-control"),
        # Surrogate-Control is about time and no-store; who may have it is Cache-Control's.
        (["surrogate-control: max-age=60", "cache-control: no-store, no-cache, max-age=5"], {"max_age": 60}, "surrogate-control"),
        (["surrogate-control: max-age=60", "cache-control: private"], {"max_age": 60, "private": True}, "surrogate-control"),
        (["surrogate-control: no-store", "cache-control: max-age=5"], {"no_store": True}, "surrogate-control"),
        (["surrogate-control: foo", "cache-control: max-age=5"], {"max_age": 5}, ""),
        (["pragma: no-cache"], {"no_cache": True}, "pragma"),
        (["pragma: no-cache", "cache-control: max-age=5"], {"max_age": 5}, ""),
        (["pragma: foo"], {}, ""),
    ],
)
def test_which_field_counts(lines: list[str], said: dict[str, Any], by: str) -> None:
    found = said_to_us(block(*lines))
    assert (found.directives, found.by) == (Directives(**said), by)


def test_expires_counts_beside_cache_control_only() -> None:
    assert said_to_us(b"expires: x\r\n").has_expires
    assert said_to_us(b"cache-control: public\r\n").has_expires
    assert not said_to_us(b"cdn-cache-control: public\r\n").has_expires
    assert not said_to_us(b"surrogate-control: max-age=1\r\n").has_expires
    assert said_to_us(b"content-type: a\r\n").directives is NONE
