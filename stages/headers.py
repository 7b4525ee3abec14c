"""Reading and cutting a header block in its normal form: `name: value\\r\\n` lines, names in lower case.

A block is one bytes value and stays one: splitting it into a table costs more
than all that a stage wants to know of it (docs/design.md).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache

from pingap.stages.header_view import spellings

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


def has_line(headers: bytes, line: bytes) -> bool:
    """Whether there is one. line: `name: `, lower case."""
    return headers.startswith(line) or headers.find(b"\n" + line) >= 0


def joined(headers: bytes, name: bytes) -> bytes | None:
    """The value of a header that is a list, of all its lines (RFC 9110 section 5.3), or None."""
    if headers.count(name + b": ") < 2:
        return value_of(headers, name)  # a third of what splitting the block takes
    values = values_of(headers, name)
    return b", ".join(values) if values else None


def without_names_of(block: bytes, headers: bytes) -> bytes:
    """A block without the lines of every name that `headers` has."""
    known = {line.partition(b":")[0] for line in headers.split(b"\r\n")}
    return b"".join(line + b"\r\n" for line in block.split(b"\r\n")[:-1] if line.partition(b":")[0] not in known)


def without_changed(trailers: bytes, before: bytes, after: bytes, removed: Iterable[bytes] = ()) -> bytes:
    """Trailers without those of names whose lines differ between two states of the head that they end. removed: `name: ` of more."""
    changed = set(before.split(b"\r\n")) ^ set(after.split(b"\r\n"))
    return without_names_of(trailers, b"\r\n".join((*changed, *removed)))


def cutter(names: Iterable[bytes]) -> Cut:
    """A function that returns a block without the lines of these names (lower case)."""
    return _cutter(tuple(dict.fromkeys(names)))


def loose_cutter(names: Iterable[bytes], keep: Iterable[bytes] = ()) -> Cut:
    """As `cutter`, and in every spelling that some backend takes for the name: to CGI, WSGI and PHP `x_user` is `x-user`.

    For lines that only we may write. keep: names of which only the other spellings are cut.
    """
    return _loose_cutter(tuple(dict.fromkeys(names)), tuple(dict.fromkeys(keep)))


@lru_cache(1024)
def _loose_cutter(wanted: tuple[bytes, ...], kept: tuple[bytes, ...]) -> Cut:
    if not kept and all(name.isalnum() for name in wanted):
        return _cutter(wanted)
    one = [spellings(name.decode("latin-1")) for name in wanted]
    one += [b"(?!%b: )%b" % (re.escape(name), spellings(name.decode("latin-1"))) for name in kept]
    line = rb"(?:" + b"|".join(one) + rb"): [^\n]*"
    first = re.compile(rb"(?:" + line + rb"\n)+").match
    remove = re.compile(rb"\n" + line).sub

    def cut(headers: bytes) -> bytes:
        begun = first(headers)
        return remove(b"", headers if begun is None else headers[begun.end() :])

    return cut


@lru_cache(1024)
def _cutter(wanted: tuple[bytes, ...]) -> Cut:
    # Thousands of locations have the same few rules, and compiling a pattern costs more than all else of a location.
    if not wanted:
        return lambda headers: headers
    first = tuple(name + b": " for name in wanted)
    # From line end to line end: a pattern that begins with one fixed byte is faster than a substring search per name.
    remove = re.compile(rb"\n(?:" + b"|".join(map(re.escape, wanted)) + rb"): [^\n]*").sub

    def cut(headers: bytes) -> bytes:
        while headers.startswith(first):
            headers = headers[headers.index(b"\n") + 1 :]
        return remove(b"", headers)

    return cut
