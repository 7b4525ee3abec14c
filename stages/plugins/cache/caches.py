"""The caches of one process: each section of the configuration that has one, with the store that it shares with others."""

from __future__ import annotations

from collections.abc import Callable

from pingap.stages.caching.cache_rules import CacheRules
from pingap.stages.plugins.cache.machine import Caching
from pingap.stages.plugins.cache.parts import CacheParts, CacheStage


class Caches:
    """Those that live. A section that is changed by a reload has its old and its new cache for a while."""

    def __init__(self, stage: CacheStage, run_dir: str, log: Callable[..., None]) -> None:
        self._stage = stage
        self._run_dir = run_dir
        self._log = log
        self._open: list[CacheParts] = []

    def all(self) -> list[CacheParts]:
        """Those that are open."""
        return self._open

    def open(self, name: str, rules: CacheRules) -> Caching:
        """The cache of a section. Raises OSError and the like when its store cannot be opened."""
        from pingap.stages.plugins.cache.store.places import opened  # who has no cache does not load LMDB

        store = opened(rules.place, self._run_dir, self._log)
        if rules.namespace:  # or it has no bound any more
            store.limit(rules.namespace, rules.namespace_max_size)
        parts = CacheParts(name, rules, store, self._stage)
        self._open.append(parts)
        return Caching(parts)

    def close(self, caching: Caching) -> None:
        """Nobody has its plugin any more."""
        parts = caching.parts
        self._open.remove(parts)
        parts.store.release()

    def sum_up(self, count: Callable[..., None]) -> None:
        """Tells what was counted since it was asked last."""
        for parts in self._open:
            for status, number in parts.untold().items():
                count("cache_requests", number, plugin=parts.name, status=status)
