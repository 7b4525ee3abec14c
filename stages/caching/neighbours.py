"""Caches of one configuration that share a place, or part of it, and do not agree on how large that is."""

from __future__ import annotations

from pingap.stages.caching.cache_rules import CacheRules
from pingap.stages.caching.place import CachePlace

Told = tuple[str, str, str]
"""Key, what there is to know of it, and a hint."""


class Neighbours:
    """Those that were seen so far."""

    def __init__(self) -> None:
        self._seen: dict[str, CacheRules] = {}

    def meet(self, path: str, rules: CacheRules) -> list[Told]:
        """One more. path: of its section. What there is to know of it and one before; of each kind no more than one."""
        found: dict[str, Told] = {}
        for other, theirs in self._seen.items():
            for key, said, hint in _told(rules, theirs, other):
                found.setdefault(said.replace(other, ""), (key, said, hint))
        self._seen[path] = rules
        return list(found.values())


def _told(rules: CacheRules, theirs: CacheRules, other: str) -> list[Told]:
    place, there = rules.place, theirs.place
    if (place.kind, place.path) != (there.kind, there.path):
        return _nested(place, there, other)
    found = []
    sizes = {(one.max_size, one.percent) for one in (place, there) if one.max_size or one.percent or one.kind == "disk"}
    if len(sizes) > 1:
        counts = (
            "the larger counts, and to have none is the largest" if place.kind == "disk" else "the larger counts, and bytes before a part"
        )
        found.append(("directory", f"has another max_size than {other}: it is one store, and {counts}", "write both alike"))
    if place.inactive != there.inactive:
        said = f"has another inactive than {other}: it is one store, and the longer counts"
        found.append(("directory", said, "write both alike"))
    if rules.namespace and rules.namespace == theirs.namespace and rules.namespace_max_size != theirs.namespace_max_size:
        said = f"is another one than in {other}, for the same namespace: the larger counts, and to have none is the largest"
        found.append(("namespace_max_size", said, "write it alike"))
    return found


def _nested(place: CachePlace, there: CachePlace, other: str) -> list[Told]:
    if place.kind != "disk" or there.kind != "disk":
        return []
    for inner, outer, said in ((place, there, "lies within that of"), (there, place, "has within it that of")):
        if inner.path.startswith(outer.path + "/"):
            hint = "give each a directory of its own, beside the other"
            return [("directory", f"{said} {other}: what the inner one takes does not count in the outer one's max_size", hint)]
    return []
