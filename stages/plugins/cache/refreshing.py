"""Refreshes behind a client's back (stale-while-revalidate): a copy of its request, from the cache's hook on, whose answer nobody gets."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final

from msgspec.structs import replace

from pingap.stages.caching.entry import StoredAnswer
from pingap.stages.caching.reuse import PLAIN
from pingap.stages.messages import Affinity
from pingap.stages.plugins.cache.cached_request import CachedRequest
from pingap.stages.plugins.cache.fetching import CacheFetch
from pingap.stages.plugins.cache.flights.flight_answer import FlightAnswer
from pingap.stages.plugins.cache.flights.verdicts import FETCH
from pingap.stages.plugins.cache.probe import copy_of_state
from pingap.stages.plugins.chain import Chain
from pingap.stages.plugins.exchange import Exchange

BEHIND: Final = 60.0
"""Seconds that one waits for its turn at most."""


def begin(request: CachedRequest, found: StoredAnswer) -> None:
    """Validates what was served stale, unless somebody does already."""
    parts, stage, asked = request.parts, request.parts.stage, request.exchange
    routed, stored_under = asked._routed, request.stored_under
    compiled, upstream = stage.compiled_of(routed.generation), stage.upstream()
    chain = compiled.chains.get(routed.location) if compiled is not None else None
    if stored_under in parts.refreshing or compiled is None or chain is None or not upstream:
        return
    sid, now = stage.next_sid(), stage.clock()
    crew = Affinity(0, stage.me, upstream)
    own_routed = replace(routed, sid=sid, affinity=crew, method=b"GET", headers=request.headers, watchers=(), started=now)
    exchange = Exchange(own_routed, now, compiled.upstreams)
    exchange._target, exchange._upstream = asked._target, asked._upstream
    exchange.context.update(asked.context)
    exchange._state, exchange._key_parts = copy_of_state(asked), asked._key_parts
    exchange._has_client = False
    own = CachedRequest(parts, exchange, request.key, request.headers, PLAIN)
    own.stale, own.stored_under, own.marker, own.is_behind = found, stored_under, request.marker, True
    parts.refreshing.add(stored_under)
    answer = stage.flights.ask(parts.store.name, stored_under, sid, parts.store.purged_at(stored_under), BEHIND, True)
    if isinstance(answer, FlightAnswer):
        _told(own, chain, answer)
    else:
        stage.spawn(_told_later(own, chain, answer))


async def _told_later(request: CachedRequest, chain: Chain, waits: Awaitable[FlightAnswer]) -> None:
    try:
        answer = await waits
    except BaseException:
        request.over()
        raise
    _told(request, chain, answer)


def _told(request: CachedRequest, chain: Chain, answer: FlightAnswer) -> None:
    if answer.kind != FETCH:
        request.over()
    elif request.take_turn(answer):
        CacheFetch(request).begin()
        parts = request.parts
        at = next((number for number, live in enumerate(chain.before.owners, 1) if live.name == parts.name), 0)
        parts.stage.serve(request.exchange, chain, at)
