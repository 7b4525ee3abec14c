"""Beside another implementation of RFC 9111: hishel, whose states have no I/O either.

Where the two do not say the same, the reason is in a list here: what we do and it does not, and the other way round.
"""

from __future__ import annotations

import uuid
from email.utils import formatdate
from typing import Any, Final

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pingap.stages.caching.directives import parse_cache_control
from pingap.stages.caching.policy import Policy
from pingap.stages.caching.reuse import FRESH, asked_of, decide
from pingap.stages.caching.storing import Storable, Unstorable, judge
from pingap.stages.caching.validating import conditions_of, freshened
from pingap.stages.caching.vary import chosen_by, names_of
from pingap.stages.headers import joined
from tests.kit.peers import required

spec: Any = required("hishel._core._spec")
models: Any = required("hishel._core.models")
fields: Any = required("hishel._core._headers")

WALL: Final = 1_800_000_000
OPTIONS: Final = {"shared": True, "supported_methods": ["GET"], "allow_stale": False}

STRICTER: Final = {
    "Set-Cookie": "RFC 9111 section 7.3 leaves it to the cache",
    "Vary: *": "it could never be used without asking",
    "tags": "no purge would find it",
    "no lifetime": "neither lifetime nor validator: it could never be used (or status and directives do not allow to keep it)",
    "max-age": "it is stale when it comes, and has no validator",
    "s-maxage": "the same",
    "Expires": "the same",
    "no-cache": "to be validated each time, without a validator",
    "must-understand": "of a status that we do not know: hishel does not read this directive",
}
"""Rules by which we do not store what hishel stores."""


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """hishel asks for the time where it needs it."""
    monkeypatch.setattr(spec, "time", Clock)


class Clock:
    now = float(WALL)

    @classmethod
    def time(cls) -> float:
        return cls.now


def at(shift: float) -> str:
    return formatdate(WALL + shift, usegmt=True)


def block(lines: dict[str, str]) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in lines.items()).encode("latin-1")


def theirs(lines: dict[str, str]) -> Any:
    return fields.Headers(dict(lines))


SECONDS = st.sampled_from([0, 1, 30, 600, 86400, 2**31 - 1])
DIRECTIVES = st.dictionaries(
    st.sampled_from(
        [
            "no-store",
            "no-cache",
            "private",
            "public",
            "must-revalidate",
            "proxy-revalidate",
            "must-understand",
            "max-age",
            "s-maxage",
            "foo",
        ]
    ),
    SECONDS,
    max_size=4,
)


def control(directives: dict[str, int]) -> str:
    return ", ".join(f"{name}={seconds}" if name in ("max-age", "s-maxage") else name for name, seconds in directives.items())


CONTROLS = st.builds(control, DIRECTIVES)
ANSWERS = st.fixed_dictionaries(
    {"date": st.just(at(0))},
    optional={
        "cache-control": CONTROLS,
        "expires": st.sampled_from([at(-60), at(0), at(60), at(600), "0"]),
        "etag": st.just('"1"'),
        "last-modified": st.sampled_from([at(-100_000), at(-10)]),
        "vary": st.sampled_from(["foo", "Foo, bar", "*"]),
        "set-cookie": st.just("a=b"),
        "content-type": st.sampled_from(["a", "b"]),
        "x-test": st.sampled_from(["a", "b"]),
    },
)
REQUESTS = st.fixed_dictionaries(
    {"host": st.just("a")},
    optional={"foo": st.sampled_from(["1", "2"]), "bar": st.sampled_from(["1", "2"]), "authorization": st.just("Basic eA==")},
)
STATUSES = st.sampled_from([200, 201, 203, 204, 206, 299, 301, 302, 304, 404, 410, 500, 503, 599])


def ours(request: dict[str, str], answer: dict[str, str], status: int = 200) -> Storable | Unstorable:
    return judge(Policy(), b"key", b"GET", block(request), status, block(answer), 5, 1000.0, 1000.0, float(WALL))


@given(DIRECTIVES)
def test_cache_control_is_read_alike(directives: dict[str, int]) -> None:
    text = control(directives)
    mine, other = parse_cache_control(text.encode()), fields.parse_cache_control(text)
    for name in ("no_store", "no_cache", "private", "public"):
        assert getattr(mine, name) == bool(getattr(other, name))
    assert mine.must_revalidate == (other.must_revalidate or other.proxy_revalidate)
    for name in ("max_age", "s_maxage"):
        assert getattr(mine, name) == (-1 if getattr(other, name) is None else getattr(other, name))


@given(REQUESTS, ANSWERS, STATUSES)
def test_answers_are_stored_alike(request: dict[str, str], answer: dict[str, str], status: int) -> None:
    Clock.now = float(WALL)
    missed = spec.CacheMiss(request=models.Request("GET", "http://a/", theirs(request)), options=OPTIONS)
    they_store = isinstance(missed.next(models.Response(status, theirs(answer))), spec.StoreAndUse)
    found = ours(request, answer, status)
    if they_store and isinstance(found, Unstorable):
        assert found.rule in STRICTER
    if not they_store and isinstance(found, Storable):
        # Section 5.2.2.3: no-store beside must-understand is for others; section 3.5 counts what proxy-revalidate says as well.
        said = parse_cache_control(answer["cache-control"].encode())
        assert (said.no_store and said.must_understand) or ("authorization" in request and said.must_revalidate)


