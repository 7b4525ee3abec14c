"""Asking whether what is stored is still right, and what comes of a 304."""

from __future__ import annotations

from email.utils import formatdate

import msgspec
import pytest

from pingap.stages.caching.entry import AUTHORIZED, MUST_REVALIDATE, PURGED_SOFTLY, CacheEntry
from pingap.stages.caching.policy import Policy
from pingap.stages.caching.storing import Storable, judge
from pingap.stages.caching.validating import conditions_of, freshened, without_conditions
from pingap.stages.headers import values_of

WALL = 1_800_000_000
DEFAULT = Policy()


def at(shift: float) -> str:
    return formatdate(WALL + shift, usegmt=True)


def block(*lines: str) -> bytes:
    return "".join(f"{line}\r\n" for line in lines).encode("latin-1")


LINES = (
    "cache-control: max-age=60",
    'etag: "1"',
    f"last-modified: {at(-500)}",
    f"date: {at(-0)}",
    "content-type: a",
    "x-test: a",
    "x-other: b",
)


def entry(*lines: str, asked: bytes = b"") -> CacheEntry:
    found = judge(DEFAULT, b"key", b"GET", asked, 200, block(*(lines or LINES)), 5, 1000.0, 1000.0, float(WALL))
    assert isinstance(found, Storable), found
    return found.entry


def after(*lines: str, stored: CacheEntry | None = None, policy: Policy = DEFAULT) -> CacheEntry | None:
    """An hour later."""
    return freshened(policy, stored or entry(), block(*lines), 4600.0, 4600.0, WALL + 3600.0)


def fresh(*lines: str, stored: CacheEntry | None = None, policy: Policy = DEFAULT) -> CacheEntry:
    found = after(*lines, stored=stored, policy=policy)
    assert found is not None
    return found


def test_conditions_are_what_the_origin_wrote() -> None:
    assert conditions_of(entry()) == block('if-none-match: "1"', f"if-modified-since: {at(-500)}")
    assert conditions_of(entry("cache-control: max-age=1", 'etag: W/"a b"')) == block('if-none-match: W/"a b"')
    old = "Sun Nov  6 08:49:37 1994"
    assert conditions_of(entry("cache-control: max-age=1", f"last-modified: {old}")) == block(f"if-modified-since: {old}")
    assert conditions_of(entry("cache-control: max-age=1")) == b""
    assert conditions_of(entry("cache-control: max-age=1", "last-modified: yesterday")) == b""


@pytest.mark.parametrize(
    "line", ['if-none-match: "x"', "if-match: *", "if-modified-since: x", "if-unmodified-since: x", 'if-range: "x"', "range: bytes=0-1"]
)
def test_a_request_for_all_has_no_conditions_of_one(line: str) -> None:
    for lines in (
        [line, "host: a", "x-range: y"],
        ["host: a", line, "x-range: y"],
        ["host: a", "x-range: y", line],
        ["host: a", line, line, "x-range: y"],
    ):
        assert without_conditions(block(*lines)) == block("host: a", "x-range: y")
    assert without_conditions(block("host: a")) == block("host: a")


def test_a_304_replaces_what_it_has_and_leaves_the_rest() -> None:
    found = fresh('etag: "1"', f"date: {at(3600)}", "x-test: A", "x-test: B", "x-new: c", "content-type: b")
    assert values_of(found.headers, b"x-test") == [b"A", b"B"]
    assert (values_of(found.headers, b"x-other"), values_of(found.headers, b"x-new")) == ([b"b"], [b"c"])
    assert (values_of(found.headers, b"content-type"), values_of(found.headers, b"date")) == ([b"b"], [at(3600).encode()])
    assert (found.born, found.fresh_until, found.stored, found.length) == (4600, 4660, 4600, 5)


