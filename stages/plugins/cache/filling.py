"""Fills: answers on their way into the store, apart from whoever reads them there.

A long answer that may be stored is split. This is its source half: what upstream sends goes through the transformers of the hooks
that came before the cache, and into a part file of the store. Upstream gets credit for what is written, so that a client that reads
slowly holds up nobody; each client has a body of its own that reads the file as it grows (flights/growing_body.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence, Set
from typing import Any, Final, Protocol

from pingap.stages.messages import Cancel, Data
from pingap.stages.plugins.bodies import PORTION, MovedBody, Send
from pingap.stages.plugins.cache.flights.growth import NoReaders
from pingap.stages.plugins.exchange import Transformer
from pingap.stages.plugins.guard import HookGuard
from pingap.stages.plugins.stream import PluginStream

_ENDLESS: Final = 1 << 62
"""Credit of who takes all."""


QUIET: Final = 300.0
"""Seconds without a byte after which the rest is not waited for."""

UNREAD: Final = 300.0
"""Seconds for which a body goes on that nobody reads, and of which nobody knows whether it has an end."""

PATIENCE: Final = 60.0
SLOWEST: Final = 4096.0
"""One that has an end goes on to it; but after PATIENCE seconds without a reader it has to come at so many bytes a second."""


class FillSink(Protocol):
    """Where a fill goes."""

    @property
    def has_end(self) -> bool:
        """It is known how long the body is."""

    def is_wanted(self) -> bool:
        """Somebody reads it, or has since this was asked last."""

    def is_full(self) -> bool:
        """Those who read it have to take something before there is more: that is not upstream's silence."""

    def write(self, data: bytes) -> Awaitable[None] | None:
        """The next bytes. What is to be awaited before there is more. Raises NoReaders when nobody wants the rest."""

    def ended(self) -> None:
        """That was all of it."""

    def failed(self, kind: str) -> None:
        """There will be no more, and it is not all: stages/errors.py has the kinds."""


class Fill(MovedBody):
    """The source half of one answer."""

    __slots__ = ("_bytes", "_came", "_over", "_seen", "_seen_at", "_sink", "_to_upstream", "_unread_at", "_unread_from")

    def __init__(
        self,
        stream: PluginStream,
        stages: Sequence[Transformer],
        sink: FillSink,
        send: Send,
        me: int,
        guard: HookGuard,
        over: Callable[[Fill], None],
    ) -> None:
        """stream: of the request that caused it; it is only asked for what it says. over: called once, when nothing more comes."""
        super().__init__(stream, stages, _ENDLESS, send, me, guard)
        self._to_upstream = stream.to_upstream
        self._granted_from = stream.to_upstream
        self._sink = sink
        self._over = over
        self._came = 0
        """Times that something has come."""
        self._seen = -1
        self._seen_at = 0.0
        self._bytes = 0
        """Of upstream's."""
        self._unread_at = -1.0
        """Since when nobody reads it, as far as this was asked; less than 0 while somebody does."""
        self._unread_from = 0
        """Bytes that had come by then."""

    @property
    def sid(self) -> int:
        return self.stream.sid

    @property
    def to_upstream(self) -> int:
        return self._to_upstream

    def offer(self, payload: bytes, ended: bool, trailers: bytes = b"") -> None:
        self._came += 1
        self._bytes += len(payload)
        super().offer(payload, ended)

    def begin(self) -> None:
        """Takes what there is; a task does the rest."""
        self.task = asyncio.get_running_loop().create_task(self._run())
        self.task.add_done_callback(self._done)

    async def _run(self) -> None:
        flow, sink = self.flow, self._sink
        while True:
            if self.guard.is_busy:
                await self.guard.free()
                continue
            pending = flow.pump(PORTION)
            if pending is not None:
                flow.resolve(await pending)
                continue
            took = False
            while data := flow.take(PORTION):
                took = True
                waits = sink.write(data)
                if waits is not None:
                    await waits
            self.give_back()
            if flow.is_over:
                sink.ended()
                return
            if not took:
                await self.wait()

    def _done(self, task: asyncio.Task[None]) -> None:
        self.task = None
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is not None:
            if self.has_input:
                self._send(self._to_upstream, Cancel(self.sid, "plugins", True))
            self._sink.failed("client_closed" if isinstance(error, NoReaders) else "plugin_failed")
        self._over(self)

    def is_quiet(self, now: float) -> bool:
        """Nothing has come for QUIET seconds, as far as this was asked."""
        if self._came != self._seen or self._sink.is_full():
            self._seen, self._seen_at = self._came, now
        return now - self._seen_at > QUIET

    def is_for_nobody(self, now: float) -> bool:
        """Nobody has read it for so long that it is not worth a connection, a task and a file any more."""
        if self._sink.is_wanted():
            self._unread_at = -1.0
            return False
        if self._unread_at < 0.0:
            self._unread_at, self._unread_from = now, self._bytes
            return False
        seconds = now - self._unread_at
        if seconds > UNREAD and not self._sink.has_end:
            return True
        return seconds > PATIENCE and self._bytes - self._unread_from < SLOWEST * seconds

    def give_up(self, kind: str) -> None:
        """It is not waited for any longer."""
        self._send(self._to_upstream, Cancel(self.sid, "plugins", True))
        self.cut(kind)

    def cut(self, kind: str) -> None:
        """The rest cannot come."""
        self.has_input = False
        self._sink.failed(kind)
        self._end()

    def _end(self) -> None:
        if self.task is not None:
            self.task.remove_done_callback(self._done)
            self.task.cancel()
            self.task = None
        self._over(self)


class Fills:
    """Those of one process, by stream."""

    def __init__(self, send: Callable[[int, Any], None], me: int, guard: HookGuard) -> None:
        self._send = send
        self._me = me
        self._guard = guard
        self._by_sid: dict[int, Fill] = {}

    def __len__(self) -> int:
        return len(self._by_sid)

    def begin(self, stream: PluginStream, stages: Sequence[Transformer], sink: FillSink, body: bytes, ended: bool) -> None:
        """Splits a stream: from now on its answer goes to the sink. body: the first bytes of it; ended: they are all."""
        fill = Fill(stream, stages, sink, self._send, self._me, self._guard, self._over)
        self._by_sid[stream.sid] = fill
        early, stream.early = stream.early, None
        if body or ended:
            fill.offer(body, ended)
        fill.begin()
        for data in early or ():
            self.data(data)

    def data(self, data: Data) -> bool:
        """DATA of an answer; False when it goes into no fill."""
        fill = self._by_sid.get(data.sid)
        if fill is None:
            return False
        if data.error:
            fill.cut(data.error)
        else:
            fill.offer(data.payload, data.ended)
        return True

    def sweep(self, now: float) -> None:
        """Ends those to which nothing has come for a long time, or which nobody has read for one. now: monotonic seconds."""
        for fill in list(self._by_sid.values()):
            if not fill.has_input:
                continue
            if fill.is_quiet(now):
                fill.give_up("gateway_timeout")
            elif fill.is_for_nobody(now):
                fill.give_up("client_closed")  # which says nothing of the origin

    def members_changed(self, gone: Set[int]) -> None:
        """Actors are gone: what they had not sent yet does not come."""
        for fill in list(self._by_sid.values()):
            if fill.to_upstream in gone and fill.has_input:
                fill.cut("stage_lost")

    def _over(self, fill: Fill) -> None:
        self._by_sid.pop(fill.sid, None)

    def stop(self) -> None:
        """The process ends."""
        for fill in list(self._by_sid.values()):
            fill.cut("stage_lost")
