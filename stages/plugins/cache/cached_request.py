"""One request as the cache has it, on its way from the look-up to its end: what is known of it, and what it holds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from pingap.stages.caching.entry import CacheEntry, StoredAnswer
from pingap.stages.caching.reuse import FRESH, AskedFor, decide, may_be_stale_on_error
from pingap.stages.plugins.cache import serving
from pingap.stages.plugins.cache.flights.flight_answer import FlightAnswer
from pingap.stages.plugins.cache.flights.growing_body import GrowingBody
from pingap.stages.plugins.cache.flights.lease import FlightLease
from pingap.stages.plugins.cache.parts import CacheParts
from pingap.stages.plugins.cache.stored_bodies import BodyGone
from pingap.stages.plugins.cache.telling import CacheTelling
from pingap.stages.plugins.exchange import CONTINUE, Exchange, Kept, Reply, Result
from pingap.stages.plugins.file_body import FileBody


class CachedRequest:
    """Mutable record; turn.py fills it, fetching.py ends it. A refresh in the background is one, too."""

    __slots__ = (
        "asked",
        "exchange",
        "headers",
        "is_alone",
        "is_behind",
        "kept",
        "key",
        "lease",
        "marker",
        "opened",
        "parts",
        "stale",
        "stored_under",
        "telling",
    )

    def __init__(self, parts: CacheParts, exchange: Exchange, key: bytes, headers: bytes, asked: AskedFor) -> None:
        """headers: of the request as it came to the cache."""
        self.parts = parts
        self.exchange = exchange
        self.key = key
        self.headers = headers
        self.asked = asked
        self.stored_under = key
        """What an answer to this request is stored and fetched under, as far as is known: `key`, or that of a variant."""
        self.marker: CacheEntry | None = None
        self.stale: StoredAnswer | None = None
        """What there is, and may not be used as it is."""
        self.opened: FileBody | None = None
        """Its body, while the backend is asked."""
        self.telling = CacheTelling(parts, exchange)
        self.lease: FlightLease | None = None
        """Others wait to hear what comes of it."""
        self.is_alone = False
        """What came for others was not to be stored: nobody waits, and what comes for this one is judged all the same."""
        self.is_behind = False
        """No client has asked."""
        self.kept: Kept | None = None
        """What goes with it to the backend."""

    def chosen_by(self, names: tuple[bytes, ...]) -> bytes:
        """What the backend sees of this request in the lines that an answer says it varies by."""
        return self.parts.stage.chosen_by(names, self.headers, self.exchange)

    def may_be_stale(self) -> StoredAnswer | None:
        """What is stale, if it is an answer where the backend fails."""
        stale = self.stale
        if stale is None or not may_be_stale_on_error(stale.entry, self.parts.store.now(), self.asked):
            return None
        return stale

    def take_turn(self, answer: FlightAnswer) -> bool:
        """It has been let fetch. False: what it would fetch has been stored meanwhile, and all who wait need only look."""
        self.lease = answer.lease
        if not (answer.is_late and self._is_there()):
            return True
        lease = self.take_lease()
        if lease is not None:
            lease.stored()
        self.over()
        return False

    def _is_there(self) -> bool:
        """It has been stored."""
        found = self.parts.store.get(self.stored_under)
        if isinstance(found, StoredAnswer):
            return decide(found.entry, self.asked, self.parts.store.now()).kind == FRESH
        if found is not None:
            asyncio.ensure_future(found).add_done_callback(_ignored)
        return False

    def take_lease(self) -> FlightLease | None:
        """It is somebody else's to tell of now."""
        lease, self.lease = self.lease, None
        return lease

    def serve(
        self,
        found: StoredAnswer,
        word: str,
        lost: Callable[[bool], Result | Awaitable[Result]],
        detail: str = "",
        status: int = 0,
        is_stored: bool = False,
        body: GrowingBody | None = None,
    ) -> Result | Awaitable[Result]:
        """From what is kept, to the client, if there is one. With that it is over. lost: what becomes of it where its body cannot be had;
        True: it never will. body: one that is still growing. The others: CacheTelling.served."""
        self.over()
        if not self.exchange._has_client:
            return CONTINUE
        try:
            answer = self._answer(found, word, detail, status, is_stored, body)
        except BodyGone as gone:
            return self._lost(found, word, gone.is_lost, lost)
        return answer if isinstance(answer, Reply) else self._served_later(found, word, answer, lost)

    async def _served_later(
        self, found: StoredAnswer, word: str, answer: Awaitable[Reply], lost: Callable[[bool], Result | Awaitable[Result]]
    ) -> Result:
        try:
            return await answer
        except BodyGone as gone:
            result = self._lost(found, word, gone.is_lost, lost)
        return await result if isinstance(result, Awaitable) else result

    def _lost(
        self, found: StoredAnswer, word: str, is_lost: bool, lost: Callable[[bool], Result | Awaitable[Result]]
    ) -> Result | Awaitable[Result]:
        self.telling.uncount(word)
        if is_lost:
            self.parts.store.drop(self.stored_under, found.number)
        return lost(is_lost)

    def _answer(
        self, found: StoredAnswer, word: str, detail: str, status: int, is_stored: bool, body: GrowingBody | None
    ) -> Reply | Awaitable[Reply]:
        """Raises BodyGone, as what is awaited does."""
        now = self.parts.store.now()
        lines = self.telling.served(found.entry, word, now, is_stored, detail, status)
        method = self.exchange._routed.method
        if body is not None:
            return serving.answer_growing(found.entry, body, method, self.headers, now, lines)
        stale = self.stale
        opened = self.opened if stale is not None and stale.number == found.number else None
        return serving.answer(found, method, self.headers, now, lines, self.parts.store if found.number else None, opened)

    def over(self) -> None:
        """Nothing more comes of it. May be said more than once."""
        exchange = self.exchange
        if self.kept is not None and exchange._caching is self.kept:
            exchange._caching = None
        lease = self.take_lease()
        if lease is not None:
            lease.ended()
        if self.is_behind:
            self.parts.refreshing.discard(self.stored_under)
        if not exchange._has_client:  # nobody else says that it is over
            self.parts.stage.over(exchange._routed.sid)


def _ignored(done: asyncio.Future[Any]) -> None:
    if not done.cancelled():
        done.exception()


def has_conditions(headers: bytes) -> bool:
    """The client asks for a part, or only for what it does not have."""
    return headers.find(b"range: ") >= 0 or headers.find(b"\nif-") >= 0 or headers.startswith(b"if-")