@pytest.mark.parametrize(
    "name", ["content-length", "content-encoding", "content-range", "content-md5", "content-digest", "repr-digest", "digest", "etag"]
)
def test_a_304_does_not_change_what_describes_the_body(name: str) -> None:
    """The body stays; another coding, length or tag would be a lie about it."""
    value = '"1"' if name == "etag" else "a"
    stored = entry("cache-control: max-age=60", *dict.fromkeys(['etag: "1"', f"{name}: {value}"]))
    found = fresh(f"{name}: b", stored=stored)
    assert values_of(found.headers, name.encode()) == values_of(stored.headers, name.encode())
    assert found.fresh_until == 4660


@pytest.mark.parametrize("name", ["connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "proxy-authenticate", "age"])
def test_a_304_brings_nothing_that_is_not_stored(name: str) -> None:
    assert not values_of(fresh(f"{name}: 3").headers, name.encode())


def test_a_304_that_says_another_lifetime() -> None:
    assert fresh("cache-control: max-age=600").fresh_until == 5200
    assert fresh("cache-control: s-maxage=5").flags & MUST_REVALIDATE
    assert fresh("cdn-cache-control: max-age=7").fresh_until == 4607
    assert fresh("cache-control: max-age=600", policy=Policy(max_ttl=100)).fresh_until == 4700
    stored = entry(f"expires: {at(60)}", 'etag: "1"')
    assert fresh(f"expires: {at(4000)}", stored=stored).fresh_until == 5000
    assert fresh(stored=stored).fresh_until == 4600, "an Expires that is past, beside the new Date"


def test_the_age_of_a_304_is_its_own() -> None:
    assert fresh("age: 20").fresh_until == 4640
    assert fresh("age: x").fresh_until == 4600
    stored = entry(*LINES, "age: 30")
    assert stored.fresh_until == 1030 and fresh(stored=stored).fresh_until == 4660


def test_a_304_without_a_date_gets_one() -> None:
    """Else caches behind us would take the answer for as old as it was before."""
    assert values_of(fresh().headers, b"date") == [at(3600).encode()]


@pytest.mark.parametrize("control", ["no-store", "private", "max-age=60, private"])
def test_a_304_that_forbids_to_keep_it(control: str) -> None:
    assert after(f"cache-control: {control}") is None


def test_lines_that_a_304_hides() -> None:
    assert not values_of(fresh('cache-control: max-age=60, no-cache="x-test"', "x-test: secret").headers, b"x-test")
    assert not values_of(fresh("set-cookie: a=b").headers, b"set-cookie")


def test_a_304_with_another_tag_freshens_all_the_same() -> None:
    """It came for our one tag. Apache's mod_deflate answers so: `"1-gzip"` is asked for, and `"1"` comes back."""
    stored = entry("cache-control: max-age=60", 'etag: "1-gzip"')
    found = fresh('etag: "1"', stored=stored)
    assert (found.etag, found.fresh_until) == (b'"1-gzip"', 4660)


def test_a_304_about_another_answer() -> None:
    stored = entry("cache-control: max-age=60", f"last-modified: {at(-500)}", "vary: foo")
    assert after(f"last-modified: {at(-900)}", stored=stored) is None, "a replica with an older file"
    assert after(f"last-modified: {at(-500).upper()}", stored=stored) is not None
    assert after("vary: bar", stored=stored) is None
    assert after("vary: *", stored=stored) is None
    found = fresh("vary: Foo", stored=stored)
    assert (found.vary, found.chosen_by) == (stored.vary, stored.chosen_by) == (((b"foo",),), b"-")


def test_what_was_purged_softly_is_fresh_again() -> None:
    stored = msgspec.structs.replace(entry(), flags=PURGED_SOFTLY | AUTHORIZED)
    assert fresh(stored=stored).flags == AUTHORIZED


def test_tags_of_a_304_are_the_newer_ones() -> None:
    stored = entry(*LINES, "cache-tag: a")
    assert fresh(stored=stored).tags == (b"a",)
    assert fresh("cache-tag: b", stored=stored).tags == (b"b",)
