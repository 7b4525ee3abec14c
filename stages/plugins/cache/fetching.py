"""A request that the cache has sent on to the backend, and what becomes of the answer: stored and passed on, split, or let pass.

It goes with the request (`Exchange._caching`) and takes the backend's answer when the hooks of upstream_response have had it. If it has
a *lease*, others wait for what comes of it, and it says so in every case.
"""

from __future__ import annotations

from collections.abc import Awaitable
from secrets import randbits
from typing import Any, Final

from msgspec.structs import replace

from pingap.stages.caching import words
from pingap.stages.caching.entry import CacheEntry, StoredAnswer
from pingap.stages.caching.reuse import is_failure, is_fresh
from pingap.stages.caching.storing import Storable, judge, tells_of_all
from pingap.stages.caching.validating import conditions_of, freshened, only_conditions, without_conditions
from pingap.stages.caching.vary import marker, variant_key
from pingap.stages.errors import KINDS
from pingap.stages.headers import value_of
from pingap.stages.messages import UNKNOWN
from pingap.stages.plugins.as_asked import no_such_part, parts_reply
from pingap.stages.plugins.bodies import stages_of
from pingap.stages.plugins.cache.cached_request import CachedRequest, has_conditions
from pingap.stages.plugins.cache.flights.back_off import answered
from pingap.stages.plugins.cache.flights.growing_body import GrowingBody
from pingap.stages.plugins.cache.outcomes import fails_others, tell
from pingap.stages.plugins.cache.parts import CacheParts
from pingap.stages.plugins.cache.passing_part import PassingPart, parts_asked_for
from pingap.stages.plugins.cache.sink import TOO_LARGE, StoreSink
from pingap.stages.plugins.cache.whole_body import WholeBodyFailed, WholeBodySink, is_small, wants_whole
from pingap.stages.plugins.exchange import CONTINUE, PageInstead, Reply, Result, reply
from pingap.stages.plugins.pieces import Pieces
from pingap.stages.plugins.stream import PluginStream
from pingap.stages.ranges import content_range

REMEMBERED: Final = 60.0
"""Seconds for which it is remembered that a URL is not for the cache."""


