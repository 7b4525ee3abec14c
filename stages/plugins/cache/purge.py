"""PURGE: who may, and what it does to the store.

What is asked for goes by its URL for all schemes alike: who purges a page over plain HTTP in the inner network means the one that
clients get over TLS, too. The answer comes when the store has done it, so who asks after that gets nothing that was purged: neither
a stored answer, nor one whose fetch had begun before (the store drops what is older than its purge).

A location may have several caches: each that takes the request does its own, and the last one answers for all.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable
from typing import Final, Protocol

from pingap.stages.caching.cache_rules import CacheRules
from pingap.stages.caching.purging import NotAPurge, PurgeAsked, Purged, PurgeScope, added_up, asked_for
from pingap.stages.plugins.cache.probe import Probe, probe_of
from pingap.stages.plugins.exchange import CONTINUE, Exchange, Reply, Result, reply

LONGEST: Final = 60.0
"""Seconds that it may take: of a million stored answers some thirty."""

SCHEMES: Final = (b"http", b"https")

_TALLY: Final = "pingap:purge"

_UNSTORED: Final = {"cache-control": "no-store"}
_DONE: Final = reply(204, b"", _UNSTORED)
_FORBIDDEN: Final = reply(403, "Forbidden, ip is not allowed", _UNSTORED)
_NO_ADDRESS: Final = reply(400, "The client has no IP address", _UNSTORED)
_SLOW: Final = reply(503, f"the purge is not through after {LONGEST:g} s: it goes on", _UNSTORED)


class PurgeStore(Protocol):
    """What of a store a purge needs: each gives the number of stored answers that it was about. A URL goes with all parts of its keys."""

    def purge_url(self, key: bytes, soft: bool, /) -> Awaitable[int]: ...
    def purge_prefix(self, prefix: bytes, soft: bool, /) -> Awaitable[int]: ...
    def purge_tag(self, namespace: bytes, tag: bytes, soft: bool, /) -> Awaitable[int]: ...
    def purge_all(self, namespace: bytes, soft: bool, /) -> Awaitable[int]: ...


class PurgeTally:
    """What the caches of a location have made of one request."""

    __slots__ = ("_is_all", "_is_slow", "_refused", "_results")

    def __init__(self) -> None:
        self._is_all = False
        """It was about more than one URL: who asked hears how many there were."""
        self._is_slow = False
        self._refused: Reply | None = None
        self._results: list[Purged] = []

    def refuse(self, answer: Reply) -> None:
        """One does not do it."""
        self._refused = answer

    def late(self) -> None:
        """One is not through."""
        self._is_slow = True

    def add(self, result: Purged, scope: PurgeScope) -> None:
        self._results.append(result)
        self._is_all = scope is not PurgeScope.URL

    def answer(self) -> Reply | None:
        """None when no cache took it. One that refuses counts where no other has done it."""
        if self._is_slow:
            return _SLOW
        if not self._results:
            return self._refused
        done, failed = (sum(numbers) for numbers in zip(*self._results, strict=True))
        if failed or self._is_all:
            return reply(500 if failed else 200, f"purged: {done}, fail: {failed}", _UNSTORED)
        return _DONE


def handle(exchange: Exchange, rules: CacheRules, store: PurgeStore, is_last: bool = True) -> Result | Awaitable[Result]:
    """The answer to a PURGE request: 403 and 400 by the client's address, 400 for what cannot be done, 204 for one URL, found or not,
    200 with a count else; 500 when the store could not do it, 503 when it is silent. is_last: no other cache of the location comes
    after this one; else the request goes on to that when this one has done its own."""
    probe = probe_of(exchange)
    if probe is not None and probe.purge is not None:
        return _commanded(probe, probe.purge, exchange, rules, store)
    tally = _tally_of(exchange)
    address = exchange.client_ip
    try:
        ipaddress.ip_address(address)
    except ValueError:
        tally.refuse(_NO_ADDRESS)
        return _tallied(exchange, is_last)
    if not rules.purgers.has(address):
        tally.refuse(_FORBIDDEN)
        return _tallied(exchange, is_last)
    try:
        asked = asked_for(exchange.original_target.encode("latin-1"), exchange.raw_target, exchange.headers.raw)
    except NotAPurge as error:
        return reply(400, str(error), _UNSTORED)
    return _answered(asked, exchange, rules, store, tally, is_last)


def _tallied(exchange: Exchange, is_last: bool) -> Result:
    """What becomes of a PURGE request at a cache that has done its own."""
    tally = None if exchange._state is None else exchange._state.get(_TALLY)
    answer = tally.answer() if is_last and isinstance(tally, PurgeTally) else None
    return CONTINUE if answer is None else answer


def _tally_of(exchange: Exchange) -> PurgeTally:
    tally: PurgeTally = exchange.state.setdefault(_TALLY, PurgeTally())
    return tally


async def _answered(
    asked: PurgeAsked, exchange: Exchange, rules: CacheRules, store: PurgeStore, tally: PurgeTally, is_last: bool
) -> Result:
    try:
        async with asyncio.timeout(LONGEST):
            result = await purged(asked, exchange.authority.encode("latin-1"), rules, store)
    except TimeoutError:
        tally.late()
    else:
        tally.add(result, asked.scope)
    return _tallied(exchange, is_last)


async def _commanded(probe: Probe, purge: PurgeAsked, exchange: Exchange, rules: CacheRules, store: PurgeStore) -> Reply:
    """`pingap cache purge`: who may write to the control socket may do this."""
    asked = purge._replace(target=exchange.raw_target)
    result = await purged(asked, exchange.authority.encode("latin-1"), rules, store)
    return probe.answer({"purged": result.done, "failed": result.failed, "namespace": rules.namespace.decode("utf-8", "replace")})


async def purged(asked: PurgeAsked, host: bytes, rules: CacheRules, store: PurgeStore) -> Purged:
    """Does it. All of it is begun before any of it is waited for."""
    is_soft = asked.is_soft
    begun: list[Awaitable[int]] = []
    if asked.scope is PurgeScope.TAGS:
        begun += [store.purge_tag(rules.namespace, tag, is_soft) for tag in asked.tags]
    elif asked.scope is PurgeScope.ALL and rules.namespace:
        begun.append(store.purge_all(rules.namespace, is_soft))
    else:
        # Without a namespace a store is shared by caches that may know nothing of each other: "all" is that of the host, then.
        target = b"/" if asked.scope is PurgeScope.ALL else asked.target
        for scheme in SCHEMES:
            url = rules.keys.url_of(scheme, host, target)
            if asked.scope is PurgeScope.URL:
                begun.append(store.purge_url(url, is_soft))
            else:
                begun.append(store.purge_prefix(url, is_soft))
    return await all_of(begun)


async def all_of(begun: list[Awaitable[int]]) -> Purged:
    """Orders to stores. Those that are given up here are theirs to finish."""
    return added_up(await asyncio.gather(*map(asyncio.shield, begun)))
