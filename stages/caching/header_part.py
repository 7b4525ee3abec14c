"""What a header of the request puts into a key."""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

LONGEST_VALUE: Final = 64
"""Bytes of a header's value that is in the key as it is; of a longer one its digest is."""

SECRET: Final = frozenset((b"authorization", b"cookie", b"proxy-authorization", b"x-api-key", b"x-auth-token", b"x-csrf-token"))
"""Headers of which the key has a digest: keys are shown (`pingap cache explain`, Cache-Status)."""


class HeaderPart:
    """The part of a key that a header of the request is."""

    __slots__ = ("_absent", "_is_secret", "_line", "_needle", "_present")

    def __init__(self, name: bytes) -> None:
        """name: in lower case."""
        self._is_secret: bool = name in SECRET
        self._line: bytes = name + b": "
        self._needle: bytes = b"\n" + self._line
        self._absent: bytes = b"\0" + name
        self._present: bytes = b"\0" + self._line

    def part_of(self, block: bytes) -> bytes:
        """With the NUL before it. Lines that are several are told from one with a comma in it: backends may tell them, too."""
        line = self._line
        size = len(line)
        if block.startswith(line):
            start = 0
        else:
            start = block.find(self._needle) + 1
            if start == 0:
                return self._absent
        end = block.index(b"\r\n", start)
        value = block[start + size : end]
        if block.find(self._needle, end) >= 0:
            value = b"\n".join([one[size:] for one in block.split(b"\r\n") if one.startswith(line)])
        if len(value) > LONGEST_VALUE or self._is_secret:
            return self._absent + b"# " + blake2b(value, digest_size=16).hexdigest().encode()
        if value.find(b"\0") >= 0 or value.find(b"\1") >= 0:
            value = escaped(value)
        return self._present + value


def escaped(text: bytes) -> bytes:
    """Without NUL; different texts stay different."""
    return text.replace(b"\1", b"\1\1").replace(b"\0", b"\1\2")
