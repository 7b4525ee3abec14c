"""The `rewrite` of a location: the first match of a regex in the path gives way to a replacement."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from pingap.config.parts import Rewrite
from pingap.stages.routing.match import Captures, Pattern
from pingap.stages.spellings import as_sent

_REFERENCE: Final = re.compile(r"\$(?:\{(\w+)\}|(\w+)|\$)")


class Rewriter:
    """A compiled rewrite. Never makes a target that a backend could misread: it stays visible ASCII and begins with `/`."""

    __slots__ = ("_pattern", "_pieces")

    def __init__(self, rewrite: Rewrite) -> None:
        """Raises re2.error for a bad pattern."""
        self._pattern = Pattern(rewrite.pattern)
        pieces: list[bytes | int | str] = []
        position = 0
        for match in _REFERENCE.finditer(rewrite.replacement):
            pieces.append(as_sent(rewrite.replacement[position : match.start()]))
            name = match[1] or match[2]
            pieces.append(b"$" if name is None else int(name) if name.isascii() and name.isdigit() else name)
            position = match.end()
        pieces.append(as_sent(rewrite.replacement[position:]))
        self._pieces: Final = tuple(piece for piece in pieces if piece != b"")

    def apply(self, target: bytes, known: Mapping[str, str]) -> tuple[bytes, Captures]:
        """(the new target, named captures of the pattern); the target itself when nothing matches.

        `known` are the captures of host and path. The query stays, after one that the replacement brings.
        """
        path, mark, query = target.partition(b"?")
        match = self._pattern.search(path)
        if match is None or not path.startswith(b"/"):  # `OPTIONS *` has no path
            return target, {}
        named = self._pattern.named(match)
        parts = [path[: match.start()]]
        for piece in self._pieces:
            if type(piece) is bytes:
                parts.append(piece)
            elif type(piece) is int:
                parts.append(match[piece] or b"")
            else:
                value = named.get(piece)  # type: ignore[arg-type]
                parts.append((known.get(piece, "") if value is None else value).encode("latin-1"))  # type: ignore[arg-type]
        parts.append(path[match.end() :])
        new = b"".join(parts)
        if not new.startswith(b"/"):
            new = b"/" + new
        if mark:
            new += (b"&" if b"?" in new else b"?") + query
        return new, named
