"""One upstream under watch: its backends are checked (rounds.py), and its source finds new ones."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from pingap.config.parts import Backend
from pingap.stages.discovery.plan import Plan
from pingap.stages.discovery.rounds import CheckRounds, WatchHost
from pingap.stages.discovery.words import Resolved, SourceFailed

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

    # -- both ------------------------------------------------------------------------------------

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            if self._source is not None:
                group.create_task(self._ask_source(self._source))
            group.create_task(self.checks.run())
