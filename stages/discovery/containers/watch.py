"""One Docker host under watch, for all upstreams that ask for its containers."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol, TypeVar

from pingap.stages.discovery.containers.engine import Engine, EngineFailed
from pingap.stages.discovery.containers.listing import Listing

GATHER: Final = 0.3
"""Seconds after an event until the list is asked for: what belongs together comes in several, as when ten containers are started."""

AGAIN: Final = 0.5
"""Seconds after a failure; doubled each time, up to MOST_PAUSE, each less by up to a half."""

MOST_PAUSE: Final = 15.0

FRESH: Final = 5.0
"""Seconds for which a list is good enough for who wants one out of turn."""

LONGEST: Final = 45.0
"""Seconds after which a call that has not ended is interrupted: more than its own time-outs allow for, unless somebody means harm."""


T = TypeVar("T")


class EngineEar(Protocol):
    """Who wants to know what runs on a host."""

    frequency: float
    """Seconds after which a new list is due though there was no event."""

    def listed(self, listing: Listing) -> None:
        """All that runs now; the same as before, perhaps."""

    def unlisted(self, reason: str) -> None:
        """That could not be found out; it is tried again without end."""


class EngineApi(Protocol):
    """What a watch needs of an engine: see engine.py."""

    def interrupt(self) -> None: ...
    def listing(self) -> Listing: ...
    def follow(self, heard: Callable[[], None]) -> None: ...
    def close(self) -> None: ...


class EngineWatches:
    """The Docker hosts under watch, each as long as somebody listens."""

    def __init__(self, loop: asyncio.AbstractEventLoop, make: Callable[[str], EngineApi] = Engine) -> None:
        self._loop = loop
        self._make = make
        self._watches: dict[str, _EngineWatch] = {}
        """By docker_host."""

    async def hear(self, docker_host: str, ear: EngineEar) -> None:
        """`ear` hears of that host, at first what is known already, until this is cancelled. An exception is a fault of ours."""
        watch = self._watches.get(docker_host)
        if watch is None:
            watch = self._watches[docker_host] = _EngineWatch(self._loop, lambda: self._make(docker_host))
        watch.join(ear)
        try:
            await watch.broken()
        finally:
            if not watch.leave(ear):
                del self._watches[docker_host]
                watch.stop()

    def hurry(self, docker_host: str) -> None:
        """A new list is wanted: what ran by the last one does not answer."""
        if (watch := self._watches.get(docker_host)) is not None:
            watch.hurry()


class _EngineWatch:
    """The list anew at each event, when events can come (again), and from time to time whatever becomes of those."""

    def __init__(self, loop: asyncio.AbstractEventLoop, make: Callable[[], EngineApi]) -> None:
        self._loop = loop
        self._make = make
        self._ears: list[EngineEar] = []
        self._last: Listing | EngineFailed | None = None
        self._listed_at = 0.0
        """By the loop's clock, when the last one was asked for."""
        self._has_news = asyncio.Event()
        self._is_back = asyncio.Event()
        """After failures: whoever waits until it tries again need not."""
        self._lists = _Calls(loop, make, "containers of Docker")
        self._follows = _Calls(loop, make, "events of Docker")
        self._tasks = [loop.create_task(self._keep_listing()), loop.create_task(self._keep_following())]

    def join(self, ear: EngineEar) -> None:
        if self._ears and ear.frequency < min(other.frequency for other in self._ears):
            self._has_news.set()  # the pause under way is longer than it wants
        self._ears.append(ear)
        self._tell(ear)

    def leave(self, ear: EngineEar) -> bool:
        """Whether there are others."""
        self._ears.remove(ear)
        return bool(self._ears)

    def hurry(self) -> None:
        if isinstance(self._last, Listing) and self._loop.time() - self._listed_at > FRESH:
            self._has_news.set()

    async def broken(self) -> None:
        """Raises what has ended this watch, which nothing should."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            await task

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._lists.stop()
        self._follows.stop()

    def _tell(self, ear: EngineEar) -> None:
        if isinstance(self._last, Listing):
            ear.listed(self._last)
        elif self._last is not None:
            ear.unlisted(str(self._last))

    async def _keep_listing(self) -> None:
        pause = AGAIN
        while True:
            self._has_news.clear()
            self._listed_at = self._loop.time()
            try:
                self._last = await self._lists.call(lambda engine: engine.listing(), LONGEST)
            except EngineFailed as error:
                self._last = error
            for ear in list(self._ears):
                self._tell(ear)
            if isinstance(self._last, Listing):
                if pause > AGAIN:
                    self._is_back.set()
                wait, pause = min(ear.frequency for ear in self._ears), AGAIN
            else:
                wait, pause = random.uniform(0.5, 1) * pause, min(MOST_PAUSE, pause * 2)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._has_news.wait()
                await asyncio.sleep(GATHER)

    async def _keep_following(self) -> None:
        """Events are a reason to look, and so is that they have begun or ended: what they say does not matter."""
        pause, has_failed = AGAIN, False
        while True:
            began = self._loop.time()
            self._is_back.clear()
            try:
                await self._follows.call(lambda engine: engine.follow(self._heard), None)
            except EngineFailed:  # who lists meets the same, and tells it
                if not has_failed:
                    self._has_news.set()
                has_failed = True
            else:
                self._has_news.set()
                has_failed = False
            if self._loop.time() - began > pause:  # else it cannot be asked, or gives up again and again
                pause = AGAIN
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(random.uniform(0.5, 1) * pause):
                    await self._is_back.wait()
            pause = min(MOST_PAUSE, pause * 2)

    def _heard(self) -> None:
        """In a thread."""
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._has_news.set)


class _Calls:
    """Calls of one kind, one at a time, each in a thread that ends with it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, make: Callable[[], EngineApi], name: str) -> None:
        self._loop = loop
        self._make = make
        self._name = name
        self._engine: EngineApi | None = None
        self._has_thread = False
        self._is_over = False

    async def call(self, what: Callable[[EngineApi], T], seconds: float | None) -> T:
        """Raises EngineFailed, after so many seconds at the latest; the next call is with another engine then."""
        if self._has_thread:
            raise EngineFailed(f"no answer since {LONGEST:g} s and more")
        engine = self._engine = self._engine or self._make()
        answer: asyncio.Future[T] = self._loop.create_future()
        self._has_thread = True
        # A daemon: the process must be able to end while it waits.
        threading.Thread(target=self._run, args=(engine, what, answer), name=self._name, daemon=True).start()
        try:
            async with asyncio.timeout(seconds):
                return await answer
        except TimeoutError:
            engine.interrupt()
            raise EngineFailed(f"no answer within {seconds:g} s") from None

    def stop(self) -> None:
        self._is_over = True
        if self._engine is not None:
            self._engine.interrupt()
            if not self._has_thread:
                self._engine.close()

    def _run(self, engine: EngineApi, what: Callable[[EngineApi], T], answer: asyncio.Future[T]) -> None:
        """In a thread."""
        try:
            found = what(engine)
        except EngineFailed as error:
            settle = partial(answer.set_exception, error)
        except Exception as broken:
            settle = partial(answer.set_exception, EngineFailed(f"{type(broken).__name__}: {broken}"))
        else:
            settle = partial(answer.set_result, found)
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._ended, engine, answer, settle)

    def _ended(self, engine: EngineApi, answer: asyncio.Future[T], settle: Callable[[], None]) -> None:
        self._has_thread = False
        has_listener = not answer.done()
        if has_listener:
            settle()
        if self._is_over or not has_listener or answer.exception() is not None:
            engine.close()
            self._engine = None
