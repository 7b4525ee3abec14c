"""Which backend gets a request. Pure: health, load and randomness come in as arguments.

Every balancer orders the *usable* backends only: a backend is usable when it is
healthy and was not tried for this request.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence
from math import gcd
from typing import Final, Protocol

from bus.members import hash_of

MAX_CYCLE: Final = 4096
"""Longest precomputed round-robin cycle; larger weights are scaled down to it."""

RING_POINTS: Final = 160
"""Points on the hash ring per unit of weight (nginx and ketama use 160)."""


class Load(Protocol):
    """What a balancer may look at."""

    weight: int
    active: int
    """Requests at the backend now."""


Usable = Callable[[int], bool]


class Balancer(Protocol):
    def pick(self, key: str, usable: Usable | None) -> int:
        """Index of the backend, -1 when none is usable. usable None: all are."""


def cycle_of(weights: Sequence[int]) -> list[int]:
    """One smooth weighted round-robin cycle (the algorithm of nginx): [5, 1, 1] → 0 0 1 0 2 0 0."""
    live = [weight for weight in weights if weight > 0]
    if not live:
        return []
    divisor = gcd(*live)
    scaled = [weight // divisor for weight in weights]
    total = sum(scaled)
    if total > MAX_CYCLE:
        scaled = [max(1, weight * MAX_CYCLE // total) if weight else 0 for weight in scaled]
        total = sum(scaled)
    current = [0] * len(scaled)
    cycle: list[int] = []
    for _ in range(total):
        for index, weight in enumerate(scaled):
            current[index] += weight
        best = max((i for i, weight in enumerate(scaled) if weight), key=current.__getitem__)
        current[best] -= total
        cycle.append(best)
    return cycle


class RoundRobin:
    """Weighted, smooth: a heavy backend's turns are spread over the cycle."""

    def __init__(self, weights: Sequence[int], start: int = 0) -> None:
        self._cycle = cycle_of(weights)
        self._next = start % len(self._cycle) if self._cycle else 0

    def pick(self, key: str, usable: Usable | None) -> int:
        cycle = self._cycle
        for _ in range(len(cycle)):
            index = cycle[self._next]
            self._next += 1
            if self._next == len(cycle):
                self._next = 0
            if usable is None or usable(index):
                return index
        return -1


class HashRing:
    """Consistent hashing: when a backend comes or goes only its own share of the keys moves."""

    def __init__(self, names: Sequence[str], weights: Sequence[int]) -> None:
        points: dict[int, int] = {}
        for index, (name, weight) in enumerate(zip(names, weights, strict=True)):
            for point in range(RING_POINTS * min(weight, 64)):
                points[mix(hash_of(f"{name}-{point}"))] = index
        self._points = sorted(points)
        self._owners = [points[point] for point in self._points]

    def pick(self, key: str, usable: Usable | None) -> int:
        count = len(self._points)
        if not count:
            return -1
        start = bisect.bisect(self._points, mix(hash_of(key)))
        seen: set[int] = set()
        for step in range(count):
            index = self._owners[(start + step) % count]
            if index in seen:
                continue
            if usable is None or usable(index):
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
                score = (load.active + 1) / load.weight
                if score < best_load:
                    best, best_load = index, score
        return best


class PowerOfTwo:
    """The less loaded of two drawn at random by weight. below(n): a random integer from 0 to n - 1."""

    def __init__(self, loads: Sequence[Load], below: Callable[[int], int]) -> None:
        self._loads = loads
        self._below = below
        self._cycle = cycle_of([load.weight for load in loads])

    def pick(self, key: str, usable: Usable | None) -> int:
        pool = self._cycle if usable is None else [index for index in self._cycle if usable(index)]
        if not pool:
            return -1
        first, second = pool[self._below(len(pool))], pool[self._below(len(pool))]
        loads = self._loads
        return first if loads[first].active * loads[second].weight <= loads[second].active * loads[first].weight else second


def mix(value: int) -> int:
    """Spreads FNV's low entropy over all 64 bits (the finalizer of MurmurHash3)."""
    value ^= value >> 33
    value = (value * 0xFF51AFD7ED558CCD) & 0xFFFFFFFFFFFFFFFF
    value ^= value >> 33
    value = (value * 0xC4CEB9FE1A85EC53) & 0xFFFFFFFFFFFFFFFF
    return value ^ (value >> 33)
