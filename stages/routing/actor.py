"""Routing's actor: carries out what core.py decides, asks other actors where it must, and answers for every request."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import ClassVar, Final

from msgspec.structs import replace

from pingap.bus.actor import Context
from pingap.bus.local import Receivers
from pingap.bus.members import Members
from pingap.bus.repeats import Repeats
from pingap.stages.answers import OwnAnswers, report_on
from pingap.stages.broken import OfStreams
from pingap.stages.claims import Claims
from pingap.stages.error_page import ErrorPages
from pingap.stages.generations import Generations
from pingap.stages.itinerary import REQUEST_PLUGINS
from pingap.stages.leases import Leases, Verdict
from pingap.stages.messages import (
    Answered,
    Cancel,
    Claim,
    Claimed,
    Closing,
    Credit,
    Done,
    GoesOn,
    Request,
    Routed,
    Stranded,
    owner_of,
)
from pingap.stages.routing.core import Inward, Limited, Outcome, Refusal, Router, RouterCompiler
from pingap.stages.routing.destinations import Destinations

SECTIONS: Final = ("basic", "servers", "locations", "upstreams", "challenged", "plans")
"""Of a configuration, what this stage needs."""


class RoutingActor(OfStreams):
    """See bus/PROTOCOL.md section 8 for what it owes to whom.

    settings: "destinations", which stage answers for each internal destination (pingap/topology.py).
    """

    stage: ClassVar[str] = "routing"
    speaks_to: ClassVar[tuple[str, ...]] = ("accept", "plugins", "upstream")

    def __init__(self, context: Context, clock: Callable[[], float] = monotonic) -> None:
        super().__init__(context)
        self._clock = clock
        self._generations: Generations[Router] = Generations(context, SECTIONS, RouterCompiler().compile, self._committed)
        self._send = context.send
        self._claims = Claims(context, by_max_processing, "claims_unanswered", clock)
        self._destinations = Destinations(context, context.settings.get("destinations", {}), clock, self._unanswered)
        self._answers = OwnAnswers(context)
        self._fallback = ErrorPages()
        self._repeats = Repeats(context)
        self._requests = 0
        self._is_ready = False

    def receivers(self) -> Receivers:
        return {
            Request: self._requested,
            Closing: self._closing,
            Cancel: self._ended,
            Done: self._ended,
            Credit: self._answers.credited,
            Claim: self._claims.asked,
            Claimed: self._claims.claimed,
            Routed: self._asked_here,
            Answered: self._destinations.answered,
        }

    async def start(self) -> None:
        self._generations.start()

    def _committed(self, generation: int, router: Router) -> None:
        if not self._is_ready:
            self._is_ready = True
            self.context.ready()

    async def stop(self) -> None:
        self._claims.stop()
        self._destinations.stop()

    def figures(self) -> dict[str, float]:
        return {"requests": self._requests, "in_flight": self.held()}

    def held(self) -> int:
        return len(self._destinations) + len(self._answers) + self._claims.waiting

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
            self._answer(request, router.pages, Refusal("internal", "", "", request.peer.ip, ""), self._clock())

    def _closing(self, request: Request) -> None:
        """Its client closes: the request is looked at once more, as nothing of it is kept here."""
        router = self._generations.get(request.generation) or self._generations.get(self._generations.newest)
        is_so = router is not None and router.goes_on(request, self._clock)
        self._send(owner_of(request.sid), GoesOn(request.sid, is_so))

    def _generation_missed(self, request: Request) -> None:
        """It runs under the generation that serves instead as a whole: those who get it from here go by that one too."""
        if self._generations.instead_of(request.generation) is not None:
            self._requests -= 1
            self._requested(replace(request, generation=self._generations.newest))
            return
        self._repeats.log("error", "no such configuration generation", generation=request.generation, sid=request.sid)
        self._answer(request, self._fallback, Refusal("overloaded", "", "", request.peer.ip, ""), self._clock())

    def _strand(self, request: Request) -> None:
        """It needs plugins, and nobody was ready when it began: it comes again when somebody is."""
        self._requests -= 1
        self._send(owner_of(request.sid), Stranded(request.sid))

    def _decided(self, request: Request, router: Router, outcome: Outcome) -> None:
        """The outcomes that are not the rule."""
        if isinstance(outcome, Limited):
            if outcome.routed.plan & REQUEST_PLUGINS and not request.affinity.plugins:
                self._strand(request)  # before it takes a place
            else:
                self._admit(request, router, outcome)
        elif isinstance(outcome, Refusal):
            if outcome.reason:
                self._log_refusal(outcome)
            self._answer(request, router.pages, outcome, self._clock())
        elif isinstance(outcome, Inward):
            self._destinations.send(outcome.routed, outcome.destination)

    def _log_refusal(self, refused: Refusal) -> None:
        self._repeats.log("warn", refused.reason, f"refused {refused.location}", error=refused.error, client_ip=refused.client_ip)

    def _answer(self, request: Request | Routed, pages: ErrorPages, refused: Refusal, reached: float) -> None:
        """The error page as the response."""
        stamps = (reached, self._clock())
        report = report_on(refused.client_ip, stamps, refused.location, refused.upstream, refused.error, refused.reason)
        self._answers.send(request, *pages.page(refused.error), report)

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
            refused = Refusal("too_many_requests", routed.location, routed.upstream, routed.client_ip, "")
            self._answer(request, router.pages, refused, reached)
            return
        # Accept tells this replica of the end, whoever keeps the count: CANCEL comes here too, and only this replica
        # knows both the stream and the owner.
        routed = replace(routed, stamps=(reached, self._clock()), watchers=(self.context.id,))
        self._send(routed.affinity[1 if routed.plan & REQUEST_PLUGINS else 2], routed)

    def _ended(self, message: Done | Cancel) -> None:
        """DONE and CANCEL: nothing more will come of this stream, and nothing is owed."""
        self._destinations.ended(message.sid)
        self._answers.ended(message)
        self._claims.ended(message.sid)

    # -- internal destinations ----------------------------------------------------

    def _asked_here(self, routed: Routed) -> None:
        """ROUTED: the one destination that is routing itself, OPTIONS for pingap."""
        self._answers.answer(routed, 200, b"", b"")

    def _unanswered(self, routed: Routed, destination: str, why: str) -> None:
        self.context.count("destinations_unanswered")
        self._repeats.log("warn", f"internal destination {destination} {why}", server=routed.server, client_ip=routed.client_ip)
        router = self._generations.get(routed.generation)
        pages = router.pages if router is not None else self._fallback
        refused = Refusal("overloaded", "", "", routed.client_ip, f"internal destination {destination} {why}")
        self._answer(routed, pages, refused, routed.stamps[0])

    # -- deaths -------------------------------------------------------------------

    def members_changed(self, members: Members, gone: frozenset[int]) -> None:
        self._claims.members_changed(gone)
        self._destinations.members_changed(gone)
        self._answers.forget(gone)


def by_max_processing(leases: Leases, claim: Claim, now: float) -> Verdict:
    """The judge of this stage's claims: key, a location; args, (its max_processing,)."""
    return leases.take(claim, claim.args[0])
