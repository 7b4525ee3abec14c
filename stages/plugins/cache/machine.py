"""The cache of one section: what its hooks do with a request and with an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Final

from pingap.stages.caching import words
from pingap.stages.caching.cache_status import BYPASS, METHOD, forwarded, hit, without_status
from pingap.stages.caching.entry import StoredAnswer
from pingap.stages.caching.invalidating import is_unsafe, targets
from pingap.stages.caching.reuse import PLAIN, asked_of, is_fresh
from pingap.stages.headers import has_line
from pingap.stages.plugins.cache import purge, serving
from pingap.stages.plugins.cache.cached_request import CachedRequest
from pingap.stages.plugins.cache.explain import explained
from pingap.stages.plugins.cache.fetching import CacheFetch
from pingap.stages.plugins.cache.flights.known import KnownOfKey
from pingap.stages.plugins.cache.parts import CacheParts
from pingap.stages.plugins.cache.probe import CACHE, probe_of
from pingap.stages.plugins.cache.turn import CacheTurn
from pingap.stages.plugins.exchange import CONTINUE, Exchange, Result

INVALID_WITHIN: Final = 5.0
"""Seconds that the answer to a request which changes something waits for the store."""

_BYPASS: Final = b"x-cache-status: bypass\r\n"
_HIT: Final = b"x-cache-status: hit\r\n"


class Caching:
    """See above. `request` and `response` are the hooks of the plugin."""

    __slots__ = ("_parts",)

    def __init__(self, parts: CacheParts) -> None:
        self._parts = parts

    @property
    def parts(self) -> CacheParts:
        return self._parts

    def request(self, exchange: Exchange) -> Result | Awaitable[Result]:
        """An answer from what is stored; or the request goes on, with a turn."""
        routed = exchange._routed
        method = routed.method
        parts = self._parts
        rules = parts.rules
        if exchange._state is not None and (probe := probe_of(exchange)) is not None and probe.purge is None:
            return explained(exchange, probe, rules, parts.store, self._key_of(exchange), self._known, parts.stage.chosen_by)
        if method != b"GET" and method != b"HEAD":  # noqa: PLR1714 - a set would be made each time, compiled
            if method == b"PURGE":
                return self._purge(exchange)
            if is_unsafe(method):
                if exchange._concerned is None:
                    exchange._concerned = [self]
                else:
                    exchange._concerned.append(self)
            return self._let_by(exchange)
        if exchange._caching is not None:
            return CONTINUE
        if routed.upgrade or routed.length:
            return self._let_by(exchange)
        target = exchange._target
        if rules.skip is not None and rules.skip.search(target) is not None:
            return self._let_by(exchange)
        headers = exchange.headers.raw
        if rules.bypass_cookies is not None and rules.has_bypass_cookie(headers):
            return self._let_by(exchange)
        clock = parts.stage.clock
        since = clock()
        key = self._key_of(exchange)
        asked = asked_of(headers, rules.trusted.has(routed.client_ip))
        if asked.no_store and not asked.only_if_cached:
            return self._let_by(exchange)
        store = parts.store
        found = store.get(key)
        context = exchange.context
        context["cache_lookup_time"] = clock() - since
        if asked is PLAIN and isinstance(found, StoredAnswer):
            entry = found.entry
            now = store.now()
            if is_fresh(entry, now) and type(found.body) is bytes:
                context["cache_status"] = words.HIT
                parts.requests[words.HIT] += 1
                lines = _HIT + hit(entry.fresh_until - now) if rules.cache_status else _HIT
                return serving.answer(found, method, headers, now, lines, store)
        return CacheTurn(CachedRequest(parts, exchange, key, headers, asked)).begin(found)

    def _let_by(self, exchange: Exchange) -> Result:
        """It is not for this cache."""
        exchange.context["cache_status"] = words.BYPASS
        self._parts.requests[words.BYPASS] += 1
        return CONTINUE

    def _purge(self, exchange: Exchange) -> Result | Awaitable[Result]:
        """Whatever `skip` says: what was stored before it was written goes, and no stranger's PURGE comes to the backend."""
        return purge.handle(exchange, self._parts.rules, self._parts.store, self._is_last(exchange))

    def _is_last(self, exchange: Exchange) -> bool:
        """Of the caches of its location."""
        parts, routed = self._parts, exchange._routed
        compiled = parts.stage.compiled_of(routed.generation)
        chain = compiled.chains.get(routed.location) if compiled is not None else None
        if chain is None:
            return True
        names = [owner.name for owner in chain.before.owners if owner.plugin.category == CACHE]
        return not names or names[-1] == parts.name

    def _key_of(self, exchange: Exchange) -> bytes:
        routed = exchange._routed
        scheme = _SCHEMES[routed.peer.scheme]
        return self._parts.rules.keys.key_of(scheme, routed.host, exchange._target, exchange.headers.raw, exchange.key_parts)

    def _known(self, key: bytes) -> KnownOfKey:
        store = self._parts.store
        return self._parts.stage.flights.known(store.name, key, store.purged_at(key))

    def response(self, exchange: Exchange) -> Result | Awaitable[Result]:
        """A backend's answer."""
        fetch = exchange._caching
        if fetch is None:
            if exchange.response is not None:
                if exchange.context.get("cache_status") == words.BYPASS:
                    self._tell_bypass(exchange)
                if is_unsafe(exchange._routed.method):
                    if exchange._concerned is not None and self in exchange._concerned:
                        exchange._concerned.remove(self)
                    if orders := self._invalidate(exchange):
                        return _continued(orders)
            return CONTINUE
        stream = self._parts.stage.streams.by_sid.get(exchange._routed.sid)
        if not isinstance(fetch, CacheFetch) or stream is None or not fetch.is_of(self._parts):
            return CONTINUE
        return fetch.responded(stream)

    def _tell_bypass(self, exchange: Exchange) -> None:
        """It was not for the cache, and the client is told so, by one of the caches that it went past."""
        head = exchange.response
        assert head is not None
        if not has_line(head.headers.raw, b"x-cache-status: bypass"):
            head.headers.raw = without_status(head.headers.raw)
            why = BYPASS if exchange._routed.method in _LOOKED_UP else METHOD
            head.headers.raw += _BYPASS + forwarded(why) if self._parts.rules.cache_status else _BYPASS

    def unanswered(self, exchange: Exchange) -> None:
        """Of a request that may change something, and whose client or way to the backend broke off: nobody knows whether it has. What its
        URL has is not given out again before the backend has been asked, and stays for when that fails."""
        head = exchange.response
        for order in self._purge_changed(exchange, 200 if head is None else head.status, b"", True):
            order.add_done_callback(_ignored)

    def _invalidate(self, exchange: Exchange) -> list[asyncio.Future[int]]:
        """What an unsafe method may have changed is not used any more (RFC 9111 section 4.4). Done when these are."""
        head = exchange.response
        assert head is not None
        return self._purge_changed(exchange, head.status, head.headers.raw, False)

    def _purge_changed(self, exchange: Exchange, status: int, headers: bytes, is_soft: bool) -> list[asyncio.Future[int]]:
        """status, headers: of the answer."""
        parts, routed = self._parts, exchange._routed
        scheme = _SCHEMES[routed.peer.scheme]
        changed = targets(routed.method, status, scheme, routed.host, exchange._target, headers)
        return [parts.store.purge_url(parts.rules.keys.url_of(scheme, host, target), is_soft) for host, target in changed]


def _ignored(done: asyncio.Future[int]) -> None:
    if not done.cancelled():
        done.exception()


async def _continued(orders: list[asyncio.Future[int]]) -> Result:
    """The answer goes on when the store has it: a client that asks again gets what it has changed. What the store cannot do in time it
    does later; the change has been made all the same."""
    await asyncio.wait(orders, timeout=INVALID_WITHIN)
    return CONTINUE


_LOOKED_UP: Final = (b"GET", b"HEAD")

_SCHEMES: Final = {"http": b"http", "https": b"https"}
