"""The discovery actor: checks run in tasks, one an upstream; what follows from the results is decided in core.py."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from time import monotonic
from typing import Any, ClassVar, Final

from bus.actor import Actor, Context
from config.model import Snapshot
from stages.discovery.core import Checked, Configured, Core, Event, FirstRoundOver, Plan, Publish, Start, Stop, Target, Turned, plans_of
from stages.discovery.probe import ProbeFailed, Prober
from stages.generations import Generations

AT_ONCE: Final = 64
"""Checks under way at the same time, of all upstreams together."""

FIRST_ROUND: Final = 10.0
"""Seconds after which the first verdicts are published, complete or not."""

AGAIN: Final = 0.25
"""Seconds until a backend without a verdict is checked again; doubled each time, up to check_frequency."""

SOON: Final = 1.0
"""Seconds after which this stage counts as ready although a backend that does not answer holds up the first verdicts."""

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
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._ended: set[asyncio.Task[None]] = set()
        self._timers: list[asyncio.TimerHandle] = []
        self._gate = asyncio.Semaphore(AT_ONCE)
        self._checks = 0
        self._is_ready = False

    # -- life ---------------------------------------------------------------------------

    async def start(self) -> None:
        """Ready with the first verdicts, or soon after the first configuration."""
        self._generations.start()

    async def stop(self) -> None:
        for timer in self._timers:
            timer.cancel()
        tasks = [*self._tasks.values(), *self._ended]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def figures(self) -> dict[str, float]:
        return {"checks": self._checks, "unhealthy": self._core.unhealthy}

    def _committed(self, generation: int, plans: dict[str, Plan]) -> None:
        if not self._timers:
            later = self.context.loop.call_later
            self._timers = [later(SOON, self._serves), later(FIRST_ROUND, self._first_round_over)]
        self._feed(Configured(plans))

    def _first_round_over(self) -> None:
        if not self._core.has_published:
            self._feed(FirstRoundOver())

    def _serves(self) -> None:
        if not self._is_ready:
            self._is_ready = True
            self.context.ready()

    # -- doing what the core decides ---------------------------------------------------

    def _feed(self, event: Event) -> None:
        for command in self._core.handle(event):
            match command:
                case Start(upstream, plan):
                    self._tasks[upstream] = self.context.loop.create_task(self._watch(upstream, plan))
                case Stop(upstream):
                    self._stop_watching(upstream)
                case Publish(value):
                    if self._publish is None:
                        # Not before: who follows keeps what the life before this one has found out.
                        self._publish = self.context.publish("health", value)
                    else:
                        self._publish(value)
                    self._serves()
                case Turned():
                    self._turned(command)

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
        prober = Prober(plan.check, plan.ipv4_only)
        frequency = plan.check.check_frequency
        try:
            await asyncio.sleep(random.uniform(0, JITTER))
            # All at the same time, whatever the plan says: the first verdicts are waited for.
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
                failure = None
                try:
                    await prober.probe(target)
                except ProbeFailed as error:
                    failure = str(error)
                except Exception as error:  # whatever it is: the backend did not pass, and the rounds must go on
                    failure = f"{type(error).__name__}: {error}"
                    self.context.log("error", "a health check broke off", upstream=upstream, addr=target.address, error=repr(error))
            self._feed(Checked(upstream, target.address, failure))
            if self._core.is_judged(upstream, target.address):
                return
            await asyncio.sleep(min(pause, frequency))
            pause *= 2


def _compile(snapshot: Snapshot, plans: dict[str, int]) -> dict[str, Plan]:
    return plans_of(snapshot)
