"""Runs the hooks of a chain one after the other: at once as far as they answer at once, else in a task."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any, Final

from pingap.stages.plugins.chain import Hooks
from pingap.stages.plugins.exchange import CONTINUE, SKIP, Exchange, HookError, Reply
from pingap.stages.plugins.guard import HookGuard
from pingap.stages.plugins.pieces import OwnedBody, Pieces

WANTS_BODY: Final = object()
"""A hook wants the whole request body before the next hook runs."""

TURN: Final = object()
"""The code of another plugin has begun and not ended: the next hook has to wait for its turn."""


def run(hooks: Hooks, exchange: Exchange, at: int, guard: HookGuard | None) -> tuple[int, Any]:
    """Runs hooks from number `at` on. Raises HookError.

    Returns how many have been called, and None when that was all, or a Reply, or what has to be awaited, or WANTS_BODY, or TURN.
    guard: given when some of the hooks are a user's, which take turns.
    """
    calls, meters = hooks.calls, hooks.meters
    count = len(calls)
    since = monotonic()
    try:
        while at < count:
            if guard is not None and guard.is_busy:
                return at, TURN
            result = calls[at](exchange)
            now = monotonic()
            meter = meters[at]
            meter.calls += 1
            meter.add(exchange, now - since)
            since = now
            if result is CONTINUE or result is None or result is SKIP:
                at += 1
                if exchange._wants_body:
                    return at, WANTS_BODY
                continue
            if isinstance(result, Reply):
                return at + 1, _owned(result, hooks, at)
            if isinstance(result, Awaitable):
                return at + 1, result
            raise _wrong(result)
    except BaseException as error:  # nothing is cancelled in here, so none of it may pass
        raise HookError(hooks.owners[at].name, error) from error
    return at, None


async def run_on(
    hooks: Hooks, exchange: Exchange, at: int, waits: Any, guard: HookGuard | None, prepare: Callable[[], Awaitable[None]] | None = None
) -> Reply | None:
    """As `run`, awaiting what has to be awaited: `waits` first, unless it is None. prepare: called for WANTS_BODY."""
    while True:
        if waits is None:
            at, waits = run(hooks, exchange, at, guard)
        if waits is None or isinstance(waits, Reply):
            return waits
        if waits is TURN:
            if guard is not None:
                await guard.free()
        elif waits is not WANTS_BODY:
            since = monotonic()
            try:
                result = await waits
                if result is not CONTINUE and result is not SKIP and result is not None and not isinstance(result, Reply):
                    raise _wrong(result)
            except Exception as error:
                raise HookError(hooks.owners[max(0, at - 1)].name, error) from error
            finally:
                hooks.meters[max(0, at - 1)].add(exchange, monotonic() - since)
            if isinstance(result, Reply):
                return _owned(result, hooks, max(0, at - 1))
        if exchange._wants_body and prepare is not None:
            exchange._wants_body = False
            await prepare()
        waits = None


def _owned(reply: Reply, hooks: Hooks, at: int) -> Reply:
    """What fails in a body that comes later is told with the name of its plugin. at: number of the hook that made it."""
    body: Any = reply.body
    if type(body) is bytes or isinstance(body, Pieces):
        return reply
    owned: Any = OwnedBody(hooks.owners[at].name, body)
    return reply._replace(body=owned)


def _wrong(result: Any) -> TypeError:
    return TypeError(f"a hook returns CONTINUE, SKIP, None or a reply, not {type(result).__name__}")
