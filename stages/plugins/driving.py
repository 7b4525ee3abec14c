"""What a user's hook awaits: driven step by step, with a deadline, and let go without harm to what it awaits.

A task that is cancelled cancels what it awaits. For a hook that would be wrong: when its client
leaves, or its time is up, it may be awaiting a task that the hooks of other requests await too
(a token that is being fetched, a cache that is being filled), and each of them would fail, now and ever after. So
between the hook and what it awaits there is a `_Link`. Cancelling that takes the hook off what it awaited, and
raises CancelledError in the hook; what was awaited goes on. Only what the hook cancels itself is cancelled
(`asyncio.timeout` and `wait_for` work as everywhere).

A hook that was let go has `GRACE` seconds to clean up. Then it is closed, and if it does not even take
that, forgotten.
"""

from __future__ import annotations

import asyncio
import atexit
import inspect
import types
from collections.abc import Awaitable, Callable, Generator
from contextvars import ContextVar, copy_context
from time import monotonic
from typing import Any, Final, Generic, TypeVar

from pingap.stages.plugins.guard import Bounds, HookFailed, HookGuard

T = TypeVar("T")

GRACE: Final = 2.0
"""Seconds for the `finally` and `except CancelledError` of a hook whose request has ended."""

QUEUED_LOOK: Final = 0.1
"""Seconds between two looks at the time of a hook whose clock stands still."""

_keeps: Final[set[Driven[Any]]] = set()
"""Hooks that were let go: the loop holds its tasks weakly."""

CURRENT: Final[ContextVar[Driven[Any] | None]] = ContextVar("pingap_hook", default=None)
"""The hook that runs, for whom it asks something of: also in tasks that it made."""


