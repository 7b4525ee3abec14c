"""`pingap cache explain`: what a request would get of a cache, and which rule says so. Nothing is fetched, stored or waited for.

The machine calls it in place of its own work for a request that is a question (probe.py); what is decided is decided by the same
functions (stages/caching/).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from pingap.stages.caching import words
from pingap.stages.caching.cache_rules import CacheRules
from pingap.stages.caching.entry import (
    ALWAYS_VALIDATE,
    AUTHORIZED,
    HEURISTIC,
    MARKER,
    MUST_REVALIDATE,
    PURGED_SOFTLY,
    CacheEntry,
    FileSpot,
    StoredAnswer,
)
from pingap.stages.caching.reuse import (
    FRESH,
    MISS,
    STALE_WHILE,
    UNAVAILABLE,
    VALIDATE,
    AskedFor,
    Use,
    asked_of,
    decide,
    may_be_stale_on_error,
)
from pingap.stages.caching.vary import chosen_by as chosen_by_block
from pingap.stages.caching.vary import variant_key
from pingap.stages.plugins.cache.flights.known import KnownOfKey
from pingap.stages.plugins.cache.probe import Probe
from pingap.stages.plugins.exchange import Exchange, Reply

OUTCOMES: Final = {
    FRESH: words.HIT,
    STALE_WHILE: words.STALE_UPDATING,
    VALIDATE: words.EXPIRED,
    MISS: words.MISS,
    UNAVAILABLE: words.UNAVAILABLE,
}
"""What is decided about an entry. What is expired may turn out to be `revalidated`: nobody knows before the backend has answered."""

SOURCES: Final = {
    "fresh": "RFC 9111 section 4.2",
    "stale-while-revalidate": "RFC 5861 section 3",
    "stale": "RFC 9111 section 4.3",
    "must-revalidate": "RFC 9111 section 5.2.2.2",
    "no-cache": "RFC 9111 section 5.2.2.4",
    "purged softly": "a soft purge",
    "nothing stored": "RFC 9111 section 4",
    "vary": "RFC 9111 section 4.1",
    "request: max-age": "RFC 9111 section 5.2.1.1",
    "request: max-stale": "RFC 9111 section 5.2.1.2",
    "request: min-fresh": "RFC 9111 section 5.2.1.3",
    "request: no-cache": "RFC 9111 section 5.2.1.4",
    "request: no-store": "RFC 9111 section 5.2.1.5",
    "request: only-if-cached": "RFC 9111 section 5.2.1.7",
    "method": "RFC 9111 section 4",
    "upgrade": "RFC 9110 section 7.8",
    "body": "RFC 9110 section 9.3.1",
}
"""Where a rule is written: of those of reuse.py, and of this file. What is not here is a key of the plugin."""

_FLAGS: Final = {
    MUST_REVALIDATE: "must-revalidate",
    ALWAYS_VALIDATE: "no-cache",
    HEURISTIC: "heuristic",
    PURGED_SOFTLY: "purged softly",
    AUTHORIZED: "authorized",
}

_LONGEST_VALUE: Final = 200


class ExplainedStore(Protocol):
    """What of a store is looked at."""

    def now(self) -> float: ...
    def get(self, key: bytes, /) -> StoredAnswer | Awaitable[StoredAnswer | None] | None: ...


Chosen = Callable[[tuple[bytes, ...], bytes, Exchange], bytes]


def _as_it_came(names: tuple[bytes, ...], headers: bytes, exchange: Exchange) -> bytes:
    return chosen_by_block(names, headers)


def nothing_known(key: bytes) -> KnownOfKey:
    return KnownOfKey()


async def explained(
    exchange: Exchange,
    probe: Probe,
    rules: CacheRules,
    store: ExplainedStore,
    key: bytes,
    known: Callable[[bytes], KnownOfKey] = nothing_known,
    chosen_by: Chosen = _as_it_came,
) -> Reply:
    """Answers the probe. key: of the request, as the machine makes it. known: of a key, perhaps a variant's. chosen_by: what the backend
    sees in lines of a request (`CacheStage.chosen_by`)."""
    headers = exchange.headers.raw
    found: dict[str, Any] = {"key": key.decode("utf-8", "backslashreplace"), "namespace": _text(rules.namespace)}
    if (rule := _passes_by(exchange, rules, headers)) is not None:
        return probe.answer(found | _said(words.BYPASS, *rule))
    asked = asked_of(headers, rules.trusted.has(exchange.client_ip))
    if asked.no_store and not asked.only_if_cached:
        return probe.answer(found | _said(words.BYPASS, "request: no-store", SOURCES["request: no-store"]))
    now = store.now()
    stored, place, variant = await _looked_up(store, key, exchange, chosen_by)
    if variant is not None:
        found["variant"] = {_text(name): _text(value) for name, value in variant}
    use = decide(None if stored is None else stored.entry, asked, now)
    if stored is None and variant is not None and use.kind == MISS:
        use = Use(MISS, "vary")
    found |= _said(OUTCOMES[use.kind], use.rule, SOURCES.get(use.rule, ""))
    if use.kind in (MISS, VALIDATE):
        found |= _kept_back(stored, known(place), asked, now)
    if stored is not None and not stored.entry.flags & MARKER:
        found["stored"] = _told(stored, asked, now)
    return probe.answer(found)


def _said(outcome: str, rule: str, source: str) -> dict[str, Any]:
    return {"outcome": outcome, "rule": rule, "source": source}


def _kept_back(stored: StoredAnswer | None, known: KnownOfKey, asked: AskedFor, now: float) -> dict[str, Any]:
    """What else than the backend's answer a request gets that nothing stored is an answer for."""
    if known.again > 0:
        if stored is not None and may_be_stale_on_error(stored.entry, now, asked):
            failed = {"again": round(known.again, 3), "failure": known.failure}
            return _said(words.STALE, "stale-if-error: the last fetches failed", "RFC 5861 section 4") | failed
        if known.soon > 0:
            return _said(words.FAILED, "the last fetches failed", "") | {"again": round(known.soon, 3), "failure": known.failure}
    if known.unstorable > 0:
        said = _said(words.UNCACHEABLE, "its last answer could not be stored", "the key predictor")
        return said | {"remembered": round(known.unstorable, 3)}
    return {}


