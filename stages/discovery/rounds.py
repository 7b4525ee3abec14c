"""The checks of one upstream: in rounds, again soon for a backend in doubt, and at once for one that requests do not reach.

No check waits for another: a backend that hangs is overtaken, and left out of the next round if it still does.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from time import monotonic
from typing import Final, Protocol

from pingap.bus.actor import Context
from pingap.config.parts import Backend
from pingap.stages.discovery.core import Discovery
from pingap.stages.discovery.gate import CheckGate
from pingap.stages.discovery.plan import CheckTarget, Plan
from pingap.stages.discovery.probes.failed import ProbeFailed
from pingap.stages.discovery.probes.prober import KeptTalks, Prober
from pingap.stages.discovery.shares import Rank
from pingap.stages.discovery.words import Checked, Event
from pingap.stages.lookups import Lookups, NoSlot

LEAST_PAUSE: Final = 0.1
"""Seconds between two rounds, even if a round takes longer than check_frequency."""

JITTER: Final = 0.05
"""Seconds over which the first checks of the upstreams are spread; later rounds over all of their frequency."""

SPREAD: Final = 0.9
"""Of check_frequency: within it every check of a round has begun, however many hang."""


class WatchHost(Protocol):
    """What is needed of the actor."""

    context: Context
    core: Discovery
    lookups: Lookups
    gate: CheckGate
    kept: KeptTalks
    checks: int
    """So far."""

    def feed(self, event: Event) -> None: ...


@dataclass(slots=True, eq=False)
class _UnderWay:
    """The check of one backend, and those that follow it soon."""

    task: asyncio.Task[None]
    is_urgent: bool
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    """Another one is wanted now: requests do not reach it."""


class CheckRounds:
    """By one plan, until it is stopped."""

    def __init__(self, host: WatchHost, upstream: str, plan: Plan, found: Callable[[str, Iterable[Backend]], None]) -> None:
        """found: is told what the lookup of a name has found: the address of its entry, and the backends."""
        self._host = host
        self._upstream = upstream
        self._plan = plan
        self._found = found
        self._prober = Prober(plan.check, plan.ipv4_only, host.lookups, host.kept)
        self._under_way: dict[str, _UnderWay] = {}
        """By address."""

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """To be waited for, once this is stopped."""
        return [one.task for one in self._under_way.values()]

    def stop(self) -> None:
        for one in self._under_way.values():
            one.task.cancel()

    async def run(self) -> None:
        """Rounds, until it is cancelled."""
        try:
            await self._rounds()
        finally:
            self._prober.close()

    # -- rounds ------------------------------------------------------------------------------

    async def _rounds(self) -> None:
        plan, core, upstream = self._plan, self._host.core, self._upstream
        frequency = plan.check.check_frequency
        await asyncio.sleep(random.uniform(0, JITTER))
        # All at the same time at first, whatever the plan says: until there is a verdict, a dead backend gets requests.
        targets = core.targets(upstream)
        self.check_new([*targets, *(entry for entry in plan.entries if plan.is_static and entry.is_name and entry not in targets)])
        pause = random.uniform(0, 1) * frequency
        while True:
            await asyncio.sleep(pause)
            began = monotonic()
            await self._round(core.targets(upstream), frequency)
            self.check_new(core.lost(upstream))
            pause = max(LEAST_PAUSE, frequency - (monotonic() - began))

    async def _round(self, targets: tuple[CheckTarget, ...], frequency: float) -> None:
        """One after the other, or all at once; what takes too long is not waited for."""
        self._prober.forget_others({target.address for target in targets})
        began = monotonic()
        spacing = SPREAD * frequency / max(1, len(targets))
        tasks = []
        for target in targets:
            task = self._begin(target)
            if task is not None:
                tasks.append(task)
                if not self._plan.check.parallel:
                    await asyncio.wait([task], timeout=spacing)
        if tasks:
            await asyncio.wait(tasks, timeout=max(0.0, SPREAD * frequency - (monotonic() - began)))

    def check_new(self, targets: Iterable[CheckTarget]) -> None:
        """Each until it is judged. A name is looked up."""
        for target in targets:
            self._begin(target)

    def check_now(self, target: CheckTarget) -> None:
        """At once, and again soon if it fails."""
        known = self._under_way.get(target.address)
        if known is None:
            self._begin(target, is_urgent=True)
        else:
            known.is_urgent = True
            known.wake.set()

    def _begin(self, target: CheckTarget, is_urgent: bool = False) -> asyncio.Task[None] | None:
        """None if it is being checked already."""
        if target.address in self._under_way:
            return None
        task = self._host.context.loop.create_task(self._check(target))
        self._under_way[target.address] = _UnderWay(task, is_urgent)
        task.add_done_callback(lambda task: self._ended(target, task))
        return task

    def _ended(self, target: CheckTarget, task: asyncio.Task[None]) -> None:
        del self._under_way[target.address]
        if not task.cancelled() and (error := task.exception()) is not None:
            self._tell_fault(target, error)

    def _tell_fault(self, target: CheckTarget, error: BaseException) -> None:
        fields = {"upstream": self._upstream, "addr": target.address, "error": repr(error)}
        self._host.context.log("error", "a health check broke off", **fields)

    # -- one backend -------------------------------------------------------------------------

    async def _check(self, target: CheckTarget) -> None:
        """Until nobody is in doubt about it."""
        core, upstream, address = self._host.core, self._upstream, target.address
        mine = self._under_way[address]
        tries = 0
        while True:
            mine.wake.clear()
            if target.is_name and not target.entry:
                await self._look_up(target)
            else:
                await self._probe(target, mine.is_urgent)
            tries += 1
            pause = core.again(upstream, address, tries)
            if pause is None:
                if mine.wake.is_set():
                    continue  # it may have passed, or have been asked, before it died
                return
            try:
                async with asyncio.timeout(pause):
                    await mine.wake.wait()
            except TimeoutError:
                pass

    async def _look_up(self, entry: CheckTarget) -> None:
        """A name that cannot be resolved is a backend that fails, as long as no address of it is known."""
        host, plan = self._host, self._plan
        async with host.gate.turn(self._upstream):
            host.checks += 1
            began = monotonic()
            try:
                found = await host.lookups.find(entry.host, entry.port, plan.ipv4_only, plan.check.connection_timeout)
            except NoSlot:
                return  # no verdict: it is not the backend's doing
            except (OSError, ValueError) as error:
                reason = (error.strerror if isinstance(error, OSError) else "") or str(error)
                self._checked(entry, f"the name cannot be resolved: {reason}", began)
                return
        self._found(entry.address, (Backend(address.host, entry.port, entry.weight) for address in found))

    async def _probe(self, target: CheckTarget, is_urgent: bool) -> None:
        host = self._host
        is_ill = host.core.is_ill(self._upstream, target.address)
        async with host.gate.turn(self._upstream, Rank.URGENT if is_urgent else Rank.ILL if is_ill else Rank.ROUND):
            host.checks += 1
            began = monotonic()
            failure = None
            try:
                await self._prober.probe(target)
            except ProbeFailed as error:
                failure = str(error)
            except NoSlot:
                return  # as above
            except Exception as broken:  # whatever it is: the backend did not pass, and the rounds must go on
                failure = f"{type(broken).__name__}: {broken}"
                self._tell_fault(target, broken)
        self._checked(target, failure, began)

    def _checked(self, target: CheckTarget, failure: str | None, began: float) -> None:
        self._host.feed(Checked(self._upstream, target.address, failure, time.time(), monotonic() - began))
