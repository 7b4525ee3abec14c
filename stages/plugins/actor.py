"""The plugins actor: messages in, and which stream they are about."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from time import monotonic
from typing import Any, ClassVar, Final

from pingap.bus.actor import Context
from pingap.bus.local import Receivers
from pingap.bus.members import Members
from pingap.bus.repeats import Repeats
from pingap.config.model import Snapshot
from pingap.stages.broken import OfStreams
from pingap.stages.claims import Claims
from pingap.stages.generations import Generations
from pingap.stages.messages import (
    NOT_BEGUN,
    WILL_ANSWER,
    Broken,
    Cancel,
    Claim,
    Claimed,
    Credit,
    Data,
    Done,
    FiguresAsk,
    FiguresTold,
    FlightAsk,
    FlightGrew,
    FlightJoin,
    FlightLeft,
    FlightNews,
    FlightsAsk,
    FlightsKnown,
    FlightTold,
    Interim,
    Recall,
    Recalled,
    Response,
    Routed,
    Taken,
    owner_of,
)
from pingap.stages.plugins.answers import Answers
from pingap.stages.plugins.cache.caches import Caches
from pingap.stages.plugins.cache.filling import Fills
from pingap.stages.plugins.cache.flights.flights import Flights
from pingap.stages.plugins.cache.overview import CacheOverview
from pingap.stages.plugins.cache.parts import CacheStage
from pingap.stages.plugins.cache.questions import CacheQuestions
from pingap.stages.plugins.chain import Chain, CompiledPlugins
from pingap.stages.plugins.claims import PluginClaims
from pingap.stages.plugins.compiler import PluginCompiler
from pingap.stages.plugins.counts import RequestCounts
from pingap.stages.plugins.endings import Endings
from pingap.stages.plugins.exchange import Exchange
from pingap.stages.plugins.failures import Failures
from pingap.stages.plugins.fetch import Fetches
from pingap.stages.plugins.figures import FiguresAsked
from pingap.stages.plugins.guard import HookGuard
from pingap.stages.plugins.host import HostParts, StageHost
from pingap.stages.plugins.limits import LimitCounters
from pingap.stages.plugins.making import Made
from pingap.stages.plugins.meters import Meters
from pingap.stages.plugins.probes import Probes
from pingap.stages.plugins.processes import JobProcesses
from pingap.stages.plugins.requests import RequestRunner
from pingap.stages.plugins.stream import PluginStream, PluginStreams
from pingap.stages.steps import Steps

REMEMBERED: Final = 4096
"""Streams that were cancelled or recalled, perhaps before they came: they are not begun any more."""

LONGEST_FETCH: Final = 300.0
"""Seconds that a cache waits for an answer which no client waits for."""

SECTIONS: Final = ("basic", "locations", "upstreams", "plugins", "code")
"""Of a configuration, what this stage needs."""


class PluginsActor(OfStreams):
    """Finds the stream of each message; the requests of all locations that have plugins come here."""

    stage: ClassVar[str] = "plugins"
    speaks_to: ClassVar[tuple[str, ...]] = ("accept", "upstream")

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.guard = HookGuard()
        self.streams = PluginStreams(context.loop)
        self._by_sid = self.streams.by_sid
        self._meters = Meters()
        self._repeats = Repeats(context)
        failures = Failures(self._repeats, context.count)
        self._answers = Answers(context.send, context.id, self.streams, self.guard, failures, self._is_near)
        self._requests = RequestRunner(context.send, context.id, self.streams, self.guard, self._answers)
        self._claims = Claims(context, LimitCounters().judge, "limit_claims_unanswered")
        self._fetches = Fetches(context)
        self._flights = Flights(context)
        self._processes = JobProcesses(context)
        self._counts = RequestCounts()
        self._figures = FiguresAsked(context, self._counts.of)
        self._endings = Endings(self.guard, failures.late)
        self._fills = Fills(context.send, context.id, self.guard)
        self._caches = Caches(self._cache_stage(failures), context.run_dir, context.log)
        claims = PluginClaims(self._claims, context.loop)
        self._shared = HostParts(claims, self._endings, self._fetches, self._processes, self._figures, self._caches)
        self._compiler = PluginCompiler(self.guard, self._meters, self._host, context.log, failures.late)
        self._generations: Generations[CompiledPlugins] = Generations(context, SECTIONS, self._compile, self._committed)
        self._probes = Probes(context, self._fetches.next_sid, lambda: self._generations.newest, self._chain_of, self.guard)
        self._probed = self._probes.by_sid
        self._questions = CacheQuestions(
            context.loop,
            context.report,
            self._probes,
            CacheOverview(self._caches.all, lambda: len(self._flights), lambda: self._flights.waiting),
        )
        self._send: Callable[[int, Any], None] = context.send
        self._refused: OrderedDict[int, None] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._count = 0
        self._is_ready = False

    def _cache_stage(self, failures: Failures) -> CacheStage:
        return CacheStage(
            self.context.id,
            self.streams,
            self._flights,
            self._fills,
            self._requests.serve,
            self._fetches.next_sid,
            self._compiled_of,
            self._fetches.replica,
            failures.late,
            self._spawn,
            self._over,
        )

    def _compiled_of(self, generation: int) -> CompiledPlugins | None:
        return self._generations.get(generation) or self._generations.instead_of(generation)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self.context.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def receivers(self) -> Receivers:
        return {
            Routed: self._routed,
            Response: self._responded,
            Interim: self._interim,
            Data: self._data,
            Credit: self._credited,
            Cancel: self._cancelled,
            Done: self._done,
            Taken: self._taken,
            Claim: self._claims.asked,
            Claimed: self._claims.claimed,
            Recall: self._recalled,
            Broken: self._fetches.broken,
            FiguresAsk: self._figures_asked,
            FiguresTold: self._figures.told,
            FlightAsk: self._flights.asked,
            FlightTold: self._flights.told,
            FlightNews: self._flights.news,
            FlightLeft: self._flights.left,
            FlightJoin: self._flights.join_asked,
            FlightGrew: self._flights.grew,
            FlightsAsk: self._flights.flights_asked,
            FlightsKnown: self._flights.flights_known,
        }

    # -- life -------------------------------------------------------------------

    async def start(self) -> None:
        self.guard.install(self.context.loop, self.context.beat)
        self._generations.start()

    def _compile(self, snapshot: Snapshot, plans: dict[str, int]) -> Steps[CompiledPlugins | Awaitable[CompiledPlugins]]:
        self._fetches.expect(snapshot.upstreams.keys())
        return self._compiler.compile(snapshot, plans)

    def _committed(self, generation: int, compiled: CompiledPlugins) -> None:
        self._answers.pages = compiled.pages
        self._fetches.committed(generation, compiled.upstreams)
        self._meters.keep(compiled.plugins)
        self._counts.keep(name for name, chain in compiled.chains.items() if chain.counts_requests)
        if not self._is_ready:
            self._is_ready = True
            self.context.ready()

    def _host(self, name: str, made: Made) -> StageHost:
        return StageHost(name, self.context, self._shared, made.threads, made.bounds)

    def held(self) -> int:
        return len(self._by_sid) + len(self._fetches) + len(self._fills)

    def sum_up(self) -> None:
        self._meters.tell(self.context.count)
        self._caches.sum_up(self.context.count)
        if self._caches.all():
            self._sweep(monotonic())

    def _sweep(self, now: float) -> None:
        """What nobody but a cache waits for has no client's patience to end it."""
        self._flights.follow(now)
        self._fills.sweep(now)
        for stream in list(self._by_sid.values()):
            if not stream.exchange._has_client and now - stream.exchange._reached > LONGEST_FETCH:
                self._forget(stream, "it takes too long")

    def figures(self) -> dict[str, float]:
        return {"requests": self._count, "in_flight": len(self._by_sid)}

    async def stop(self) -> None:
        self._questions.stop()
        self.streams.stop()
        self._fetches.stop()
        self._figures.stop()
        self._fills.stop()
        self._flights.stop()
        for task in list(self._tasks):
            task.cancel()
        self._caches.end()
        self._generations.stop()
        self._claims.stop()
        await self._compiler.close()
        await self._processes.stop()
        await self._caches.closed()
        self.guard.uninstall()

    def told(self, word: str, args: Any) -> None:
        self._questions.told(word, args)

    def _chain_of(self, routed: Routed) -> Chain | None:
        compiled = self._generations.get(routed.generation)
        return None if compiled is None else compiled.chains.get(routed.location)

    # -- messages -----------------------------------------------------------------

    def _routed(self, routed: Routed) -> None:
        reached = monotonic()
        sid = routed.sid
        if self._refused and sid in self._refused:
            return  # accept was told that it never began, or does not want it any more
        if self._probed and sid in self._probed:
            self._probes.came(routed)
            return
        self._count += 1
        generations = self._generations
        compiled = generations.get(routed.generation) or generations.instead_of(routed.generation)
        if compiled is None:
            self._repeats.log("error", "no such configuration generation", generation=routed.generation)
            self._answers.error(Exchange(routed, reached), None, "overloaded")
            return
        exchange = Exchange(routed, reached, compiled.upstreams)
        chain = compiled.chains.get(routed.location)
        if chain is None:
            self._repeats.log("error", "no such location", location=routed.location, generation=routed.generation)
            self._answers.error(exchange, None, "overloaded")
            return
        if chain.counts_requests:
            exchange._watches = True
            self._counts.begin(sid, routed.location)
        self._requests.serve(exchange, chain)

    def _responded(self, response: Response) -> None:
        stream = self._by_sid.get(response.sid)
        if self._probed and response.sid in self._probed:
            self._probes.came(response)
        elif stream is not None and stream.response is None and stream.is_forwarded:
            self._answers.arrived(stream, response)
        elif not self._fetches.responded(response) and not response.ended:
            self._send(response.source, Cancel(response.sid, "gone", True))

    def _interim(self, interim: Interim) -> None:
        """No hook sees these; they come through here so that they are not overtaken by the final answer."""
        stream = self._by_sid.get(interim.sid)
        if stream is not None and stream.response is None and stream.is_forwarded and stream.exchange._has_client:
            self._send(stream.to_accept, interim)

    def _data(self, data: Data) -> None:
        if not data.is_upload and self._fills.data(data):
            return
        stream = self._by_sid.get(data.sid)
        if stream is None:
            self._fetches.data(data)
            return
        if not data.is_upload:
            self._answers.data(stream, data)
        elif stream.upload is not None:
            if data.error:
                self._forget(stream, data.error)
            else:
                stream.upload.offer(data.payload, data.ended, data.trailers)

    def _credited(self, credit: Credit) -> None:
        stream = self._by_sid.get(credit.sid)
        if stream is None:
            self._fetches.credited(credit)
            return
        if credit.wanter != stream.to_accept:
            if stream.upload is not None:
                stream.upload.grant(credit.bytes)
        elif stream.passes:
            self._send(stream.to_upstream, Credit(credit.sid, credit.bytes, self.context.id))
        elif stream.download is not None:
            self._answers.granted(stream, stream.download, credit.bytes)

    def _cancelled(self, cancel: Cancel) -> None:
        sid = cancel.sid
        self._over(sid)
        stream = self._by_sid.get(sid)
        if stream is None:
            self._refuse(sid)  # it may have overtaken the request, which comes by way of routing
        elif not self._outlives(stream):
            self._forget(stream, cancel.reason)

    def _over(self, sid: int) -> None:
        """A request has ended, in whatever way: what it holds is given back, and who waits for its end is told. Accept says so of a
        client's (DONE, CANCEL); of one that a cache has sent itself nobody does but the cache."""
        self._claims.ended(sid)
        self._flights.ended(sid)
        self._counts.end(sid)
        self._endings.ended(sid)

    def _outlives(self, stream: PluginStream) -> bool:
        """Its client has left: does a cache want the answer all the same?"""
        caching = stream.exchange._caching
        if caching is None or not caching.is_lasting or not stream.is_forwarded:
            return False
        stream.exchange._has_client = False
        return True

    def _forget(self, stream: PluginStream, reason: str) -> None:
        if stream.is_forwarded:
            self._send(stream.to_upstream, Cancel(stream.sid, reason, True))
        self.streams.drop(stream)

    def _refuse(self, sid: int) -> None:
        self._refused[sid] = None
        if len(self._refused) > REMEMBERED:
            self._refused.popitem(last=False)

    def _done(self, done: Done) -> None:
        self._over(done.sid)
        stream = self._by_sid.get(done.sid)
        if stream is not None:
            # The answer did not wait for the rest of the request body; or the client has left, and of an answer that was to outlive it
            # (OUTLIVES) upstream hears that from here alone.
            self._forget(stream, "done")

    def _taken(self, taken: Taken) -> None:
        """Accept sends the file that is the answer, or upstream has opened a tunnel: nothing more is needed from here."""
        stream = self._by_sid.get(taken.sid)
        if stream is not None:
            self.streams.drop(stream)

    def _figures_asked(self, ask: FiguresAsk) -> None:
        """FIGURES_ASK: a plugin in another replica shows them."""
        self._send(ask.asker, FiguresTold(self.context.id, ask.ticket, *self._counts.of(ask.location)))

    def _is_near(self, actor: int) -> bool:
        member = self.context.members.by_id.get(actor)
        return member is not None and not member.endpoint.startswith("tcp://")

    def _recalled(self, recall: Recall) -> None:
        """How far has it come? What has been passed on is upstream's to answer for, though the answer will come through here."""
        stream = self._by_sid.get(recall.sid)
        state = NOT_BEGUN
        if stream is None:
            self._refuse(recall.sid)
        elif stream.response is not None:
            state = WILL_ANSWER
        elif not stream.is_forwarded:
            # Upstream will say the same and refuse it from then on, so it cannot go on here either.
            self._refuse(recall.sid)
            self.streams.drop(stream)
        if state == NOT_BEGUN:
            self._flights.ended(recall.sid)
            self._counts.end(recall.sid)  # wherever it begins anew it is counted again
        self._send(recall.asker, Recalled(recall.sid, self.context.id, state))

    def broken(self, broken: Broken) -> None:
        stream = self._by_sid.get(broken.sid)
        if stream is not None and not stream.exchange._has_client:
            self._forget(stream, broken.reason)
        elif owner_of(broken.sid) == self.context.id:
            self._fetches.broken(broken)
        else:
            super().broken(broken)

    def members_changed(self, members: Members, gone: frozenset[int]) -> None:
        self._claims.members_changed(gone)
        self._fetches.members_changed(members, gone)
        self._flights.members_changed(gone)
        self._fills.members_changed(gone)
        self._figures.members_changed(members)
        if not gone:
            return
        self._counts.forget(gone)
        self._endings.forget(gone)
        for stream in list(self._by_sid.values()):
            if stream.to_accept in gone and not self._outlives(stream):
                self._forget(stream, "accept is gone")
            elif stream.to_upstream in gone and stream.is_forwarded:
                self._answers.lost(stream)
