"""A deadline for code that a user wrote and that runs on the event loop of the stage.

An endless loop in a hook would stop all requests of the process, and after three
seconds of silence the supervisor would kill it. A timer signal (SIGALRM) breaks
the loop first: its handler runs between two bytecodes of the main thread and raises
there. It cannot break a loop inside a C function that never looks at signals; for
those the supervisor remains.

Since the loop does not turn while a hook runs, hooks take turns: after `BUDGET`
seconds of them in one turn of the loop the rest waits until heartbeats were sent.
"""

from __future__ import annotations

import asyncio
import inspect
import signal
import threading
import types
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any, Final, TypeVar

from stages.plugins.exchange import Exchange, Hook, HookError, Transformer

T = TypeVar("T")

LONGEST: Final = 2.5
"""Most seconds for a hook: less than the silence that counts as death (bus/liveness.py) by one heartbeat."""

USUAL: Final = 2.0
BUDGET: Final = 0.05
AGAIN: Final = 0.25
"""Seconds after which the signal comes again, should the hook have swallowed it."""


class HookTimeout(BaseException):
    """Raised inside a hook whose time is up. Not an Exception: `except Exception` in a loop must not catch it."""


class HookFailed(Exception):
    """A hook ran out of time, or tried to end the process."""


class Guard:
    """One for each process. Without `install` (no main thread, no event loop) it lets code run without a deadline."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_installed = False
        self._before: Any = None
        self._is_armed = False
        self._spent = 0.0
        self._has_turn = False
        self._waiting: list[asyncio.Future[None]] = []
        self.is_busy = False
        """Hooks have used up this turn of the loop: `await free()` before running another."""

    def install(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Takes SIGALRM. Does nothing outside the main thread, which alone may."""
        if threading.current_thread() is not threading.main_thread():
            return
        self._loop = loop
        self._before = signal.signal(signal.SIGALRM, self._alarm)
        self._is_installed = True

    def uninstall(self) -> None:
        if self._is_installed:
            self._is_installed = False
            self._loop = None
            signal.signal(signal.SIGALRM, self._before)

    def _alarm(self, number: int, frame: Any) -> None:
        if self._is_armed:
            raise HookTimeout
        if callable(self._before):  # somebody else's timer
            self._before(number, frame)

    def run(self, seconds: float, call: Callable[..., T], *args: Any) -> T:
        """`call(*args)` with a deadline. Raises HookFailed when it passes, and for SystemExit."""
        if not self._is_installed or self._is_armed:
            return call(*args)
        began = monotonic()
        before = signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN)
        try:
            self._is_armed = True
            try:
                return call(*args)
            finally:
                self._is_armed = False
        except HookTimeout as error:
            raise HookFailed(f"it took longer than {seconds:g} s and was stopped") from error
        except (SystemExit, KeyboardInterrupt) as error:
            raise HookFailed(f"it raised {type(error).__name__}") from error
        finally:
            self._is_armed = False
            signal.setitimer(signal.ITIMER_REAL, *before)
            self._account(monotonic() - began)

    # -- taking turns ---------------------------------------------------------

    def _account(self, seconds: float) -> None:
        if self._loop is None:
            return
        self._spent += seconds
        if self._spent > BUDGET and not self.is_busy:
            self.is_busy = True
            # A timer, not call_soon: timers that are due, heartbeats among them, come first.
            self._loop.call_later(0.001, self._release)
        if not self._has_turn:
            self._has_turn = True
            self._loop.call_soon(self._turn_over)

    def _turn_over(self) -> None:
        self._has_turn = False
        self._spent = 0.0

    def _release(self) -> None:
        self.is_busy = False
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def free(self) -> None:
        """Waits until a hook may run."""
        while self.is_busy and self._loop is not None:
            future = self._loop.create_future()
            self._waiting.append(future)
            await future

    # -- what is guarded -------------------------------------------------------

    def hook(self, name: str, hook: Hook, seconds: float) -> Hook:
        """The same hook of the plugin `name` with a deadline, also for what it awaits and for the bodies it asks for."""

        def wrap(stage: Any) -> Any:
            if isinstance(stage, Transformer):
                return GuardedTransformer(self, name, seconds, stage)
            collect, limit, bypass = stage
            return (self._callable(name, collect, seconds), limit, bypass)

        def guarded(exchange: Exchange) -> Any:
            exchange._wrap = wrap
            try:
                result = self.run(seconds, hook, exchange)
            except BaseException:
                exchange._wrap = None
                raise
            if isinstance(result, Awaitable):
                return self._unwrapped(exchange, self.step(result, seconds))
            exchange._wrap = None
            return result

        return guarded

    @staticmethod
    async def _unwrapped(exchange: Exchange, result: Awaitable[T]) -> T:
        try:
            return await result
        finally:
            exchange._wrap = None

    def _callable(self, name: str, call: Callable[..., Any], seconds: float) -> Callable[..., Any]:
        def guarded(*args: Any) -> Any:
            with owned(name):
                result = self.run(seconds, call, *args)
            return self._owned(name, self.step(result, seconds)) if isinstance(result, Awaitable) else result

        return guarded

    @staticmethod
    async def _owned(name: str, waits: Awaitable[T]) -> T:
        with owned(name):
            return await waits

    async def step(self, waits: Awaitable[T], seconds: float) -> T:
        """Awaits with a deadline over all, and one over each of the steps that hold up the loop."""
        coroutine = _coroutine(waits)
        task: asyncio.Task[T] = asyncio.ensure_future(self._drive(coroutine, seconds))
        try:
            # Not wait_for: that one waits for a task that ignores its cancellation.
            done, _ = await asyncio.wait({task}, timeout=seconds)
        finally:
            task.cancel()
        if not done:
            raise HookFailed(f"it took longer than {seconds:g} s and was stopped")
        return task.result()

    async def _drive(self, coroutine: Any, seconds: float) -> Any:
        return await self._steps(coroutine, seconds)

    @types.coroutine
    def _steps(self, coroutine: Any, seconds: float) -> Generator[Any, Any, Any]:
        value: Any = None
        error: BaseException | None = None
        while True:
            if self.is_busy:
                yield from self.free().__await__()
            try:
                step, given = (coroutine.send, value) if error is None else (coroutine.throw, error)
                yielded = self.run(seconds, step, given)
            except StopIteration as stop:
                return stop.value
            error = None
            try:
                value = yield yielded
            except BaseException as thrown:
                error = thrown


