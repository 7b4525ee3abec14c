"""What a cache says of one request: to its client in header lines, to the log in its context, and in its counts."""

from __future__ import annotations

from pingap.stages.caching.cache_status import URI_MISS, forwarded, hit, without_status
from pingap.stages.caching.entry import CacheEntry
from pingap.stages.plugins.cache.parts import CacheParts
from pingap.stages.plugins.exchange import Exchange


class CacheTelling:
    """Of one request. Of a refresh in the background nothing is said: it is none of a client's."""

    __slots__ = ("_exchange", "_parts", "forward", "is_collapsed", "is_sent", "waited")

    def __init__(self, parts: CacheParts, exchange: Exchange) -> None:
        self._parts = parts
        self._exchange = exchange
        self.forward = URI_MISS
        """Why the backend has to be asked, if it has (RFC 9211 section 2.2)."""
        self.is_sent = False
        """It is asked for this request."""
        self.is_collapsed = False
        """What another's request has brought is the answer (section 2.6)."""
        self.waited = 0.0
        """Seconds for which it waited for another's."""

    def count(self, word: str) -> None:
        """For the log and the metrics."""
        exchange = self._exchange
        if not exchange._has_client:
            return
        self._parts.requests[word] += 1
        context = exchange.context
        context["cache_status"] = word
        if self.waited:
            context["cache_lock_time"] = self.waited

    def uncount(self, word: str) -> None:
        """It has been told too early."""
        self._parts.requests[word] -= 1

    def served(self, entry: CacheEntry, word: str, now: float, is_stored: bool, detail: str = "", status: int = 0) -> bytes:
        """The lines of an answer from what is kept. is_stored: it has been just now. status: that the backend answered with, 0 for none."""
        self.count(word)
        return self._lines(word, entry.fresh_until - now, is_stored, detail, status)

    def passed(self, word: str, detail: str = "", stored: CacheEntry | None = None) -> None:
        """A backend's answer goes on, with the lines. stored: what is kept of it."""
        head = self._exchange.response
        assert head is not None
        self.count(word)
        ttl = None if stored is None else stored.fresh_until - self._parts.store.now()
        head.headers.raw = without_status(head.headers.raw) + self._lines(word, ttl, stored is not None, detail, 0)

    def _lines(self, word: str, ttl: float | None, is_stored: bool, detail: str, status: int) -> bytes:
        lines = b"x-cache-status: %b\r\n" % word.encode()
        if self.waited:
            lines += b"x-cache-lock: %dms\r\n" % round(self.waited * 1000)
        if not self._parts.rules.cache_status:
            return lines
        if ttl is not None and not self.is_sent and not self.is_collapsed:
            return lines + hit(ttl, detail)
        return lines + forwarded(self.forward, status, ttl, is_stored, self.is_collapsed, detail)
