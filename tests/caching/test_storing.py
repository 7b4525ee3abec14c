"""Whether an answer is kept, what of it, and for how long it is fresh."""

from __future__ import annotations

from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingap.stages.caching.entry import ALWAYS_VALIDATE, AUTHORIZED, HEURISTIC, MUST_REVALIDATE, CacheEntry
from pingap.stages.caching.policy import Policy
from pingap.stages.caching.storing import Storable, Unstorable, judge

WALL = 1_800_000_000
"""Unix seconds when an answer comes; the store's clock says 1000 then."""


def at(shift: float) -> str:
    """A date, so many seconds after the answer came."""
    return formatdate(WALL + shift, usegmt=True)


def block(*lines: str) -> bytes:
    return "".join(f"{line}\r\n" for line in lines).encode("latin-1")


DEFAULT = Policy()


def judged(
    *lines: str, policy: Policy = DEFAULT, asked: bytes = b"", status: int = 200, method: bytes = b"GET", took: float = 0.0, **more: Any
) -> Storable | Unstorable:
    return judge(policy, b"key", method, asked, status, block(*lines), more.pop("length", 5), 1000.0 - took, 1000.0, float(WALL), **more)


def stored(*lines: str, **how: Any) -> CacheEntry:
    found = judged(*lines, **how)
    assert isinstance(found, Storable), found
    return found.entry


def refused(*lines: str, **how: Any) -> tuple[str, bool]:
    found = judged(*lines, **how)
    assert isinstance(found, Unstorable), found
    return found


FRESH = "cache-control: max-age=60"


@pytest.mark.parametrize(
    ("lines", "rule", "is_usual"),
    [
        (["cache-control: max-age=60, no-store"], "no-store", True),
        (["cdn-cache-control: no-store", FRESH], "cdn-cache-control: no-store", True),
        (["cache-control: max-age=60, private"], "private", True),
        (["cache-control: private", "surrogate-control: max-age=60"], "surrogate-control: private", True),
        ([FRESH, "set-cookie: a=b"], "Set-Cookie", True),
        ([FRESH, "vary: *"], "Vary: *", True),
        ([FRESH, "vary: accept, *"], "Vary: *", True),
        ([FRESH, "vary: a b"], "Vary: *", True),
        ([FRESH, "cache-tag: " + ",".join(map(str, range(200)))], "tags", True),
        ([], "no lifetime", True),
        (["cache-control: public"], "no lifetime", True),
        (["cache-control: max-age=0"], "max-age", True),
        (["cache-control: max-age=60, no-cache"], "no-cache", True),
        (["pragma: no-cache"], "pragma: no-cache", True),
        (["expires: 0"], "Expires", True),
        ([f"expires: {at(-1)}"], "Expires", True),
        ([FRESH, "age: 60"], "max-age", True),
        ([FRESH, "age: x"], "Age", True),
        ([FRESH, f"date: {at(-90)}"], "max-age", True),
    ],
)
def test_answers_that_are_not_stored(lines: list[str], rule: str, is_usual: bool) -> None:
    assert refused(*lines) == (rule, is_usual)


@pytest.mark.parametrize("status", [100, 103, 206, 226, 304, 416])
def test_statuses_that_are_never_stored(status: int) -> None:
    """206 not either: it would be a part that is taken for the whole. Ranges are made of whole answers."""
    assert refused(FRESH, status=status) == (f"status {status}", False)


@pytest.mark.parametrize("status", [200, 203, 204, 299, 301, 302, 303, 307, 308, 400, 401, 403, 404, 410, 499, 500, 502, 503, 504, 599])
def test_any_other_status_is_stored_if_it_says_how_long(status: int) -> None:
    assert stored(FRESH, status=status).status == status
    assert stored(f"expires: {at(60)}", status=status).fresh_until == 1060
    assert refused("content-type: a", status=status) == ("no lifetime", status < 400 or status in (404, 410))


@pytest.mark.parametrize("method", [b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"QUERY", b"M-SEARCH", b"get"])
def test_only_what_a_get_gets_is_stored(method: bytes) -> None:
    assert refused(FRESH, method=method) == ("method", False)


# -- what may be shared ----------------------------------------------------------


@pytest.mark.parametrize(
    ("control", "may"),
    [
        ("max-age=60", False),
        ("max-age=60, public", True),
        ("max-age=60, must-revalidate", True),
        ("max-age=60, proxy-revalidate", True),
        ("s-maxage=60", True),
        ("max-age=60, immutable", False),
    ],
)
def test_an_answer_to_who_is_authorized(control: str, may: bool) -> None:
    """RFC 9111 section 3.5."""
    for asked in (b"authorization: Basic eA==\r\n", b"host: a\r\nauthorization: x\r\n"):
        found = judged(f"cache-control: {control}", asked=asked)
        if may:
            assert isinstance(found, Storable) and found.entry.flags & AUTHORIZED
        else:
            assert found == Unstorable("Authorization", False)


