"""Cache-Tag and Surrogate-Key."""

from __future__ import annotations

import pytest

from pingap.stages.caching.tags import LONGEST, MOST, tags_of


@pytest.mark.parametrize(
    ("headers", "tags"),
    [
        (b"", ()),
        (b"cache-tag: a\r\n", (b"a",)),
        (b"cache-tag: a, b c,,a\r\ncache-tag: d\r\n", (b"a", b"b c", b"d")),
        (b"surrogate-key: a  b\r\nx: y\r\nsurrogate-key: c\r\n", (b"a", b"b", b"c")),
        (b"surrogate-key: a,b\r\ncache-tag: a\r\n", (b"a", b"a,b")),
        (b"x-cache-tag: a\r\n", ()),
        (b"cache-tag: \r\n", ()),
        (b"cache-tag: A, a\r\n", (b"A", b"a")),
    ],
)
def test_tags(headers: bytes, tags: tuple[bytes, ...]) -> None:
    assert tags_of(headers) == tags


def test_an_answer_that_not_every_purge_would_find_is_told() -> None:
    most = b",".join(b"%d" % number for number in range(MOST))
    assert len(tags_of(b"cache-tag: " + most + b"\r\n") or ()) == MOST
    assert tags_of(b"cache-tag: " + most + b",x\r\n") is None
    assert tags_of(b"surrogate-key: " + b"x" * LONGEST + b"\r\n") is not None
    assert tags_of(b"surrogate-key: " + b"x" * (LONGEST + 1) + b"\r\n") is None
