"""What plugins may ask of the stage."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, NamedTuple

from pingap.bus.actor import Context
from pingap.stages.caching.cache_rules import CacheRules
from pingap.stages.header_view import Pairs
from pingap.stages.leases import Verdict
from pingap.stages.outside import BY_SCHEME
from pingap.stages.plugins.api import FETCH_SECONDS, JOB_SECONDS
from pingap.stages.plugins.cache.caches import Caches
from pingap.stages.plugins.cache.machine import Caching
from pingap.stages.plugins.claims import PluginClaims
from pingap.stages.plugins.endings import Endings
from pingap.stages.plugins.exchange import Exchange
from pingap.stages.plugins.fetch import LARGEST, FetchAnswer, Fetches
from pingap.stages.plugins.fields import Url
from pingap.stages.plugins.figures import FiguresAsked, RequestFigures
from pingap.stages.plugins.guard import USUAL, Bounds
from pingap.stages.plugins.processes import JobProcesses
from pingap.stages.plugins.threads import Threads

PROCESSES: Final = "processes"
"""File in the instance's directory: `[supervisor] pid start-time` of each process (pingap/instance_dir.py writes it)."""

_PLAIN: Final = (str, int, float, bool, type(None))


class HostParts(NamedTuple):
    """What all plugins of a process use."""

    claims: PluginClaims
    endings: Endings
    fetches: Fetches
    processes: JobProcesses
    figures: FiguresAsked
    caches: Caches


class StageHost:
    """The `Host` of one plugin."""

    def __init__(self, name: str, context: Context, shared: HostParts, threads: int, bounds: Bounds | None) -> None:
        """threads: see threads.py. bounds: of a user's plugin."""
        self.name = name
        self.loop = context.loop
        self.claim: Callable[[Exchange, str, tuple[Any, ...]], Verdict | Awaitable[Verdict]] = shared.claims.claim
        self._context = context
        self._shared = shared
        self._hold = USUAL if bounds is None else bounds.hold
        self._cachings: list[Caching] = []
        self._threads = Threads(context.loop, name, threads, None if bounds is None else bounds.whole)

    def log(self, level: str, message: str, **fields: Any) -> None:
        # A record or a count with something in it that cannot travel would be lost, with the stage's other counts.
        plain = {key: value if type(value) in _PLAIN else str(value) for key, value in fields.items()}
        self._context.log(str(level), str(message), **{"plugin": self.name, **plain})

    def count(self, name: str, delta: int | float = 1, **labels: str) -> None:
        number = delta if type(delta) in (int, float) else float(delta)
        self._context.count(str(name), number, **{key: str(value) for key, value in labels.items()})

    def when_done(self, exchange: Exchange, call: Callable[[], None]) -> None:
        self._shared.endings.watch(self.name, self._hold, exchange, call)

    def in_thread(self, call: Callable[..., Any], *args: Any) -> Awaitable[Any]:
        return self._threads.run(call, *args)

    def in_process(self, call: Callable[..., Any], *args: Any, timeout: float = JOB_SECONDS) -> Awaitable[Any]:
        return self._shared.processes.run(call, *args, timeout=timeout)

    async def fetch(
        self,
        upstream: str,
        method: str,
        target: str,
        headers: Pairs = (),
        body: str | bytes = b"",
        timeout: float = FETCH_SECONDS,
        limit: int = LARGEST,
    ) -> FetchAnswer:
        return await self._shared.fetches.fetch(self.name, upstream, method, target, headers, body, timeout, limit)

    async def fetch_url(
        self,
        url: Url,
        method: str = "GET",
        headers: Pairs = (),
        body: str | bytes = b"",
        timeout: float = FETCH_SECONDS,
        limit: int = LARGEST,
    ) -> FetchAnswer:
        upstream = url.upstream or BY_SCHEME[url.scheme]
        return await self._shared.fetches.fetch(self.name, upstream, method, url.target, headers, body, timeout, limit, url.authority)

    async def figures(self, location: str = "") -> RequestFigures:
        return await self._shared.figures.ask(location)

    def caching(self, rules: CacheRules) -> Caching:
        caching = self._shared.caches.open(self.name, rules)
        self._cachings.append(caching)
        return caching

    def processes(self) -> list[int]:
        try:
            with open(os.path.join(self._context.run_dir, PROCESSES), encoding="ascii") as file:
                known = [int(line.split()[-2]) for line in file]
        except (OSError, ValueError, IndexError):
            return [os.getpid()]
        for pid in known.copy():  # the children of the spawner, that is: it forks those of `in_process`, too
            with suppress(OSError), open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
                known += map(int, file.read().split())
        return list(dict.fromkeys(known))

    def close(self) -> None:
        """Nobody has the plugin any more."""
        self._threads.stop()
        while self._cachings:
            self._shared.caches.close(self._cachings.pop())
