"""The purges of all processes, as the loop of one of them sees them: exact at the moment at which it looks."""

from __future__ import annotations

from pingap.stages.plugins.cache.store.index import Index
from pingap.stages.plugins.cache.store.purge_log import PurgeLog
from pingap.stages.plugins.cache.store.purger import read_purges


class PurgesSeen:
    """Its own log: that of the committer belongs to another thread."""

    __slots__ = ("_index", "_log", "_seen")

    def __init__(self, index: Index) -> None:
        self._index = index
        self._log = PurgeLog(index.base)
        self._seen = b""

    def at(self, url: bytes) -> int:
        """The number of the newest purge that may concern a URL, or a variant of it; 0 for none. Raises lmdb.Error, ValueError."""
        self._read()
        return self._log.purged_at(url)

    def _read(self) -> None:
        with self._index.reading() as txn:
            self._seen = read_purges(self._index, txn, self._log, self._seen)
