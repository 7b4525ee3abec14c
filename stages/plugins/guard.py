"""A deadline for code that a user wrote and that runs on the event loop of the stage.

An endless loop in a hook would stop all requests of the process, and after three
seconds of silence the supervisor would kill it. A timer signal (SIGALRM) breaks
the loop first: its handler runs between two bytecodes of the main thread and raises
there. It cannot break a loop inside a C function that never looks at signals; for
those the supervisor remains.

To set the timer is a system call (0.3 to 0.5 µs), twice for each hook if it were set and
cleared. So it is left to ring: a hook sets it only when it would not ring by the
time that the hook's is up, and when it rings sooner it is set to what is left. Thus
it rings once in the shortest `hold` of those that are called, exactly when a hook's time is up, and
once after the last.

Since the loop does not turn while a hook runs, hooks take turns: after `BUDGET`
seconds of them in one turn of the loop the rest waits for the next. And since
one of them may be long, the supervisor hears right before and right after each that
the process lives, unless it has just heard so: silence never adds up over several.

Whatever a user's code raises leaves `run` as an Exception: all that is none (SystemExit,
CancelledError, GeneratorExit …) means something to the event loop, to a task or to a generator of
ours, and the request that it came from would get no answer.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any, Final, NamedTuple, TypeVar

T = TypeVar("T")

LONGEST_STEP: Final = 2.5
"""Most seconds for which a hook may hold the loop: less than the silence that counts as death (bus/liveness.py)."""

USUAL: Final = 2.0
BUDGET: Final = 0.05
AGAIN: Final = 0.25
"""Seconds after which the signal comes again, should the hook have swallowed it."""

LIFE_SIGN: Final = 0.1
"""Seconds since the last sign of life after which another one is due before a hook is called. With `LONGEST_STEP` it stays
well under the silence that counts as death."""


class Bounds(NamedTuple):
    """What one call of a hook may take, in seconds."""

    hold: float
    """For each step of it that holds the loop; at most `LONGEST_STEP`."""
    whole: float
    """All in all, what it awaits included."""


class HookTimeout(BaseException):
    """Raised inside a hook whose time is up. Not an Exception: `except Exception` in a loop must not catch it."""


class HookFailed(Exception):
    """A hook ran out of time, or raised what is no Exception."""


def failure(error: BaseException) -> HookFailed:
    """What is no Exception, as one."""
    text = str(error)
    made = HookFailed(f"it raised {type(error).__name__}{': ' if text else ''}{text}")
    made.__cause__ = error  # mypyc drops the `from` of a `raise`
    return made


class HookGuard:
    """One for each process. Without `install` (no main thread, no event loop) it lets code run without a deadline."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._beat: Callable[[], None] | None = None
        self._beaten = 0.0
        self._is_installed = False
        self._before: Any = None
        self._is_armed = False
        """Guarded code is running, until `_until`."""
        self._until = 0.0
        self._rings = 0.0
        """Monotonic seconds at which the timer rings next; 0.0 when it is not set."""
        self._spent = 0.0
        self._has_turn = False
        self._waiting: list[asyncio.Future[bytes]] = []
        self.is_busy = False
        """Hooks have used up this turn of the loop: `await free()` before running another."""
        self.held = 0.0
        """Seconds for which guarded code has held the loop, since the start."""

    def install(self, loop: asyncio.AbstractEventLoop | None, beat: Callable[[], None] | None = None) -> None:
        """Takes SIGALRM. Does nothing outside the main thread, which alone may. beat: tells the supervisor that the process lives."""
        if threading.current_thread() is not threading.main_thread():
            return
        self._loop = loop
        self._beat = beat
        self._before = signal.signal(signal.SIGALRM, self._alarm)
        self._is_installed = True

    def uninstall(self) -> None:
        if self._is_installed:
            self._is_installed = False
            self._loop = self._beat = None
            self._set(0.0, 0.0)
            signal.signal(signal.SIGALRM, self._before)

    def _set(self, seconds: float, rings: float) -> None:
        """Sets the timer to ring in `seconds`, which is at `rings`; 0.0 for both clears it."""
        self._rings = rings
        signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN)

    def _alarm(self, number: int, frame: Any) -> None:
        if self._is_armed:
            left = self._until - monotonic()
            if left <= 0.0:
                raise HookTimeout  # the timer comes again, for a hook that swallows this
            self._set(left, self._until)
        elif self._rings:
            self._set(0.0, 0.0)
        elif callable(self._before):  # somebody else's timer
            self._before(number, frame)

    def run(self, seconds: float, call: Callable[..., T], *args: Any) -> T:
        """`call(*args)` with a deadline. Raises HookFailed when it passes, and for all that is no Exception."""
        if not self._is_installed or self._is_armed:
            try:
                return call(*args)
            except (Exception, HookTimeout):
                raise
            except BaseException as error:
                raise failure(error) from error
        began = monotonic()
        if began - self._beaten > LIFE_SIGN:
            self._live(began)
        until = self._until = began + seconds
        try:
            self._is_armed = True  # first: a timer that rings between these lines is set anew, not cleared
            try:
                if not began < self._rings <= until:
                    self._set(seconds, until)
                return call(*args)
            finally:
                self._is_armed = False
        except HookTimeout as late:
            raise HookFailed(f"it took longer than {seconds:g} s and was stopped") from late
        except Exception:
            raise
        except BaseException as error:
            raise failure(error) from error
        finally:
            self._is_armed = False
            now = monotonic()
            taken = now - began
            self.held += taken
            self._spent += taken
            if now - self._beaten > LIFE_SIGN:
                self._live(now)
            if not self._has_turn or self._spent > BUDGET:
                self._account()

    # -- taking turns ---------------------------------------------------------

    def _account(self) -> None:
        """What is due with the first hook of a turn of the loop, and when its time is used up."""
        loop = self._loop
        if loop is None:
            self._spent = 0.0
            return
        if self._spent > BUDGET and not self.is_busy:
            self.is_busy = True
            # A timer, not call_soon: timers that are due, and what sockets have brought, come first.
            loop.call_later(0.001, self._release)
        if not self._has_turn:
            self._has_turn = True
            loop.call_soon(self._turn_over)

    def _live(self, now: float) -> None:
        self._beaten = now
        if self._beat is not None:
            self._beat()

    def _turn_over(self) -> None:
        self._has_turn = False
        self._spent = 0.0

    def _release(self) -> None:
        self.is_busy = False
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(b"")

    def pause(self) -> asyncio.Future[bytes]:
        """Done when hooks may go on; its result is no bytes, so that a body's generator can give it out. Only while `is_busy`."""
        assert self._loop is not None, "nobody is busy without a loop"
        future = self._loop.create_future()
        self._waiting.append(future)
        return future

    async def free(self) -> None:
        """Waits until a hook may run."""
        while self.is_busy and self._loop is not None:
            await self.pause()
