"""Search and replace in a body that passes in pieces: what comes out is what it would be for the whole body."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Final

import re2

from pingap.plugin import BadValue, Transformer

LONGEST: Final = 64 * 1024
"""Bytes that a pattern without a bound may match across pieces."""

_OUT: Final = 64 * 1024
"""Replacements may be longer than what they replace: pieces of about this size go out, one at a time."""

_RULE: Final = re.compile(r"(subs_filter|sub_filter)\s+'([^']+)'\s+'([^']*)'(?:\s+([ig]+))?", re.DOTALL)
_REFERENCE: Final = re.compile(rb"\$(?:\$|\{([^}]*)\}|([0-9A-Za-z_]+))")
_REPEAT: Final = re.compile(r"\{(\d+)(?:(,)(\d*))?\}")

Expand = Callable[[Any], bytes]


class Literal(Transformer):
    """Replaces a text."""

    def __init__(self, text: bytes, replacement: bytes, is_global: bool) -> None:
        self._text = text
        self._replacement = replacement
        self._left = -1 if is_global else 1
        self._kept = b""

    def feed(self, data: bytes, ended: bool) -> bytes | Iterator[bytes]:
        if not self._left:
            return data
        data = self._kept + data
        if self._text not in data:
            kept = 0 if ended else self._beginning(data)
            self._kept = data[len(data) - kept :]
            return data[: len(data) - kept]
        return self._replaced(data, ended)

    def _replaced(self, data: bytes, ended: bool) -> Iterator[bytes]:
        text, replacement = self._text, self._replacement
        at, parts, size = 0, list[bytes](), 0
        while self._left and (found := data.find(text, at)) >= 0:
            parts += (data[at:found], replacement)
            size += found - at + len(replacement)
            at = found + len(text)
            self._left -= 1
            if size >= _OUT:
                yield b"".join(parts)
                parts, size = [], 0
        rest = data[at:]
        kept = self._beginning(rest) if self._left and not ended else 0
        self._kept = rest[len(rest) - kept :]
        yield b"".join((*parts, rest[: len(rest) - kept]))

    def _beginning(self, data: bytes) -> int:
        """Length of the longest end of `data` with which the text begins."""
        text = self._text
        for length in range(min(len(text) - 1, len(data)), 0, -1):
            if text.startswith(data[-length:]):
                return length
        return 0


class PatternReplacer(Transformer):
    """Replaces matches of a regex."""

    def __init__(self, pattern: Any, longest: int, expand: Expand, is_global: bool) -> None:
        self._search = pattern.search
        self._hold = longest
        self._expand = expand
        self._left = -1 if is_global else 1
        self._data = b""
        self._from = 0
        """What stands before it in `_data` has gone out: one byte, for `\\b` and `^` to look at."""
        self._is_after_match = False

    def feed(self, data: bytes, ended: bool) -> Iterator[bytes]:
        data = self._data + data
        at = self._from
        # A match that begins here or before is all there; later ones may yet turn out longer or different.
        sure = len(data) if ended else len(data) - self._hold
        parts: list[bytes] = []
        size = 0
        position = at
        while self._left and position <= sure:
            match = self._search(data, position)
            if match is None or match.start() > sure:
                break
            start, end = match.span()
            if start == end == at and self._is_after_match:
                position = start + 1  # nothing, right after a match, is no match of its own
                continue
            replacement = self._expand(match)
            parts += (data[at:start], replacement)
            size += start - at + len(replacement)
            at, position = end, end if end > start else end + 1
            self._is_after_match = True
            self._left -= 1
            if size >= _OUT:
                yield b"".join(parts)
                parts, size = [], 0
        until = len(data) if ended or not self._left else max(at, sure)
        if until > at:
            parts.append(data[at:until])
            self._is_after_match = False
        self._from = 1 if until else 0
        self._data = data[max(0, until - 1) :]
        yield b"".join(parts)


def parse(rule: str) -> tuple[Callable[[], Transformer], bool]:
    """(maker of a transformer for one body, whether it holds back more than the beginning of a match). Raises BadValue."""
    parsed = _RULE.fullmatch(rule.strip())
    if parsed is None:
        raise BadValue("is not a rule", "write \"sub_filter 'text' 'replacement' g\" or \"subs_filter 'regex' 'replacement' ig\"")
    directive, text, replacement, flags = parsed.group(1), parsed.group(2), parsed.group(3).encode(), parsed.group(4) or ""
    is_global, ignores_case = "g" in flags, "i" in flags
    if directive == "sub_filter" and not ignores_case:
        return lambda: Literal(text.encode(), replacement, is_global), False
    options = re2.Options()
    options.log_errors = False
    options.case_sensitive = not ignores_case
    if directive == "sub_filter":
        options.literal = True
        pattern = re2.compile(text.encode(), options)
        return lambda: PatternReplacer(pattern, 4 * len(text) + 4, lambda match: replacement, is_global), True
    try:
        pattern = re2.compile(text.encode(), options)
    except re2.error as error:
        reason = error.args[0].decode() if isinstance(error.args[0], bytes) else str(error)
        raise BadValue(f"the regex is refused: {reason}", "the syntax is that of google-re2") from error
    expand = _expander(replacement, pattern)
    longest = longest_match(text)
    return lambda: PatternReplacer(pattern, longest, expand, is_global), True


def longest_match(pattern: str) -> int:
    """A bound on the bytes of a match, with those around it that matter; `LONGEST` where the text of the pattern shows none."""
    bound = 4 * len(pattern) + 4  # one element of a pattern takes at least one character, and matches at most four bytes
    repeats = list(_REPEAT.finditer(pattern))
    if "*" in pattern or "+" in pattern or any(repeat[2] and not repeat[3] for repeat in repeats):
        return LONGEST
    for repeat in repeats:
        bound *= max(1, int(repeat[3] or repeat[1]))
    return min(bound, LONGEST)


def _expander(replacement: bytes, pattern: Any) -> Expand:
    """`$1`, `$name` (as long as it can be) and `${name}` are groups, `$$` is a dollar; as in Rust's regex."""
    parts: list[bytes | int] = []
    at = 0
    for found in _REFERENCE.finditer(replacement):
        parts.append(replacement[at : found.start()])
        at = found.end()
        name = found.group(1) if found.group(1) is not None else found.group(2)
        if name is None:
            parts.append(b"$")
            continue
        number = int(name) if name.isdigit() else pattern.groupindex.get(name, -1)
        if not 0 <= number <= pattern.groups:
            braces = f"; write ${{{name[:1].decode()}}}{name[1:].decode()} for group {name[:1].decode()}" if name[:1].isdigit() else ""
            raise BadValue(f"the regex has no group {name.decode()!r}", f"its groups are 0 to {pattern.groups}{braces}")
        parts.append(number)
    parts.append(replacement[at:])
    pieces = [part for part in parts if part != b""]
    if all(isinstance(piece, bytes) for piece in pieces):
        constant = b"".join(piece for piece in pieces if isinstance(piece, bytes))
        return lambda match: constant
    return lambda match: b"".join([piece if isinstance(piece, bytes) else match.group(piece) or b"" for piece in pieces])
