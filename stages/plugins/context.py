"""What plugins tell each other, the backend and the access log about one request: `exchange.context`.

It travels with the request and its answer, so it holds what every reader of the wire and of the events understands.
A value of another kind is refused in the line that puts it there: later nobody could say whose it was.
"""

from __future__ import annotations

from typing import Any, Final

_SCALARS: Final = frozenset((str, int, float, bool, bytes, type(None)))
_LEAST: Final = -(2**63)
_MOST: Final = 2**64 - 1

DEPTH: Final = 64
"""Lists and tables within each other; beyond that something holds itself."""

_KINDS: Final = "text, bytes, numbers of at most 64 bits, true, false, None, and lists and tables of them, with text as keys"


class ExchangeContext(dict[str, Any]):
    """Text → text, bytes, numbers of at most 64 bits, bool, None, and lists and tables of them.

    Raises TypeError when anything else is put in.
    """

    __slots__ = ()

    def __setitem__(self, key: str, value: Any) -> None:
        if type(key) is not str or type(value) is not str or not (value.isascii() and key.isascii()):
            value = self._taken(key, value)
        super().__setitem__(key, value)

    def setdefault(self, key: str, default: Any = None) -> Any:
        if key not in self:
            self[key] = default
        return self[key]

    def update(self, *args: Any, **more: Any) -> None:
        for key, value in dict(*args, **more).items():
            self[key] = value

    def __ior__(self, other: Any) -> ExchangeContext:  # type: ignore[override,misc]
        self.update(other)
        return self

    def _taken(self, key: Any, value: Any) -> Any:
        """`value` as it is kept: a kind of text or number (an enum's, say) as plain text or number."""
        value = _plain(value)
        try:
            _check_key(key)
            _check(value, 0)
        except _CannotTravel as problem:
            raise TypeError(f"context[{key!r:.100}] cannot hold this {type(value).__name__}: {problem}") from None
        return value

    def check(self) -> None:
        """Looks once more at lists and tables: what they hold may have changed since.

        Raises TypeError, and lets go of what cannot travel: the answer that tells of the failure has to.
        """
        bad: dict[str, _CannotTravel] = {}
        for key, value in self.items():
            if type(value) not in _SCALARS:
                try:
                    _check(value, 0)
                except _CannotTravel as problem:
                    bad[key] = problem
        for key in bad:
            del self[key]
        if bad:
            first = next(iter(bad))
            raise TypeError(f"context[{first!r:.100}] was given what it cannot hold: {bad[first]}")


class _CannotTravel(Exception):
    pass


def _plain(value: Any) -> Any:
    kind = type(value)
    if kind in _SCALARS:
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    return value


def _check(value: Any, depth: int) -> None:
    kind = type(value)
    if kind is str:
        _check_text(value)
    elif kind is int:
        if not _LEAST <= value <= _MOST:
            raise _CannotTravel("a whole number has at most 64 bits")
    elif kind in _SCALARS:
        pass
    elif depth >= DEPTH:
        raise _CannotTravel(f"there are more than {DEPTH} lists or tables within each other, or one holds itself")
    elif isinstance(value, list | tuple):
        for item in value:
            _check(item, depth + 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_key(key)
            _check(item, depth + 1)
    else:
        raise _CannotTravel(f"{kind.__name__} is none of {_KINDS}")


def _check_key(key: Any) -> None:
    if type(key) is not str:
        raise _CannotTravel(f"a key is text, not {type(key).__name__}")
    _check_text(key)


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _CannotTravel("the text has half a surrogate pair in it") from None
