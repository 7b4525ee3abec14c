"""`normalize_path` of a server: one spelling for all the paths that a backend may take for the same (RFC 3986 section 6.2.2).

Clients can write a path in many ways. A location that guards one of them guards
nothing when the backend understands another, so here they become one before
locations are compared. What two backends would understand differently, and no
client writes in good faith, has no normal form: it is refused.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_UNRESERVED: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_RAW: Final = frozenset(range(0x21, 0x7F)) - frozenset(b"%/?#;\\")
"""Bytes that stand in a normal path as they are, or as an escape that is kept: which of both is up to the client."""

# Something to do or to refuse: a doubled slash, one that leans the other way, parameters, a dot segment, an escape of
# what needs none, with small digits, of a slash, or that is none.
_UNTIDY: Final = re.compile(rb"//|[\\;]|/\.\.?(?=/|\Z)|%(?!0[1-9A-F]|[189A-F][0-9A-F]|2[0-9ABC]|3[AC-F]|40|5[BDE]|60|7[BCDF])")
_ESCAPE: Final = re.compile(rb"%([0-9A-Fa-f]{2})?")
_HIDDEN: Final = re.compile(rb"%2F|%5C|%3B|;")
"""What some backends take for a slash, or for the beginning of parameters, after they have undone escapes."""
_DOTS: Final = (b".", b"..")


class Unclear(ValueError):
    """A path that backends understand differently; the text says why."""


class Normal(NamedTuple):
    """A target, its query as it was."""

    compared: bytes
    """Without parameters of its segments (`;…`): what locations are compared with."""
    path: bytes
    """With them: what goes on."""


def is_tidy(target: bytes) -> bool:
    """There is nothing to normalise: the rule, and one search."""
    mark = target.find(b"?")
    return _UNTIDY.search(target, 0, len(target) if mark < 0 else mark) is None


def normalize(target: bytes) -> Normal:
    """A target that begins with a slash, in normal form. Raises Unclear."""
    path, mark, query = target.partition(b"?")
    # The segments of RFC 3986 section 5.2.4, empty ones too: `..` goes back over one of them, or over the one before it,
    # depending on whether the backend merges slashes.
    kept: list[bytes] = []
    segments = tidy(path).replace(b"\\", b"/").split(b"/")
    last = len(segments) - 1
    for at in range(1, last + 1):
        segment = segments[at]
        if segment in _DOTS:
            if segment == b".." and kept and not kept.pop():
                raise Unclear("dots behind a doubled slash")
            segment = b""
            if at < last:
                continue
        elif segment[:1] == b";" and at < last:
            raise Unclear("a segment of parameters alone")
        elif _HIDDEN.search(segment) is not None and any(part in _DOTS for part in _HIDDEN.split(segment)):
            raise Unclear("dots beside an escaped slash or parameters")
        kept.append(segment)
    rest = mark + query
    final = kept.pop()
    kept = [segment for segment in kept if segment]
    normal = b"/".join((b"", *kept, final))
    if b";" not in normal:
        return Normal(normal + rest, normal + rest)
    compared = b"/".join((b"", *(segment.partition(b";")[0] for segment in (*kept, final))))
    return Normal(compared + rest, normal + rest)


def tidy(path: bytes) -> bytes:
    """Escapes of unreserved characters undone, those of others with capital digits. Raises Unclear for what is no escape, and for NUL."""
    return _ESCAPE.sub(_tidied, path) if b"%" in path else path


def _tidied(found: re.Match[bytes]) -> bytes:
    if found[1] is None:
        raise Unclear("a percent sign that begins no escape")
    code = int(found[1], 16)
    if not code:
        raise Unclear("an escaped NUL")
    return b"%c" % code if code in _UNRESERVED else found[0].upper()


def spellings(path: bytes) -> tuple[bytes, str]:
    """(the path of a location as normal paths have it, a regex for its spellings in these; "" when there is only the one).

    A reserved character and its escape need not mean the same (section 2.2), so both stay as they are in what goes on, and a
    location takes either.
    """
    path = tidy(path)
    parts = []
    is_one = True
    for found in re.finditer(rb"%..|.", path, re.DOTALL):
        code = int(found[0][1:], 16) if len(found[0]) == 3 else found[0][0]
        if code in _UNRESERVED or code not in _RAW:
            parts.append("".join(f"\\x{byte:02x}" for byte in found[0]))
        else:
            parts.append(f"(?:\\x{code:02x}|%{code:02X})")
            is_one = False
    return path, "" if is_one else "".join(parts)
