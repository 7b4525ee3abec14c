"""Decides when it is told that an upstream has no healthy backend left, or one again."""

from __future__ import annotations

from collections.abc import Collection, Iterable


class Downs:
    """What has been told. Look at it some time after something has turned: what has turned back by then is not told at all."""

    def __init__(self) -> None:
        self._told: frozenset[str] = frozenset()

    def begin(self, down: Iterable[str]) -> None:
        """The life before this one has told of these."""
        self._told = frozenset(down)

    def turned(self, down: Iterable[str], there: Collection[str]) -> tuple[list[str], list[str]]:
        """(upstreams that have come to no healthy backend, those that have one again), since the last time, in order.

        down: those that are so now. there: all upstreams; of one that has left nothing is told.
        """
        before, self._told = self._told, frozenset(down)
        return sorted(self._told - before), sorted(name for name in before - self._told if name in there)
