"""The caches of one process: each section of the configuration that has one, with the store that it shares with others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pingap.stages.caching.cache_rules import CacheRules
from pingap.stages.plugins.cache.machine import Caching
from pingap.stages.plugins.cache.parts import CacheParts, CacheStage
from pingap.stages.plugins.cache.store.closings import all_closed

CLOSING: Final = 1.5
"""Seconds that the end of a process waits for its stores to be closed. One on a disk that is not is still good, but after a restart of
the machine."""


class Caches:
    """Those that live. A section that is changed by a reload has its old and its new cache for a while."""

    def __init__(self, stage: CacheStage, run_dir: str, log: Callable[..., None]) -> None:
        self._stage = stage
        self._run_dir = run_dir
        self._log = log
        self._open: list[CacheParts] = []
        self._is_ending = False

    def all(self) -> list[CacheParts]:
        """Those that are open."""
        return self._open

    def open(self, name: str, rules: CacheRules) -> Caching:
        """The cache of a section. Raises OSError and the like when its store cannot be opened."""
        from pingap.stages.plugins.cache.store.places import opened  # who has no cache does not load LMDB

        store = opened(rules.place, self._run_dir, self._log)
        parts = CacheParts(name, rules, store, self._stage)
        self._open.append(parts)
        self._suit(parts)
        return Caching(parts)

    def close(self, caching: Caching) -> None:
        """Nobody has its plugin any more."""
        parts = caching.parts
        self._open.remove(parts)
        if not self._is_ending:
            self._suit(parts)
        parts.store.release(is_unwanted=not self._is_ending)

    def end(self) -> None:
        """The process ends: what is in memory stays for the one that follows, or for others. To be called before all are closed."""
        self._is_ending = True

    async def closed(self) -> None:
        """Until their stores are; not longer than CLOSING."""
        await all_closed(CLOSING)

    def _suit(self, parts: CacheParts) -> None:
        """Tells its store what all caches that have it want now. Of several with one namespace the greatest bound counts; none is told
        as well, for a store on disk still has what an older configuration said."""
        from pingap.stages.plugins.cache.store.places import suit

        places = [one.rules.place for one in self._open if one.store is parts.store]
        if places:
            suit(parts.store, places, self._log)
        bounds = [
            one.rules.namespace_max_size for one in self._open if one.store is parts.store and one.rules.namespace == parts.rules.namespace
        ]
        if bounds:  # else nobody is there who could say it
            parts.store.limit(parts.rules.namespace, 0 if 0 in bounds else max(bounds))

    def sum_up(self, count: Callable[..., None]) -> None:
        """Tells what was counted since it was asked last."""
        for parts in self._open:
            for status, number in parts.untold().items():
                count("cache_requests", number, plugin=parts.name, status=status)
