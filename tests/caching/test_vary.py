"""Which requests an answer is for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingap.stages.caching.entry import MARKER, CacheEntry
from pingap.stages.caching.reuse import MISS, PLAIN, decide, is_fresh
from pingap.stages.caching.vary import MOST_NAMES, MOST_SETS, chosen_by, marker, names_of, variant_key, with_names


def block(*lines: str) -> bytes:
    return "".join(f"{line}\r\n" for line in lines).encode("latin-1")


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        ([], ()),
        (["vary: "], ()),
        (["vary: Foo"], (b"foo",)),
        (["vary: foo,Bar , foo"], (b"bar", b"foo")),
        (["vary: foo", "vary: bar"], (b"bar", b"foo")),
        (["x-vary: foo"], ()),
        (["vary: *"], None),
        (["vary: *, *"], None),
        (["vary: , *"], None),
        (["vary: ", "vary: *"], None),
        (["vary: *, foo"], None),
        (["vary: foo, *"], None),
        (["vary: foo bar"], None),
        (['vary: "foo"'], None),
        (["vary: " + ",".join(f"n{i}" for i in range(MOST_NAMES))], tuple(sorted(f"n{i}".encode() for i in range(MOST_NAMES)))),
        (["vary: " + ",".join(f"n{i}" for i in range(MOST_NAMES + 1))], None),
    ],
)
def test_names(lines: list[str], names: tuple[bytes, ...] | None) -> None:
    assert names_of(block(*lines)) == names


SAME = [
    (["foo: 1, 2"], ["foo: 1", "foo: 2"]),
    (["foo: 1,2"], ["foo:  1,\t2 "]),
    (["foo: a;q=1"], ["foo: a ; q=1"]),
    (['foo: "a, b",c'], ['foo: "a, b" , c']),
    (["accept-language: en, de"], ["accept-language: de, en"]),
    (["accept-language: en, de"], ["accept-language: eN ,  De"]),
    (["accept-language: en, de"], ["accept-language: en", "accept-language: de;q=1.0"]),
    (["accept-language: en, de;q=0.5"], ["accept-language: de;q=0.50, en;q=1"]),
    (["accept-encoding: gzip, br"], ["accept-encoding: br,gzip"]),
    (["accept-encoding: gzip, br"], ["accept-encoding: GZIP;q=0.3, br;q=1, identity;q=0.1"]),
    (["accept-encoding: gzip"], ["accept-encoding: x-gzip"]),
    (["accept-encoding: gzip"], ["accept-encoding: gzip, br;q=0"]),
    (["accept-encoding: br"], ["accept-encoding: br, gzip, gzip;q=0"]),
    (["accept-encoding: "], ["accept-encoding: identity"]),
]
OTHER = [
    (["foo: 1"], ["foo: 2"]),
    (["foo: 1"], []),
    (["foo: "], []),
    (["foo: a b"], ["foo: ab"]),
    (['foo: "a, b"'], ['foo: "a,b"']),
    (["foo: A"], ["foo: a"]),
    (["foo: 1, 2"], ["foo: 2, 1"]),
    (["user-agent: a, b"], ["user-agent: a,b"]),
    (["cookie: a=1; b=2"], ["cookie: b=2; a=1"]),
    (["accept-language: en, de"], ["accept-language: en, de;q=0.5"]),
    (["accept-language: en"], ["accept-language: en, de;q=0"]),
    (["accept-language: en"], []),
    (["accept-encoding: gzip"], ["accept-encoding: br"]),
    (["accept-encoding: gzip"], ["accept-encoding: gzip, br"]),
    (["accept-encoding: gzip"], []),
    (["accept-encoding: gzip"], ["accept-encoding: gzip, identity;q=0"]),
    (["accept-encoding: *"], ["accept-encoding: *, br;q=0"]),
    (["accept-encoding: gzip"], ["accept-encoding: gzip, foo"]),
    (["authorization: Basic a"], ["authorization: Basic b"]),
]
NAMES = tuple(sorted((b"foo", b"user-agent", b"cookie", b"accept-language", b"accept-encoding", b"authorization")))


@pytest.mark.parametrize(("one", "other"), SAME)
def test_the_same_wish_is_one_variant(one: list[str], other: list[str]) -> None:
    assert chosen_by(NAMES, block(*one)) == chosen_by(NAMES, block("x: y", *other))


@pytest.mark.parametrize(("one", "other"), OTHER)
def test_another_wish_is_another_variant(one: list[str], other: list[str]) -> None:
    assert chosen_by(NAMES, block(*one)) != chosen_by(NAMES, block("x: y", *other))


def test_lines_that_are_not_named_do_not_count() -> None:
    assert chosen_by((b"foo",), block("foo: 1", "other: 2")) == chosen_by((b"foo",), block("other: 3", "foo: 1"))
    assert chosen_by((), block("other: 3")) == b""


TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=40).map(str.strip)
"""Values as an engine passes them: without blanks at their ends."""


@given(st.dictionaries(st.sampled_from(["a", "b", "accept-encoding", "accept-language"]), TEXT, max_size=4))
def test_no_value_runs_into_that_of_another_line(lines: dict[str, str]) -> None:
    names = (b"a", b"accept-encoding", b"accept-language", b"b")
    parts = chosen_by(names, block(*[f"{name}: {value}" for name, value in lines.items()])).split(b"\n")
    assert [part[:1] for part in parts] == [b"=" if name.decode() in lines else b"-" for name in names]


@given(st.lists(st.sampled_from(["gzip", "br", "zstd", "identity", "*", "foo", "x-gzip"]), max_size=5), st.randoms())
def test_the_order_of_codings_does_not_count(codings: list[str], dice: object) -> None:
    mixed = list(codings)
    dice.shuffle(mixed)  # type: ignore[attr-defined]
    names = (b"accept-encoding",)
    one, other = block("accept-encoding: " + ", ".join(codings)), block("accept-encoding: " + ",".join(mixed))
    assert chosen_by(names, one) == chosen_by(names, other)


def test_a_hostile_value_takes_no_time() -> None:
    """Quotes that never end; thousands of members. Whoever sends them gets a variant of their own, once."""
    for value in ('"\\' * 30000, ", " * 30000, ",".join(f"l{i}" for i in range(20000))):
        chosen_by(NAMES, block(f"foo: {value}", f"accept-language: {value}", f"accept-encoding: {value}"))


def test_the_key_of_a_variant_lies_behind_its_urls() -> None:
    one = variant_key(b"key", (b"foo",), b"=1")
    assert one.startswith(b"key\0\0") and len(one) == 3 + 2 + 16
    others = [variant_key(b"key", (b"foo",), b"=2"), variant_key(b"key", (b"bar",), b"=1"), variant_key(b"kez", (b"foo",), b"=1")]
    assert len({one, *others}) == 4


def test_the_names_of_a_url_are_remembered_the_newest_first() -> None:
    sets: tuple[tuple[bytes, ...], ...] = ()
    for number in range(MOST_SETS + 2):
        sets = with_names(sets, (b"n%d" % number,))
    assert sets == tuple((b"n%d" % number,) for number in range(MOST_SETS + 1, 1, -1))
    assert with_names(sets, sets[2]) is sets


def test_a_marker() -> None:
    first = marker(b"key", None, (b"foo",), 10.0)
    assert first.flags == MARKER and first.vary == ((b"foo",),) and first.key == b"key"
    assert marker(b"key", first, (b"foo",), 20.0) is first
    assert marker(b"key", first, (b"bar",), 20.0).vary == ((b"bar",), (b"foo",))
    assert not is_fresh(first, 10.0) and decide(first, PLAIN, 10.0).kind == MISS
    plain = CacheEntry(b"key", 200, b"", 0, 0.0, 0.0, 99.0, 0.0, 0.0, 0)
    assert marker(b"key", plain, (b"foo",), 10.0) == first
