"""Which purges there were, so that an answer that was asked for before one is not stored after it.

Each process has what it has read of the index (index.py); a purge is named by the id of its transaction.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

from pingap.stages.plugins.cache.store.short_keys import namespace_of

PurgeKind = Literal["url", "prefix", "tag", "all"]

MOST: Final = 10_000
"""Purges that are remembered as they are. Of what was asked for before an older one, all that may have been meant is not stored."""

SLOTS: Final = 1 << 17
"""Of those of one URL that are older, which every request that changes something may cause: each is remembered with a few others."""


class Purge(NamedTuple):
    kind: PurgeKind
    namespace: bytes
    what: bytes
    """Key of the URL (what has parts behind it goes as well: keys.py), prefix of keys, tag; b"" for all."""
    is_soft: bool

    def concerns(self, url: bytes, tags: Iterable[bytes]) -> bool:
        """url: the URL's key, of a variant too."""
        if self.kind == "url":
            return url == self.what or url.startswith(self.what + b"\0")
        if self.kind == "prefix":
            return url.startswith(self.what)
        return namespace_of(url) == self.namespace and (self.kind == "all" or self.what in tags)


class PurgeLog:
    """The newest purges."""

    def __init__(self, floor: int = 0, most: int = MOST) -> None:
        """floor: marks before it are too old from the start."""
        self._most = most
        self._order: OrderedDict[Purge, int] = OrderedDict()
        self._folded: array[int] | None = None
        """The newest of the older ones of one URL, by what its key comes to in SLOTS."""
        self._lengths: dict[int, int] = {}
        """How many prefixes have so many bytes."""
        self._tagged: dict[bytes, int] = {}
        """Namespace → the newest purge of a tag."""
        self.newest = floor
        self.floor = floor
        """Marks before this one are too old to tell."""

    def add(self, transaction: int, purge: Purge) -> None:
        """transaction: not before that of the one added last."""
        purge = purge._replace(is_soft=False, namespace=namespace_of(purge.what) if purge.kind in ("url", "prefix") else purge.namespace)
        if self._order.pop(purge, None) is None and purge.kind == "prefix":
            self._lengths[len(purge.what)] = self._lengths.get(len(purge.what), 0) + 1
        self._order[purge] = self.newest = transaction
        if purge.kind == "tag":
            self._tagged[purge.namespace] = transaction
        while len(self._order) > self._most:
            old, number = self._order.popitem(last=False)
            if old.kind == "url":
                self._fold(old.what, number)
                continue
            self.lift(number)
            if old.kind == "prefix":
                self._lengths[len(old.what)] -= 1
                if not self._lengths[len(old.what)]:
                    del self._lengths[len(old.what)]

    def lift(self, transaction: int) -> None:
        """There were others before this one, of which nothing is known."""
        self.floor = max(self.floor, transaction)

    def purged_at(self, url: bytes) -> int:
        """The newest purge that may concern what is stored for a URL, whatever tags it has; 0 when none is remembered."""
        space = namespace_of(url)
        found = max(self._at("all", space, b""), self._at("url", space, url), self._tagged.get(space, 0))
        at = url.find(b"\0", len(space) + 1)
        while at >= 0:
            found = max(found, self._at("url", space, url[:at]))
            at = url.find(b"\0", at + 1)
        for length in self._lengths:
            if length <= len(url):
                found = max(found, self._at("prefix", namespace_of(url[:length]), url[:length]))
        return found

    def is_outdated(self, mark: int, url: bytes, tags: Iterable[bytes]) -> bool:
        """Whether what was asked for at `mark` was purged since. url: the URL's key, of a variant too."""
        if mark >= self.newest:
            return False
        if mark < self.floor:
            return True
        space = namespace_of(url)
        if self._at("all", space, b"") > mark or self._at("url", space, url) > mark:
            return True
        at = url.find(b"\0", len(space) + 1)
        while at >= 0:  # it has parts behind the URL that was purged
            if self._at("url", space, url[:at]) > mark:
                return True
            at = url.find(b"\0", at + 1)
        if any(self._at("tag", space, tag) > mark for tag in tags):
            return True
        return any(self._at("prefix", namespace_of(url[:length]), url[:length]) > mark for length in self._lengths if length <= len(url))

    def _at(self, kind: PurgeKind, namespace: bytes, what: bytes) -> int:
        known = self._order.get(Purge(kind, namespace, what, False), 0)
        return known or (0 if self._folded is None or kind != "url" else self._folded[hash(what) % SLOTS])

    def _fold(self, what: bytes, number: int) -> None:
        if self._folded is None:
            self._folded = array("Q", bytes(8 * SLOTS))
        self._folded[hash(what) % SLOTS] = number
