"""What a Range asks for (RFC 9110 section 14), and what stands around the parts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingap.stages.ranges import MOST_PARTS, part_heads, spans_of


@pytest.mark.parametrize(
    ("value", "spans"),
    [
        ("bytes=0-499", [(0, 500)]),
        ("bytes=500-999", [(500, 1000)]),
        ("bytes=-500", [(500, 1000)]),
        ("bytes=500-", [(500, 1000)]),
        ("bytes=0-0,-1", [(0, 1), (999, 1000)]),
        ("bytes=990-5000", [(990, 1000)]),
        ("bytes=-5000", [(0, 1000)]),
        ("Bytes=0-0", [(0, 1)]),
        ("bytes= 0-0 ,\t1-1,,", [(0, 1), (1, 2)]),
        ("bytes=700-709,0-9", [(700, 710), (0, 10)]),
        ("bytes=0-9,5-14", [(0, 15)]),
        ("bytes=0-9,20-29,5-24", [(0, 30)]),
        ("bytes=1000-", []),
        ("bytes=1000-2000,3000-", []),
        ("bytes=-0", []),
        ("bytes=0-1,1000-", [(0, 2)]),
        ("bytes=", None),
        ("bytes", None),
        ("bytes=a-b", None),
        ("bytes=5-1", None),
        ("bytes=0-1,5-1", None),
        ("bytes=0-1;2-3", None),
        ("bytes=--1", None),
        ("bytes=0x1-2", None),
        ("bytes=1-2-3", None),
        ("bytes=\u0661-2", None),
        ("lines=0-1", None),
        ("bytes=0-,0-", None),  # more than the file
        ("bytes=" + ",".join(["0-"] * 1300), None),  # CVE-2011-3192
        ("bytes=" + ",".join(f"{n}-{n}" for n in range(0, 2 * MOST_PARTS + 2, 2)), None),
        ("bytes=0-" + "9" * 5000, None),
        ("bytes=0-" + "9" * 500, [(0, 1000)]),
    ],
)
def test_the_parts_that_a_range_asks_for(value: str, spans: list[tuple[int, int]] | None) -> None:
    assert spans_of(value.encode(), 1000) == spans


@pytest.mark.parametrize("value", ["bytes=0-", "bytes=-5", "bytes=-0"])
def test_an_empty_file_is_sent_as_it_is(value: str) -> None:
    assert spans_of(value.encode(), 0) is None


NUMBER = st.one_of(st.just(""), st.integers(0, 40).map(str), st.integers(0, 10**30).map(str))


@given(st.lists(st.tuples(NUMBER, NUMBER), max_size=8), st.integers(0, 40))
def test_parts_are_within_the_file_never_overlap_and_are_no_more_than_it(pairs: list[tuple[str, str]], size: int) -> None:
    spans = spans_of(b"bytes=" + ",".join(f"{a}-{b}" for a, b in pairs).encode(), size)
    taken: set[int] = set()
    for first, end in spans or ():
        assert 0 <= first < end <= size
        assert not taken & set(range(first, end))
        taken |= set(range(first, end))
    if spans:
        asked = set()
        for a, b in pairs:
            if a:
                asked |= set(range(int(a), min(size, int(b) + 1 if b else size)))
            elif b:
                asked |= set(range(max(0, size - int(b)), size))
        assert taken == asked


@given(st.binary(max_size=60), st.integers(0, 100))
def test_any_bytes_are_a_range_or_none(value: bytes, size: int) -> None:
    for text in (value, b"bytes=" + value):
        spans = spans_of(text, size)
        assert spans is None or all(0 <= first < end <= size for first, end in spans)


def test_the_heads_of_parts() -> None:
    heads = part_heads([(0, 1), (5, 9)], 10, b"text/plain", b"B")
    assert heads == [
        b"--B\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-0/10\r\n\r\n",
        b"\r\n--B\r\nContent-Type: text/plain\r\nContent-Range: bytes 5-8/10\r\n\r\n",
        b"\r\n--B--\r\n",
    ]