async def _awaited(waits: Awaitable[T]) -> T:
    return await waits


def _coroutine(waits: Awaitable[Any]) -> Any:
    return waits if inspect.iscoroutine(waits) else _awaited(waits)


_END: Final = object()


@contextmanager
def owned(name: str) -> Iterator[None]:
    """Says whose code it was that failed."""
    try:
        yield
    except Exception as error:
        raise HookError(name) from error


class GuardedTransformer(Transformer):
    """A user's transformer, each call of which has the deadline of its plugin."""

    def __init__(self, guard: Guard, name: str, seconds: float, inner: Transformer) -> None:
        self._guard = guard
        self._name = name
        self._seconds = seconds
        self._inner = inner

    def feed(self, data: bytes, ended: bool) -> Any:
        with owned(self._name):
            result = self._guard.run(self._seconds, self._inner.feed, data, ended)
        if type(result) is bytes:
            return result
        if isinstance(result, Awaitable):
            return self._guard._owned(self._name, self._guard.step(result, self._seconds))
        if isinstance(result, Iterator):
            return self._pieces(result)
        return result

    def flush(self) -> bytes:
        with owned(self._name):
            return self._guard.run(self._seconds, self._inner.flush)

    def _pieces(self, iterator: Iterator[bytes]) -> Iterator[bytes]:
        while True:
            with owned(self._name):
                piece: Any = self._guard.run(self._seconds, next, iterator, _END)
            if piece is _END:
                return
            yield piece
