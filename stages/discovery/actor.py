"""The discovery actor: checks run in tasks, one an upstream; what follows from the results is decided in core.py."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Any, ClassVar, Final

from pingap.bus.actor import Actor, Context
from pingap.config.model import Snapshot
from pingap.stages import keepsake
from pingap.stages.discovery.core import (
    Checked,
    CheckTarget,
    Configured,
    Discovery,
    Event,
    Plan,
    PublishBackends,
    Resolved,
    StartChecks,
    StopChecks,
    Turned,
    plans_of,
)
from pingap.stages.discovery.probe import ProbeFailed, Prober
from pingap.stages.generations import Generations
from pingap.stages.lookups import Lookups, NoSlot

AT_ONCE: Final = 64
"""Checks under way at the same time, of all upstreams together."""

AGAIN: Final = 0.25
"""Seconds until a backend without a verdict is checked again; doubled each time, up to check_frequency."""

GATHER: Final = 0.02
"""Seconds for which verdicts are gathered, so that a thousand backends are not published a thousand times."""

HEALTH: Final = "health.last"
BACKENDS: Final = "backends.last"

LEAST_PAUSE: Final = 0.1
"""Seconds between two rounds, even if a round takes longer than check_frequency."""

JITTER: Final = 0.05
"""Seconds over which the first checks of the upstreams are spread; later rounds spread over half their frequency."""

SECTIONS: Final = ("upstreams",)
"""Of a configuration, what this stage needs."""


class DiscoveryActor(Actor):
    stage: ClassVar[str] = "discovery"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._core = Discovery()
        self._generations: Generations[dict[str, Plan]] = Generations(context, SECTIONS, _compile, self._committed)
        self._topics: tuple[_Topic, ...] = ()
        self._publisher: asyncio.TimerHandle | None = None
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._ended: set[asyncio.Task[None]] = set()
        self.lookups = Lookups(context.loop)
        self._gate = asyncio.Semaphore(AT_ONCE)
        self._checks = 0

    # -- life ---------------------------------------------------------------------------

    async def start(self) -> None:
        """Ready with the first configuration: what was not judged yet counts as healthy."""
        self._core = Discovery(self._restored(HEALTH), self._restored(BACKENDS))
        self._generations.start()

    async def stop(self) -> None:
        if self._publisher is not None:
            self._publisher.cancel()
        tasks = [*self._tasks.values(), *self._ended]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def look_at_run_dir(self) -> None:
        for topic in self._topics:
            topic.keep()

    def figures(self) -> dict[str, float]:
        return {"checks": self._checks, "unhealthy": self._core.unhealthy}

    def _committed(self, generation: int, plans: dict[str, Plan]) -> None:
        self._feed(Configured(plans))
        if not self._topics:
            # Not before: who follows keeps what the life before this one has found out.
            self._topics = (
                _Topic(self.context, "backends", BACKENDS, self._core.addresses),
                _Topic(self.context, "health", HEALTH, self._core.value),
            )
            self.context.ready()

    def _restored(self, name: str) -> Any:
        try:
            found = keepsake.restore(self.context.run_dir, name)
        except (ValueError, OSError) as error:
            self.context.log("warn", f"{name} of the run dir cannot be used", error=str(error))
            return None
        return found if isinstance(found, dict) else None

    # -- doing what the core decides ---------------------------------------------------

    def _feed(self, event: Event) -> None:
        for command in self._core.handle(event):
            match command:
                case StartChecks(upstream, plan):
                    self._tasks[upstream] = self.context.loop.create_task(self._watch(upstream, plan))
                case StopChecks(upstream):
                    self._stop_watching(upstream)
                case PublishBackends():
                    if self._publisher is None:
                        self._publisher = self.context.loop.call_later(GATHER, self._publish_now)
                case Turned():
                    self._turned(command)

    def _publish_now(self) -> None:
        self._publisher = None
        for topic in self._topics:
            topic.publish()

    def _stop_watching(self, upstream: str) -> None:
        task = self._tasks.pop(upstream, None)
        if task is not None:
            task.cancel()
            self._ended.add(task)
            task.add_done_callback(self._ended.discard)

    def _turned(self, turned: Turned) -> None:
        if turned.is_healthy:
            self.context.log("info", "backend is healthy again", upstream=turned.upstream, addr=turned.address)
        else:
            self.context.log("warn", "backend is unhealthy", upstream=turned.upstream, addr=turned.address, reason=turned.reason)

    # -- checks --------------------------------------------------------------------------

    async def _watch(self, upstream: str, plan: Plan) -> None:
        """Checks the backends of one upstream in rounds, until it is cancelled."""
        prober = Prober(plan.check, plan.ipv4_only, self.lookups)
        frequency = plan.check.check_frequency
        core = self._core
        try:
            await asyncio.sleep(random.uniform(0, JITTER))
            # All at the same time, whatever the plan says: until there is a verdict, a dead backend gets requests.
            targets = core.targets(upstream)
            named = [entry for entry in plan.targets if entry.is_name and entry not in targets]
            checks = [self._check(upstream, plan, target, prober) for target in targets]
            await self._round([*checks, *(self._renew(upstream, plan, entry, prober) for entry in named)])
            pause = random.uniform(0.5, 1) * frequency
            while True:
                await asyncio.sleep(pause)
                began = monotonic()
                await self._round([self._check(upstream, plan, t, prober) for t in core.targets(upstream)], plan.check.parallel)
                await self._round([self._renew(upstream, plan, e, prober) for e in core.lost(upstream)], plan.check.parallel)
                pause = max(LEAST_PAUSE, frequency - (monotonic() - began))
        finally:
            prober.close()

    async def _round(self, checks: list[Coroutine[Any, Any, None]], at_once: bool = True) -> None:
        if not at_once:
            for number, check in enumerate(checks):
                try:
                    await check
                except BaseException:
                    for rest in checks[number + 1 :]:
                        rest.close()
                    raise
            return
        async with asyncio.TaskGroup() as group:
            for check in checks:
                group.create_task(check)

    async def _renew(self, upstream: str, plan: Plan, entry: CheckTarget, prober: Prober) -> None:
        """Looks up a name, and checks those of its addresses that are new."""
        await self._look_up(upstream, plan, entry)
        await self._round([self._check(upstream, plan, target, prober) for target in self._core.unjudged(upstream, entry)])

    async def _look_up(self, upstream: str, plan: Plan, entry: CheckTarget) -> None:
        """A name that cannot be resolved is a backend that fails, as long as no address of it is known."""
        async with self._gate:
            self._checks += 1
            try:
                found = await self.lookups.find(entry.host, entry.port, plan.ipv4_only, plan.check.connection_timeout)
            except NoSlot:
                return  # no verdict: it is not the backend's doing
            except (OSError, ValueError) as error:
                reason = (error.strerror if isinstance(error, OSError) else "") or str(error)
                event: Event = Checked(upstream, entry.address, f"the name cannot be resolved: {reason}")
            else:
                event = Resolved(upstream, entry.address, tuple(address.host for address in found))
        self._feed(event)

    async def _check(self, upstream: str, plan: Plan, target: CheckTarget, prober: Prober) -> None:
        """Checks one backend; one that was never judged, until it is. A name is looked up, and its addresses are checked."""
        pause, core = AGAIN, self._core
        while True:
            if target.is_name:
                await self._renew(upstream, plan, target, prober)
            else:
                await self._probe(upstream, target, prober)
            # A name is judged, in this sense, when there are addresses in its place.
            if core.is_judged(upstream, target.address):
                return
            await asyncio.sleep(min(pause, plan.check.check_frequency))
            pause *= 2

    async def _probe(self, upstream: str, target: CheckTarget, prober: Prober) -> None:
        async with self._gate:
            self._checks += 1
            failure = None
            try:
                await prober.probe(target)
            except ProbeFailed as error:
                failure = str(error)
            except Exception as error:  # whatever it is: the backend did not pass, and the rounds must go on
                failure = f"{type(error).__name__}: {error}"
                self.context.log("error", "a health check broke off", upstream=upstream, addr=target.address, error=repr(error))
        self._feed(Checked(upstream, target.address, failure))


class _Topic:
    """One of the topics, and what the next life of this stage is to know of it."""

    def __init__(self, context: Context, topic: str, keepsake_name: str, value: Callable[[], Any]) -> None:
        self._context = context
        self._keepsake = keepsake_name
        self._value = value
        self._last = value()
        self._run: int | None = None
        """In which it was saved; None when it was not."""
        self._publish = context.publish(topic, self._last)

    def publish(self) -> None:
        """Its value, if that has changed."""
        value = self._value()
        if value == self._last:
            return
        self._last = value
        try:
            self._run = keepsake.save(self._context.run_dir, self._keepsake, value)
        except OSError as error:
            self._context.log("warn", f"{self._keepsake} cannot be written; a restart of this stage would need it", error=str(error))
        self._publish(value)

    def keep(self) -> None:
        """Saves it again when somebody has removed it. Raises OSError."""
        if self._run is not None and keepsake.is_lost(self._context.run_dir, self._keepsake, self._run):
            self._run = keepsake.save(self._context.run_dir, self._keepsake, self._last)


def _compile(snapshot: Snapshot, plans: dict[str, int]) -> dict[str, Plan]:
    return plans_of(snapshot)
