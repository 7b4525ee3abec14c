"""A request that is still here: it waits for a hook, a body or its answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from pingap.stages.messages import Data, Response, accept_of
from pingap.stages.plugins.exchange import Exchange

if TYPE_CHECKING:
    from pingap.stages.plugins.bodies import Download, Upload
    from pingap.stages.plugins.chain import Chain


class Stream:
    """Mutable record; who changes what is said at each field."""

    __slots__ = (
        "chain",
        "download",
        "early",
        "exchange",
        "is_forwarded",
        "passes",
        "responded",
        "response",
        "sid",
        "task",
        "to_accept",
        "to_upstream",
        "told",
        "upload",
    )

    def __init__(self, exchange: Exchange, chain: Chain) -> None:
        routed = exchange.routed
        self.sid = routed.sid
        self.exchange = exchange
        self.chain = chain
        self.to_accept = accept_of(routed.sid)
        self.to_upstream = routed.affinity.upstream
        self.task: asyncio.Task[None] | None = None
        """Hooks of the request, then its body; or hooks of the response."""
        self.upload: Upload | None = None
        self.download: Download | None = None
        self.response: Response | None = None
        """What upstream sent (or a plugin made), as it came."""
        self.early: list[Data] = []
        """Body bytes that came while hooks of the response were at work."""
        self.is_forwarded = False
        """Upstream has the request."""
        self.responded = False
        """Accept has the head of the answer."""
        self.passes = False
        """The body of the answer is not looked at: DATA and CREDIT go through as they are."""
        self.told: dict[str, Any] = {}
        """The context as it went out with the head, when a transformed body may still change it."""

    def stop(self) -> None:
        """Ends what still runs for it, the caller excepted."""
        tasks = [mover.task for mover in (self.upload, self.download) if mover is not None]
        if self.task is None and not tasks:
            return
        current = asyncio.current_task()
        for task in (self.task, *tasks):
            if task is not None and task is not current:
                task.cancel()
