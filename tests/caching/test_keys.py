"""Keys: what the backend may tell apart has a key of its own, and what it may not has the same."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingap.config.problems import BadValue
from pingap.stages.caching.header_part import LONGEST_VALUE
from pingap.stages.caching.keys import MOST_HOSTS, MOST_PARAMETERS, KeyRules
from pingap.stages.caching.names import NamePatterns

PLAIN = KeyRules()


def key(rules: KeyRules = PLAIN, scheme: bytes = b"http", host: bytes = b"a.example", target: bytes = b"/x", **more: Any) -> bytes:
    return rules.key_of(scheme, host, target, more.get("headers", b"host: a.example\r\n"), more.get("extra", ()))


def test_a_key_is_the_url_behind_its_namespace() -> None:
    assert key() == b"\0http://a.example/x"
    assert key(KeyRules(b"shop"), b"https", b"A.Example:8443", b"/x?b=1&a=%2f") == b"shop\0https://a.example:8443/x?b=1&a=%2f"


@pytest.mark.parametrize(
    ("scheme", "host", "shown"),
    [
        (b"http", b"A.example:80", b"a.example"),
        (b"https", b"a.example:443", b"a.example"),
        (b"https", b"a.example:80", b"a.example:80"),
        (b"http", b"a.example:443", b"a.example:443"),
        (b"http", b"[::1]:80", b"[::1]"),
        (b"http", b"a.example:8080", b"a.example:8080"),
        (b"http", b"a.example:", b"a.example:"),
        (b"http", b"::80", b"::80"),
    ],
)
def test_only_the_default_port_of_the_scheme_is_left_out(scheme: bytes, host: bytes, shown: bytes) -> None:
    assert key(scheme=scheme, host=host) == b"\0" + scheme + b"://" + shown + b"/x"
    assert key(scheme=scheme, host=host) == key(scheme=scheme, host=host)  # as it is remembered


def test_spellings_that_a_backend_may_tell_apart_are_told_apart() -> None:
    targets = [
        b"/a",
        b"/A",
        b"/a/",
        b"//a",
        b"/a?",
        b"/a%2fb",
        b"/a%2Fb",
        b"/a/b",
        b"/a/../a",
        b"/./a",
        b"/a;x=1",
        b"/a?x=1&x=2",
        b"/a?x=2&x=1",
    ]
    assert len({key(target=target) for target in targets}) == len(targets)


def test_what_would_look_like_another_url_does_not() -> None:
    every = [
        key(host=b"a/b", target=b"/c"),
        key(host=b"a", target=b"/b/c"),
        key(host=b"a", target=b"*"),
        key(host=b"a*", target=b""),
        key(host=b"a", target=b"/x\0/part"),
        key(host=b"a", target=b"/x", extra=(b"part",)),
        key(host=b"a\0", target=b"/x"),
        key(scheme=b"ws", host=b"a", target=b"/x"),
        key(host=b"a", target=b"/x"),
    ]
    assert len(set(every)) == len(every)
    assert not any(b"\0\0" in one for one in every)  # that is where the digest of a variant begins


# -- headers ----------------------------------------------------------------------


def test_a_header_that_is_missing_is_not_one_that_is_empty_nor_another_one() -> None:
    rules = KeyRules(headers=[b"x-a", b"x-b"])
    blocks = [
        b"",
        b"x-a: \r\n",
        b"x-a: 1\r\n",
        b"x-b: 1\r\n",
        b"x-a: 1\r\nx-b: 2\r\n",
        b"x-a: 1, 2\r\n",
        b"x-a: 1\r\nx-a: 2\r\n",
        b"y: 0\r\nx-a: 3\r\n",
    ]
    keys = [key(rules, headers=block) for block in blocks]
    assert len(set(keys)) == len(keys)
    assert keys[0] == b"\0http://a.example/x\0x-a\0x-b"
    assert keys[2] == b"\0http://a.example/x\0x-a: 1\0x-b"
    assert key(rules, headers=b"other: 1\r\nx-a: 1\r\nmore: 2\r\n") == keys[2]


def test_a_long_or_secret_value_is_not_shown_in_the_key() -> None:
    long = b"v" * (LONGEST_VALUE + 1)
    assert long not in key(KeyRules(headers=[b"x-a"]), headers=b"x-a: " + long + b"\r\n")
    rules = KeyRules(headers=[b"authorization"])
    one, other = (key(rules, headers=b"authorization: Bearer %b\r\n" % value) for value in (b"s3cret", b"0ther"))
    assert b"s3cret" not in one
    assert one != other


# -- parameters -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "shaped"),
    [
        (b"/a", b"/a"),
        (b"/a?id=1", b"/a?id=1"),
        (b"/a?utm_source=x&id=1&fbclid=2", b"/a?id=1"),
        (b"/a?utm_source=x", b"/a"),
        (b"/a?UTM_source=x", b"/a?UTM_source=x"),
        (b"/a?%75tm_source=x", b"/a?%75tm_source=x"),
        (b"/a?gr%c3%b6%C3%9Fe=2&b", b"/a?b"),
        (b"/a?id=1;utm_source=x", b"/a?id=1;utm_source=x"),
        (b"/a?b=2&&a=1&", b"/a?b=2&&a=1&"),
    ],
)
def test_ignored_parameters_are_in_neither_the_key_nor_the_request_to_the_backend(target: bytes, shaped: bytes) -> None:
    rules = KeyRules(ignore_query=NamePatterns(["utm_*", "fbclid", "größe"]))
    assert rules.target_of(target) == shaped
    assert key(rules, target=target) == key(rules, target=shaped) == b"\0http://a.example" + shaped


def test_only_some_parameters_are_kept_and_they_are_sorted_by_name() -> None:
    rules = KeyRules(keep_query=NamePatterns(["id", "f_*"]), ignore_query=NamePatterns(["f_debug"]), sort_query=True)
    assert rules.target_of(b"/a?z=1&id=2&f_debug=1&f_b=2&id=1&f_a=") == b"/a?f_a=&f_b=2&id=2&id=1"
    assert rules.target_of(b"/a?z=1") == b"/a"
    assert KeyRules(ignore_query=NamePatterns(["*"])).target_of(b"/a?x&y=1") == b"/a"


def test_a_query_of_thousands_of_parameters_stays_as_it_is() -> None:
    rules = KeyRules(ignore_query=NamePatterns(["a"]), sort_query=True)
    most = b"/?" + b"&".join([b"b"] * (MOST_PARAMETERS - 1) + [b"a"])
    assert rules.target_of(most) == b"/?" + b"&".join([b"b"] * (MOST_PARAMETERS - 1))
    assert rules.target_of(most + b"&a") == most + b"&a"


def test_hosts_that_are_remembered_are_bounded() -> None:
    rules = KeyRules()
    for number in range(3 * MOST_HOSTS):
        assert key(rules, host=b"h%d" % number) == b"\0http://h%d/x" % number
    assert len(rules._hosts) <= MOST_HOSTS


@pytest.mark.parametrize("pattern", ["", "a*b", "**", "*a", "a b", "a=b", "a&b", "a;b"])
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(BadValue):
        NamePatterns([pattern])


# -- whatever it is -----------------------------------------------------------------------

TEXT = st.binary(max_size=6) | st.sampled_from([b"", b"a", b"\0", b"\1", b"\1\2", b"\1\3", b"a\0/b", b"x-a: 1", b"/", b":80"])
HOSTS = st.sampled_from([b"a", b"A", b"a:80", b"a:443", b"b", b"a/b", b"[::1]:80"]) | TEXT
VALUES = st.none() | st.lists(TEXT.map(lambda text: text.replace(b"\r", b"").replace(b"\n", b"")), min_size=1, max_size=2)
REQUESTS = st.tuples(
    st.sampled_from([b"http", b"https"]), HOSTS, TEXT.map(lambda text: b"/" + text) | TEXT, VALUES, VALUES, st.lists(TEXT, max_size=2)
)


def meant(request: Any) -> Any:
    """What of a request counts."""
    scheme, host, *rest = request
    name = host.lower()
    usual = b":443" if scheme == b"https" else b":80"
    bare = name.removesuffix(usual)
    if b":" not in bare or bare.endswith(b"]"):
        name = bare
    if b"/" in name or b"\0" in name or not rest[0].startswith(b"/") or b"\0" in rest[0]:
        name = host  # not looked at
    return scheme, name, *rest


def keyed(request: Any) -> bytes:
    scheme, host, target, one, other, extra = request
    lines = [(b"x-a", value) for value in one or ()] + [(b"x-b", value) for value in other or ()]
    block = b"host: a\r\n" + b"".join(name + b": " + value + b"\r\n" for name, value in lines)
    return KeyRules(b"n", [b"x-a", b"x-b"]).key_of(scheme, host, target, block, tuple(extra))


@given(REQUESTS, REQUESTS)
def test_requests_have_the_same_key_if_and_only_if_they_are_the_same(one: Any, other: Any) -> None:
    assert (keyed(one) == keyed(other)) == (meant(one) == meant(other))


@given(st.lists(st.tuples(st.sampled_from([b"a", b"b", b"utm_x", b"%61", b""]), TEXT), max_size=6))
def test_a_shaped_target_stays_what_it_is(pairs: Any) -> None:
    rules = KeyRules(ignore_query=NamePatterns(["utm_*"]), sort_query=True)
    shaped = rules.target_of(b"/p?" + b"&".join(name + b"=" + value for name, value in pairs))
    assert rules.target_of(shaped) == shaped
    assert b"&utm_x=" not in shaped