class _Link(asyncio.Future[None]):
    """Stands between a hook's task and what it awaits."""

    def __init__(self, awaited: Any, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self._awaited = awaited
        awaited.add_done_callback(self._settled)

    def _settled(self, awaited: Any) -> None:
        # Only a wake-up: the hook takes result, exception or cancellation from what it awaited itself.
        if not self.done():
            self.set_result(None)

    def cancel(self, msg: Any | None = None) -> bool:
        """The hook's own doing (a time-out that it set): as if there were no link."""
        return bool(self._awaited.cancel(msg=msg))

    def let_go(self) -> None:
        """Raises CancelledError in the hook; what it awaited goes on."""
        self._awaited.remove_done_callback(self._settled)
        super().cancel()


class Driven(Generic[T]):
    """One call of a hook that awaits."""

    __slots__ = (
        "_began",
        "_bounds",
        "_coroutine",
        "_guard",
        "_held",
        "_is_let_go",
        "_is_over",
        "_is_told",
        "_late",
        "_link",
        "_own",
        "_paused",
        "_paused_at",
        "_pauses",
        "_task",
        "_timer",
    )

    def __init__(
        self, guard: HookGuard, bounds: Bounds, waits: Awaitable[T], late: Callable[[BaseException], None] = lambda error: None
    ) -> None:
        """late: told what goes wrong when nobody waits for the result any more."""
        self._guard = guard
        self._bounds = bounds
        self._coroutine: Any = waits if inspect.iscoroutine(waits) else _awaited(waits)
        self._late = late
        self._task: asyncio.Task[T] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._link: _Link | None = None
        self._is_let_go = False
        self._is_told = False
        """The hook knows that it was let go."""
        self._is_over = False
        """Its grace is over, too."""
        self._began = self._held = self._own = self._paused = self._paused_at = 0.0
        self._pauses = 0

    async def result(self) -> T:
        """To be awaited once. Raises what the hook raises, and HookFailed when its time is up or for what is no Exception.

        Whoever is cancelled while awaiting this lets the hook go.
        """
        context = copy_context()
        context.run(CURRENT.set, self)
        self._began = monotonic()
        self._held = self._guard.held
        loop = asyncio.get_running_loop()
        task = self._task = loop.create_task(self._run(), context=context)
        try:
            while True:
                left = self._left()
                if left <= 0:
                    raise HookFailed(f"it took longer than {self._bounds.whole:g} s and was stopped")
                done, _ = await asyncio.wait((task,), timeout=max(left, QUEUED_LOOK) if self._pauses else left)
                if done:
                    if task.cancelled():  # before it began: somebody cancels all tasks that there are
                        raise HookFailed("its task was cancelled")
                    return task.result()
        finally:
            if not task.done():
                self._let_go(loop)

    # -- its time -----------------------------------------------------------------

    def _left(self) -> float:
        """Seconds. Neither what others have held the loop for counts, nor what it was queued for."""
        now = monotonic()
        others = self._guard.held - self._held - self._own
        paused = self._paused + (now - self._paused_at if self._pauses else 0.0)
        return self._bounds.whole - (now - self._began - others - paused)

    def pause(self) -> None:
        """Its clock stands still until as many `resume`."""
        if not self._pauses:
            self._paused_at = monotonic()
        self._pauses += 1

    def resume(self) -> None:
        self._pauses -= 1
        if not self._pauses:
            self._paused += monotonic() - self._paused_at

    # -- letting go ---------------------------------------------------------------

    def _let_go(self, loop: asyncio.AbstractEventLoop) -> None:
        assert self._task is not None
        self._is_let_go = True
        _keeps.add(self)
        self._task.add_done_callback(self._gone)
        self._timer = loop.call_later(GRACE, self._end)
        self._wake()

    def _wake(self) -> None:
        if self._link is not None and not self._link.done():
            self._link.let_go()

    def _end(self) -> None:
        self._is_over = True
        self._wake()

    def _gone(self, task: asyncio.Task[T]) -> None:
        _keeps.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error.__cause__, asyncio.CancelledError):
            self._late(error)

    # -- driving ------------------------------------------------------------------

    async def _run(self) -> T:
        result: T = await self._steps()
        return result

    @types.coroutine
    def _steps(self) -> Generator[Any, Any, Any]:
        guard, coroutine, hold = self._guard, self._coroutine, self._bounds.hold
        error: BaseException | None = None
        while True:
            if guard.is_busy:
                try:
                    yield from guard.free().__await__()
                except GeneratorExit:
                    raise
                except BaseException as thrown:
                    error = thrown  # the hook's own time-out: it is for the hook
            if self._is_let_go and not self._is_told:
                self._is_told = True
                error = error or asyncio.CancelledError()
            before = guard.held
            try:
                if self._is_over:
                    self._close()
                    return None
                step, given = (coroutine.send, None) if error is None else (coroutine.throw, error)
                error = None
                yielded = guard.run(hold, step, given)
            except StopIteration as stop:
                return stop.value
            finally:
                self._own += guard.held - before
            try:
                yield self._linked(yielded)
            except GeneratorExit:  # the loop is being closed
                self._close()
                raise
            except BaseException as thrown:
                error = thrown
            self._link = None

    def _close(self) -> None:
        try:
            self._guard.run(self._bounds.hold, self._coroutine.close)
        except Exception as error:  # above all RuntimeError: "coroutine ignored GeneratorExit"
            _forgotten.append(self._coroutine)
            del _forgotten[:-_MOST_FORGOTTEN]
            raise HookFailed("it does not end though its request has") from error

    def _linked(self, yielded: Any) -> Any:
        """What the task awaits in place of `yielded`. Whatever cannot be awaited is left to the task, which says so."""
        task = self._task
        assert task is not None
        if getattr(yielded, "_asyncio_future_blocking", None) is not True or yielded is task or yielded.get_loop() is not task.get_loop():
            return yielded
        yielded._asyncio_future_blocking = False
        link = self._link = _Link(yielded, task.get_loop())
        link._asyncio_future_blocking = True
        if (queued := getattr(yielded, "pause", None)) is not None:
            queued(self)
        return link


_MOST_FORGOTTEN: Final = 64
_forgotten: Final[list[Any]] = []
"""The latest of those that did not take their end. Python would try once more when it collects them, and say so on stderr."""


@atexit.register
def _leave() -> None:
    """Those are not collected when the process ends either: without a loop, what they await raises, and what takes it goes on for ever."""
    if _forgotten:
        import ctypes

        for coroutine in _forgotten:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(coroutine))


async def _awaited(waits: Awaitable[T]) -> T:
    return await waits