class CacheFetch:
    """One request on its way to the backend and back."""

    __slots__ = ("_exchange", "_headers", "_is_validating", "_key", "_mark", "_parts", "_request", "_requested", "_telling")

    def __init__(self, request: CachedRequest) -> None:
        self._request = request
        self._parts = request.parts
        self._exchange = request.exchange
        self._key = request.key
        self._headers = request.headers
        self._telling = request.telling
        self._mark = 0
        """The store's, from before the backend was asked."""
        self._requested = 0.0
        self._is_validating = False

    @property
    def is_lasting(self) -> bool:
        return self._request.lease is not None

    def begin(self) -> None:
        """The request goes on, with what the cache wants of the backend in place of what the client wants."""
        request, parts, exchange = self._request, self._parts, self._exchange
        request.kept = exchange._caching = self
        self._telling.is_sent = True
        if request.lease is not None:
            request.lease.keep()
        self._mark = parts.store.mark()
        self._requested = parts.store.now()
        exchange._target = parts.rules.keys.target_of(exchange._target)
        if request.is_alone and has_conditions(self._headers):
            return  # most likely it is this client's alone, and may be long: it gets no more than it has asked for
        stale = request.stale
        conditions = conditions_of(stale.entry) if stale is not None else b""
        self._is_validating = bool(conditions)
        exchange.headers.raw = without_conditions(exchange.headers.raw) + conditions

    def _sent(self, headers: bytes) -> bytes:
        """What has left, with the client's conditions in place of those of the cache."""
        return without_conditions(headers) + only_conditions(self._headers)

    def is_of(self, parts: CacheParts) -> bool:
        """It is a request of this cache's: a location may have several."""
        return self._parts is parts

    # -- the answer ------------------------------------------------------------------------

    def responded(self, stream: PluginStream) -> Result | Awaitable[Result]:
        """The backend's answer, after the hooks of upstream_response."""
        parts, exchange = self._parts, self._exchange
        head, response = exchange.response, stream.response
        assert head is not None and response is not None
        now = parts.store.now()
        status = head.status
        if self._is_validating and status == 304:
            return self._validated(head.headers.raw, now)
        if is_failure(status) and (usable := self._request.may_be_stale()) is not None:
            self._fail(answered(status))
            return self._serve(usable, words.STALE, status=status)
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
            chosen = self._request.chosen_by(names)
            if parts.stage.chosen_by(names, self._sent(exchange.headers.raw), exchange) != chosen:
                # Who asks for it next is known by what the client has sent, before those hooks run that have changed it.
                return self._not_stored("Vary: set by a plugin", True, status)
            if chosen != entry.chosen_by:
                entry = replace(entry, chosen_by=chosen)
        entry = replace(entry, reason=response.reason, spelled=response.spelled, body_id=randbits(62))
        if method != b"GET":
            return self._not_stored("method", False, status, words.MISS if self._request.stale is None else words.EXPIRED)
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
            self._request.over()
            raise PageInstead(error.kind if error.kind in KINDS else "bad_gateway") from None
        if sink.reply is not None:
            self._telling.count(words.UNCACHEABLE)
            self._request.over()
            return sink.reply
        stream.response = replace(response, body=body, ended=True, length=len(body))
        result = self._judged(stream, head.status, parts.store.now())
        return await result if isinstance(result, Awaitable) else result

    def _tell_storable(self) -> None:
        """What there is is for others, too."""
        if self._request.is_alone:
            store = self._parts.store
            self._parts.stage.flights.storable(store.name, self._request.stored_under, store.purged_at(self._request.stored_under))

    def _not_stored(self, rule: str, is_usual: bool, status: int, word: str = words.UNCACHEABLE) -> Result:
        lease = self._request.take_lease()
        if lease is not None:
            if is_failure(status):
                lease.failed(answered(status))
            else:
                seconds = TOO_LARGE if rule == "max_file_size" else REMEMBERED
                lease.unstorable(seconds if is_usual and self._parts.rules.predictor else 0.0)
        stale = self._request.stale
        if stale is not None and tells_of_all(status, self._headers):
            self._parts.store.drop(self._request.stored_under, stale.number)  # it is not what there is any more
        self._telling.passed(word, rule)
        self._request.over()
        return CONTINUE

    def _key_of(self, entry: CacheEntry) -> bytes:
        """Where it is stored; what leads there has been stored."""
        if not entry.vary:
            return self._key
        parts = self._parts
        names = entry.vary[0]
        known = self._request.marker
        lead = marker(self._key, known, names, parts.store.now())
        if lead is not known:
            parts.store.put(self._key, lead, b"", self._mark)
        return variant_key(self._key, names, entry.chosen_by)

    def _keep(self, entry: CacheEntry, body: bytes) -> Result | Awaitable[Result]:
        """All of it is here."""
        entry = replace(entry, length=len(body))
        parts, key = self._parts, self._key_of(entry)
        stored = parts.store.put(key, entry, body, self._mark)
        lease = self._request.take_lease()
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
        if self._request.lease is not None and not is_fresh(entry, parts.store.now()):
            self._request.lease.unstorable(0.0)  # nobody may read along without having asked the backend
            self._request.lease = None
        try:
            sink = StoreSink(parts, self._key_of(entry), entry, part, self._mark, self._request.lease)
        except OSError:  # no descriptor is left, say
            part.discard()
            return self._not_stored("no room", False, entry.status)
        self._request.lease = None
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
            self._request.over()
            return CONTINUE
        word = words.MISS if self._request.stale is None else words.EXPIRED
        if has_conditions(self._headers):
            growing = body if isinstance(body, GrowingBody) else None
            if growing is not None:
                growing.close()
            return self._serve(StoredAnswer(entry, b"" if growing else body, 0), word, is_stored=True, body=growing)
        self._telling.passed(word, "", entry)
        if stream is not None:
            stream.pieces = Pieces(self._parts.name, body, _awaited, self._parts.stage.late)
        self._request.over()
        return CONTINUE

    def _validated(self, headers: bytes, now: float) -> Result | Awaitable[Result]:
        """304: what there was is as good as new."""
        parts, stale = self._parts, self._request.stale
        assert stale is not None
        fresh = freshened(parts.rules.policy, stale.entry, headers, self._requested, now, parts.stage.wall())
        lease = self._request.take_lease()
        if fresh is None:
            parts.store.drop(self._request.stored_under, stale.number)
            if lease is not None:
                lease.ended()
            return self._serve(stale, words.REVALIDATED_NOCACHE, status=304)
        self._tell_storable()
        stored = parts.store.replace(self._request.stored_under, stale.number, fresh)
        if lease is not None:
            stored.add_done_callback(lambda done: lease.stored())
        return self._serve(StoredAnswer(fresh, stale.body, stale.number), words.REVALIDATED, is_stored=True, status=304)

    # -- the end -----------------------------------------------------------------------------------

    def _fail(self, kind: str) -> None:
        lease = self._request.take_lease()
        if lease is not None:
            lease.failed(kind)

    def failed(self, kind: str) -> Reply | Awaitable[Any] | None:
        """No backend has answered."""
        if fails_others(kind):
            self._fail(kind)
        has_client = self._exchange._has_client
        self._request.over()
        stale = self._request.may_be_stale() if has_client else None
        if stale is None:
            self._telling.count(words.FAILED)
            return None
        result = self._serve(stale, words.STALE, kind)
        return result if isinstance(result, Reply | Awaitable) else None

    def ended(self) -> None:
        """Nothing more comes of it."""
        self._request.over()

    def _serve(
        self,
        found: StoredAnswer,
        word: str,
        detail: str = "",
        status: int = 0,
        is_stored: bool = False,
        body: GrowingBody | None = None,
    ) -> Result | Awaitable[Result]:
        return self._request.serve(found, word, self._gone, detail, status, is_stored, body)

    def _gone(self, is_lost: bool) -> Result:
        """The body of what there is went while the backend was asked."""
        self._telling.count(words.FAILED)
        return reply(503, "", [("cache-control", "no-store"), ("retry-after", "0")])


def _wants_part(headers: bytes) -> bool:
    return headers.find(b"range: ") >= 0


def _has_events(headers: bytes) -> bool:
    """It has no end as a rule, and is for who is there when they happen."""
    return (value_of(headers, b"content-type") or b"").lower().startswith(b"text/event-stream")


async def _awaited(waits: Awaitable[Any]) -> Any:
    return await waits
