"""The discovery actor: checks run in tasks, one an upstream; what follows from the results is decided in core.py."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from time import monotonic
from typing import Any, ClassVar, Final

from bus.actor import Actor, Context
from config.model import Snapshot
from stages import keepsake
from stages.discovery.core import Checked, Configured, Core, Event, Plan, Publish, Start, Stop, Target, Turned, plans_of
from stages.discovery.probe import ProbeFailed, Prober
from stages.generations import Generations
from stages.lookups import Lookups, NoSlot

AT_ONCE: Final = 64
"""Checks under way at the same time, of all upstreams together."""

AGAIN: Final = 0.25
"""Seconds until a backend without a verdict is checked again; doubled each time, up to check_frequency."""

GATHER: Final = 0.02
"""Seconds for which verdicts are gathered, so that a thousand backends are not published a thousand times."""

KEEPSAKE: Final = "health.last"

LEAST_PAUSE: Final = 0.1
"""Seconds between two rounds, even if a round takes longer than check_frequency."""

JITTER: Final = 0.05
"""Seconds over which the first checks of the upstreams are spread; later rounds spread over half their frequency."""


class DiscoveryActor(Actor):
    stage: ClassVar[str] = "discovery"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._core = Core()
        self._generations: Generations[dict[str, Plan]] = Generations(context, _compile, self._committed)
        self._publish: Callable[[Any], None] | None = None
        self._published: dict[str, dict[str, bool]] | None = None
        self._publisher: asyncio.TimerHandle | None = None
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._ended: set[asyncio.Task[None]] = set()
        self.lookups = Lookups(context.loop)
        self._gate = asyncio.Semaphore(AT_ONCE)
        self._checks = 0

    # -- life ---------------------------------------------------------------------------

    async def start(self) -> None:
        """Ready with the first configuration: what was not judged yet counts as healthy."""
        self._core = Core(self._restored())
        self._generations.start()

    async def stop(self) -> None:
        if self._publisher is not None:
            self._publisher.cancel()
        tasks = [*self._tasks.values(), *self._ended]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def figures(self) -> dict[str, float]:
        return {"checks": self._checks, "unhealthy": self._core.unhealthy}

    def _committed(self, generation: int, plans: dict[str, Plan]) -> None:
        self._feed(Configured(plans))
        if self._publish is None:
            # Not before: who follows keeps what the life before this one has found out.
            self._published = self._core.value()
            self._publish = self.context.publish("health", self._published)
            self.context.ready()

    def _restored(self) -> dict[str, dict[str, bool]] | None:
        try:
            found = keepsake.restore(self.context.run_dir, KEEPSAKE)
        except (ValueError, OSError) as error:
            self.context.log("warn", f"{KEEPSAKE} of the run dir cannot be used", error=str(error))
            return None
        return found if isinstance(found, dict) else None

    # -- doing what the core decides ---------------------------------------------------

    def _feed(self, event: Event) -> None:
        for command in self._core.handle(event):
            match command:
                case Start(upstream, plan):
                    self._tasks[upstream] = self.context.loop.create_task(self._watch(upstream, plan))
                case Stop(upstream):
                    self._stop_watching(upstream)
                case Publish():
                    if self._publisher is None:
                        self._publisher = self.context.loop.call_later(GATHER, self._publish_now)
                case Turned():
                    self._turned(command)

    def _publish_now(self) -> None:
        self._publisher = None
        value = self._core.value()
        if value == self._published:
            return
        self._published = value
        try:
            keepsake.save(self.context.run_dir, KEEPSAKE, value)
        except OSError as error:
            self.context.log("warn", f"{KEEPSAKE} cannot be written; a restart of this stage would need it", error=str(error))
        if self._publish is not None:
            self._publish(value)

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
        try:
            await asyncio.sleep(random.uniform(0, JITTER))
            # All at the same time, whatever the plan says: until there is a verdict, a dead backend gets requests.
            await self._round(upstream, plan.targets, prober, frequency)
            pause = random.uniform(0.5, 1) * frequency
            while True:
                await asyncio.sleep(pause)
                began = monotonic()
                if plan.check.parallel:
                    await self._round(upstream, plan.targets, prober, frequency)
                else:
                    for target in plan.targets:
                        await self._check(upstream, target, prober, frequency)
                pause = max(LEAST_PAUSE, frequency - (monotonic() - began))
        finally:
            prober.close()

    async def _round(self, upstream: str, targets: tuple[Target, ...], prober: Prober, frequency: float) -> None:
        async with asyncio.TaskGroup() as group:
            for target in targets:
                group.create_task(self._check(upstream, target, prober, frequency))

    async def _check(self, upstream: str, target: Target, prober: Prober, frequency: float) -> None:
        """Checks one backend; one that was never judged, until it is."""
        pause = AGAIN
        while True:
            async with self._gate:
                self._checks += 1
                failure, is_known = None, True
                try:
                    await prober.probe(target)
                except ProbeFailed as error:
                    failure = str(error)
                except NoSlot:
                    is_known = False  # no verdict: it is not the backend's doing
                except Exception as error:  # whatever it is: the backend did not pass, and the rounds must go on
                    failure = f"{type(error).__name__}: {error}"
                    self.context.log("error", "a health check broke off", upstream=upstream, addr=target.address, error=repr(error))
            if is_known:
                self._feed(Checked(upstream, target.address, failure))
            if self._core.is_judged(upstream, target.address):
                return
            await asyncio.sleep(min(pause, frequency))
            pause *= 2


def _compile(snapshot: Snapshot, plans: dict[str, int]) -> dict[str, Plan]:
    return plans_of(snapshot)
