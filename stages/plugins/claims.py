"""Claims as plugins make them: `host.claim` (stages/claims.py says what a claim is)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from functools import partial
from typing import Any

from pingap.stages.claims import Claims
from pingap.stages.leases import Verdict
from pingap.stages.plugins.exchange import Exchange
from pingap.stages.plugins.limits import BUCKET, INFLIGHT, KINDS, RATE


class PluginClaims:
    """A hook gets its verdict at once, or something to await."""

    def __init__(self, claims: Claims, loop: asyncio.AbstractEventLoop) -> None:
        self._claims = claims
        self._loop = loop

    def claim(self, exchange: Exchange, key: str, args: tuple[Any, ...]) -> Verdict | Awaitable[Verdict]:
        """Whether a request is within its limit. A place in flight is given back when the stream has ended."""
        kind = args[0]
        if (kind == RATE and args[2] <= 0) or (kind == BUCKET and args[1] < 1) or kind not in KINDS:
            raise ValueError(f"{args!r} are no arguments of a claim")  # here, and not where another replica judges it
        holds = kind == INFLIGHT
        if holds:
            exchange._watches = True
        sid = exchange._routed.sid
        verdict = self._claims.judged_here(sid, key, args)
        if verdict is not None:
            return verdict
        answer = self._loop.create_future()
        self._claims.ask(sid, key, args, partial(_settle, answer), holds)
        return answer


def _settle(answer: asyncio.Future[Verdict], verdict: Verdict) -> None:
    if not answer.done():  # the hook may have had no more time
        answer.set_result(verdict)