def test_who_is_not_authorized() -> None:
    assert not stored(FRESH, asked=b"x-authorization: a\r\nproxy-authorization: b\r\n").flags & AUTHORIZED


def test_lines_that_only_some_may_have_are_not_kept() -> None:
    kept = stored(
        'cache-control: max-age=60, private="set-cookie", no-cache="x-user, X-Mail"', "set-cookie: a", "x-user: b", "x-mail: c", "x: d"
    )
    assert b"x: d\r\n" in kept.headers
    assert not any(word in kept.headers for word in (b"set-cookie: a", b"x-user: b", b"x-mail: c"))


def test_that_there_are_parts_of_it_is_told_with_it() -> None:
    assert b"accept-ranges: bytes\r\n" in stored(FRESH).headers
    assert b"accept-ranges: bytes\r\n" not in stored(FRESH, status=404).headers, "which has none"


def test_lines_about_one_message_or_connection_are_not_kept() -> None:
    lines = ["connection: x", "keep-alive: x", "te: x", "trailer: x", "transfer-encoding: x", "upgrade: x", "proxy-connection: x"]
    lines += ["proxy-authenticate: x", "proxy-authentication-info: x", "proxy-authorization: x", "age: 3", "content-length: 5"]
    lines += ["x-cache-status: hit", "x-cache-lookup: 1ms", "x-cache-lock: 1ms"]
    others = [FRESH, f"date: {at(0)}", "accept-ranges: none", "content-range: x", "set-cookie2: a", "clear-site-data: x", "x-age: 3"]
    mixed = [line for pair in zip(lines, [*others, *others, *others], strict=False) for line in pair]
    kept = stored(*mixed)
    assert set(kept.headers.split(b"\r\n")) == {line.encode() for line in others} | {b""}


def test_an_answer_without_a_date_gets_that_of_its_arrival() -> None:
    """Else it would get a new one with each hit, beside an Age that belongs to this one."""
    assert f"date: {at(0)}\r\n".encode() in stored(FRESH).headers
    assert stored(FRESH, "date: foo").headers.count(b"date: ") == 1


def test_must_understand() -> None:
    """RFC 9111 section 5.2.2.3: no-store beside it is for caches that do not know it."""
    assert stored("cache-control: max-age=60, must-understand, no-store").fresh_until == 1060
    assert refused("cache-control: max-age=60, must-understand", status=599) == ("must-understand", False)
    assert refused("cache-control: max-age=60, must-understand, no-store", status=299) == ("must-understand", True)


# -- freshness -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "lasts", "rule"),
    [
        (["cache-control: max-age=60"], 60, "max-age"),
        (["cache-control: max-age=60, s-maxage=30"], 30, "s-maxage"),
        (["cache-control: max-age=0, s-maxage=30", f"expires: {at(-10)}"], 30, "s-maxage"),
        (["cache-control: max-age=60", f"expires: {at(-10)}"], 60, "max-age"),
        (["cache-control: max-age=60", "expires: 0"], 60, "max-age"),
        (["pingap-cache-control: max-age=5", FRESH], 5, "pingap-cache-control: max-age"),
        (["surrogate-control: max-age=5", "cache-control: no-store"], 5, "surrogate-control: max-age"),
        ([f"expires: {at(20)}", f"date: {at(0)}"], 20, "Expires"),
        ([f"expires: {at(20)}"], 20, "Expires"),
        ([f"expires: {at(20)}", "date: foo"], 20, "Expires"),
        ([f"expires: {at(20)}", f"date: {at(10)}"], 10, "Expires"),
        ([f"expires: {at(20)}", f"date: {at(-10)}"], 30 - 9, "Expires"),
        ([f"expires: {at(20).upper()}"], 20, "Expires"),
        ([f"expires: {at(20)}", f"expires: {at(90)}"], 20, "Expires"),
        ([FRESH, "age: 20"], 40, "max-age"),
        ([FRESH, f"date: {at(-20)}"], 60 - 19, "max-age"),
        ([FRESH, f"date: {at(-20)}", "age: 30"], 30, "max-age"),
        ([FRESH, f"date: {at(500)}"], 60, "max-age"),
        ([f"last-modified: {at(-1000)}", f"date: {at(0)}"], 100, "heuristic"),
        ([f"last-modified: {at(-1000)}"], 100, "heuristic"),
        ([f"last-modified: {at(-10_000_000)}"], 86400, "heuristic"),
        (["cache-control: public", f"last-modified: {at(-1000)}"], 100, "heuristic"),
    ],
)
def test_how_long_an_answer_is_fresh(lines: list[str], lasts: float, rule: str) -> None:
    kept = stored(*lines)
    assert (kept.fresh_until - 1000, kept.rule) == (lasts, rule)
    assert bool(kept.flags & HEURISTIC) == (rule == "heuristic")
    assert kept.born + kept.lifetime == kept.fresh_until


