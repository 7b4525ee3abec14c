"""The Date line of answers that came without one (RFC 9110 section 6.6.1): our own, and those of backends without a clock."""

from __future__ import annotations

from collections.abc import Callable
from email.utils import formatdate
from time import time
from typing import Final


class DateLine:
    """Makes the line once a second. One for a process will do: `dated`."""

    __slots__ = ("_clock", "_line", "_until")

    def __init__(self, clock: Callable[[], float] = time) -> None:
        """clock: seconds since 1970."""
        self._clock = clock
        self._line = b""
        self._until = 0.0

    def at(self, now: float) -> bytes:
        """`date: …\\r\\n`. now: monotonic seconds, the present."""
        if now >= self._until:
            seconds = self._clock()
            self._line = b"date: %b\r\n" % formatdate(seconds, usegmt=True).encode()
            self._until = now + 1 - seconds % 1
        return self._line


_now: Final = DateLine()


def dated(headers: bytes, now: float) -> bytes:
    """The line that a header block in normal form lacks: b"" when it has a Date. now: monotonic seconds."""
    if headers.find(b"\ndate: ") >= 0 or headers.startswith(b"date: "):  # `in` costs twice a find, for it makes an exception
        return b""
    return _now.at(now)
