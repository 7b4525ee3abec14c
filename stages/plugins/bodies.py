"""Moves bodies through their transformers: input comes as DATA, output leaves as DATA, credit flows the other way.

Each body that does not end at once has a task. It runs until nothing can be done, then
waits to be woken by DATA or CREDIT; all that came in one turn of the loop is done in one go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from msgspec.structs import replace

from pingap.stages.headers import without_changed
from pingap.stages.messages import INLINE, UNKNOWN, WINDOW, Credit, Data, FileRef, Report, Response, window
from pingap.stages.plugins.core import Collector, Flow
from pingap.stages.plugins.exchange import Exchange, Transformer
from pingap.stages.plugins.guard import HookGuard
from pingap.stages.plugins.meters import timed_context

PORTION: Final = 256 * 1024
"""Most bytes in one envelope."""

_MISSING: Final = object()

Send = Callable[[int, Any], None]


class BodyOwner(Protocol):
    """What a body needs to know of its stream."""

    sid: int
    exchange: Exchange
    to_accept: int
    to_upstream: int
    response: Response | None
    """The answer as it came."""
    is_forwarded: bool
    responded: bool
    """Accept has the head: set with it."""
    told: Mapping[str, Any]
    """The context as it went out with the head: set with it."""


def report_of(exchange: Exchange, response: Response) -> Report | None:
    """The report of an answer, with what plugins put into the context, and how long they took."""
    report, context = response.report, exchange._context
    if report is None or (context is None and exchange._seconds is None):
        return report
    return replace(report, context=timed_context(exchange, report.context if context is None else context))


def trailers_of(stream: BodyOwner, trailers: bytes) -> bytes:
    """An answer's trailers without those of names that hooks have set, added or removed in its head: what they say stands."""
    before, now = stream.response, stream.exchange.response
    if before is None or now is None:
        return trailers
    return without_changed(trailers, before.headers, now.headers.raw, now.headers.removed)


def stages_of(stream: BodyOwner, wanted: Sequence[Any]) -> list[Transformer]:
    """What hooks asked for, as transformers."""
    return [stage if isinstance(stage, Transformer) else Collector(stream.exchange, *stage) for stage in wanted]


