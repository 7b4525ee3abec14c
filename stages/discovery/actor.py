"""The discovery actor: each upstream has a watch (watch.py); what follows from what those find is decided in core.py."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

from pingap.bus.actor import Actor, Context
from pingap.bus.local import Receivers
from pingap.bus.members import Members
from pingap.config.model import Snapshot
from pingap.observability.notices import BACKEND_STATUS, SERVICE_DISCOVER_FAIL, UPSTREAM_STATUS
from pingap.stages import keepsake
from pingap.stages.discovery import asked
from pingap.stages.discovery.breaker import CIRCUITS, Breaker
from pingap.stages.discovery.circuits import CircuitPlan, circuits_of
from pingap.stages.discovery.core import Addresses, Discovery
from pingap.stages.discovery.downs import Downs
from pingap.stages.discovery.drains import Drains
from pingap.stages.discovery.gate import CheckGate
from pingap.stages.discovery.plan import DNS, DOCKER, Plan, plans_of
from pingap.stages.discovery.probes.prober import KeptTalks
from pingap.stages.discovery.source_news import GatheredNews, SourceNews, in_words
from pingap.stages.discovery.table import addresses_of, statuses, there
from pingap.stages.discovery.topic import KeptTopic
from pingap.stages.discovery.urgent import UrgentChecks
from pingap.stages.discovery.watch import BackendSource, SourceEar, UpstreamWatch
from pingap.stages.discovery.words import (
    CheckNew,
    Configured,
    Event,
    PublishBackends,
    SourceTurned,
    StartChecks,
    StopChecks,
    Turned,
)
from pingap.stages.generations import Generations
from pingap.stages.lookups import Lookups
from pingap.stages.messages import BackendReport, UpstreamsAsk, UpstreamsTold

if TYPE_CHECKING:
    from pingap.stages.discovery.containers.sources import ContainerSources
    from pingap.stages.discovery.dns.sources import DnsSources

LEAST_AT_ONCE, MOST_AT_ONCE = 64, 1024
"""Checks under way at the same time, of all upstreams together: a sixteenth of the limit on descriptors within these bounds. One
that hangs costs a descriptor and some memory for its time-out, and no CPU."""

GATHER_DOWN: Final = 0.5
"""Seconds for which it is gathered which upstreams have no healthy backend left, so that a rack that dies is one notice; and which
sources fail."""

MOST_NAMED: Final = 100
"""Upstreams that one notice names."""

GATHER: Final = 0.02
"""Seconds for which verdicts are gathered, so that a thousand backends are not published a thousand times."""

HEALTH: Final = "health.last"
BACKENDS: Final = "backends.last"
DRAINS: Final = "drains.last"

SECTIONS: Final = ("upstreams",)
"""Of a configuration, what this stage needs."""


class _Asked(NamedTuple):
    """What a generation asks for, by the name of the upstream."""

    plans: dict[str, Plan]
    circuits: dict[str, CircuitPlan]
    """Without addresses."""


class DiscoveryActor(Actor):
    stage: ClassVar[str] = "discovery"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.core = Discovery()
        self._drains = Drains()
        self._generations: Generations[_Asked] = Generations(context, SECTIONS, _compile, self._committed)
        self._breaker = Breaker(context, self.check_now)
        self._circuits: dict[str, CircuitPlan] = {}
        self._arranged: Addresses = {}
        """Of which backends there are circuits."""
        self._topics: tuple[KeptTopic, ...] = ()
        self._publisher: asyncio.TimerHandle | None = None
        self._watches: dict[str, UpstreamWatch] = {}
        self._ended: set[asyncio.Task[None]] = set()
        self._dns: DnsSources | None = None
        self._containers: ContainerSources | None = None
        self.lookups = Lookups(context.loop)
        at_once = max(LEAST_AT_ONCE, min(MOST_AT_ONCE, context.descriptors.limit // 16))
        context.descriptors.hold(2 * at_once)
        self.gate = CheckGate(context.loop, at_once)
        self.kept = KeptTalks(at_once)
        self.checks = 0
        self._urgent = UrgentChecks()
        self._downs = Downs()
        self._news = GatheredNews()
        self._downs_look: asyncio.TimerHandle | None = None

    def receivers(self) -> Receivers:
        return {UpstreamsAsk: self._asked, BackendReport: self._breaker.report}

    # -- life ---------------------------------------------------------------------------

    async def start(self) -> None:
        """Ready with the first configuration: what was not judged yet counts as healthy."""
        self.core = Discovery(self._restored(HEALTH), self._restored(BACKENDS))
        self._drains = Drains(self._restored(DRAINS))
        self._breaker.begin(self._restored(CIRCUITS))
        self._generations.start()

    def members_changed(self, members: Members, gone: frozenset[int]) -> None:
        self._breaker.members_changed(members)

    async def stop(self) -> None:
        for timer in (self._publisher, self._downs_look):
            if timer is not None:
                timer.cancel()
        self._breaker.stop()
        for upstream in list(self._watches):
            self._stop_watching(upstream)
        await asyncio.gather(*self._ended, return_exceptions=True)

    def look_at_run_dir(self) -> None:
        for topic in self._topics:
            topic.keep()
        self._breaker.keep()

    def figures(self) -> dict[str, float]:
        return {
            "checks": self.checks,
            "checks_under_way": self.gate.used,
            "checks_waiting": self.gate.waiting,
            "unhealthy": self.core.unhealthy,
        }

    def _committed(self, generation: int, wanted: _Asked) -> None:
        self.feed(Configured(wanted.plans))
        self._circuits = wanted.circuits
        self._arrange()
        has_left = self._forget_drained()
        if not self._topics:
            # Not before: who follows keeps what the life before this one has found out.
            self._topics = (
                # Who gets to know of a backend is to know already whether it is well.
                KeptTopic(self.context, "health", HEALTH, self.core.value),
                KeptTopic(self.context, "drains", DRAINS, self._drains.value),
                KeptTopic(self.context, "backends", BACKENDS, self.core.addresses, self.core.kept),
            )
            self._downs.begin(self.core.down())
            self.context.ready()
        elif has_left:
            self._publish_soon()

    def _restored(self, name: str) -> Any:
        try:
            found = keepsake.restore(self.context.run_dir, name)
        except (ValueError, OSError) as error:
            self.context.log("warn", f"{name} of the run dir cannot be used", error=str(error))
            return None
        return found if isinstance(found, dict) else None

    # -- doing what the core decides ---------------------------------------------------

    def feed(self, event: Event) -> None:
        for command in self.core.handle(event):
            match command:
                case StartChecks(upstream, plan):
                    self._watches[upstream] = UpstreamWatch(self, upstream, plan, self._source_of(upstream, plan))
                case StopChecks(upstream):
                    self._stop_watching(upstream)
                case CheckNew(upstream, targets):
                    if (watch := self._watches.get(upstream)) is not None:
                        watch.checks.check_new(targets)
                case PublishBackends():
                    self._publish_soon()
                case Turned():
                    self._turned(command)
                    if not command.is_healthy and (watch := self._watches.get(command.upstream)) is not None:
                        watch.turned_unhealthy()
                case SourceTurned(upstream, entry, reason):
                    self._news.add(SourceNews(upstream, entry, reason))
                    self._look_soon()

    def check_now(self, upstream: str, address: str) -> None:
        """Requests do not reach this backend: it is checked at once, unless that has just been done, or there are too many such."""
        watch = self._watches.get(upstream)
        if watch is None or self.core.is_ill(upstream, address) or not self._urgent.let(upstream, address, self.context.loop.time()):
            return  # one report may name thousands: nothing dear is done before it is known that this one is let through
        target = self.core.suspect(upstream, address)
        if target is not None:
            watch.checks.check_now(target)

    def _source_of(self, upstream: str, plan: Plan) -> Callable[[SourceEar], BackendSource] | None:
        """What makes the source of an upstream; each is imported when there is need of it."""
        if plan.discovery == DNS:
            if self._dns is None:
                from pingap.stages.discovery.dns.sources import DnsSources

                self._dns = DnsSources(self.context)
            return partial(self._dns.source, upstream, plan, self.core.upstreams[upstream].found)
        if plan.discovery == DOCKER:
            if self._containers is None:
                from pingap.stages.discovery.containers.sources import ContainerSources

                self._containers = ContainerSources(self.context)
            return partial(self._containers.source, upstream, plan)
        return None

    def _look_soon(self) -> None:
        if self._downs_look is None:
            self._downs_look = self.context.loop.call_later(GATHER_DOWN, self._look_at_downs)

    def _publish_soon(self) -> None:
        self._look_soon()
        if self._publisher is None:
            self._publisher = self.context.loop.call_later(GATHER, self._publish_now)

    def _arrange(self) -> None:
        """Each backend there is has a circuit."""
        upstreams = self.core.upstreams
        self._arranged = self.core.addresses()
        plans = {name: replace(plan, addresses=addresses_of(upstreams[name])) for name, plan in self._circuits.items() if name in upstreams}
        self._breaker.arrange(plans)

    def _publish_now(self) -> None:
        self._publisher = None
        self.core.settle()
        if self.core.addresses() != self._arranged:
            self._arrange()
        self._forget_drained()
        for topic in self._topics:
            topic.publish()

    def _stop_watching(self, upstream: str) -> None:
        watch = self._watches.pop(upstream, None)
        if watch is not None:
            watch.stop()
            for task in watch.tasks:
                self._ended.add(task)
                task.add_done_callback(self._ended.discard)

    def _turned(self, turned: Turned) -> None:
        fields = {"upstream": turned.upstream, "addr": turned.address}
        if turned.is_healthy:
            self.context.log("info", "backend is healthy again", **fields)
            self._breaker.recovered(turned.upstream, turned.address)
        else:
            self.context.log("warn", "backend is unhealthy", **fields, reason=turned.reason)
        state = "healthy" if turned.is_healthy else "unhealthy"
        text = f"upstream {turned.upstream}({turned.address}) becomes {state}{f': {turned.reason}' if turned.reason else ''}"
        more = {"title": "Upstream backend status changed", "state": state, "reason": turned.reason}
        self.context.notice("info" if turned.is_healthy else "error", BACKEND_STATUS, text, **fields, **more)

    def _look_at_downs(self) -> None:
        self._downs_look = None
        self._tell_sources()
        fallen, back = self._downs.turned(self.core.down(), self.core.upstreams)
        self._tell_downs("error", "unhealthy", "Upstream unhealthy", fallen)
        self._tell_downs("info", "healthy", "Upstream healthy", back)

    def _tell_downs(self, level: str, state: str, title: str, upstreams: list[str]) -> None:
        if not upstreams:
            return
        more = len(upstreams) - MOST_NAMED
        named = upstreams[:MOST_NAMED]
        text = ", ".join(named) + (f" and {more} more" if more > 0 else "")
        said = "upstreams have no healthy backend" if state == "unhealthy" else "upstreams have a healthy backend again"
        self.context.log("warn" if state == "unhealthy" else "info", said, upstreams=text)
        self.context.notice(level, UPSTREAM_STATUS, text, title=title, state=state, upstreams=named, count=len(upstreams))

    def _tell_sources(self) -> None:
        failing, back = self._news.take()
        if failing:
            text = in_words(failing, MOST_NAMED)
            upstreams = list(dict.fromkeys(one.upstream for one in failing))[:MOST_NAMED]
            self.context.log("warn", "backends cannot be found out; those that are known stay", sources=text)
            self.context.notice("warn", SERVICE_DISCOVER_FAIL, text, upstreams=upstreams, count=len(failing))
        if back:
            self.context.log("info", "backends can be found out again", sources=in_words(back, MOST_NAMED))

    # -- what is asked -----------------------------------------------------------------

    def _asked(self, ask: UpstreamsAsk) -> None:
        self.context.send(ask.asker, UpstreamsTold(ask.ticket, statuses(self.core.upstreams, self._drains, self._breaker.figures())))

    def told(self, word: str, args: Any) -> None:
        """Each question is answered at once, and what it changes published before that."""
        if word not in asked.WORDS:
            return
        number, *rest = args
        try:
            if not self._topics:
                raise asked.NotSo("the discovery stage has only begun, and knows no configuration yet: ask again in a moment")
            value, ok = asked.answer(word, rest, asked.Known(self.core.upstreams, self._drains, self._breaker.figures())), True
        except (asked.NotSo, TypeError, ValueError) as error:
            value, ok = str(error), False
        if ok and word != asked.UPSTREAMS and value["changed"]:
            for topic in self._topics:
                topic.publish()
            self._tell_drain(word, value)
        self.context.report("answer", {"asked": number, "ok": ok, "value": value})

    def _tell_drain(self, word: str, answer: dict[str, Any]) -> None:
        fields = {"upstream": answer["upstream"], "addr": answer["address"]}
        text = "a backend is taken out by hand" if word == asked.DRAIN else "a backend is put back by hand"
        self.context.log("info", text, **fields)
        state = "drained" if word == asked.DRAIN else "enabled"
        self.context.notice("info", BACKEND_STATUS, f"upstream {fields['upstream']}({fields['addr']}) is {state}", **fields, state=state)

    def _forget_drained(self) -> bool:
        """Those that have left are no longer drained, should they come again; whether there were any."""
        left = self._drains.keep(there(self.core.upstreams)) if self._drains.value() else []
        for upstream, address in left:
            self.context.log("info", "a backend that was taken out by hand has left", upstream=upstream, addr=address)
        return bool(left)


def _compile(snapshot: Snapshot, plans: dict[str, int]) -> _Asked:
    return _Asked(plans_of(snapshot), circuits_of(snapshot))