def _passes_by(exchange: Exchange, rules: CacheRules, headers: bytes) -> tuple[str, str] | None:
    """(rule, where it is written) of what keeps a request away from the cache."""
    method = exchange.method
    if method not in ("GET", "HEAD"):
        return "method", SOURCES["method"]
    if exchange.upgrade:
        return f"Upgrade: {exchange.upgrade}", SOURCES["upgrade"]
    if exchange.has_request_body:
        return "a body in the request", SOURCES["body"]
    if rules.skip is not None and rules.skip.search(exchange.raw_target) is not None:
        return "skip", f"the key skip: {_text(rules.skip.pattern)!r}"
    if rules.has_bypass_cookie(headers):
        return "bypass_cookies", "the key bypass_cookies"
    return None


async def _looked_up(
    store: ExplainedStore, key: bytes, exchange: Exchange, chosen_by: Chosen
) -> tuple[StoredAnswer | None, bytes, list[tuple[bytes, bytes]] | None]:
    """What is stored for the request, under which key it is or would be, and by what of the request that is chosen: None for a URL
    whose answers do not vary."""
    stored = await _got(store, key)
    if stored is None or not stored.entry.flags & MARKER:
        return stored, key, None
    headers, place, variant = exchange.headers.raw, key, None
    for names in stored.entry.vary:
        chosen = chosen_by(names, headers, exchange)
        of_these = [(name, chosen_by((name,), headers, exchange)) for name in names]
        found_at = variant_key(key, names, chosen)
        one = await _got(store, found_at)
        if one is not None and one.entry.chosen_by == chosen:
            return one, found_at, of_these
        if variant is None:
            place, variant = found_at, of_these
    return None, place, variant


async def _got(store: ExplainedStore, key: bytes) -> StoredAnswer | None:
    result = store.get(key)
    return result if result is None or isinstance(result, StoredAnswer) else await result


def _told(stored: StoredAnswer, asked: AskedFor, now: float) -> dict[str, Any]:
    entry = stored.entry
    left = entry.fresh_until - now
    return {
        "status": entry.status,
        "size": entry.length,
        "age": round(max(0.0, now - entry.born), 3),
        "ttl": round(left, 3),
        "lifetime": round(entry.lifetime, 3),
        "lifetime_rule": entry.rule,
        "stale_while_revalidate": round(_left(entry, entry.stale_while, now), 3),
        "stale_if_error": round(_left(entry, entry.stale_error, now), 3) if may_be_stale_on_error(entry, now, asked) else 0.0,
        "etag": _text(entry.etag),
        "last_modified": _text(entry.last_modified),
        "tags": [_text(tag) for tag in entry.tags],
        "flags": [word for flag, word in _FLAGS.items() if entry.flags & flag],
        "stored": round(max(0.0, now - entry.stored), 3),
        "number": stored.number,
        "where": stored.body.path if isinstance(stored.body, FileSpot) else "",
    }


def _left(entry: CacheEntry, seconds: float, now: float) -> float:
    """Of the time for which it may be used stale, what is left."""
    if not seconds:
        return 0.0
    since = now if entry.flags & PURGED_SOFTLY else max(now, entry.fresh_until)
    return max(0.0, entry.fresh_until + seconds - since)


def _text(raw: bytes) -> str:
    text = raw.decode("utf-8", "backslashreplace")
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"