class MovedBody:
    """What both directions have in common."""

    __slots__ = (
        "_awaits_whole",
        "_granted_from",
        "_me",
        "_send",
        "_top_up",
        "_wake",
        "flow",
        "guard",
        "has_input",
        "stream",
        "task",
        "trailers",
    )

    def __init__(self, stream: BodyOwner, stages: Sequence[Transformer], credit: int, send: Send, me: int, guard: HookGuard) -> None:
        """send: (actor, message). me: id of this actor. credit: bytes that may be sent before the receiver grants more."""
        self.stream = stream
        self.flow = Flow(stages, credit)
        self.guard = guard
        self._awaits_whole = any(isinstance(stage, Collector) for stage in stages)
        self.task: asyncio.Task[None] | None = None
        self.has_input = True
        """The sender has not said yet that it is done."""
        self.trailers = b""
        """What came with the end; no hook sees them, and they end what goes on."""
        self._send = send
        self._me = me
        self._wake: asyncio.Future[None] | None = None
        self._granted_from = 0
        """Who gets credit as input is done with; 0 for nobody."""
        self._top_up = window(stream.exchange._routed.version) // 4
        """Credit is returned in portions of at least this many bytes."""

    def offer(self, payload: bytes, ended: bool, trailers: bytes = b"") -> None:
        self.trailers = trailers
        self.flow.offer(payload, ended)
        self.has_input = not ended
        self.wake()

    def grant(self, count: int) -> None:
        self.flow.grant(count)
        self.wake()

    def wake(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def wait(self) -> None:
        self._wake = asyncio.get_running_loop().create_future()
        await self._wake
        self._wake = None

    def give_back(self) -> None:
        """Grants the sender what is done with."""
        flow = self.flow
        if flow.owed >= self._top_up and self.has_input and self._granted_from:
            owed, flow.owed = flow.owed, 0
            self._send(self._granted_from, Credit(self.stream.sid, owed, self._me))


class Advancing(Protocol):
    """A body in either direction."""

    flow: Flow
    guard: HookGuard

    def advance(self) -> Awaitable[Any] | None:
        """Does what can be done now. Returns what has to be awaited, to go on with its result."""

    async def wait(self) -> None:
        """Until there is something to do."""


async def carry(body: Advancing, pending: Awaitable[Any] | None) -> None:
    """Until all of the body has been sent. pending: what `advance` has returned. Raises what transformers raise."""
    flow = body.flow
    while True:
        if pending is not None:
            flow.resolve(await pending)
        # Also at first: a task begins a turn after it was made, and what came meanwhile found nobody to wake.
        pending = body.advance()
        if pending is not None:
            continue
        if flow.is_over:
            return
        if body.guard.is_busy:
            await body.guard.free()
        else:
            await body.wait()


class DownloadBody(MovedBody):
    """The body of an answer, on its way to accept."""

    __slots__ = ("_is_ended", "file", "length")

    def __init__(self, stream: BodyOwner, stages: Sequence[Transformer], send: Send, me: int, guard: HookGuard) -> None:
        self.length = UNKNOWN
        """Of all that comes out, where that is known before all of it is made."""
        self.file: FileRef | None = None
        """What the body is, when accept has been told and has not said yet whether it wants DATA all the same."""
        super().__init__(stream, stages, window(stream.exchange._routed.version), send, me, guard)
        self._granted_from = stream.to_upstream if stream.is_forwarded else 0
        self._is_ended = False

    def advance(self) -> Awaitable[Any] | None:
        flow = self.flow
        while True:
            pending = None
            if not self.guard.is_busy:
                pending = flow.pump(flow.credit or 1)  # one piece ahead: it may be the end, which needs no credit
                if pending is None and flow.ready and not (self.has_input or self.stream.responded):
                    pending = flow.pump(flow.ready + 1)  # if that was all of it, its length can be told
            progress = self._forward()
            self.give_back()
            if pending is not None or not progress or (flow.is_over and self._is_ended):  # trailers come after all of the body
                return pending

    def _forward(self) -> bool:
        """Sends what is ready; True if that made room for more."""
        flow, stream = self.flow, self.stream
        if not stream.responded:
            return self._send_head()
        progress = False
        while data := flow.take(PORTION):
            progress = True
            self._send_data(data, flow.is_over)
        if flow.is_over and not self._is_ended:
            self._send_data(b"", True)
        return progress

    def _send_head(self) -> bool:
        flow, stream = self.flow, self.stream
        response, head = stream.response, stream.exchange.response
        assert response is not None and head is not None
        if self._awaits_whole and not flow.ready and not flow.is_complete:
            return False  # a hook waits for the whole body, and may change the head too
        length, ended = self.length, flow.is_complete and flow.ready <= PORTION and not self.trailers
        if flow.is_complete and not self.trailers:
            length = flow.ready
        elif flow.is_untouched:
            length = response.length
        body = flow.take(PORTION if ended else INLINE)
        self._is_ended = ended
        stream.responded = True
        report = report_of(stream.exchange, response)
        if not ended:
            stream.told = dict(stream.exchange.context)
        reason = response.reason if head.status == response.status else b""
        raw, me, watchers = head.headers.raw, self._me, response.watchers
        message = Response(stream.sid, me, head.status, raw, length, body, ended, report, watchers, reason, response.spelled)
        self._send(stream.to_accept, message)
        return not ended

    def name_file(self, file: FileRef) -> None:
        """Sends the head, and names the file that is the body. There is no credit but what accept then grants."""
        self.file = file
        self.flow.credit = 0
        stream = self.stream
        response, head = stream.response, stream.exchange.response
        assert response is not None and head is not None
        stream.responded = True
        stream.told = dict(stream.exchange.context)
        report, raw, me, watchers = report_of(stream.exchange, response), head.headers.raw, self._me, response.watchers
        reason = response.reason if head.status == response.status else b""
        message = Response(stream.sid, me, head.status, raw, self.length, b"", False, report, watchers, reason, response.spelled, file)
        self._send(stream.to_accept, message)

    def _send_data(self, data: bytes, ended: bool) -> None:
        late = None
        if ended:
            self._is_ended = True
            told = self.stream.told
            late = {key: value for key, value in self.stream.exchange.context.items() if told.get(key, _MISSING) != value}
        trailers = trailers_of(self.stream, self.trailers) if ended and self.trailers else b""
        self._send(self.stream.to_accept, Data(self.stream.sid, data, ended, "", False, late or None, trailers))


class UploadBody(MovedBody):
    """The body of a request, on its way to upstream."""

    __slots__ = ("_is_ended", "_wants", "count")

    def __init__(self, stream: BodyOwner, stages: Sequence[Transformer], send: Send, me: int, guard: HookGuard) -> None:
        super().__init__(stream, stages, 0, send, me, guard)
        self.count = len(stages)
        """Transformers that it has."""
        self._granted_from = stream.to_accept
        self._wants = not stream.exchange._routed.ended
        self._is_ended = False

    def extend(self, stages: Sequence[Transformer]) -> None:
        """More transformers, of hooks that ran later."""
        self.count += len(stages)
        self._awaits_whole = any(isinstance(stage, Collector) for stage in stages)
        self.flow.extend(stages)

    def want(self) -> None:
        """Lets the client begin."""
        if self._wants:
            self._wants = False
            self._send(self.stream.to_accept, Credit(self.stream.sid, WINDOW, self._me))

    async def prepare(self) -> None:
        """Before the request goes on: until hooks have had the whole body that they wait for.

        A body that came inside ROUTED is all transformed, so that it stays one that can be sent again, unless it
        grows beyond one envelope. Raises what hooks raise.
        """
        flow = self.flow
        if self._awaits_whole:
            self.want()
        is_much = False
        while not flow.is_complete and not (flow.ready and (self.has_input or is_much)):
            if self.guard.is_busy:
                await self.guard.free()
                continue
            is_much = flow.ready >= PORTION
            pending = flow.pump(flow.ready + 1)
            self.give_back()
            if pending is not None:
                flow.resolve(await pending)
            elif not flow.is_complete and not flow.ready:
                if not self._awaits_whole and self.has_input:
                    return
                await self.wait()

    def first(self) -> tuple[int, bytes, bool]:
        """(length, body, ended) of the request as it goes to upstream now."""
        flow = self.flow
        if not flow.is_complete or self.trailers:
            untouched = flow.is_untouched
            return self.stream.exchange._routed.length if untouched else UNKNOWN, b"", False
        if flow.ready > INLINE:
            return flow.ready, b"", False
        length = flow.ready
        flow.grant(length)
        self._is_ended = True
        return length, flow.take(length), True

    def grant(self, count: int) -> None:
        self.want()
        super().grant(count)

    def advance(self) -> Awaitable[Any] | None:
        flow = self.flow
        while True:
            pending = None
            if not self.guard.is_busy:
                pending = flow.pump(flow.credit or 1)  # one piece ahead: it may be the end, which needs no credit
            progress = False
            while data := flow.take(PORTION):
                progress = True
                self._send_data(data, flow.is_over)
            if flow.is_over and not self._is_ended:
                self._send_data(b"", True)
            self.give_back()
            if pending is not None or not progress or flow.is_over:
                return pending

    def _send_data(self, data: bytes, ended: bool) -> None:
        self._is_ended = self._is_ended or ended
        self._send(self.stream.to_upstream, Data(self.stream.sid, data, ended, "", True, None, self.trailers if ended else b""))
