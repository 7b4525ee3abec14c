"""What holds for any input: header blocks, bodies in pieces under any credit, substitution, codings."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterable
from itertools import pairwise

import brotli
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pingap.stages.coding.rules import choose, qualities
from pingap.stages.header_view import Headers
from pingap.stages.plugins.builtin.encodings import BrotliDecoder, GzipDecoder
from pingap.stages.plugins.builtin.substitution import LONGEST, longest_match, parse
from pingap.stages.plugins.core import Flow
from pingap.stages.plugins.exchange import Transformer

NAMES = st.sampled_from(["a", "A", "b", "ab", "x-b", "host"])
VALUES = st.text("ab: ,\xe9", max_size=4).map(str.strip)
OPERATIONS = st.lists(st.tuples(st.sampled_from(["set", "add", "remove", "setdefault"]), NAMES, VALUES), max_size=8)


def split(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(edges)] or [b""]


def through(stages: list[Transformer], pieces: list[bytes], credits: list[int]) -> bytes:
    """A body through a flow, a piece and a grant at a time; checks that credit is kept on the way."""
    flow = Flow(stages, 0)
    out, given_credit = [], 0
    steps = max(len(pieces), len(credits))
    for step in range(steps + 1):
        if step < len(pieces):
            flow.offer(pieces[step], step == len(pieces) - 1)
        count = credits[step] if step < len(credits) else 0
        if step == steps:
            count = 10_000_000
        flow.grant(count)
        given_credit += count
        assert flow.pump(flow.credit or 1) is None
        while data := flow.take(1000):
            out.append(data)
            assert flow.pump(flow.credit or 1) is None
        assert sum(map(len, out)) <= given_credit
    assert flow.is_over
    assert flow.owed == sum(map(len, pieces))
    return b"".join(out)


@given(OPERATIONS)
def test_headers_behave_like_a_list_of_lines(operations: list[tuple[str, str, str]]) -> None:
    headers = Headers()
    model: list[tuple[str, str]] = []
    for what, name, value in operations:
        key = name.lower()
        there = [entry for entry in model if entry[0] == key]
        if what == "add" and key == "host" and there:
            with pytest.raises(ValueError, match="one host"):
                headers.add(name, value)
        elif what == "remove" and key == "host" and there:
            with pytest.raises(ValueError, match="host"):
                headers.remove(name)
        elif what == "set" and there:
            headers.set(name, value)
            at = model.index(there[0])
            model[at] = (key, value)
            model = model[: at + 1] + [entry for entry in model[at + 1 :] if entry[0] != key]
        elif what == "remove":
            assert headers.remove(name) == [value for _, value in there]
            model = [entry for entry in model if entry[0] != key]
        elif what != "setdefault" or not there:
            (headers.add if what == "add" else headers.set if what == "set" else headers.setdefault)(name, value)
            model.append((key, value))
    assert headers.items() == model
    assert len(headers) == len(model)
    for name in ("a", "AB", "X-b", "host", "c"):
        values = [value for key, value in model if key == name.lower()]
        assert headers.get_all(name) == values
        assert headers.get(name) == (values[0] if values else None)
        assert (name in headers) is bool(values)


@pytest.mark.parametrize("value", ["a\rb", "a\nb", "a\0b", "a\x7f", "\u20ac"])
def test_a_value_that_would_break_its_line_is_refused(value: str) -> None:
    headers = Headers(b"a: 1\r\n")
    for write in (headers.set, headers.add, headers.setdefault):
        with pytest.raises(ValueError, match="header"):
            write("b", value)
    assert headers.raw == b"a: 1\r\n"


@pytest.mark.parametrize("name", ["", "a b", "a:", "a\r\nb", "Content-Length", "transfer-encoding", "Connection"])
def test_a_name_that_is_none_or_ours_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="header"):
        Headers().set(name, "1")


@given(st.binary(max_size=400), st.lists(st.integers(0, 400)), st.lists(st.integers(0, 120)))
def test_a_body_goes_through_a_flow_unharmed(body: bytes, cuts: list[int], credits: list[int]) -> None:
    assert through([], split(body, cuts), credits) == body


BODIES = st.lists(st.sampled_from(["a", "b", "ab", "aab", " ", "\u00e9"]), max_size=30).map(lambda parts: "".join(parts).encode())


@given(
    BODIES,
    st.lists(st.integers(0, 60)),
    st.sampled_from(["a", "ab", "aab", "aba", "abab"]),
    st.sampled_from(["", "a", "xyz", "ab"]),
    st.booleans(),
)
def test_literals_replace_as_if_the_body_were_whole(body: bytes, cuts: list[int], text: str, new: str, is_global: bool) -> None:
    make, _ = parse(f"sub_filter '{text}' '{new}'{' g' if is_global else ''}")
    expected = body.replace(text.encode(), new.encode(), -1 if is_global else 1)
    assert through([make()], split(body, cuts), [7] * 40) == expected


PATTERNS = ["a", "a|ab", "(a+)b", "a.?b", r"\ba", "b{1,2}", "[^a]", "(?m)^a|b$", "a*"]


@settings(max_examples=300)
@given(BODIES, st.lists(st.integers(0, 60)), st.sampled_from(PATTERNS), st.booleans())
def test_regexes_replace_as_if_the_body_were_whole(body: bytes, cuts: list[int], pattern: str, is_global: bool) -> None:
    make, _ = parse(f"subs_filter '{pattern}' '<$0>'{' g' if is_global else ''}")
    whole = through([make()], [body], [])
    assert through([make()], split(body, cuts), [7] * 40) == whole
    if pattern not in ("a*", "[^a]") and body.isascii():  # Python has another notion of empty matches and of characters
        assert whole == re.sub(pattern.encode(), rb"<\g<0>>", body, count=0 if is_global else 1)


def test_long_bodies_flow_while_a_bounded_pattern_looks_for_matches() -> None:
    make, _ = parse("subs_filter '[a-c]{2,3}' 'X' g")
    flow = Flow([make()], 1_000_000)
    flow.offer(b"." * 5000, False)
    flow.pump(1_000_000)
    assert flow.ready > 4800


@pytest.mark.parametrize(
    ("pattern", "bound"), [("abc", 16), ("a+", LONGEST), ("a*", LONGEST), ("a{2,}", LONGEST), ("a{1000}", 32000), ("(a{99}){99}", LONGEST)]
)
def test_the_longest_match_of_a_pattern_is_never_underestimated(pattern: str, bound: int) -> None:
    assert longest_match(pattern) == bound


@settings(max_examples=40)
@given(st.binary(max_size=5000), st.lists(st.integers(0, 5000)), st.booleans())
def test_decoders_unpack_what_comes_in_pieces(body: bytes, cuts: list[int], is_gzip: bool) -> None:
    packed = gzip.compress(body) if is_gzip else brotli.compress(body)
    decoder: Transformer = GzipDecoder() if is_gzip else BrotliDecoder()
    assert through([decoder], split(packed, cuts), [100] * 10) == body


@given(st.text("gzipbr,;q=0.1* \t\xff", max_size=40))
def test_no_accept_encoding_makes_trouble(text: str) -> None:
    raw = text.encode("latin-1")
    coding = choose(raw, {"gzip": 1, "br": 1, "zstd": 0})
    assert coding == "" or qualities(raw)[coding] > 0


def test_lines_that_a_backend_takes_for_one_name_are_found_and_go_together() -> None:
    block = b"x-user: 1\r\nx_user: 2\r\nx.user: x-user: 3\r\nx-users: 4\r\nax-user: 5\r\nxuser: 6\r\nx--user: 7\r\nx~user: 8\r\n"
    headers = Headers(block)
    for name in ("X-User", "x_user", "x.User"):
        assert headers.alike(name) == ["x-user", "x_user", "x.user", "x~user"]
    headers.remove_alike("X-User")
    assert headers.raw == b"x-users: 4\r\nax-user: 5\r\nxuser: 6\r\nx--user: 7\r\n"
    assert {b"x-user: ", b"x_user: "} <= set(headers.removed), "no trailer brings them back"
    headers.remove_alike("x-user")
    assert headers.alike("x-user") == []
