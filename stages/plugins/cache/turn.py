"""What becomes of one request in the cache before it is answered or goes on: looked up, waited for, sent to the backend, let pass.

What goes on has a companion (fetching.py), which takes the backend's answer.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final

from pingap.stages.caching import cache_status, words
from pingap.stages.caching.entry import ALWAYS_VALIDATE, MARKER, CacheEntry, FileSpot, StoredAnswer
from pingap.stages.caching.reuse import FRESH, STALE_WHILE, UNAVAILABLE, VALIDATE, decide, is_fresh
from pingap.stages.caching.vary import variant_key
from pingap.stages.errors import KINDS
from pingap.stages.plugins.cache import refreshing, serving
from pingap.stages.plugins.cache.cached_request import CachedRequest
from pingap.stages.plugins.cache.fetching import CacheFetch
from pingap.stages.plugins.cache.flights.back_off import is_unreachable
from pingap.stages.plugins.cache.flights.flight_answer import FlightAnswer
from pingap.stages.plugins.cache.flights.growing_body import GrowingBody
from pingap.stages.plugins.cache.flights.verdicts import ALONE, FAILED, FETCH, JOIN
from pingap.stages.plugins.cache.stored_bodies import BodyGone, open_stored
from pingap.stages.plugins.exchange import CONTINUE, PageInstead, Result, reply
from pingap.stages.plugins.file_body import FileBody

MOST_LOOKS: Final = 4
"""Times that one request looks into the store and waits; then it is fetched as if there were no others."""


class CacheTurn:
    """One request of a client's."""

    __slots__ = ("_asked", "_exchange", "_headers", "_key", "_looks", "_parts", "_request", "_telling")

    def __init__(self, request: CachedRequest) -> None:
        self._request = request
        self._parts = request.parts
        self._exchange = request.exchange
        self._key = request.key
        self._headers = request.headers
        self._asked = request.asked
        self._telling = request.telling
        self._looks = 0

    # -- looking ---------------------------------------------------------------------

    def begin(self, found: StoredAnswer | Awaitable[StoredAnswer | None] | None) -> Result | Awaitable[Result]:
        """found: what the store said of the key."""
        if found is None:
            return self._missed()
        if isinstance(found, StoredAnswer):
            found = self._variant(found) if found.entry.flags & MARKER else found
            if found is None or isinstance(found, StoredAnswer):
                return self._found(found)
        return self._found_later(found)

    def _look(self) -> Result | Awaitable[Result]:
        return self.begin(self._parts.store.get(self._key))

    def _variant(self, found: StoredAnswer) -> StoredAnswer | Awaitable[StoredAnswer | None] | None:
        """Of a URL with several answers, the one for this request."""
        self._request.marker = found.entry
        self._telling.forward = cache_status.VARY_MISS
        is_newest = True
        for names in found.entry.vary:
            chosen = self._request.chosen_by(names)
            under = variant_key(self._key, names, chosen)
            if is_newest:
                self._request.stored_under = under
                is_newest = False
            variant = self._parts.store.get(under)
            if variant is None:
                continue
            if not isinstance(variant, StoredAnswer):
                return variant
            if variant.entry.chosen_by == chosen:
                self._request.stored_under = under
                return variant
        return None

    async def _found_later(self, found: Awaitable[StoredAnswer | None]) -> Result:
        """A disk had to be asked; then all of it is in memory, and can be asked for again."""
        for _ in range(MOST_LOOKS):
            await found
            again = self._parts.store.get(self._key)
            if isinstance(again, StoredAnswer) and again.entry.flags & MARKER:
                again = self._variant(again)
            if again is None or isinstance(again, StoredAnswer):
                result = self._found(again)
                return await result if isinstance(result, Awaitable) else result
            found = again
        await found
        result = self._found(None)
        return await result if isinstance(result, Awaitable) else result

    def _found(self, found: StoredAnswer | None) -> Result | Awaitable[Result]:
        if found is None:
            return self._missed()
        use = decide(found.entry, self._asked, self._parts.store.now())
        if use.kind == FRESH:
            return self._serve(found, words.HIT)
        if use.kind == STALE_WHILE:
            refreshing.begin(self._request, found)
            return self._serve(found, words.STALE_UPDATING, use.rule)
        if use.kind == UNAVAILABLE:
            return self._unavailable()
        if use.kind == VALIDATE:
            self._request.stale = found
        # Why what is there is no answer: its age, or what the request says.
        self._telling.forward = cache_status.REQUEST if is_fresh(found.entry, self._parts.store.now()) else cache_status.STALE
        return self._missed()

    def _unavailable(self) -> Result:
        self._request.over()
        self._telling.count(words.UNAVAILABLE)
        return reply(504, "", [("cache-control", "no-store"), ("x-cache-status", words.UNAVAILABLE)])

    def _missed(self) -> Result | Awaitable[Result]:
        """Nothing that may be used as it is."""
        parts, routed = self._parts, self._exchange._routed
        self._telling.is_collapsed = False
        if self._asked.only_if_cached:
            return self._unavailable()
        self._looks += 1
        stale = self._request.stale
        if routed.method != b"GET" or self._looks > MOST_LOOKS or (stale is not None and not _is_shared(stale.entry)):
            return self._fetch()
        self._exchange._watches = True
        since = parts.store.purged_at(self._request.stored_under)
        has_stale = self._request.may_be_stale() is not None
        answer = parts.stage.flights.ask(parts.store.name, self._request.stored_under, routed.sid, since, parts.rules.lock, has_stale)
        if isinstance(answer, FlightAnswer):
            return self._told(answer)
        return self._told_later(answer)

    async def _told_later(self, waits: Awaitable[FlightAnswer]) -> Result:
        result = self._told(await waits)
        return await result if isinstance(result, Awaitable) else result

    def _told(self, answer: FlightAnswer) -> Result | Awaitable[Result]:
        kind = answer.kind
        self._telling.waited += answer.waited
        if kind == FETCH:
            return self._fetch() if self._request.take_turn(answer) else self._look()
        if kind == ALONE:
            self._request.is_alone = answer.reason == "unstorable"
            return self._fetch()
        if kind == JOIN and answer.body is not None:
            return self._join(answer)
        if kind == FAILED:
            stale = self._request.may_be_stale()
            if stale is not None:
                return self._serve(stale, words.STALE, answer.reason)
            if not is_unreachable(answer.reason):
                return self._fetch()  # what was stale may be given out no more, and an answer to another is none to this request
            self._telling.count(words.FAILED)
            raise PageInstead(answer.reason if answer.reason in KINDS else "bad_gateway")
        self._telling.is_collapsed = True
        return self._look()

    def _join(self, answer: FlightAnswer) -> Result | Awaitable[Result]:
        """Somebody fetches it, and it is growing."""
        body = answer.body
        assert body is not None
        entry = body.entry
        if entry.vary and (chosen := self._request.chosen_by(entry.vary[0])) != entry.chosen_by:
            self._request.stored_under = variant_key(self._key, entry.vary[0], chosen)
            return self._fetch() if self._looks >= MOST_LOOKS else self._missed()
        if serving.is_far(entry, body, body.there, self._exchange._routed.method, self._headers):
            return self._pass(words.BYPASS)
        if decide(entry, self._asked, self._parts.store.now()).kind != FRESH:
            return self._fetch()  # it was shared when it began to grow; whose it is by now only the backend can say
        self._telling.is_collapsed = True
        return self._serve(StoredAnswer(entry, b"", 0), words.HIT, body=body)

    def _pass(self, word: str) -> Result:
        """Not for the cache, this time: as if there were none."""
        self._request.over()
        self._telling.count(word)
        return CONTINUE

    def _fetch(self) -> Result | Awaitable[Result]:
        """The request goes on. What there is may be the answer in the end, whatever becomes of it in the store meanwhile."""
        stale = self._request.stale
        if stale is not None and isinstance(stale.body, FileSpot) and self._exchange._has_client:
            try:
                opened = open_stored(stale.body, stale.entry.length)
            except BodyGone as gone:
                self._lose(stale, gone)
            else:
                if not isinstance(opened, FileBody):
                    return self._fetch_later(stale, opened)
                self._request.opened = opened
        return self._sent_on()

    async def _fetch_later(self, stale: StoredAnswer, opened: Awaitable[FileBody]) -> Result:
        try:
            self._request.opened = await opened
        except BodyGone as gone:
            self._lose(stale, gone)
        except BaseException:
            self._request.over()
            raise
        return self._sent_on()

    def _lose(self, stale: StoredAnswer, gone: BodyGone) -> None:
        """Its body cannot be had: it is as if it were not there."""
        if gone.is_lost:
            self._parts.store.drop(self._request.stored_under, stale.number)
        self._forget_stale()

    def _sent_on(self) -> Result:
        CacheFetch(self._request).begin()
        return CONTINUE

    # -- what the client gets ---------------------------------------------------------------------

    def _serve(self, found: StoredAnswer, word: str, detail: str = "", body: GrowingBody | None = None) -> Result | Awaitable[Result]:
        return self._request.serve(found, word, self._missed_after_all, detail, body=body)

    def _missed_after_all(self, is_lost: bool) -> Result | Awaitable[Result]:
        """The body of what was found cannot be had: as if nothing were stored."""
        if not is_lost:
            self._looks = MOST_LOOKS  # nobody is to look for it there again
        self._forget_stale()
        return self._missed()

    def _forget_stale(self) -> None:
        self._request.stale = None
        self._telling.forward = cache_status.URI_MISS


def _is_shared(entry: CacheEntry) -> bool:
    """Whoever waits for another's fetch may use what comes of it. Else each has to ask the backend, and they need not do so one after
    the other: `no-cache`, `max-age=0`."""
    return not entry.flags & ALWAYS_VALIDATE and (entry.lifetime > 0 or entry.stale_while > 0)
