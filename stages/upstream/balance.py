"""Which backend gets a request. Pure: health, load and randomness come in as arguments.

Every balancer orders the *usable* backends only: a backend is usable when it is
healthy and was not tried for this request.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Sequence
from hashlib import blake2b
from itertools import accumulate
from math import gcd
from operator import add
from typing import Final, Protocol

MAX_CYCLE: Final = 4096
"""Longest precomputed round-robin cycle; larger weights are scaled down to it."""

RING_POINTS: Final = 160
"""Points on the hash ring per unit of weight (nginx and ketama use 160)."""

MAX_SHARE: Final = 64
"""Units of weight that the heaviest backend of a ring has at most; larger weights are scaled down to it."""

MAX_POINTS: Final = 1 << 18
"""Points of a ring, of which each costs a microsecond to make; with more backends, or more unlike ones, each gets fewer."""


class Load(Protocol):
    """What a balancer may look at."""

    weight: int
    active: int
    """Requests of this process at the backend now."""
    elsewhere: int
    """The same of other processes, as of some moments ago."""


Usable = Callable[[int], bool]


class Balancer(Protocol):
    def pick(self, key: str, usable: Usable | None) -> int:
        """Index of the backend, -1 when none is usable. usable None: all are."""


def cycle_of(weights: Sequence[int], most: int = MAX_CYCLE) -> list[int]:
    """One smooth weighted round-robin cycle (the algorithm of nginx): [5, 1, 1] → 0 0 1 0 2 0 0. most: its length, about."""
    live = [weight for weight in weights if weight > 0]
    if not live:
        return []
    divisor = gcd(*live)
    scaled = [weight // divisor for weight in weights]
    total = sum(scaled)
    if total > most:
        scaled = [max(1, weight * most // total) if weight else 0 for weight in scaled]
        total = sum(scaled)
    # Those of the same weight have their turns one after the other, so it is enough to compare the next one of each weight. There
    # are no more than 90 different weights in a cycle, and mostly there is one.
    queues: dict[int, list[int]] = {}
    for index, weight in enumerate(scaled):
        if weight:
            queues.setdefault(weight, []).append(index)
    lines = list(queues.values())
    turns = [0] * len(lines)
    count = len(scaled)
    gains = [weight * count for weight in queues]
    scores = [-line[0] for line in lines]
    """Of the next one of each line: what it is owed, times `count`; less its index, which decides between equals."""
    cycle: list[int] = []
    for _ in range(total):
        scores = list(map(add, scores, gains))
        best = max(scores)
        at = scores.index(best)
        line, turn = lines[at], turns[at]
        index = line[turn]
        cycle.append(index)
        turn += 1
        if turn == len(line):
            turn = 0
            best -= total * count
        turns[at] = turn
        scores[at] = best + index - line[turn]
    return cycle


class RoundRobin:
    """Weighted, smooth: a heavy backend's turns are spread over the cycle."""

    def __init__(self, weights: Sequence[int], start: int = 0, most: int = MAX_CYCLE) -> None:
        self._cycle = cycle_of(weights, most)
        self._next = start % len(self._cycle) if self._cycle else 0

    def pick(self, key: str, usable: Usable | None) -> int:
        cycle = self._cycle
        if usable is None and cycle:
            at = self._next
            self._next = at + 1 if at + 1 < len(cycle) else 0
            return cycle[at]
        for _ in range(len(cycle)):
            index = cycle[self._next]
            self._next += 1
            if self._next == len(cycle):
                self._next = 0
            if usable is not None and usable(index):
                return index
        return -1


class HashRing:
    """Consistent hashing: when a backend comes or goes only its own share of the keys moves."""

    def __init__(self, names: Sequence[str], weights: Sequence[int], before: HashRing | None = None) -> None:
        """before: one of which it takes the points of those that stay: a change costs no more than what is new."""
        # Halved until they fit: other steps would change with every change of the heaviest weight, and move keys.
        scale = 1
        while max(weights, default=0) > MAX_SHARE * scale or RING_POINTS * sum(weights) > MAX_POINTS * scale:
            scale *= 2
        known = before.places if before is not None else {}
        self.places: dict[str, list[int]] = {}
        """Where the points of each backend lie, in no order."""
        points: dict[int, int] = {}
        for index, (name, weight) in enumerate(zip(names, weights, strict=True)):
            count = max(1, RING_POINTS * weight // scale) if weight else 0
            made = known.get(name, [])
            self.places[name] = found = made if len(made) == count else [place(f"{name}-{point}") for point in range(count)]
            points.update(dict.fromkeys(found, index))
        self._points = sorted(points)
        self._owners = [points[point] for point in self._points]
        self._backends = len(set(self._owners))

    def pick(self, key: str, usable: Usable | None) -> int:
        count = len(self._points)
        if not count:
            return -1
        start = bisect(self._points, place(key))
        index = self._owners[start if start < count else 0]
        if usable is None or usable(index):
            return index
        seen = {index}
        while len(seen) < self._backends:
            start += 1
            index = self._owners[start % count]
            if index not in seen:
                if usable(index):
                    return index
                seen.add(index)
        return -1


class LeastConnections:
    """The backend with the fewest requests for its weight; ties in turn."""

    def __init__(self, loads: Sequence[Load]) -> None:
        self._loads = loads
        self._turn = 0

    def pick(self, key: str, usable: Usable | None) -> int:
        best, best_load = -1, float("inf")
        count = len(self._loads)
        self._turn += 1
        for step in range(count):
            index = (self._turn + step) % count
            load = self._loads[index]
            if load.weight and (usable is None or usable(index)):
                score = (load.active + load.elsewhere + 1) / load.weight
                if score < best_load:
                    best, best_load = index, score
        return best


class PowerOfTwo:
    """The less loaded of two drawn at random by weight. below(n): a random integer from 0 to n - 1."""

    def __init__(self, loads: Sequence[Load], below: Callable[[int], int]) -> None:
        self._loads = loads
        self._below = below
        self._all = [index for index, load in enumerate(loads) if load.weight]
        self._bounds = list(accumulate(loads[index].weight for index in self._all))

    def pick(self, key: str, usable: Usable | None) -> int:
        pool, bounds, loads = self._all, self._bounds, self._loads
        if usable is not None:
            pool = [index for index in pool if usable(index)]
            bounds = list(accumulate(loads[index].weight for index in pool))
        if not pool:
            return -1
        first = pool[bisect(bounds, self._below(bounds[-1]))]
        second = pool[bisect(bounds, self._below(bounds[-1]))]
        one, other = loads[first], loads[second]
        return first if (one.active + one.elsewhere) * other.weight <= (other.active + other.elsewhere) * one.weight else second


def place(text: str) -> int:
    """Where on the ring a text lies, 64 bits: the same in every process, unlike hash()."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest())