KEPT = st.fixed_dictionaries(
    {
        "date": st.just(at(0)),
        "cache-control": st.sampled_from(["max-age=60", "max-age=600, s-maxage=30", "public, max-age=9999, must-revalidate"]),
    }
    | {"x-test": st.just("a")},
    optional={
        "expires": st.sampled_from([at(-60), at(600), "0"]),
        "etag": st.just('"1"'),
        "last-modified": st.just(at(-10)),
        "vary": st.sampled_from(["foo", "Foo, bar"]),
    },
) | st.fixed_dictionaries(
    {"date": st.just(at(0)), "etag": st.just('"1"'), "expires": st.sampled_from([at(-60), at(0), at(60), at(600), "0"])},
    optional={"cache-control": st.sampled_from(["public", "no-cache", "max-age=600, no-cache", "max-age=0"])},
)
"""Answers that both keep, and whose lifetimes are told: hishel's guess is another one (a week at most, and of the time until now)."""

SEEKERS = st.fixed_dictionaries({"host": st.just("a")}, optional={"foo": st.sampled_from(["1", "2"]), "bar": st.sampled_from(["1", "2"])})


@given(SEEKERS, SEEKERS, KEPT, st.sampled_from([0, 10, 45, 70, 500, 700, 9000, 90000]), st.sampled_from(["", "no-cache"]))
def test_what_is_stored_is_used_alike(first: dict[str, str], second: dict[str, str], answer: dict[str, str], later: int, asks: str) -> None:
    found = ours(first, answer)
    assert isinstance(found, Storable), found
    entry = found.entry
    if asks:
        second = {**second, "cache-control": asks}
    Clock.now = float(WALL + later)
    stored = models.Entry(uuid.uuid4(), models.Request("GET", "http://a/", theirs(first)), models.Response(200, theirs(answer)))
    idle = spec.IdleClient(options=OPTIONS)
    next_state = idle.next(models.Request("GET", "http://a/", theirs(second)), [stored])
    is_for_it = not entry.vary or entry.chosen_by == chosen_by(entry.vary[0], block(second))
    is_used = is_for_it and decide(entry, asked_of(block(second), is_trusted=True), 1000.0 + later).kind == FRESH
    assert is_used == isinstance(next_state, spec.FromCache)
    if is_for_it and not is_used:
        conditions = next_state.request.headers
        assert conditions_of(entry) == block(
            {name: conditions[name] for name in ("if-none-match", "if-modified-since") if name in conditions}
        )


@given(st.sampled_from(["foo", "foo, bar", "bar,Foo", "*"]), REQUESTS, REQUESTS)
def test_what_hishel_takes_for_the_same_request_is_the_same_variant(vary: str, first: dict[str, str], second: dict[str, str]) -> None:
    stored = models.Entry(uuid.uuid4(), models.Request("GET", "http://a/", theirs(first)), models.Response(200, theirs({"vary": vary})))
    names = names_of(block({"vary": vary}))
    is_same = names is not None and chosen_by(names, block(first)) == chosen_by(names, block(second))
    assert spec.vary_headers_match(models.Request("GET", "http://a/", theirs(second)), stored) == is_same


THEIRS_ALONE: Final = {"content-type"}
"""Lines that hishel leaves as they were stored, and we replace: RFC 9111 section 3.2 lets those omit them that keep something else
than what came. http-cache-tests wants them replaced."""
OURS_ALONE: Final = {"etag", "vary", "set-cookie"}
"""Lines that we leave as they were stored, and hishel replaces: the tag is the body's, and what chose the answer stays. No cookie
is kept."""


@given(ANSWERS, ANSWERS)
def test_a_304_changes_the_same_lines(answer: dict[str, str], changed: dict[str, str]) -> None:
    answer = {"etag": '"1"', **answer}
    answer.pop("set-cookie", None)
    found = ours({}, answer)
    assume(isinstance(found, Storable))  # most are: they have a tag
    assert isinstance(found, Storable)
    fresh = freshened(Policy(), found.entry, block(changed), 1000.0, 1000.0, float(WALL))
    assume(fresh is not None)
    assert fresh is not None
    merged = spec.refresh_response_headers(models.Response(200, theirs(answer)), models.Response(304, theirs(changed)), True).headers
    for name in {*answer, *changed} - THEIRS_ALONE - OURS_ALONE:
        assert (joined(fresh.headers, name.encode()) or b"").decode() == merged.get(name)
    if "content-type" in changed:
        assert joined(fresh.headers, b"content-type") == changed["content-type"].encode()
