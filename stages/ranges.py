"""`Range` and its answers (RFC 9110 section 14). Decides; reads nothing.

Who asks for many small ranges, or for the same bytes again and again, makes a server send more than the file has, or heads
without end (CVE-2011-3192): there the whole file is the answer, which section 14.2 leaves to us.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

Spans = list[tuple[int, int]]
"""(first byte, byte behind the last) of each part, in the order in which they are sent; no two overlap."""

MOST_PARTS: Final = 32
MOST_TEXT: Final = 1024
"""Bytes of the header."""

_SPEC: Final = re.compile(rb"[ \t]*(?:([0-9]+)-([0-9]*)|-([0-9]+))[ \t]*")


def spans_of(value: bytes, size: int) -> Spans | None:
    """The parts that a Range header asks for of a file of `size` bytes; None: it is ignored; []: none of them is there (416)."""
    unit, equals, text = value.partition(b"=")
    if not equals or unit.strip().lower() != b"bytes" or len(value) > MOST_TEXT:
        return None
    if not size:
        return None  # there is no part of nothing, and players that ask for all of it take 416 for an error
    found: Spans = []
    asked = 0
    for part in text.split(b","):
        if not part.strip(b" \t"):
            continue  # lists may have empty elements (section 5.6.1.2)
        spec = _SPEC.fullmatch(part)
        if spec is None:
            return None
        asked += 1
        if asked > MOST_PARTS:
            return None
        if spec[3] is not None:
            count = int(spec[3])
            first, end = max(0, size - count), size
        else:
            first, end = int(spec[1]), size
            if spec[2]:
                last = int(spec[2])
                if last < first:
                    return None
                end = min(size, last + 1)
        if first < end:
            found.append((first, end))
    if not asked:
        return None
    if sum(end - first for first, end in found) > size:
        return None
    return _joined(found)


def _joined(spans: Sequence[tuple[int, int]]) -> Spans:
    """Those that overlap made one, in the place of the first of them (section 15.3.7.2)."""
    joined: Spans = []
    for first, end in spans:
        while True:
            at = next((at for at, (a, b) in enumerate(joined) if first < b and a < end), None)
            if at is None:
                break
            a, b = joined[at]
            if (min(a, first), max(b, end)) == (a, b):
                first = end = -1  # within another
                break
            first, end = min(a, first), max(b, end)
            del joined[at]
        if first >= 0:
            joined.append((first, end))
    return joined


def content_range(first: int, end: int, size: int) -> bytes:
    return b"bytes %d-%d/%d" % (first, end - 1, size)


def part_heads(spans: Spans, size: int, content_type: bytes, boundary: bytes) -> list[bytes]:
    """What stands before each part of a multipart/byteranges body, and behind the last (section 14.6). content_type: b"" for none."""
    kind = b"Content-Type: %b\r\n" % content_type if content_type else b""
    form = b"\r\n--%b\r\n%bContent-Range: %b\r\n\r\n"
    heads = [form % (boundary, kind, content_range(first, end, size)) for first, end in spans]
    heads[0] = heads[0].removeprefix(b"\r\n")
    return [*heads, b"\r\n--%b--\r\n" % boundary]