@pytest.mark.parametrize("value", ["abc", "-7200", "7200.0", "7200,0", "0,7200", "0, 0", "7200;foo=bar", "", "1" * 20])
def test_an_age_that_cannot_be_read_makes_it_stale(value: str) -> None:
    """docs/decisions/0041. With a validator it is stored, and validated each time."""
    kept = stored(FRESH, 'etag: "1"', f"age: {value}")
    assert (kept.fresh_until, kept.rule) == (1000, "Age")


def test_two_ages_make_it_stale() -> None:
    for one, other in (("0", "7200"), ("7200", "0"), ("0", "0")):
        assert refused(f"age: {one}", FRESH, f"age: {other}") == ("Age", True)


def test_what_an_origin_thinks_over_for_long_is_new_when_it_comes() -> None:
    """Its Date says so. What comes out of a cache has an Age, which counts from when it was asked."""
    assert stored(FRESH, f"date: {at(0)}", took=10).fresh_until == 1060
    assert stored(FRESH, f"date: {at(0)}", "age: 5", took=10).fresh_until == 1045
    assert stored(FRESH, took=10).fresh_until == 1050


def test_a_second_is_a_second() -> None:
    """Date has no parts of it: an answer made at .9 that comes at .1 is not a second old."""
    found = judge(Policy(), b"k", b"GET", b"", 200, block("cache-control: max-age=1", f"date: {at(0)}"), 5, 999.8, 1000.0, WALL + 1.1)
    assert isinstance(found, Storable) and found.entry.fresh_until == pytest.approx(1000.9)


@pytest.mark.parametrize("status", [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501])
def test_statuses_that_may_be_fresh_by_a_guess(status: int) -> None:
    assert stored(f"last-modified: {at(-1000)}", status=status).fresh_until == 1100


@pytest.mark.parametrize("status", [201, 202, 302, 303, 307, 400, 403, 500, 502, 503, 504, 599])
def test_statuses_that_are_never_fresh_by_a_guess(status: int) -> None:
    assert refused(f"last-modified: {at(-1000)}", status=status) == ("no lifetime", status < 400)
    assert stored(f"last-modified: {at(-1000)}", "cache-control: public", status=status).fresh_until == 1100


def test_what_is_stale_when_it_comes_is_stored_for_its_validator() -> None:
    for validator in ('etag: "1"', f"last-modified: {at(0)}"):
        kept = stored("cache-control: max-age=0", validator)
        assert kept.fresh_until == 1000
    assert stored('etag: "1"').rule == ""
    assert refused("cache-control: max-age=0", "last-modified: yesterday") == ("max-age", True)


def test_no_cache_is_stored_for_its_validator() -> None:
    kept = stored("cache-control: max-age=60, no-cache", 'etag: W/"1"')
    assert kept.flags & ALWAYS_VALIDATE and kept.etag == b'W/"1"'


# -- stale -----------------------------------------------------------------------

LENIENT = Policy(stale_while=3, stale_error=4)


@pytest.mark.parametrize(
    ("control", "stale_while", "stale_error", "must"),
    [
        ("max-age=60", 3, 4, False),
        ("max-age=60, stale-while-revalidate=10", 10, 4, False),
        ("max-age=60, stale-if-error=10", 3, 10, False),
        ("max-age=60, stale-while-revalidate=0, stale-if-error=0", 0, 0, False),
        ("max-age=60, must-revalidate", 0, 0, True),
        ("max-age=60, must-revalidate, stale-while-revalidate=10", 0, 0, True),
        ("max-age=60, proxy-revalidate, stale-if-error=10", 0, 0, True),
        ("max-age=60, no-cache, stale-if-error=10", 0, 0, True),
        # s-maxage forbids what nobody has allowed: what the same answer allows holds (docs/decisions/0041).
        ("s-maxage=60", 0, 0, True),
        ("s-maxage=60, stale-while-revalidate=10", 10, 0, False),
        ("s-maxage=60, stale-if-error=10", 0, 10, False),
        ("s-maxage=60, stale-if-error=0", 0, 0, True),
    ],
)
def test_what_may_be_used_when_it_is_stale(control: str, stale_while: int, stale_error: int, must: bool) -> None:
    kept = stored(f"cache-control: {control}", 'etag: "1"', policy=LENIENT)
    assert (kept.stale_while, kept.stale_error, bool(kept.flags & MUST_REVALIDATE)) == (stale_while, stale_error, must)


