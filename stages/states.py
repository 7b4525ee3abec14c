"""State machines as tables (as in h11's _state.py): which state may follow which, held against every move where that is wanted.

A move is an assignment to one attribute, and costs no more than that. In tests, and under `python -X dev`, `check_moves` puts a
descriptor in the attribute's place which looks into the table first.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Set
from typing import Any, Final

Moves = Mapping[Any, Set[Any]]
"""State → those that may follow. One that is set again is named among them."""

broken: Final[list[str]] = []
"""Moves that no table has, as far as they are checked: an exception may have been caught by who was called."""


class IllegalMove(Exception):
    """No table has it."""


class _Checked:
    def __init__(self, owner: type, name: str, moves: Moves) -> None:
        self._inner = owner.__dict__[name]
        """A slot, or the state that all begin in."""
        self._is_slot = hasattr(self._inner, "__set__")
        self._name = name
        self._moves = moves

    def __get__(self, instance: Any, owner: type) -> Any:
        if self._is_slot:
            return self._inner.__get__(instance, owner)
        return instance.__dict__.get(self._name, self._inner)

    def __set__(self, instance: Any, state: enum.Enum) -> None:
        before = getattr(instance, self._name, None)
        if before is not None and state not in self._moves[before]:
            broken.append(f"{type(instance).__name__}: from {before.name} to {state.name}")
            raise IllegalMove(broken[-1])
        if self._is_slot:
            self._inner.__set__(instance, state)
        else:
            instance.__dict__[self._name] = state


def check_moves(owner: type, name: str, moves: Moves) -> None:
    """From now on every move of the attribute `name` of such objects is held against the table."""
    if not isinstance(owner.__dict__[name], _Checked):
        setattr(owner, name, _Checked(owner, name, moves))
