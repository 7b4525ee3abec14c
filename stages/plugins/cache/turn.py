"""What becomes of one request in the cache: answered from what is stored, or fetched and stored, or let pass.

A request that is not answered leaves with its turn (`Exchange._caching`), which takes the backend's answer when the hooks of
upstream_response have had it. It may have a *lease*: then others wait for what comes of it, and it says so in every case.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from secrets import randbits
from typing import Any, Final

from msgspec.structs import replace

from pingap.stages.caching import cache_status, words
from pingap.stages.caching.entry import ALWAYS_VALIDATE, MARKER, CacheEntry, FileSpot, StoredAnswer
from pingap.stages.caching.reuse import (
    FRESH,
    PLAIN,
    STALE_WHILE,
    UNAVAILABLE,
    VALIDATE,
    AskedFor,
    decide,
    is_failure,
    is_fresh,
    may_be_stale_on_error,
)
from pingap.stages.caching.storing import Storable, judge, tells_of_all
from pingap.stages.caching.validating import conditions_of, freshened, only_conditions, without_conditions
from pingap.stages.caching.vary import marker, variant_key
from pingap.stages.errors import KINDS
from pingap.stages.headers import value_of
from pingap.stages.messages import UNKNOWN, Affinity
from pingap.stages.plugins.as_asked import no_such_part, parts_reply
from pingap.stages.plugins.bodies import stages_of
from pingap.stages.plugins.cache import serving
from pingap.stages.plugins.cache.flights.back_off import answered, is_unreachable
from pingap.stages.plugins.cache.flights.flight_answer import FlightAnswer
from pingap.stages.plugins.cache.flights.growing_body import GrowingBody
from pingap.stages.plugins.cache.flights.lease import FlightLease
from pingap.stages.plugins.cache.flights.verdicts import ALONE, FAILED, FETCH, JOIN
from pingap.stages.plugins.cache.outcomes import fails_others, tell
from pingap.stages.plugins.cache.parts import CacheParts
from pingap.stages.plugins.cache.passing_part import PassingPart, parts_asked_for
from pingap.stages.plugins.cache.probe import copy_of_state
from pingap.stages.plugins.cache.sink import TOO_LARGE, StoreSink
from pingap.stages.plugins.cache.stored_bodies import BodyGone, open_stored
from pingap.stages.plugins.cache.telling import CacheTelling
from pingap.stages.plugins.cache.whole_body import WholeBodyFailed, WholeBodySink, is_small, wants_whole
from pingap.stages.plugins.exchange import CONTINUE, Exchange, PageInstead, Reply, Result, reply
from pingap.stages.plugins.file_body import FileBody
from pingap.stages.plugins.pieces import Pieces
from pingap.stages.plugins.stream import PluginStream
from pingap.stages.ranges import content_range

MOST_LOOKS: Final = 4
"""Times that one request looks into the store and waits; then it is fetched as if there were no others."""

REMEMBERED: Final = 60.0
"""Seconds for which it is remembered that a URL is not for the cache."""

BEHIND: Final = 60.0
"""Seconds that a refresh in the background waits for its turn at most."""


class CacheTurn:
    """One request, or one refresh in the background."""

    __slots__ = (
        "_asked",
        "_exchange",
        "_headers",
        "_is_alone",
        "_is_behind",
        "_is_validating",
        "_key",
        "_lease",
        "_looks",
        "_mark",
        "_marker",
        "_opened",
        "_parts",
        "_requested",
        "_stale",
        "_stored_under",
        "_telling",
        "is_lasting",
    )

    def __init__(self, parts: CacheParts, exchange: Exchange, key: bytes, headers: bytes, asked: AskedFor) -> None:
        """headers: of the request as it came to the cache."""
        self._parts = parts
        self._exchange = exchange
        self._key = key
        self._headers = headers
        self._asked = asked
        self._stored_under = key
        """What an answer to this request is stored and fetched under, as far as is known: `key`, or that of a variant."""
        self._marker: CacheEntry | None = None
        self._stale: StoredAnswer | None = None
        """What there is, and may not be used as it is."""
        self._opened: FileBody | None = None
        """Its body, while the backend is asked."""
        self._telling = CacheTelling(parts, exchange)
        self._lease: FlightLease | None = None
        self._is_validating = False
        self._is_alone = False
        """What came for others was not to be stored: nobody waits, and what comes for this one is judged all the same."""
        self._is_behind = False
        self._looks = 0
        self._mark = 0
        self._requested = 0.0
        self.is_lasting = False

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
        self._marker = found.entry
        self._telling.forward = cache_status.VARY_MISS
        is_newest = True
        for names in found.entry.vary:
            chosen = self._chosen_by(names)
            under = variant_key(self._key, names, chosen)
            if is_newest:
                self._stored_under = under
                is_newest = False
            variant = self._parts.store.get(under)
            if variant is None:
                continue
            if not isinstance(variant, StoredAnswer):
                return variant
            if variant.entry.chosen_by == chosen:
                self._stored_under = under
                return variant
        return None

    def _chosen_by(self, names: tuple[bytes, ...]) -> bytes:
        """What the backend sees of this request in the lines that an answer says it varies by."""
        return self._parts.stage.chosen_by(names, self._headers, self._exchange)

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
            self._refresh(found)
            return self._serve(found, words.STALE_UPDATING, use.rule)
        if use.kind == UNAVAILABLE:
            return self._unavailable()
        if use.kind == VALIDATE:
            self._stale = found
        # Why what is there is no answer: its age, or what the request says.
        self._telling.forward = cache_status.REQUEST if is_fresh(found.entry, self._parts.store.now()) else cache_status.STALE
        return self._missed()

    def _unavailable(self) -> Result:
        self.ended()
        self._telling.count(words.UNAVAILABLE)
        return reply(504, "", [("cache-control", "no-store"), ("x-cache-status", words.UNAVAILABLE)])

    # -- waiting -----------------------------------------------------------------------

    def _missed(self) -> Result | Awaitable[Result]:
        """Nothing that may be used as it is."""
        parts, routed = self._parts, self._exchange._routed
        self._telling.is_collapsed = False
        if self._asked.only_if_cached:
            return self._unavailable()
        self._looks += 1
        stale = self._stale
        if routed.method != b"GET" or self._looks > MOST_LOOKS or (stale is not None and not _is_shared(stale.entry)):
            return self._fetch()
        self._exchange._watches = True
        since = parts.store.purged_at(self._stored_under)
        has_stale = stale is not None and may_be_stale_on_error(stale.entry, parts.store.now(), self._asked)
        answer = parts.stage.flights.ask(parts.store.name, self._stored_under, routed.sid, since, parts.rules.lock, has_stale)
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
            self._lease = answer.lease
            if answer.is_late and self._is_there():
                self._found_stored()
                return self._look()
            return self._fetch()
        if kind == ALONE:
            self._is_alone = answer.reason == "unstorable"
            return self._fetch()
        if kind == JOIN and answer.body is not None:
            return self._join(answer)
        if kind == FAILED:
            stale = self._stale
            if stale is not None and may_be_stale_on_error(stale.entry, self._parts.store.now(), self._asked):
                return self._serve(stale, words.STALE, answer.reason)
            if not is_unreachable(answer.reason):
                return self._fetch()  # what was stale may be given out no more, and an answer to another is none to this request
            self._telling.count(words.FAILED)
            raise PageInstead(answer.reason if answer.reason in KINDS else "bad_gateway")
        self._telling.is_collapsed = True
        return self._look()

    def _found_stored(self) -> None:
        """Its turn to fetch came when that was done: all who wait need only look."""
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.stored()
        self.ended()

    def _is_there(self) -> bool:
        """It has been stored meanwhile."""
        found = self._parts.store.get(self._stored_under)
        if isinstance(found, StoredAnswer):
            return decide(found.entry, self._asked, self._parts.store.now()).kind == FRESH
        if found is not None:
            asyncio.ensure_future(found).add_done_callback(_ignored)
        return False

    def _join(self, answer: FlightAnswer) -> Result | Awaitable[Result]:
        """Somebody fetches it, and it is growing."""
        body = answer.body
        assert body is not None
        entry = body.entry
        if entry.vary and (chosen := self._chosen_by(entry.vary[0])) != entry.chosen_by:
            self._stored_under = variant_key(self._key, entry.vary[0], chosen)
            return self._fetch() if self._looks >= MOST_LOOKS else self._missed()
        if serving.is_far(entry, body, body.there, self._exchange._routed.method, self._headers):
            return self._pass(words.BYPASS)
        if decide(entry, self._asked, self._parts.store.now()).kind != FRESH:
            return self._fetch()  # it was shared when it began to grow; whose it is by now only the backend can say
        self._telling.is_collapsed = True
        return self._serve(StoredAnswer(entry, b"", 0), words.HIT, body=body)

    # -- asking the backend --------------------------------------------------------------

    def _pass(self, word: str) -> Result:
        """Not for the cache, this time: as if there were none."""
        self.ended()
        self._telling.count(word)
        return CONTINUE

    def _fetch(self) -> Result | Awaitable[Result]:
        """The request goes on. What there is may be the answer in the end, whatever becomes of it in the store meanwhile."""
        stale = self._stale
        if stale is not None and isinstance(stale.body, FileSpot) and self._exchange._has_client:
            try:
                opened = open_stored(stale.body, stale.entry.length)
            except BodyGone as gone:
                self._lose(stale, gone)
            else:
                if not isinstance(opened, FileBody):
                    return self._fetch_later(stale, opened)
                self._opened = opened
        return self._sent_on()

    async def _fetch_later(self, stale: StoredAnswer, opened: Awaitable[FileBody]) -> Result:
        try:
            self._opened = await opened
        except BodyGone as gone:
            self._lose(stale, gone)
        except BaseException:
            self.ended()
            raise
        return self._sent_on()

    def _lose(self, stale: StoredAnswer, gone: BodyGone) -> None:
        """Its body cannot be had: it is as if it were not there."""
        if gone.is_lost:
            self._parts.store.drop(self._stored_under, stale.number)
        self._stale = None
        self._telling.forward = cache_status.URI_MISS

    def _sent_on(self) -> Result:
        """With what the cache wants of the backend in place of what the client wants."""
        exchange, parts = self._exchange, self._parts
        exchange._caching = self
        self._telling.is_sent = True
        if self._lease is not None:
            self.is_lasting = True
            self._lease.keep()
        self._mark = parts.store.mark()
        self._requested = parts.store.now()
        exchange._target = parts.rules.keys.target_of(exchange._target)
        if self._is_alone and _has_conditions(self._headers):
            return CONTINUE  # most likely it is this client's alone, and may be long: it gets no more than it has asked for
        stale = self._stale
        conditions = conditions_of(stale.entry) if stale is not None else b""
        self._is_validating = bool(conditions)
        exchange.headers.raw = without_conditions(exchange.headers.raw) + conditions
        return CONTINUE

    def _sent(self, headers: bytes) -> bytes:
        """What has left, with the client's conditions in place of those of the cache."""
        return without_conditions(headers) + only_conditions(self._headers)

    # -- the answer ------------------------------------------------------------------------

    def responded(self, stream: PluginStream) -> Result | Awaitable[Result]:
        """The backend's answer, after the hooks of upstream_response."""
        parts, exchange = self._parts, self._exchange
        head, response = exchange.response, stream.response
        assert head is not None and response is not None
        now = parts.store.now()
        status = head.status
        stale = self._stale
        if self._is_validating and status == 304:
            return self._validated(head.headers.raw, now)
        if stale is not None and is_failure(status) and may_be_stale_on_error(stale.entry, now, self._asked):
            self._fail(answered(status))
            return self._serve(stale, words.STALE, status=status)
        result = self._judged(stream, status, now)
        return self._part(stream) if result is CONTINUE and _wants_part(self._headers) else result

    def _part(self, stream: PluginStream) -> Result:
        """What is not stored goes past the cache. The backend was not told which part of it the client wants: it is cut out here."""
        exchange = self._exchange
        head, response = exchange.response, stream.response
        assert head is not None and response is not None
        if head.status != 200 or exchange._routed.method != b"GET" or exchange._response_stages is not None or not exchange._has_client:
            return CONTINUE
        block, length = head.headers.raw, response.length
        size = len(response.body) if response.ended else length
        spans = parts_asked_for(self._headers, block, size) if size >= 0 else None
        if spans is None or (len(spans) > 1 and not response.ended):
            return CONTINUE
        if response.ended or not spans:
            return parts_reply(block, response.body, spans)._replace(is_stored=True) if spans else no_such_part(size)
        [(first, end)] = spans
        part = PassingPart(first, end - first)
        stream.is_forwarded = False
        stream.response = replace(response, body=b"", ended=True)
        self._parts.stage.fills.begin(stream, (), part, response.body, False)
        return Reply(206, b"%bcontent-range: %b\r\n" % (block, content_range(first, end, length)), part, True)

    def _judged(self, stream: PluginStream, status: int, now: float) -> Result | Awaitable[Result]:
        """It is stored, or it is not."""
        parts, exchange = self._parts, self._exchange
        head, response = exchange.response, stream.response
        assert head is not None and response is not None
        stages = exchange._response_stages
        method = exchange._routed.method
        length = UNKNOWN if stages is not None else response.length
        # fmt: off
        verdict = judge(
            parts.rules.policy, self._key, b"GET", self._headers, status, head.headers.raw, length, self._requested, now,
            parts.stage.wall(),
        )
        # fmt: on
        if not isinstance(verdict, Storable):
            return self._not_stored(verdict.rule, verdict.is_usual, status)
        most = parts.rules.max_file_size
        if most and length > most:
            return self._not_stored("max_file_size", True, status)
        entry = verdict.entry
        self._tell_storable()
        if entry.vary:
            names = entry.vary[0]
            chosen = self._chosen_by(names)
            if parts.stage.chosen_by(names, self._sent(exchange.headers.raw), exchange) != chosen:
                # Who asks for it next is known by what the client has sent, before those hooks run that have changed it.
                return self._not_stored("Vary: set by a plugin", True, status)
            if chosen != entry.chosen_by:
                entry = replace(entry, chosen_by=chosen)
        entry = replace(entry, reason=response.reason, spelled=response.spelled, body_id=randbits(62))
        if method != b"GET":
            return self._not_stored("method", False, status, words.MISS if self._stale is None else words.EXPIRED)
        if stages is not None and wants_whole(stages):
            if is_small(stages, response.length):
                return self._collected(stream, stages)
            return self._not_stored("whole body", False, status)
        if response.ended and stages is None:
            return self._keep(entry, response.body)
        if _has_events(head.headers.raw):
            return self._not_stored("event stream", True, status)
        return self._split(entry, stream, stages)

    async def _collected(self, stream: PluginStream, stages: list[Any]) -> Result:
        """A hook waits for the whole body, and may change the head then: what comes of it is judged, and stored."""
        parts, exchange = self._parts, self._exchange
        head, response = exchange.response, stream.response
        assert head is not None and response is not None
        sink = WholeBodySink()
        exchange._response_stages = None
        stream.is_forwarded = False
        stream.response = replace(response, body=b"", ended=True)
        parts.stage.fills.begin(stream, stages_of(stream, sink.watched(stages)), sink, response.body, response.ended)
        try:
            body = await sink.whole
        except WholeBodyFailed as error:
            self._fail(error.kind)
            self._telling.count(words.FAILED)
            self.ended()
            raise PageInstead(error.kind if error.kind in KINDS else "bad_gateway") from None
        if sink.reply is not None:
            self._telling.count(words.UNCACHEABLE)
            self.ended()
            return sink.reply
        stream.response = replace(response, body=body, ended=True, length=len(body))
        result = self._judged(stream, head.status, parts.store.now())
        return await result if isinstance(result, Awaitable) else result

    def _tell_storable(self) -> None:
        """What there is is for others, too."""
        if self._is_alone:
            store = self._parts.store
            self._parts.stage.flights.storable(store.name, self._stored_under, store.purged_at(self._stored_under))

    def _not_stored(self, rule: str, is_usual: bool, status: int, word: str = words.UNCACHEABLE) -> Result:
        lease, self._lease = self._lease, None
        if lease is not None:
            if is_failure(status):
                lease.failed(answered(status))
            else:
                seconds = TOO_LARGE if rule == "max_file_size" else REMEMBERED
                lease.unstorable(seconds if is_usual and self._parts.rules.predictor else 0.0)
        stale = self._stale
        if stale is not None and tells_of_all(status, self._headers):
            self._parts.store.drop(self._stored_under, stale.number)  # it is not what there is any more
        self._telling.passed(word, rule)
        self.ended()
        return CONTINUE

    def _key_of(self, entry: CacheEntry) -> bytes:
        """Where it is stored; what leads there has been stored."""
        if not entry.vary:
            return self._key
        parts = self._parts
        names = entry.vary[0]
        known = self._marker
        lead = marker(self._key, known, names, parts.store.now())
        if lead is not known:
            parts.store.put(self._key, lead, b"", self._mark)
        return variant_key(self._key, names, entry.chosen_by)

    def _keep(self, entry: CacheEntry, body: bytes) -> Result | Awaitable[Result]:
        """All of it is here."""
        entry = replace(entry, length=len(body))
        parts, key = self._parts, self._key_of(entry)
        stored = parts.store.put(key, entry, body, self._mark)
        lease, self._lease = self._lease, None
        if lease is not None:
            tell(lease, stored, parts.store, key, self._mark)
        return self._answered(entry, body, None)

    def _split(self, entry: CacheEntry, stream: PluginStream, stages: list[Any] | None) -> Result | Awaitable[Result]:
        """From here on the answer goes into the store, and its client reads it there."""
        parts, response = self._parts, stream.response
        assert response is not None
        part = parts.store.part(entry.length if entry.length >= 0 else None)
        if part is None:
            return self._not_stored("no room", False, entry.status)
        if self._lease is not None and not is_fresh(entry, parts.store.now()):
            self._lease.unstorable(0.0)  # nobody may read along without having asked the backend
            self._lease = None
        try:
            sink = StoreSink(parts, self._key_of(entry), entry, part, self._mark, self._lease)
        except OSError:  # no descriptor is left, say
            part.discard()
            return self._not_stored("no room", False, entry.status)
        self._lease = None
        self._exchange._response_stages = None
        stream.is_forwarded = False
        stream.response = replace(response, body=b"", ended=True)
        parts.stage.fills.begin(stream, stages_of(stream, stages or ()), sink, response.body, response.ended)
        return self._answered(entry, sink.body.expect(), stream)

    def _answered(self, entry: CacheEntry, body: Any, stream: PluginStream | None) -> Result | Awaitable[Result]:
        """What is being stored is the answer to the client, too. stream: that of a body which is read as it grows."""
        exchange = self._exchange
        if not exchange._has_client:
            if isinstance(body, GrowingBody):
                body.close()
            self.ended()
            return CONTINUE
        word = words.MISS if self._stale is None else words.EXPIRED
        if _has_conditions(self._headers):
            growing = body if isinstance(body, GrowingBody) else None
            if growing is not None:
                growing.close()
            return self._serve(StoredAnswer(entry, b"" if growing else body, 0), word, is_stored=True, body=growing)
        self._telling.passed(word, "", entry)
        if stream is not None:
            stream.pieces = Pieces(self._parts.name, body, _awaited, self._parts.stage.late)
        self.ended()
        return CONTINUE

    def _validated(self, headers: bytes, now: float) -> Result | Awaitable[Result]:
        """304: what there was is as good as new."""
        parts, stale = self._parts, self._stale
        assert stale is not None
        fresh = freshened(parts.rules.policy, stale.entry, headers, self._requested, now, parts.stage.wall())
        lease, self._lease = self._lease, None
        if fresh is None:
            parts.store.drop(self._stored_under, stale.number)
            if lease is not None:
                lease.ended()
            return self._serve(stale, words.REVALIDATED_NOCACHE, status=304)
        self._tell_storable()
        stored = parts.store.replace(self._stored_under, stale.number, fresh)
        if lease is not None:
            stored.add_done_callback(lambda done: lease.stored())
        return self._serve(StoredAnswer(fresh, stale.body, stale.number), words.REVALIDATED, is_stored=True, status=304)

    # -- behind the client's back ----------------------------------------------------------------

    def _refresh(self, found: StoredAnswer) -> None:
        """Validates what was served stale, unless somebody does already."""
        parts, stage, routed = self._parts, self._parts.stage, self._exchange._routed
        if self._stored_under in parts.refreshing:
            return
        compiled, upstream = stage.compiled_of(routed.generation), stage.upstream()
        if compiled is None or not upstream or compiled.chains.get(routed.location) is None:
            return
        sid, now = stage.next_sid(), stage.clock()
        crew = Affinity(0, stage.me, upstream)
        own_routed = replace(routed, sid=sid, affinity=crew, method=b"GET", headers=self._headers, watchers=(), started=now)
        own = Exchange(own_routed, now, compiled.upstreams)
        own._target, own._upstream = self._exchange._target, self._exchange._upstream
        own.context.update(self._exchange.context)
        own._state, own._key_parts = copy_of_state(self._exchange), self._exchange._key_parts
        own._has_client = False
        turn = CacheTurn(parts, own, self._key, self._headers, PLAIN)
        turn._stale, turn._stored_under, turn._marker, turn._is_behind = found, self._stored_under, self._marker, True
        parts.refreshing.add(self._stored_under)
        answer = stage.flights.ask(parts.store.name, self._stored_under, sid, parts.store.purged_at(self._stored_under), BEHIND, True)
        if isinstance(answer, FlightAnswer):
            turn._go_behind(answer)
        else:
            stage.spawn(turn._wait_behind(answer))

    async def _wait_behind(self, waits: Awaitable[FlightAnswer]) -> None:
        try:
            answer = await waits
        except BaseException:
            self.ended()
            raise
        self._go_behind(answer)

    def _go_behind(self, answer: FlightAnswer) -> None:
        parts, exchange = self._parts, self._exchange
        routed = exchange._routed
        compiled = parts.stage.compiled_of(routed.generation)
        chain = compiled.chains.get(routed.location) if compiled is not None else None
        if answer.kind != FETCH:
            self.ended()
            return
        self._lease = answer.lease
        if chain is None:
            self.ended()
            return
        if answer.is_late and self._is_there():
            self._found_stored()
            return
        self._fetch()
        at = next((number for number, live in enumerate(chain.before.owners, 1) if live.name == parts.name), 0)
        parts.stage.serve(exchange, chain, at)

    # -- the end -----------------------------------------------------------------------------------

    def _fail(self, kind: str) -> None:
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.failed(kind)

    def failed(self, kind: str) -> Reply | Awaitable[Any] | None:
        """No backend has answered."""
        if fails_others(kind):
            self._fail(kind)
        stale = self._stale
        has_client = self._exchange._has_client
        self.ended()
        if stale is None or not has_client or not may_be_stale_on_error(stale.entry, self._parts.store.now(), self._asked):
            self._telling.count(words.FAILED)
            return None
        result = self._serve(stale, words.STALE, kind)
        return result if isinstance(result, Reply | Awaitable) else None

    def is_of(self, parts: CacheParts) -> bool:
        """It is a request of this cache's: a location may have several."""
        return self._parts is parts

    def ended(self) -> None:
        """Nothing more comes of it."""
        if self._exchange._caching is self:
            self._exchange._caching = None
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.ended()
        if self._is_behind:
            self._parts.refreshing.discard(self._stored_under)
        if not self._exchange._has_client:  # nobody else says that it is over
            self._parts.stage.over(self._exchange._routed.sid)

    # -- what the client is told ---------------------------------------------------------------------

    def _serve(
        self,
        found: StoredAnswer,
        word: str,
        detail: str = "",
        is_stored: bool = False,
        body: GrowingBody | None = None,
        status: int = 0,
    ) -> Result | Awaitable[Result]:
        """From what is kept, where somebody is there to get it. body: one that is still growing. The others: CacheTelling.served."""
        exchange = self._exchange
        self.ended()
        if not exchange._has_client:
            return CONTINUE
        now = self._parts.store.now()
        lines = self._telling.served(found.entry, word, now, is_stored, detail, status)
        method = exchange._routed.method
        if body is not None:
            return serving.answer_growing(found.entry, body, method, self._headers, now, lines)
        stale = self._stale
        opened = self._opened if stale is not None and stale.number == found.number else None
        try:
            answer = serving.answer(found, method, self._headers, now, lines, self._parts.store if found.number else None, opened)
        except BodyGone as gone:
            return self._gone(found, word, gone)
        return answer if isinstance(answer, Reply) else self._served_later(found, word, answer)

    async def _served_later(self, found: StoredAnswer, word: str, answer: Awaitable[Reply]) -> Result:
        try:
            return await answer
        except BodyGone as gone:
            result = self._gone(found, word, gone)
        return await result if isinstance(result, Awaitable) else result

    def _gone(self, found: StoredAnswer, word: str, gone: BodyGone) -> Result | Awaitable[Result]:
        """Its body cannot be had: as if nothing were stored."""
        parts = self._parts
        self._telling.uncount(word)
        if gone.is_lost:
            parts.store.drop(self._stored_under, found.number)
        else:
            self._looks = MOST_LOOKS  # nobody is to look for it there again
        self._stale = None
        if self._requested:  # it went while the backend was asked
            self._telling.count(words.FAILED)
            return reply(503, "", [("cache-control", "no-store"), ("retry-after", "0")])
        self._telling.forward = cache_status.URI_MISS
        return self._missed()


def _is_shared(entry: CacheEntry) -> bool:
    """Whoever waits for another's fetch may use what comes of it. Else each has to ask the backend, and they need not do so one after
    the other: `no-cache`, `max-age=0`."""
    return not entry.flags & ALWAYS_VALIDATE and (entry.lifetime > 0 or entry.stale_while > 0)


def _wants_part(headers: bytes) -> bool:
    return headers.find(b"range: ") >= 0


def _has_events(headers: bytes) -> bool:
    """It has no end as a rule, and is for who is there when they happen."""
    return (value_of(headers, b"content-type") or b"").lower().startswith(b"text/event-stream")


def _has_conditions(headers: bytes) -> bool:
    """The client asks for a part, or only for what it does not have."""
    return headers.find(b"range: ") >= 0 or headers.find(b"\nif-") >= 0 or headers.startswith(b"if-")


def _ignored(done: asyncio.Future[Any]) -> None:
    if not done.cancelled():
        done.exception()


async def _awaited(waits: Awaitable[Any]) -> Any:
    return await waits
