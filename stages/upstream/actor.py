"""The upstream actor: the table of exchanges, messages from and to the other stages."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from time import monotonic
from typing import Any, ClassVar, Final

from pingap.bus.actor import Context
from pingap.bus.local import Receivers
from pingap.bus.members import Members
from pingap.observability.figures import CONNECTIONS, IN_USE
from pingap.stages.answers import page_response, report_on
from pingap.stages.broken import OfStreams
from pingap.stages.error_page import ErrorPages
from pingap.stages.generations import Generations
from pingap.stages.itinerary import OUTLIVES, RESPONSE_PLUGINS
from pingap.stages.messages import (
    ANSWER_LOST,
    INLINE_PAUSE,
    NOT_BEGUN,
    WILL_ANSWER,
    Cancel,
    Credit,
    Data,
    Recall,
    Recalled,
    Report,
    Routed,
    owner_of,
)
from pingap.stages.upstream.compiled import NO_RULES, CompiledUpstreams, UpstreamCompiler
from pingap.stages.upstream.core import Memory, so_far
from pingap.stages.upstream.exchange import UpstreamExchange
from pingap.stages.upstream.pools import Pools
from pingap.stages.upstream.reports import Reports
from pingap.stages.upstream.states import check_states
from pingap.stages.upstream.troubles import Troubles
from pingap.stages.upstream.turns import Turns
from pingap.stages.waits import Waits

SWEEP: Final = 0.25
"""Seconds between two looks at the deadlines, when none is nearer: a shorter time-out may end so much late."""

SOON: Final = 0.05
"""Seconds between two looks at the least, when one is: what times out has an answer of another backend to wait for yet."""

REMEMBERED: Final = 16384
"""Streams that are not to be begun any more, or were answered through plugins: remembered so that none is done twice."""

SECTIONS: Final = ("basic", "servers", "locations", "upstreams", "plugins")
"""Of a configuration, what this stage needs."""


def _now() -> float:
    """As the rest of this file has it: tests put a clock of their own in its place."""
    return monotonic()


def _paused(sid: int, exchange: UpstreamExchange) -> None:
    exchange.backend_paused()


if sys.flags.dev_mode:
    check_states(UpstreamExchange)


class UpstreamActor(OfStreams):
    stage: ClassVar[str] = "upstream"
    speaks_to: ClassVar[tuple[str, ...]] = ("accept", "plugins", "discovery")

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.id = context.id
        self.send: Callable[[int, Any], None] = context.send
        self.reports = Reports(context)
        self.pools = Pools(context, self.reports.tallies)
        self.troubles = Troubles(context, self.pools)
        self._compiler = UpstreamCompiler()
        self._generations: Generations[CompiledUpstreams] = Generations(context, SECTIONS, self._compiler.compile, self._committed)
        self._current: CompiledUpstreams | None = None
        self._exchanges: dict[int, UpstreamExchange] = {}
        self._refused: Memory[bool] = Memory(REMEMBERED)
        """Cancelled or recalled before they came. False: only its client has left, and it is not said yet whether that ends it."""
        self._answered: Memory[tuple[int, tuple[int, ...]]] = Memory(REMEMBERED)
        """Stream → the plugins replica that got its answer, and who watches."""
        self._promised: dict[int, tuple[int, tuple[int, ...]]] = {}
        """The same of streams of which accept was told that this replica will answer."""
        self._requests = 0
        self._sweeper: asyncio.TimerHandle | None = None
        self.turns = Turns(context.loop)
        self.pauses: Waits[int, UpstreamExchange] = Waits(context, INLINE_PAUSE, _now, _paused)

    def receivers(self) -> Receivers:
        return {Routed: self._routed, Data: self._data, Credit: self._credit, Cancel: self._cancel, Recall: self._recall}

    # -- life ---------------------------------------------------------------

    async def start(self) -> None:
        self._generations.start()
        self.context.follow("backends", "discovery", self.pools.take_addresses)
        self.context.follow("health", "discovery", self.pools.take_health)
        self.context.follow("drains", "discovery", self.pools.take_drains)
        self.context.follow("circuits", "discovery", self.pools.take_circuits)
        self.context.follow("loads", "discovery", self.pools.take_loads)
        self._sweep()

    def _committed(self, generation: int, compiled: CompiledUpstreams) -> None:
        first = self._current is None
        self._current = compiled
        self.pools.adopt(compiled.groups, compiled.keepalive_pool)
        self._compiler.committed(compiled)
        if first:
            self.context.ready()

    def held(self) -> int:
        return len(self._exchanges)

    def figures(self) -> dict[str, float]:
        figures: dict[str, float] = {"in_flight": len(self._exchanges), "requests": self._requests}
        for name, group in self.pools.groups.items():
            backends = group.everywhere()
            figures[CONNECTIONS + name] = sum(backend.open for backend in backends)
            figures[IN_USE + name] = sum(backend.active for backend in backends)
        return figures

    async def stop(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
        for exchange in list(self._exchanges.values()):
            exchange.cancel()
        self.pauses.stop()
        self.reports.stop()
        self.pools.stop()

    # -- messages -------------------------------------------------------------

    def _routed(self, routed: Routed) -> None:
        sid = routed.sid
        refused = self._refused.get(sid) if self._refused.is_used else None
        if refused or (refused is False and not routed.plan & OUTLIVES):
            return  # accept was told that it never began, or does not want it any more
        self._requests += 1
        generations = self._generations
        # Nearly always it is the newest, and a look at that spares a call.
        compiled = self._current if routed.generation == generations.newest else generations.get(routed.generation)
        if compiled is None:
            compiled = generations.instead_of(routed.generation)
        group = compiled.groups.get(routed.upstream) if compiled is not None else None
        if compiled is None or group is None:
            self.troubles.unknown("upstream", upstream=routed.upstream, generation=routed.generation)
            self._refuse(routed, "no_backend" if compiled is not None else "overloaded")
            return
        rules = compiled.rules.get(routed.location)
        if rules is None:
            if routed.location:
                # Only a newer generation lacks it, and without its rules the request would say what it must not.
                self.troubles.unknown("location", location=routed.location, generation=routed.generation)
                self._refuse(routed, "overloaded")
                return
            rules = NO_RULES
        exchange = UpstreamExchange(self, routed, group, rules)
        self._exchanges[sid] = exchange
        group.budget.count(exchange.began)
        try:
            if exchange.bridge is None or exchange.translate(exchange.bridge):
                exchange.begin()
        except Exception as error:
            exchange.crashed(error)

    def _refuse(self, routed: Routed, kind: str) -> None:
        stamps = (*so_far(routed.stamps), monotonic())
        report = report_on(routed.client_ip, stamps, routed.location, routed.upstream, kind, variables=routed.variables)
        to = routed.affinity.plugins if routed.plan & RESPONSE_PLUGINS else owner_of(routed.sid)
        self.answer_error(to, routed, kind, report)

    def _data(self, data: Data) -> None:
        exchange = self._exchanges.get(data.sid)
        if exchange is not None:
            exchange.upload(data)

    def _credit(self, credit: Credit) -> None:
        exchange = self._exchanges.get(credit.sid)
        if exchange is not None:
            exchange.credited(credit.bytes)

    def _cancel(self, cancel: Cancel) -> None:
        exchange = self._exchanges.get(cancel.sid)
        if exchange is not None:
            if cancel.by_plugins or not exchange.routed.plan & OUTLIVES:
                exchange.cancel()
        elif not self._refused.get(cancel.sid):
            self._refused.put(cancel.sid, cancel.by_plugins)  # it may have overtaken the request, which comes by way of other stages

    # -- who lives ------------------------------------------------------------

    def _recall(self, recall: Recall) -> None:
        sid = recall.sid
        living = self.context.members.by_id
        exchange = self._exchanges.get(sid)
        # Through which plugins replica the answer goes, or went; None when it is not known here.
        way = (exchange.needed_plugins, exchange.watchers) if exchange is not None else self._answered.get(sid)
        if way is None:
            state = NOT_BEGUN
            self._refused.put(sid, True)
        elif not way[0] or way[0] in living:
            state = WILL_ANSWER
            if way[0]:
                # Accept may have a newer table, and be asking because of this very replica: see members_changed.
                self._promised[sid] = way
                if len(self._promised) > REMEMBERED:
                    del self._promised[next(iter(self._promised))]
        else:
            state = ANSWER_LOST
            if exchange is not None:
                exchange.cancel()
        self.send(recall.asker, Recalled(sid, self.id, state))

    def members_changed(self, members: Members, gone: frozenset[int]) -> None:
        self.reports.members_changed(members)
        if not gone:
            return
        for exchange in list(self._exchanges.values()):
            sid = exchange.sid
            if (owner_of(sid) in gone and not exchange.routed.plan & OUTLIVES) or (exchange.has_responded and exchange.answers_to in gone):
                exchange.cancel()  # the client is gone, or the rest of a begun answer would go nowhere
            elif exchange.needed_plugins in gone and (exchange.has_responded or sid in self._promised):
                exchange.give_up("stage_lost")
            # else accept asks by RECALL
        for sid, (actor, watchers) in list(self._promised.items()):
            if actor in gone:
                del self._promised[sid]
                if sid not in self._exchanges and owner_of(sid) not in gone:
                    self._error(owner_of(sid), sid, "stage_lost", None, watchers, b"")

    # -- what exchanges ask for -------------------------------------------------

    def answer_error(self, to: int, routed: Routed, kind: str, report: Report) -> None:
        """Our own answer to a request that no backend answered."""
        self._error(to, routed.sid, kind, report, routed.watchers, routed.method)

    def _error(self, to: int, sid: int, kind: str, report: Report | None, watchers: tuple[int, ...], method: bytes) -> None:
        pages = self._current.pages if self._current is not None else ErrorPages()
        self.send(to, page_response(sid, self.id, pages.page(kind), method, report, watchers))

    def exchange_over(self, exchange: UpstreamExchange, has_responded: bool) -> None:
        """has_responded: somebody got an answer, if only one of our own."""
        sid = exchange.sid
        self._exchanges.pop(sid, None)
        if exchange.answers_to != sid >> 32:
            if has_responded:
                self._answered.put(sid, (exchange.answers_to, exchange.watchers))
        elif self._promised:
            self._promised.pop(sid, None)

    # -- time -------------------------------------------------------------------

    def _sweep(self) -> None:
        self._sweeper = self.context.loop.call_later(SWEEP, self._sweep)  # first: an error below must not end all deadlines
        now = monotonic()
        nearest = self.pools.sweep(now) - now
        if nearest < SWEEP:
            self._sweeper.cancel()
            self._sweeper = self.context.loop.call_later(max(SOON, nearest), self._sweep)
