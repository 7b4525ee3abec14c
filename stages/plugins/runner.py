"""Runs the hooks of a chain one after the other: at once as far as they answer at once, else in a task."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from stages.plugins.chain import Hooks
from stages.plugins.exchange import CONTINUE, SKIP, Exchange, HookError, Reply
from stages.plugins.guard import Guard


def run(hooks: Hooks, exchange: Exchange, at: int, guard: Guard | None) -> tuple[int, Any]:
    """Runs hooks from number `at` on. Raises HookError.

    Returns how many have been called, and None when that was all, or a Reply, or what has to be awaited. guard: given
    when some of the hooks are a user's, which take turns.
    """
    calls = hooks.calls
    count = len(calls)
    try:
        while at < count:
            if guard is not None and guard.is_busy:
                return at, guard.free()
            result = calls[at](exchange)
            if result is CONTINUE or result is None or result is SKIP:
                at += 1
                continue
            if isinstance(result, Reply | Awaitable):
                return at + 1, result
            raise _wrong(result)
    except Exception as error:
        raise HookError(hooks.owners[at].name) from error
    return at, None


async def run_on(hooks: Hooks, exchange: Exchange, at: int, waits: Any, guard: Guard | None) -> Reply | None:
    """As `run`, awaiting what has to be awaited: `waits` first, unless it is None."""
    while True:
        if waits is None:
            at, waits = run(hooks, exchange, at, guard)
        if waits is None or isinstance(waits, Reply):
            return waits
        try:
            result = await waits
            if result is not CONTINUE and result is not SKIP and result is not None and not isinstance(result, Reply):
                raise _wrong(result)
        except Exception as error:
            raise HookError(hooks.owners[max(0, at - 1)].name) from error
        waits = result if isinstance(result, Reply) else None


def _wrong(result: Any) -> TypeError:
    return TypeError(f"a hook returns CONTINUE, SKIP, None or a reply, not {type(result).__name__}")
