"""One upstream under watch: its backends are checked in rounds, and its source, or lookups of its names, find new ones."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Iterable
from time import monotonic
from typing import Any, Final, Protocol

from pingap.bus.actor import Context
from pingap.config.parts import Backend
from pingap.stages.discovery.core import Discovery
from pingap.stages.discovery.plan import CheckTarget, Plan
from pingap.stages.discovery.probes.failed import ProbeFailed
from pingap.stages.discovery.probes.prober import Prober
from pingap.stages.discovery.words import Checked, Event, Resolved, SourceFailed
from pingap.stages.lookups import Lookups, NoSlot

AGAIN: Final = 0.25
"""Seconds until a backend without a verdict is checked again; doubled each time, up to check_frequency."""

LEAST_PAUSE: Final = 0.1
"""Seconds between two rounds, even if a round takes longer than check_frequency."""

JITTER: Final = 0.05
"""Seconds over which the first checks of the upstreams are spread; later rounds spread over half their frequency."""

SOURCE_AGAIN: Final = 1.0
"""Seconds after which a source that broke off is started anew; doubled each time, up to a minute."""


class BackendSource(Protocol):
    """What finds the backends of an upstream, entry by entry."""

    async def run(self) -> None:
        """Until it is cancelled; all that it finds, and all failures, it tells."""


class SourceEar(Protocol):
    """Whom a source tells what it finds."""

    def found(self, entry: str, backends: Iterable[Backend]) -> None:
        """entry: its address. backends: all that it stands for now."""

    def failed(self, entry: str, reason: str) -> None:
        """That could not be found out; it will be tried again without end."""


class WatchHost(Protocol):
    """What a watch needs of its actor."""

    context: Context
    core: Discovery
    lookups: Lookups
    gate: asyncio.Semaphore
    """Checks under way, of all upstreams together."""
    checks: int
    """So far."""

    def feed(self, event: Event) -> None: ...


class UpstreamWatch:
    """Of one upstream, by one plan, until it is stopped."""

    def __init__(self, host: WatchHost, upstream: str, plan: Plan, source: Callable[[SourceEar], BackendSource] | None = None) -> None:
        self._host = host
        self._upstream = upstream
        self._plan = plan
        self._prober = Prober(plan.check, plan.ipv4_only, host.lookups)
        self._source = source(self) if source else None
        self._new: set[asyncio.Task[None]] = set()
        """Checks of backends that were found just now."""
        self.task = host.context.loop.create_task(self._run())

    def stop(self) -> None:
        self.task.cancel()
        for task in self._new:
            task.cancel()

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """To be waited for, once they are cancelled."""
        return [self.task, *self._new]

    # -- what its source says -------------------------------------------------------------

    def found(self, entry: str, backends: Iterable[Backend]) -> None:
        self._host.feed(Resolved(self._upstream, entry, tuple(backends), time.time()))

    def failed(self, entry: str, reason: str) -> None:
        self._host.feed(SourceFailed(self._upstream, entry, reason))

    async def _ask_source(self, source: BackendSource) -> None:
        """A source never ends by itself: one that does has a fault, and would be missed by nobody."""
        pause = SOURCE_AGAIN
        while True:
            try:
                await source.run()
                error: Exception = RuntimeError("it has ended")
            except Exception as broken:
                error = broken
            self._host.context.log("error", "discovery broke off, and is started anew", upstream=self._upstream, error=repr(error))
            for entry in self._plan.entries:
                self.failed(entry.address, str(error) or repr(error))
            await asyncio.sleep(random.uniform(0.5, 1) * pause)
            pause = min(60.0, pause * 2)

    # -- rounds ------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                if self._source is not None:
                    group.create_task(self._ask_source(self._source))
                group.create_task(self._rounds())
        finally:
            self._prober.close()

    async def _rounds(self) -> None:
        """All at the same time at first, whatever the plan says: until there is a verdict, a dead backend gets requests."""
        plan, core = self._plan, self._host.core
        frequency = plan.check.check_frequency
        await asyncio.sleep(random.uniform(0, JITTER))
        targets = core.targets(self._upstream)
        named = [entry for entry in plan.entries if plan.is_static and entry.is_name and entry not in targets]
        await self._round([*map(self._check, targets), *map(self._look_up, named)])
        pause = random.uniform(0.5, 1) * frequency
        while True:
            await asyncio.sleep(pause)
            began = monotonic()
            await self._round([self._check(target) for target in core.targets(self._upstream)], plan.check.parallel)
            await self._round([self._look_up(entry) for entry in core.lost(self._upstream)], plan.check.parallel)
            pause = max(LEAST_PAUSE, frequency - (monotonic() - began))

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

    def check_new(self, targets: Iterable[CheckTarget]) -> None:
        """Each until it is judged."""
        for target in targets:
            task = self._host.context.loop.create_task(self._check(target))
            self._new.add(task)
            task.add_done_callback(self._new.discard)

    async def _look_up(self, entry: CheckTarget) -> None:
        """A name that cannot be resolved is a backend that fails, as long as no address of it is known."""
        host, plan = self._host, self._plan
        async with host.gate:
            host.checks += 1
            try:
                found = await host.lookups.find(entry.host, entry.port, plan.ipv4_only, plan.check.connection_timeout)
            except NoSlot:
                return  # no verdict: it is not the backend's doing
            except (OSError, ValueError) as error:
                reason = (error.strerror if isinstance(error, OSError) else "") or str(error)
                host.feed(Checked(self._upstream, entry.address, f"the name cannot be resolved: {reason}"))
                return
        self.found(entry.address, (Backend(address.host, entry.port, entry.weight) for address in found))

    async def _check(self, target: CheckTarget) -> None:
        """Checks one backend; one that was never judged, until it is. A name is looked up instead."""
        pause, core = AGAIN, self._host.core
        while True:
            if target.is_name and not target.entry:
                await self._look_up(target)
            else:
                await self._probe(target)
            # A name is judged, in this sense, when there are addresses in its place.
            if core.is_judged(self._upstream, target.address):
                return
            await asyncio.sleep(min(pause, self._plan.check.check_frequency))
            pause *= 2

    async def _probe(self, target: CheckTarget) -> None:
        host = self._host
        async with host.gate:
            host.checks += 1
            failure = None
            try:
                await self._prober.probe(target)
            except ProbeFailed as error:
                failure = str(error)
            except NoSlot:
                return  # as above
            except Exception as broken:  # whatever it is: the backend did not pass, and the rounds must go on
                failure = f"{type(broken).__name__}: {broken}"
                fields = {"upstream": self._upstream, "addr": target.address, "error": repr(broken)}
                host.context.log("error", "a health check broke off", **fields)
        host.feed(Checked(self._upstream, target.address, failure))
