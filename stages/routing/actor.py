"""Routing's actor: carries out what core.py decides, asks other actors where it must, and answers for every request.

What waits for somebody else's answer is in `_waiting`, each with its deadline; one
timer sweeps it, and runs only while something waits.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Final, NamedTuple

from msgspec.structs import replace

from pingap.bus.actor import Context
from pingap.bus.local import Receivers
from pingap.bus.members import Members
from pingap.bus.repeats import Repeats
from pingap.stages.broken import OfStreams
from pingap.stages.claims import Claims
from pingap.stages.error_page import ErrorPages
from pingap.stages.generations import Generations
from pingap.stages.itinerary import REQUEST_PLUGINS
from pingap.stages.leases import Leases, Verdict
from pingap.stages.messages import (
    INLINE,
    Cancel,
    Claim,
    Claimed,
    Closing,
    Credit,
    Data,
    Done,
    GoesOn,
    Report,
    Request,
    Response,
    Routed,
    Scrape,
    Scraped,
    Stranded,
    accept_of,
    window,
)
from pingap.stages.routing.core import Limited, MetricsAsked, OptionsAsked, Outcome, Refused, Router

SWEEP: Final = 0.25
"""Seconds between two looks at the deadlines."""

SCRAPE_WAIT: Final = 2.0
"""Seconds that metrics has for its page; then 503."""


class _Scraping(NamedTuple):
    """A request that waits for the page of metrics."""

    request: Request
    client_ip: str
    router: Router
    asked: int
    reached: float
    deadline: float


class _Page:
    """An answer of ours that is too long for one envelope, on its way under credit."""

    __slots__ = ("credit", "payload", "sent")

    def __init__(self, payload: bytes, credit: int) -> None:
        self.payload = payload
        self.sent = 0
        self.credit = credit


class RoutingActor(OfStreams):
    """See bus/PROTOCOL.md section 8 for what it owes to whom."""

    stage = "routing"
    speaks_to = ("accept", "plugins", "upstream", "metrics")

    def __init__(self, context: Context, clock: Callable[[], float] = monotonic) -> None:
        super().__init__(context)
        self._clock = clock
        self._generations: Generations[Router] = Generations(context, Router, self._committed)
        self._send = context.send
        self._waiting: dict[int, _Scraping] = {}
        self._pages: dict[int, _Page] = {}
        self._claims = Claims(context, by_max_processing, "claims_unanswered", clock)
        self._fallback = ErrorPages()
        self._repeats = Repeats(context)
        self._timer: asyncio.TimerHandle | None = None
        self._requests = 0
        self._is_ready = False

    def receivers(self) -> Receivers:
        return {
            Request: self._requested,
            Closing: self._closing,
            Cancel: self._ended,
            Done: self._ended,
            Credit: self._credited,
            Claim: self._claims.asked,
            Claimed: self._claims.claimed,
            Scraped: self._scraped,
        }

    async def start(self) -> None:
        self._generations.start()

    def _committed(self, generation: int, router: Router) -> None:
        if not self._is_ready:
            self._is_ready = True
            self.context.ready()

    async def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._claims.stop()

    def figures(self) -> dict[str, float]:
        return {"requests": self._requests, "in_flight": self.held()}

    def held(self) -> int:
        return len(self._waiting) + len(self._pages) + self._claims.waiting

    # -- requests -------------------------------------------------------------

    def _requested(self, request: Request) -> None:
        self._requests += 1
        router = self._generations.get(request.generation)
        if router is None:
            self._generation_missed(request)
            return
        try:
            outcome = router.route(request, self._clock)
            if type(outcome) is Routed:
                if to := outcome.affinity[1 if outcome.plan & REQUEST_PLUGINS else 2]:
                    self._send(to, outcome)
                else:
                    self._strand(request)
            else:
                self._decided(request, router, outcome)
        except Exception as error:  # whatever it was, the client gets its answer
            self._repeats.log("error", "routing failed", sid=request.sid, error=repr(error), traceback=traceback.format_exc())
            self._waiting.pop(request.sid, None)
            self._answer(request, router.pages, Refused("internal", "", "", request.peer.ip, ""), self._clock())

    def _closing(self, request: Request) -> None:
        """Its client closes: the request is looked at once more, as nothing of it is kept here."""
        router = self._generations.get(request.generation) or self._generations.get(self._generations.newest)
        is_so = router is not None and router.goes_on(request, self._clock)
        self._send(accept_of(request.sid), GoesOn(request.sid, is_so))

    def _generation_missed(self, request: Request) -> None:
        """A replica that has just started has the committed generation only, and accept may not have heard of that yet.

        Nothing of the request is done: it may as well run under the newer generation, as a whole.
        """
        newest = self._generations.newest
        if self._generations.get(newest) is not None and request.generation < newest:
            self._requests -= 1
            self._requested(replace(request, generation=newest))
            return
        self._repeats.log("error", "no such configuration generation", generation=request.generation, sid=request.sid)
        self._answer(request, self._fallback, Refused("overloaded", "", "", request.peer.ip, ""), self._clock())

    def _strand(self, request: Request) -> None:
        """It needs plugins, and nobody was ready when it began: it comes again when somebody is."""
        self._requests -= 1
        self._send(accept_of(request.sid), Stranded(request.sid))

    def _decided(self, request: Request, router: Router, outcome: Outcome) -> None:
        """The outcomes that are not the rule."""
        if isinstance(outcome, Limited):
            if outcome.routed.plan & REQUEST_PLUGINS and not request.affinity.plugins:
                self._strand(request)  # before it takes a place
            else:
                self._admit(request, router, outcome)
        elif isinstance(outcome, Refused):
            if outcome.reason:
                self._log_refusal(outcome)
            self._answer(request, router.pages, outcome, self._clock())
        elif isinstance(outcome, MetricsAsked):
            self._scrape(request, router, outcome.client_ip)
        elif isinstance(outcome, OptionsAsked):
            self._respond(request, 200, b"", b"", self._report(outcome.client_ip, self._clock()))

    def _log_refusal(self, refused: Refused) -> None:
        self._repeats.log("warn", refused.reason, f"refused {refused.location}", error=refused.error, client_ip=refused.client_ip)

    def _answer(self, request: Request, pages: ErrorPages, refused: Refused, reached: float) -> None:
        """The error page as the response."""
        status, headers, body = pages.page(refused.error)
        report = self._report(refused.client_ip, reached, refused.location, refused.upstream, refused.error, refused.reason)
        self._respond(request, status, headers, body, report)

    def _report(self, client_ip: str, reached: float, location: str = "", upstream: str = "", error: str = "", reason: str = "") -> Report:
        return Report(location, upstream, "", 0, False, 0, (reached, self._clock()), (), error, {}, client_ip, reason=reason)

    def _respond(self, request: Request, status: int, headers: bytes, body: bytes, report: Report) -> None:
        sid, length = request.sid, len(body)
        if request.method == b"HEAD":
            body = b""
        ended = len(body) <= INLINE
        first = body if ended else b""
        self._send(accept_of(sid), Response(sid, self.context.id, status, headers, length, first, ended, report, ()))
        if not ended:
            self._pages[sid] = _Page(body, window(request.version))
            self._continue(sid)

    def _continue(self, sid: int) -> None:
        """As much of a page as its credit allows."""
        page = self._pages[sid]
        part = page.payload[page.sent : page.sent + page.credit]
        page.sent += len(part)
        page.credit -= len(part)
        ended = page.sent == len(page.payload)
        if part:
            self._send(accept_of(sid), Data(sid, part, ended, ""))
        if ended:
            del self._pages[sid]

    def _credited(self, credit: Credit) -> None:
        page = self._pages.get(credit.sid)
        if page is not None:
            page.credit += credit.bytes
            self._continue(credit.sid)

    # -- max_processing -------------------------------------------------------

    def _admit(self, request: Request, router: Router, outcome: Limited) -> None:
        """Lets a request into its location if there is a place, or asks the replica that knows."""
        sid, location, args = request.sid, outcome.routed.location, (outcome.limit,)
        verdict = self._claims.judged_here(sid, location, args)
        if verdict is not None:
            self._judged(request, router, outcome, verdict)
        else:
            self._claims.ask(sid, location, args, partial(self._judged, request, router, outcome))

    def _judged(self, request: Request, router: Router, outcome: Limited, verdict: Verdict) -> None:
        routed = outcome.routed
        reached = routed.stamps[0]
        if not verdict.allowed:
            refused = Refused("too_many_requests", routed.location, routed.upstream, routed.client_ip, "")
            self._answer(request, router.pages, refused, reached)
            return
        # Accept tells this replica of the end, whoever keeps the count: CANCEL comes here too, and only this replica
        # knows both the stream and the owner.
        routed = replace(routed, stamps=(reached, self._clock()), watchers=(self.context.id,))
        self._send(routed.affinity[1 if routed.plan & REQUEST_PLUGINS else 2], routed)

    def _ended(self, message: Done | Cancel) -> None:
        """DONE and CANCEL: nothing more will come of this stream, and nothing is owed."""
        sid = message.sid
        self._waiting.pop(sid, None)
        self._pages.pop(sid, None)
        self._claims.ended(sid)

    # -- metrics --------------------------------------------------------------

    def _scrape(self, request: Request, router: Router, client_ip: str) -> None:
        now = self._clock()
        ready = self.context.members.ready("metrics")
        if not ready:
            self._answer(request, router.pages, Refused("overloaded", "", "", client_ip, ""), now)
            return
        self._wait(request.sid, _Scraping(request, client_ip, router, ready[0].id, now, now + SCRAPE_WAIT))
        self._send(ready[0].id, Scrape(request.sid, self.context.id, request.server))

    def _scraped(self, scraped: Scraped) -> None:
        waiting = self._waiting.get(scraped.sid)
        if waiting is None:
            return
        del self._waiting[scraped.sid]
        headers = b"content-type: " + scraped.content_type.encode() + b"\r\n"
        self._respond(waiting.request, 200, headers, scraped.payload, self._report(waiting.client_ip, waiting.reached))

    # -- deadlines and deaths -------------------------------------------------

    def _wait(self, sid: int, what: _Scraping) -> None:
        self._waiting[sid] = what
        if self._timer is None:
            self._timer = self.context.loop.call_later(SWEEP, self._swept)

    def _swept(self) -> None:
        self._timer = None
        self.sweep()
        if self._waiting:
            self._timer = self.context.loop.call_later(SWEEP, self._swept)

    def sweep(self) -> None:
        """Ends every wait whose deadline has passed."""
        now = self._clock()
        for sid, waiting in [(sid, w) for sid, w in self._waiting.items() if w.deadline <= now]:
            del self._waiting[sid]
            self._give_up(waiting)

    def _give_up(self, waiting: _Scraping) -> None:
        self.context.count("scrapes_unanswered")
        refused = Refused("overloaded", "", "", waiting.client_ip, "")
        self._answer(waiting.request, waiting.router.pages, refused, waiting.reached)

    def members_changed(self, members: Members, gone: frozenset[int]) -> None:
        self._claims.members_changed(gone)
        if not gone:
            return
        for sid in [sid for sid in self._pages if accept_of(sid) in gone]:
            del self._pages[sid]
        for sid, waiting in [(sid, w) for sid, w in self._waiting.items() if accept_of(sid) in gone or w.asked in gone]:
            del self._waiting[sid]
            if accept_of(sid) not in gone:
                self._give_up(waiting)


def by_max_processing(leases: Leases, claim: Claim, now: float) -> Verdict:
    """The judge of this stage's claims: key, a location; args, (its max_processing,)."""
    return leases.take(claim, claim.args[0])
