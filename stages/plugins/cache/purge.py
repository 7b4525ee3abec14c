"""PURGE: who may, and what it does to the store.

What is asked for goes by its URL for all schemes alike: who purges a page over plain HTTP in the inner network means the one that
clients get over TLS, too. The answer comes when the store has done it, so who asks after that gets nothing that was purged: neither
a stored answer, nor one whose fetch had begun before (the store drops what is older than its purge).
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable
from typing import Final, Protocol

from pingap.stages.caching.purging import NotAPurge, PurgeAsked, PurgeScope, asked_for, parts_of
from pingap.stages.plugins.exchange import Exchange, Reply, reply

LONGEST: Final = 10.0
"""Seconds after which a purge counts as not done."""

SCHEMES: Final = (b"http", b"https")

_UNSTORED: Final = {"cache-control": "no-store"}
_DONE: Final = reply(204, b"", _UNSTORED)
_FORBIDDEN: Final = reply(403, "Forbidden, ip is not allowed", _UNSTORED)
_NO_ADDRESS: Final = reply(400, "The client has no IP address", _UNSTORED)
_SLOW: Final = reply(503, f"not purged: the cache's store has not answered within {LONGEST:g} s", _UNSTORED)


class Purgers(Protocol):
    def has(self, address: str, /) -> bool: ...


class PurgeKeys(Protocol):
    def key_of(self, scheme: bytes, host: bytes, target: bytes, request_headers: bytes, extra: tuple[bytes, ...], /) -> bytes: ...


class PurgeRules(Protocol):
    """What of a cache's rules a purge goes by."""

    @property
    def keys(self) -> PurgeKeys: ...
    @property
    def purgers(self) -> Purgers: ...


class PurgeStore(Protocol):
    """What of a store a purge needs: each gives the number of stored answers that it was about."""

    def purge_url(self, key: bytes, soft: bool, /) -> Awaitable[int]: ...
    def purge_prefix(self, prefix: bytes, soft: bool, /) -> Awaitable[int]: ...
    def purge_tag(self, namespace: bytes, tag: bytes, soft: bool, /) -> Awaitable[int]: ...
    def purge_all(self, namespace: bytes, soft: bool, /) -> Awaitable[int]: ...


def handle(exchange: Exchange, rules: PurgeRules, store: PurgeStore) -> Reply | Awaitable[Reply]:
    """The answer to a PURGE request: 403 and 400 by the client's address, 400 for what cannot be done, 204 for one URL, found or not,
    200 with a count else; 503 when the store is silent. Raises what the store raises."""
    address = exchange.client_ip
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return _NO_ADDRESS
    if not rules.purgers.has(address):
        return _FORBIDDEN
    try:
        asked = asked_for(exchange.original_target.encode("latin-1"), exchange.raw_target, exchange.headers.raw)
    except NotAPurge as error:
        return reply(400, str(error), _UNSTORED)
    return _answered(asked, exchange.authority.encode("latin-1"), exchange.headers.raw, rules.keys, store)


async def _answered(asked: PurgeAsked, host: bytes, headers: bytes, keys: PurgeKeys, store: PurgeStore) -> Reply:
    try:
        async with asyncio.timeout(LONGEST):
            count = await purged(asked, host, headers, keys, store)
    except TimeoutError:
        return _SLOW
    return _DONE if asked.scope is PurgeScope.URL else reply(200, f"purged: {count}, fail: 0", _UNSTORED)


async def purged(asked: PurgeAsked, host: bytes, headers: bytes, keys: PurgeKeys, store: PurgeStore) -> int:
    """Does it; the number of stored answers that it was about. All of it is begun before any of it is waited for."""
    if asked.scope is PurgeScope.TAGS:
        namespace = parts_of(keys.key_of(b"http", host, b"/", headers, ())).namespace
        begun = [store.purge_tag(namespace, tag, asked.is_soft) for tag in asked.tags]
    elif asked.scope is PurgeScope.ALL:
        begun = _purge_all(asked, host, headers, keys, store)
    else:
        begun = []
        for scheme in SCHEMES:
            key = parts_of(keys.key_of(scheme, host, asked.target, headers, ()))
            if asked.scope is PurgeScope.PREFIX:
                begun.append(store.purge_prefix(key.url, asked.is_soft))
                continue
            begun.append(store.purge_url(key.url, asked.is_soft))
            if key.has_parts:
                begun.append(store.purge_prefix(key.url + b"\0", asked.is_soft))
    return sum(await asyncio.gather(*map(asyncio.shield, begun)))  # what is given up here is the store's to finish


def _purge_all(asked: PurgeAsked, host: bytes, headers: bytes, keys: PurgeKeys, store: PurgeStore) -> list[Awaitable[int]]:
    """A namespace is all that its caches share. Without one a store is shared by caches that may know nothing of each other: then all
    of the host that was asked."""
    keyed = [parts_of(keys.key_of(scheme, host, b"/", headers, ())) for scheme in SCHEMES]
    if namespace := keyed[0].namespace:
        return [store.purge_all(namespace, asked.is_soft)]
    return [store.purge_prefix(key.url, asked.is_soft) for key in keyed]
