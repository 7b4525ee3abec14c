"""The threads of one plugin, for work that would hold up the loop.

Each plugin has its own, so that one whose jobs are slow makes nobody else wait. The
queue before them is bounded: what cannot be done in time is better told so at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, Final

from pingap.stages.plugins.driving import CURRENT, Driven
from pingap.stages.plugins.exchange import Overloaded
from pingap.stages.plugins.guard import failure

USUAL_THREADS: Final = 8
MOST_THREADS: Final = 256

WAITING: Final = 16
"""Jobs that may wait, for each thread."""


class Job(asyncio.Future[Any]):
    """The result of a call in a thread. While it waits for a thread the clock of the hook that asked for it stands still."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self.is_begun = False
        self.timer: asyncio.TimerHandle | None = None
        self._paused: list[Driven[Any]] = []

    def pause(self, hook: Driven[Any]) -> None:
        """Stops the clock of `hook` until this begins."""
        if not self.is_begun and not self.done() and hook not in self._paused:
            self._paused.append(hook)
            hook.pause()

    def begin(self) -> None:
        """It waits no longer: it has a thread, or never will."""
        self.is_begun = True
        if self.timer is not None:
            self.timer.cancel()
        for hook in self._paused:
            hook.resume()
        self._paused.clear()


class Threads:
    """Started when first needed. All but the jobs themselves happens on the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str, count: int, waits: float | None) -> None:
        """waits: most seconds that a job waits for a thread; None for plugins of ours, whose jobs wait as long as it takes,
        for they are bounded by the bodies that they belong to."""
        self._loop = loop
        self._name = name
        self._count = count
        self._waits = waits
        self._pool: ThreadPoolExecutor | None = None
        self._open = 0
        """Jobs that wait or are at work."""

    def run(self, call: Callable[..., Any], *args: Any) -> Job:
        """Raises Overloaded when too many jobs wait already."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._count, f"plugin {self._name}")
        job = Job(self._loop)
        if self._waits is not None and self._open >= self._count:
            if self._open >= self._count * (1 + WAITING):
                raise Overloaded(f"{self._open - self._count} jobs wait for the {self._count} threads of the plugin")
            job.timer = self._loop.call_later(self._waits, self._shed, job)
        hook = CURRENT.get()
        if hook is not None:
            job.pause(hook)
        self._pool.submit(self._work, job, partial(call, *args))
        self._open += 1
        job.add_done_callback(Job.begin)
        return job

    def stop(self) -> None:
        """What waits is not done any more; what is at work is not waited for."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None

    def _shed(self, job: Job) -> None:
        if not job.is_begun and not job.done():
            job.set_exception(Overloaded(f"no thread of the plugin was free within {self._waits:g} s"))
            job.exception()  # whoever has left meanwhile need not hear of it

    # -- in the thread ---------------------------------------------------------------

    def _work(self, job: Job, call: Callable[[], Any]) -> None:
        result: Any = None
        error: Exception | None = None
        self._tell(job.begin)
        if not job.done():
            try:
                result = call()
            except StopIteration as stop:  # no future takes this one
                error = RuntimeError(f"it raised StopIteration: {stop}")
                error.__cause__ = stop
            except Exception as problem:
                error = problem
            except BaseException as problem:  # in a task some of these would end the loop
                error = failure(problem)
                error.__cause__ = problem
        self._tell(self._done, job, result, error)

    def _tell(self, call: Callable[..., Any], *args: Any) -> None:
        with suppress(RuntimeError):  # the loop has ended meanwhile
            self._loop.call_soon_threadsafe(call, *args)

    def _done(self, job: Job, result: Any, error: Exception | None) -> None:
        self._open -= 1
        if job.done():
            return
        if error is not None:
            job.set_exception(error)
        else:
            job.set_result(result)
