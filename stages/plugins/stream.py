"""Requests that are still here: each waits for a hook, a body or its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from types import MappingProxyType
from typing import Any, Final

from pingap.stages.messages import Data, Response, owner_of
from pingap.stages.plugins.bodies import DownloadBody, UploadBody
from pingap.stages.plugins.chain import Chain
from pingap.stages.plugins.exchange import Exchange
from pingap.stages.plugins.guard import failure
from pingap.stages.plugins.pieces import Pieces

NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


class PluginStream:
    """Mutable record; who changes what is said at each field."""

    __slots__ = (
        "chain",
        "download",
        "early",
        "exchange",
        "is_forwarded",
        "passes",
        "pieces",
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
        routed = exchange._routed
        self.sid = routed.sid
        self.exchange = exchange
        self.chain = chain
        self.to_accept = owner_of(routed.sid)
        self.to_upstream = routed.affinity.upstream
        self.task: asyncio.Task[None] | None = None
        """Hooks of the request, then its body; or hooks of the response."""
        self.upload: UploadBody | None = None
        self.download: DownloadBody | None = None
        self.response: Response | None = None
        """What upstream sent (or a plugin made), as it came."""
        self.early: list[Data] | None = None
        """Body bytes that came while hooks of the response were at work."""
        self.is_forwarded = False
        """Upstream has the request."""
        self.pieces: Pieces | None = None
        """Where a reply's body comes from, when that is a generator: to be closed with the stream."""
        self.responded = False
        """Accept has the head of the answer."""
        self.passes = False
        """The body of the answer is not looked at: DATA and CREDIT go through as they are."""
        self.told: Mapping[str, Any] = NOTHING
        """The context as it went out with the head, when a transformed body may still change it."""

    def stop(self) -> None:
        """Ends what still runs for it, the caller excepted."""
        if self.task is None and self.upload is None and self.download is None and self.pieces is None:
            return  # as most are
        if self.pieces is not None:
            self.pieces.close()
        movers = [mover for mover in (self.upload, self.download) if mover is not None]
        tasks = [self.task, *[mover.task for mover in movers]]
        # All of them refer to each other: what they hold of bodies is to be free at once, not when garbage is collected.
        self.task = self.upload = self.download = None
        for mover in movers:
            mover.task = None
        if not any(tasks):
            return
        current = asyncio.current_task()
        for task in tasks:
            if task is not None and task is not current:
                task.cancel()


class PluginStreams:
    """Those that are here, and the tasks that work for them."""

    __slots__ = ("_loop", "by_sid")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.by_sid: dict[int, PluginStream] = {}

    def open(self, exchange: Exchange, chain: Chain) -> PluginStream:
        stream = PluginStream(exchange, chain)
        self.by_sid[stream.sid] = stream
        return stream

    def has(self, stream: PluginStream) -> bool:
        """It is not over."""
        return self.by_sid.get(stream.sid) is stream

    def forget(self, sid: int) -> None:
        """The stream is over, and whoever works for it knows."""
        stream = self.by_sid.pop(sid, None)
        if stream is not None:
            _tell_caches(stream)

    def drop(self, stream: PluginStream) -> None:
        """The stream is over for this stage."""
        by_sid, sid = self.by_sid, stream.sid
        if by_sid.get(sid) is stream:
            del by_sid[sid]
        _tell_caches(stream)
        stream.stop()

    def stop(self) -> None:
        """All of them are over."""
        for stream in list(self.by_sid.values()):
            stream.stop()
        self.by_sid.clear()

    def spawn(
        self, stream: PluginStream, work: Coroutine[Any, Any, None], failed: Callable[[PluginStream, Exception], None], waits: Any = None
    ) -> asyncio.Task[None]:
        """A task of `stream`. failed: called when it ends without having done its work, however that comes about.

        waits: what it awaits first. Cancelled before it has begun, the task would leave a coroutine that nobody has awaited.
        """

        def over(task: asyncio.Task[None]) -> None:
            nonlocal waits
            error = asyncio.CancelledError() if task.cancelled() else task.exception()
            # Cancelled by `PluginStream.stop` it is no failure: then the stream is not here any more.
            if isinstance(waits, Coroutine):
                waits.close()  # it has ended as a rule, and then this does nothing
                waits = None  # it knows the task, which knows this function: nobody would be free before the collector comes
            if error is not None and self.has(stream):
                failed(stream, error if isinstance(error, Exception) else failure(error))

        task = self._loop.create_task(work)
        task.add_done_callback(over)
        return task


def _tell_caches(stream: PluginStream) -> None:
    """It is over."""
    exchange = stream.exchange
    if exchange._caching is not None:
        exchange._caching.ended()
    if exchange._concerned and stream.is_forwarded:
        concerned, exchange._concerned = exchange._concerned, None
        for cache in concerned:
            cache.unanswered(exchange)
