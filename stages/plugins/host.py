"""What plugins may ask of the stage."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from bus.actor import Context
from stages.plugins.api import Claimed
from stages.plugins.claims import Claims
from stages.plugins.exchange import Exchange

_THREADS: Final = 2


class Workers:
    """Threads for work that would hold up the loop; started when first needed."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None

    def run(self, loop: asyncio.AbstractEventLoop, call: Callable[..., Any], *args: Any) -> Awaitable[Any]:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_THREADS, "plugins")
        return loop.run_in_executor(self._pool, call, *args)

    def stop(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None


class StageHost:
    """The `Host` of one plugin."""

    def __init__(self, name: str, context: Context, claims: Claims, workers: Workers) -> None:
        self.name = name
        self.loop = context.loop
        self.claim: Callable[[Exchange, str, tuple[Any, ...]], Claimed | Awaitable[Claimed]] = claims.claim
        self._context = context
        self._workers = workers

    def log(self, level: str, message: str, **fields: Any) -> None:
        self._context.log(level, message, **{"plugin": self.name, **fields})

    def count(self, name: str, delta: float = 1, **labels: str) -> None:
        self._context.count(name, delta, **labels)

    def in_thread(self, call: Callable[..., Any], *args: Any) -> Awaitable[Any]:
        return self._workers.run(self.loop, call, *args)
