"""Names of query parameters, or of cookies: whole ones, and beginnings of some."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from pingap.config.problems import BadValue
from pingap.config.quantities import shown
from pingap.stages.spellings import one_case, parameter

_HINT: Final = 'write a whole name, or its beginning: "utm_*"'


class NamePatterns:
    """Whether a name is one of these. A pattern is a whole name, or its beginning with a `*` behind it; `*` alone is all of them.

    Case counts. Letters beyond ASCII are percent-encoded in requests, and written as they are here.
    """

    __slots__ = ("_starts", "_whole")

    def __init__(self, patterns: Iterable[str]) -> None:
        """Raises BadValue for what is no pattern."""
        whole: set[bytes] = set()
        starts: set[bytes] = set()
        for pattern in patterns:
            name = pattern.removesuffix("*")
            if "*" in name:
                raise BadValue(f"{shown(pattern)} has a * that is not at its end", _HINT)
            if not pattern or any(sign in name for sign in "&=;?# \t\r\n\0"):
                raise BadValue(f"{shown(pattern)} is not the name of a parameter or cookie", _HINT)
            (whole if name == pattern else starts).add(parameter(name))
        self._whole: frozenset[bytes] = frozenset(whole)
        self._starts: tuple[bytes, ...] = tuple(sorted(starts))

    def has(self, name: bytes) -> bool:
        """name: as it was sent."""
        if name.find(b"%") >= 0:
            name = one_case(name)
        return name in self._whole or name.startswith(self._starts)
