"""Log lines that a client, a backend or a fault can cause once a request: so many a second of each kind, the rest are counted."""

from __future__ import annotations

import asyncio
from typing import Any, Final, Protocol

MOST: Final = 5
"""Lines of one kind in one second."""

SECOND: Final = 1.0


class Log(Protocol):
    """What is needed of a context."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...

    def log(self, level: str, message: str, **fields: Any) -> None: ...


class _Kind:
    """One kind of line within one second."""

    __slots__ = ("held", "last", "told")

    def __init__(self) -> None:
        self.told = 0
        self.held = 0
        """Lines that were not told."""
        self.last: tuple[str, str, dict[str, Any]] = ("", "", {})
        """Level, message and fields of the last of those."""


class Repeats:
    """Every such line goes through here. At the end of a second the last of those that were held back is told, with the number of
    the others as `more_like_it`."""

    def __init__(self, context: Log, most: int = MOST) -> None:
        """most: lines of one kind in one second."""
        self._context = context
        self._most = most
        self._kinds: dict[str, _Kind] = {}
        """Those of the last second: nothing is left of one that has become quiet."""

    def log(self, level: str, message: str, key: str = "", **fields: Any) -> None:
        """key: the kind of line, one of few, whatever clients say; "" = that is the message."""
        key = key or message
        kind = self._kinds.get(key)
        if kind is None:
            kind = self._kinds[key] = _Kind()
            self._context.loop.call_later(SECOND, self._second_over, key)
        if kind.told < self._most:
            kind.told += 1
            self._context.log(level, message, **fields)
        else:
            kind.held += 1
            kind.last = (level, message, fields)

    def _second_over(self, key: str) -> None:
        kind = self._kinds[key]
        if not kind.held:
            del self._kinds[key]
            return
        level, message, fields = kind.last
        others = {"more_like_it": kind.held - 1} if kind.held > 1 else {}
        kind.told, kind.held = 1, 0
        self._context.loop.call_later(SECOND, self._second_over, key)
        self._context.log(level, message, **fields, **others)
