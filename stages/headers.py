"""Reading and cutting a header block in its normal form: `name: value\\r\\n` lines, names in lower case.

A block is one bytes value and stays one: splitting it into a table costs more
than all that a stage wants to know of it (design.md section 1).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

Cut = Callable[[bytes], bytes]


def value_of(headers: bytes, name: bytes) -> bytes | None:
    """The value of the first line called `name` (lower case), or None."""
    needle = name + b": "
    if headers.startswith(needle):
        start = len(needle)
    else:
        start = headers.find(b"\r\n" + needle)
        if start < 0:
            return None
        start += len(needle) + 2
    return headers[start : headers.index(b"\r\n", start)]


def values_of(headers: bytes, name: bytes) -> list[bytes]:
    """The values of all lines called `name` (lower case), in their order."""
    needle = name + b": "
    if needle not in headers:
        return []
    length = len(needle)
    return [line[length:] for line in headers.split(b"\r\n") if line.startswith(needle)]


def cutter(names: Iterable[bytes]) -> Cut:
    """A function that returns a block without the lines of these names (lower case)."""
    wanted = tuple(dict.fromkeys(names))
    if not wanted:
        return lambda headers: headers
    needles = tuple(name + b": " for name in wanted)
    lines = re.compile(rb"(?m)^(?:" + b"|".join(map(re.escape, wanted)) + rb"): [^\n]*\n")

    def cut(headers: bytes) -> bytes:
        # Most requests have none of the lines: a substring search says so at a tenth of the pattern's cost.
        for needle in needles:
            if needle in headers:
                return lines.sub(b"", headers)
        return headers

    return cut