def test_what_is_stale_when_it_comes_and_may_be_used_so() -> None:
    assert stored("cache-control: max-age=0, stale-while-revalidate=9").stale_while == 9
    assert stored("cache-control: max-age=0, stale-if-error=9").stale_error == 9
    # What the operator allows is for answers that were fresh once: not everything without a lifetime is to be stored for it.
    assert refused("cache-control: max-age=0", policy=LENIENT) == ("max-age", True)
    assert refused(policy=LENIENT) == ("no lifetime", True)


# -- what the operator has set -----------------------------------------------------


def test_max_ttl_is_counted_from_the_arrival() -> None:
    policy = Policy(max_ttl=30)
    assert (stored(FRESH, policy=policy).fresh_until, stored(FRESH, policy=policy).rule) == (1030, "max_ttl")
    assert stored("cache-control: max-age=600", "age: 500", policy=policy).fresh_until == 1030
    assert stored(f"expires: {at(99)}", policy=policy).fresh_until == 1030
    assert stored("cache-control: max-age=20", policy=policy).rule == "max-age"


def test_default_ttl_is_for_what_says_nothing() -> None:
    policy = Policy(default_ttl=30)
    kept = stored(policy=policy)
    assert (kept.fresh_until, kept.rule, kept.flags) == (1030, "default_ttl", 0)
    assert stored(f"last-modified: {at(-1000)}", f"date: {at(-50)}", policy=policy).fresh_until == 1030
    assert stored(policy=policy, status=404).fresh_until == 1030
    assert stored(FRESH, policy=policy).fresh_until == 1060
    assert refused("cache-control: max-age=0", policy=policy) == ("max-age", True)
    assert refused("expires: 0", policy=policy) == ("Expires", True)
    assert refused("cache-control: no-cache", policy=policy) == ("no-cache", True)
    assert refused("pragma: no-cache", policy=policy) == ("pragma: no-cache", True)
    for status in (302, 403, 500, 503):
        assert refused(policy=policy, status=status)[0] == "no lifetime"


def test_check_cache_control() -> None:
    policy = Policy(check_cache_control=True)
    assert refused(f"expires: {at(60)}", policy=policy) == ("check_cache_control", True)
    for field in ("cache-control", "cdn-cache-control", "pingap-cache-control", "surrogate-control"):
        assert stored(f"{field}: max-age=60", policy=policy).fresh_until == 1060


def test_max_file_size() -> None:
    policy = Policy(max_file_size=5)
    assert stored(FRESH, policy=policy, length=5).length == 5
    assert stored(FRESH, policy=policy, length=None).length == 0
    assert refused(FRESH, policy=policy, length=6) == ("max_file_size", True)
    assert stored(FRESH, length=6).length == 6


# -- the rest of an entry ----------------------------------------------------------


def test_what_an_entry_knows() -> None:
    lines = (FRESH, 'etag: "x"', f"last-modified: {at(-5)}", f"date: {at(0)}", "cache-tag: a, b,a", "surrogate-key: c  a", "vary: B, a")
    kept = stored(*lines, asked=b"a: 1\r\n")
    assert (kept.etag, kept.last_modified, kept.date) == (b'"x"', at(-5).encode(), WALL)
    assert kept.tags == (b"a", b"b", b"c")
    assert (kept.vary, kept.chosen_by) == (((b"a", b"b"),), b"=1\n-")


HEADER = st.sampled_from(
    ["cache-control", "expires", "date", "age", "vary", "last-modified", "etag", "surrogate-control", "cdn-cache-control", "pragma"]
)
VALUE = st.one_of(
    st.sampled_from(
        ["max-age=60", "no-store", "private", "no-cache", "public", "s-maxage=5", at(0), at(60), at(-60), "0", "*", "5", '"x"']
    ),
    st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=30),
)


@given(st.lists(st.tuples(HEADER, VALUE), max_size=8), st.sampled_from([200, 206, 302, 404, 500, 599]))
def test_whatever_an_answer_says(pairs: list[tuple[str, str]], status: int) -> None:
    """It is judged, and nothing that forbids is overlooked."""
    found = judged(*[f"{name}: {value}" for name, value in pairs], status=status)
    if isinstance(found, Storable):
        kept = found.entry
        assert kept.born <= 1000 and kept.stale_while >= 0 and kept.stale_error >= 0 and kept.lifetime >= kept.fresh_until - 1000
        assert status != 206
        controls = [value.strip() for name, value in pairs if name == "cache-control"]
        targeted = any(name in ("cdn-cache-control", "surrogate-control") for name, _ in pairs)
        assert "private" not in controls or targeted
        assert "no-store" not in controls or targeted
        assert kept.headers.endswith(b"\r\n") and b"\r\n\r\n" not in kept.headers
