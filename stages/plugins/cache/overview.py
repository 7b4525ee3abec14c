"""The caches of one process as the operator sees them (`pingap cache stats`, `pingap cache purge`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from pingap.stages.caching.cache_rules import CacheRules
from pingap.stages.caching.place import CachePlace
from pingap.stages.plugins.cache.purge import PurgeStore


class SeenStore(PurgeStore, Protocol):
    """What of a store is looked at."""

    def stats(self, namespaces: tuple[bytes, ...] = (), /) -> Any: ...


class SeenCache(Protocol):
    """What of a cache is looked at (parts.py)."""

    @property
    def name(self) -> str: ...
    @property
    def rules(self) -> CacheRules: ...
    @property
    def store(self) -> SeenStore: ...
    @property
    def requests(self) -> Mapping[str, int]: ...


class CacheOverview:
    """Of one process."""

    def __init__(self, caches: Callable[[], Sequence[SeenCache]], fetching: Callable[[], int], waiting: Callable[[], int]) -> None:
        """caches: those that are open. fetching: how many fetches this process has. waiting: requests that wait for one."""
        self._caches = caches
        self._fetching = fetching
        self._waiting = waiting

    def stores(self) -> dict[str, SeenStore]:
        """By where they are, each once."""
        return {name_of(cache.rules.place): cache.store for cache in self._caches()}

    def namespaces(self, store: str) -> set[bytes]:
        """Of the caches that share a store."""
        return {cache.rules.namespace for cache in self._caches() if name_of(cache.rules.place) == store}

    def stats(self) -> dict[str, Any]:
        """Plain data."""
        stores, spaces = [], {}
        for name, store in self.stores().items():
            stats = store.stats(tuple(sorted(self.namespaces(name))))
            spaces[name] = stats.spaces
            counts = {key: getattr(stats.counts, key) for key in ("hits", "misses", "puts", "evicted", "expired", "purged", "resets")}
            told = {"store": name, "directory": stats.directory, "objects": stats.entries, "bytes": stats.taken, "cap": stats.room}
            stores.append(told | {"counts": counts, "refused": dict(stats.counts.refused)})
        caches = []
        for cache in self._caches():
            name, namespace = name_of(cache.rules.place), cache.rules.namespace.decode("utf-8", "replace")
            objects, size = spaces[name].get(namespace, (0, 0))
            told = {"cache": cache.name, "namespace": namespace, "store": name, "objects": objects, "bytes": size}
            caches.append(told | {"cap": cache.rules.namespace_max_size, "requests": dict(cache.requests)})
        return {"stores": stores, "caches": caches, "fetching": self._fetching(), "waiting": self._waiting()}


def name_of(place: CachePlace) -> str:
    """As `directory` may be written: `memory`, `memory://NAME`, or a path."""
    if place.kind == "disk":
        return place.path
    return f"memory://{place.path}" if place.path else "memory"
