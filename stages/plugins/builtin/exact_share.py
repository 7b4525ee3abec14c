"""Which requests are those of a share, so that it is met exactly and nobody can tell which comes next: a part of `traffic_splitting`."""

from __future__ import annotations

from collections.abc import Callable, MutableSequence
from typing import Any, Final

BLOCK: Final = 100
"""Requests within which the share is met to a whole request."""

WHOLE: Final = BLOCK * BLOCK
"""Requests within which it is met exactly."""


class ExactShare:
    """Deals yes and no from shuffled decks: of each 100 requests as many whole ones as the share has per cent, and what is behind its
    point is spread over 100 such blocks. Dice would miss 10 % of 10,000 requests by 30 every third time."""

    __slots__ = ("_deck", "_extras", "_part", "_percent", "_shuffle")

    def __init__(self, share: int, shuffle: Callable[[MutableSequence[Any]], None]) -> None:
        """share: of 10,000 requests. shuffle: puts a list into any order."""
        self._percent, self._part = divmod(share, BLOCK)
        self._shuffle = shuffle
        self._deck: list[bool] = []
        self._extras: list[int] = []
        """For each of the blocks to come, whether it has one more."""

    def deal(self) -> bool:
        """Whether one more request is of the share: each call is a request."""
        if not self._deck:
            self._deck = self._next_deck()
        return self._deck.pop()

    def _next_deck(self) -> list[bool]:
        if self._part and not self._extras:
            self._extras = [1] * self._part + [0] * (BLOCK - self._part)
            self._shuffle(self._extras)
        hits = self._percent + (self._extras.pop() if self._extras else 0)
        deck = [True] * hits + [False] * (BLOCK - hits)
        if 0 < hits < BLOCK:
            self._shuffle(deck)
        return deck
