"""The metrics actor: events in, the metrics page out."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any, ClassVar, Final, NamedTuple

from pingap.bus.actor import Context
from pingap.bus.kinds import ACCESS, COUNT
from pingap.bus.local import Receivers
from pingap.bus.members import Members
from pingap.bus.repeats import Repeats
from pingap.config.model import Snapshot
from pingap.stages.answers import OwnAnswers
from pingap.stages.broken import OfStreams
from pingap.stages.error_page import ErrorPages
from pingap.stages.generations import Generations
from pingap.stages.messages import Cancel, CertificatesTold, Credit, Done, Routed, UpstreamsTold, owner_of
from pingap.stages.metrics.asking import AllAsked, OthersTold
from pingap.stages.metrics.core import Scope, Sums


class Measured(NamedTuple):
    """What a generation of the configuration is to this stage."""

    scope: Scope
    pages: ErrorPages


def compile_generation(snapshot: Snapshot, plans: dict[str, int]) -> Measured:
    """The servers that have metrics, and the names that may become labels."""
    servers = snapshot.servers
    locations = {name: server.locations for name, server in servers.items() if server.prometheus_metrics}
    only = next(iter(servers)) if len(servers) == 1 else ""
    scope = Scope(locations, frozenset(snapshot.upstreams), only, snapshot.ends, snapshot.uses, _exported(snapshot))
    return Measured(scope, ErrorPages(snapshot.basic.error_template))


def _exported(snapshot: Snapshot) -> frozenset[str]:
    return frozenset(name for name, one in snapshot.upstreams.items() if one.enable_backend_stats or one.has_breaker)


SECTIONS: Final = ("basic", "servers", "upstreams", "ends", "uses")
"""Of a configuration, what this stage needs."""


class MetricsActor(OfStreams):
    """Counts from its start on; the sums live and die with the process."""

    stage: ClassVar[str] = "metrics"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._generations: Generations[Measured] = Generations(context, SECTIONS, compile_generation, self._committed)
        self._sums = Sums()
        self._unsubscribe: Callable[[], None] | None = None
        self._answers = OwnAnswers(context)
        self._others = AllAsked(context)
        self._scraped: dict[int, Routed] = {}
        """Requests that wait for what others know."""
        self._pages = ErrorPages()
        self._repeats = Repeats(context)
        self._is_ready = False
        self._events = 0

    def receivers(self) -> Receivers:
        answers = self._answers
        return {
            Routed: self._asked,
            Credit: answers.credited,
            Cancel: self._ended,
            Done: self._ended,
            UpstreamsTold: self._others.told,
            CertificatesTold: self._others.told,
        }

    async def start(self) -> None:
        self._generations.start()

    async def stop(self) -> None:
        self._others.stop()
        if self._unsubscribe is not None:
            self._unsubscribe()

    def figures(self) -> dict[str, float]:
        return {"events": self._events, "in_flight": self.held()}

    def held(self) -> int:
        return len(self._answers) + len(self._scraped)

    def _committed(self, generation: int, measured: Measured) -> None:
        scope, self._pages = measured
        self._sums.configure(scope)
        if scope.locations and self._unsubscribe is None:
            self._unsubscribe = self.context.subscribe_events(("access", "count"), self._take)
        elif not scope.locations and self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        if not self._is_ready:
            self._is_ready = True
            self.context.ready()

    def _take(self, topic: str, envelopes: list[Any]) -> None:
        self._events += len(envelopes)
        take_access = self._sums.take_access
        for envelope in envelopes:
            kind = envelope[0]
            if kind == ACCESS:
                take_access(envelope)
            elif kind == COUNT:
                self._sums.take_count(envelope, monotonic())

    def _asked(self, routed: Routed) -> None:
        """ROUTED: the page of the server that the request came to."""
        self._scraped[routed.sid] = routed
        self._others.ask(partial(self._answer, routed.sid))

    def _ended(self, message: Cancel | Done) -> None:
        self._scraped.pop(message.sid, None)
        self._answers.ended(message)

    def _answer(self, sid: int, told: OthersTold) -> None:
        routed = self._scraped.pop(sid, None)
        if routed is None:
            return  # its client has gone
        # prometheus-client costs 4 MB, which an instance that nobody scrapes does not need.
        from pingap.stages.metrics.page import CONTENT_TYPE, page

        try:
            body = page(self._sums, routed.server, monotonic(), told)
        except Exception as error:  # whatever it was, the client gets its answer
            self._repeats.log("error", "the page of metrics cannot be made", error=repr(error), traceback=traceback.format_exc())
            self._answers.answer(routed, *self._pages.page("internal"), error="internal")
        else:
            self._answers.answer(routed, 200, b"content-type: %b\r\n" % CONTENT_TYPE.encode(), body)

    def members_changed(self, members: Members, gone: frozenset[int]) -> None:
        self._answers.forget(gone)
        for sid in [sid for sid in self._scraped if owner_of(sid) in gone]:
            del self._scraped[sid]
        self._others.members_changed(members)
