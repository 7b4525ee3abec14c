"""One upstream under watch: its backends are checked (rounds.py), and its source finds new ones."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from time import monotonic
from typing import Final, Protocol

from pingap.config.parts import Backend
from pingap.stages.discovery.plan import Plan
from pingap.stages.discovery.rounds import CheckRounds, WatchHost
from pingap.stages.discovery.words import Resolved, SourceFailed

AGAIN: Final = 1.0
"""Seconds after which a source, or the rounds of checks, are started anew when they broke off; doubled each time, up to MOST_PAUSE."""

MOST_PAUSE: Final = 60.0
"""Who has run for longer than that begins with AGAIN."""


class BackendSource(Protocol):
    """What finds the backends of an upstream, entry by entry."""

    async def run(self) -> None:
        """Until it is cancelled; all that it finds, and all failures, it tells."""

    def hurry(self, entry: str) -> None:
        """No backend of this entry is healthy any longer: there may be others by now. It may come often."""


class SourceEar(Protocol):
    """Whom a source tells what it finds."""

    def found(self, entry: str, backends: Iterable[Backend]) -> None:
        """entry: its address. backends: all that it stands for now."""

    def failed(self, entry: str, reason: str) -> None:
        """That could not be found out; it will be tried again without end."""

    def is_lost(self, entry: str) -> bool:
        """All backends that were found of it are unhealthy."""


class UpstreamWatch:
    """Of one upstream, by one plan, until it is stopped."""

    def __init__(self, host: WatchHost, upstream: str, plan: Plan, source: Callable[[SourceEar], BackendSource] | None = None) -> None:
        self._host = host
        self._upstream = upstream
        self._plan = plan
        self.checks = CheckRounds(host, upstream, plan, self.found)
        self._source = source(self) if source else None
        self.task = host.context.loop.create_task(self._run())

    def stop(self) -> None:
        self.task.cancel()
        self.checks.stop()

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """To be waited for, once they are cancelled."""
        return [self.task, *self.checks.tasks]

    # -- what its source says -------------------------------------------------------------

    def found(self, entry: str, backends: Iterable[Backend]) -> None:
        self._host.feed(Resolved(self._upstream, entry, tuple(backends), time.time()))

    def failed(self, entry: str, reason: str) -> None:
        self._host.feed(SourceFailed(self._upstream, entry, reason))

    def is_lost(self, entry: str) -> bool:
        known = self._host.core.upstreams.get(self._upstream)
        found = known.found.get(entry) if known else None
        return known is not None and bool(found) and all(known.verdict(backend.address) is False for backend in found or ())

    def turned_unhealthy(self) -> None:
        """A backend of this upstream, just now."""
        if self._source is not None:
            for entry in self._plan.entries:
                if self.is_lost(entry.address):
                    self._source.hurry(entry.address)

    def _source_broke_off(self, error: Exception) -> None:
        for entry in self._plan.entries:
            self.failed(entry.address, str(error) or repr(error))

    # -- both ------------------------------------------------------------------------------------

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            if self._source is not None:
                group.create_task(self._keep_up("discovery", self._source.run, self._source_broke_off))
            group.create_task(self._keep_up("checking", self.checks.run, None))

    async def _keep_up(self, what: str, run: Callable[[], Awaitable[None]], broke_off: Callable[[Exception], None] | None) -> None:
        """Neither ends by itself: one that does has a fault, would be missed by nobody, and must not take the other with it."""
        pause = AGAIN
        while True:
            began = monotonic()
            try:
                await run()
                error: Exception = RuntimeError("it has ended")
            except Exception as broken:
                error = broken
            self._host.context.log("error", f"{what} broke off, and is started anew", upstream=self._upstream, error=repr(error))
            if broke_off is not None:
                broke_off(error)
            if monotonic() - began > MOST_PAUSE:
                pause = AGAIN
            await asyncio.sleep(random.uniform(0.5, 1) * pause)
            pause = min(MOST_PAUSE, pause * 2)
