"""HTTP/2 server side on one client connection (RFC 9113): an engine's events become streams, answers become frames.

What is written is collected and leaves once a turn of the loop: a batch of answers from
the bus is one write. Answers take turns, and never outgrow the socket's buffer. The way of
one request is in http2_stream.py; which frames are too many of their kind is for
stages/http2/guard.py to say.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf
from time import monotonic
from typing import Final

from pingap.stages.accept.connections import Connections
from pingap.stages.accept.door import Door
from pingap.stages.accept.http2_stream import Http2ClientStream
from pingap.stages.accept.outlet import LINGER, STREAM_TOP_UP, WRITE_BUFFER, Outlet
from pingap.stages.accept.states import LEAVING, LEFT, OPEN, OVER
from pingap.stages.bulk import LONG
from pingap.stages.client import Arrival
from pingap.stages.date import dated
from pingap.stages.http1.refused import sketch
from pingap.stages.http1.rules import ProtocolError, RequestHead
from pingap.stages.http2.engine import (
    LARGEST_WINDOW,
    LAST_STREAM,
    NO_ERROR,
    PREFACE,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    Body,
    Event,
    Fields,
    GoAway,
    Head,
    Http2Error,
    LocalSettings,
    Pong,
    Reset,
    Trailers,
    Unread,
)
from pingap.stages.http2.fields import Malformed, request_head, response_fields, sketch_of, trailer_block
from pingap.stages.http2.guard import FloodGuard, for_lists_of
from pingap.stages.messages import UNKNOWN
from pingap.stages.read_gate import BACKLOG, ReadGate
from pingap.stages.stream_states import ANSWERING, ENDED

UNREAD: Final = 4 * WRITE_BUFFER
"""Bytes that may wait for the socket before nothing more is read. Bodies stop at a quarter of it; heads have no windows."""

DRAINING: Final = b"draining"
"""Payload of the PING whose return tells that the client knows of the GOAWAY before it."""

REST: Final = 1 << 30
"""Bytes of a request that a client may still send, unread, after its answer."""

HEARD: Final = 0.25
"""Seconds in which a client reads an answer that came before it had sent all of its request."""

ROUND_TRIP: Final = 1.0
"""Seconds that a client has to answer that PING."""


class Http2ClientConnection(asyncio.Protocol):
    """One connection with any number of streams."""

    __slots__ = (
        "_client_leaves",
        "_connections",
        "_forced",
        "_idle_by",
        "_is_scheduled",
        "_last_word_by",
        "_moved",
        "_state",
        "_streams",
        "_unfinished",
        "_write",
        "answers",
        "arrival",
        "blocked",
        "deadline",
        "departures",
        "door",
        "engine",
        "gate",
        "guard",
        "heard",
        "outlet",
        "served",
        "streams",
        "transport",
    )

    transport: asyncio.Transport
    gate: ReadGate
    outlet: Outlet
    _write: Callable[[bytes], None]

    def __init__(self, connections: Connections, door: Door, arrival: Arrival) -> None:
        self._connections = connections
        self.streams = connections.streams
        self.answers = connections.answers
        self.departures = connections.departures
        self.door = door
        self.arrival = arrival
        self.deadline = inf
        self.served = 0
        """Requests so far."""
        settings = door.settings
        make = door.make_http2
        assert make is not None
        self.engine = make(
            False, LocalSettings(max_streams=settings.http2_max_streams, header_list=settings.max_header_bytes, enable_connect=True)
        )
        self.guard = FloodGuard(len(PREFACE), for_lists_of(settings.max_header_bytes))
        self._forced = 0
        self._streams: dict[int, Http2ClientStream] = {}
        self.blocked: dict[Http2ClientStream, None] = {}
        """Streams whose answer waits for room, in turn."""
        self._moved = -inf
        """Monotonic seconds at which one of them last had its turn."""
        self._is_scheduled = False
        self._state = OPEN
        self.heard: dict[Http2ClientStream, None] = {}
        """Streams of whose body something came in this read."""
        self._unfinished: dict[int, float] = {}
        """Streams that were answered before the client had said all, and the monotonic seconds at which they are reset."""
        self._last_word_by = inf
        """While LEAVING: monotonic seconds until which new streams are still taken."""
        self._client_leaves = False
        """The client has sent GOAWAY: it opens no more streams."""
        self._idle_by = inf

    # -- the transport's side ------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._take_over(transport)
        self.engine.start()
        self._flush()

    def _take_over(self, transport: asyncio.BaseTransport) -> None:
        outlet = self.outlet = Outlet(transport, self.door)  # type: ignore[arg-type]
        self.transport, self._write = outlet.transport, outlet.writer.write
        self.gate = ReadGate(outlet.transport)
        self._idle_by = self.deadline = monotonic() + self.door.settings.header_timeout

    def upgraded(self, transport: asyncio.Transport, settings: bytes, head: RequestHead, started: float) -> None:
        """Goes on with a connection that asked for it in HTTP/1.1 (RFC 7540 section 3.2), its request as stream 1.

        settings: payload of HTTP2-Settings. Raises Http2Error, with nothing written, when they are none.
        """
        self.engine.upgrade(settings, head.method == b"HEAD")
        self._take_over(transport)
        transport.set_protocol(self)
        self._write(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n")
        self._begin(1, head._replace(version=20, upgrade=b""), started, True)
        self._flush()

    def connection_lost(self, error: Exception | None) -> None:
        self.outlet.lost()
        self.deadline = inf
        self._state = OVER
        self._abandon()
        self._connections.disconnected(self, self.door)

    def _abandon(self) -> None:
        """All streams are lost."""
        streams, self._streams = self._streams, {}
        self.blocked.clear()
        self.heard.clear()
        for stream in streams.values():
            stream.left()
            stream.release()

    def eof_received(self) -> bool:
        # As over HTTP/1.1: who shuts its side is taken for gone.
        if self._streams:
            self.transport.abort()
        else:
            self._state = OVER
            self.deadline = inf
            self.outlet.close_when_taken()
        return False

    def pause_writing(self) -> None:
        self.outlet.choked = True
        self.outlet.watch()

    def resume_writing(self) -> None:
        self.outlet.choked = False
        self.gate.open(BACKLOG)
        if self._state is OVER:
            return
        self.outlet.deadline = inf
        for stream in [s.stream for s in self._streams.values() if s.stream is not None and s.stream.unacked >= STREAM_TOP_UP]:
            self.streams.give_credit(stream)
        self._pump()

    def data_received(self, data: bytes) -> None:
        if self._state is OVER:
            return  # read only so that the last frames are not reset away
        if len(data) >= LONG:
            self._connections.bulk.took(len(data), self.gate, 0)
        now = monotonic()
        guard, engine = self.guard, self.engine
        try:
            guard.came(data, now)
            if guard.goodbyes:
                data = guard.without_last_streams(data)
            try:
                events = engine.receive(data)
            except Http2Error as error:
                self._broke(error, True)
                return
            for event in events:
                self._take(event, now)
            forced = engine.forced_resets
            if forced != self._forced:
                guard.forced(forced - self._forced, now)
                self._forced = forced
        except Http2Error as error:
            self._broke(error, False)
            return
        if self.heard:
            heard, self.heard = self.heard, {}
            for stream in heard:
                stream.settle()
        self._end_turn()
        if self.outlet.choked and self.transport.get_write_buffer_size() > UNREAD:
            self.gate.shut(BACKLOG)

    def _take(self, event: Event, now: float) -> None:
        if isinstance(event, Head):
            self._head(event, now)
        elif isinstance(event, Body):
            stream = self._streams.get(event.stream_id)
            if stream is None:
                self._unwanted(event)
            else:
                stream.arrived(event.data, event.flow_length - len(event.data), event.ended)
        elif isinstance(event, Trailers):
            self._trailers(event, now)
        elif isinstance(event, Reset):
            if self._unfinished.pop(event.stream_id, None) is not None and event.is_ours:
                self._forced += 1  # the rest of a request that was answered: nobody reads it, and however it ends is no fault
            stream = self._forget(event.stream_id)
            if stream is not None:
                stream.left("bad_request" if event.is_ours else "client_closed")
                stream.release()
                self._rest_if_idle()
        elif isinstance(event, GoAway):
            self._client_leaves = True
            self._rest_if_idle()
        elif isinstance(event, Pong) and event.payload == DRAINING and self._state is not OPEN:
            self._say_last()
        elif isinstance(event, Unread):
            # RFC 9113 section 8.1.1, as in `_malformed`.
            head = sketch(b"", b"", 20)
            stream = Http2ClientStream(self, event.stream_id, head, now)
            self.answers.record(stream, self.door, head, "bad_request", "malformed, says the engine", now)
        # Room is looked at when all is taken; of settings the engine has taken care; no client has interim answers to give.

    def _unwanted(self, event: Body) -> None:
        """Body bytes of a stream that needs nothing more: as long as it is open they use up its window."""
        if event.ended or event.stream_id not in self._unfinished:
            self._unwanted_end(event.stream_id)

    def _unwanted_end(self, stream_id: int) -> None:
        """Nothing more comes of it: its bytes no longer use up the connection's window."""
        self._unfinished.pop(stream_id, None)
        self.engine.acknowledge(stream_id, LARGEST_WINDOW)

    # -- requests -----------------------------------------------------------------------

    def _head(self, event: Head, now: float) -> None:
        stream_id = event.stream_id
        if self._state is LEFT:
            self.engine.reset(stream_id, REFUSED_STREAM)
            return
        try:
            head = request_head(event.fields, event.ended, self.door.limits)
        except Malformed as malformed:
            self._malformed(Http2ClientStream(self, stream_id, sketch_of(event.fields), now), malformed, now)
        except ProtocolError as error:
            self._answer_refusal(Http2ClientStream(self, stream_id, sketch_of(event.fields), now), error, event.ended)
            self._rest_if_idle()
        else:
            self._begin(stream_id, head, now, event.ended)

    def _begin(self, stream_id: int, head: RequestHead, now: float, ended: bool) -> None:
        stream = self._streams[stream_id] = Http2ClientStream(self, stream_id, head, now)
        self._idle_by = inf
        stream.begin(ended)

    def _trailers(self, event: Trailers, now: float) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is None:
            self._unwanted_end(event.stream_id)
            return
        try:
            stream.trailed(trailer_block(event.fields))
        except Malformed as error:
            self._forget(event.stream_id)
            self._malformed(stream, error, now)
            stream.release()
            self._rest_if_idle()

    def _malformed(self, stream: Http2ClientStream, error: Malformed, now: float) -> None:
        """RFC 9113 section 8.1.1: reset, and nobody guesses what was meant. It is in the log as 400."""
        if stream.stream is None or stream.stream.state is not ENDED:  # one that was cut off is in the log already
            self.answers.record(stream, self.door, stream.refused, error.kind, error.detail, now)
        self.engine.reset(stream.stream_id, PROTOCOL_ERROR)
        self.guard.forced(1, now)

    def refuse(self, stream: Http2ClientStream, error: ProtocolError) -> None:
        """A request breaks the rules after its head."""
        known = stream.stream
        if known is not None and known.state >= ANSWERING:
            known.failed = error.kind
            stream.cut()
            return
        self._forget(stream.stream_id)
        self._answer_refusal(stream, error, stream.client_ended)
        stream.release()
        self._rest_if_idle()

    def _answer_refusal(self, stream: Http2ClientStream, error: ProtocolError, ended: bool) -> None:
        engine, stream_id = self.engine, stream.stream_id
        at = monotonic()
        status, headers, body = self.answers.refuse(stream, self.door, stream.refused, error.kind, error.detail, at)
        if not ended:
            self.let_rest_in(stream_id, UNKNOWN)
        if len(body) > engine.room(stream_id):
            body = b""  # the client has made no room: it gets to know the status
        engine.send_head(stream_id, response_fields(status, headers + dated(headers, at), len(body)), not body)
        if body:
            engine.send_data(stream_id, body, True)
        self.guard.answered += 1
        if not ended:
            self._answered_early(stream_id)
        self.schedule()

    # -- the end of a turn ------------------------------------------------------------------

    def schedule(self) -> None:
        """Something waits for the end of the turn."""
        if not self._is_scheduled:
            self._is_scheduled = True
            self._connections.loop.call_soon(self._end_turn)

    def _end_turn(self) -> None:
        self._is_scheduled = False
        if self.blocked and not self.outlet.choked:
            self._pump()
        self._flush()

    def _flush(self) -> None:
        if self._state is not OVER:
            data = self.engine.outgoing()
            if data:
                self._write(data)

    def _pump(self) -> None:
        """Goes on with the answers that wait, a portion each in turn, as far as windows and socket have room."""
        moved = True
        while moved and self.blocked and not self.outlet.choked:
            moved = False
            for stream in list(self.blocked):
                if not stream.pump():
                    continue
                moved = True
                if stream in self.blocked:  # behind those that room was not enough for: the next begins with them
                    del self.blocked[stream]
                    self.blocked[stream] = None
                self._flush()
                if self.outlet.choked:
                    break
            if moved:
                self._moved = monotonic()

    def has_others_before(self, now: float) -> bool:
        """Whether a stream that waits for room may only wait for its turn: what all share is full, and the client takes of it."""
        if self.outlet.choked:
            return True  # that it takes something is watched (outlet.py)
        return not self.engine.connection_room and now < self._moved + self.door.settings.downstream_write_timeout

    # -- for the streams ------------------------------------------------------------------

    def send_head(self, stream_id: int, fields: Fields, ended: bool) -> None:
        self.engine.send_head(stream_id, fields, ended)
        self.schedule()

    def send_data(self, stream_id: int, payload: bytes, ended: bool) -> None:
        self.engine.send_data(stream_id, payload, ended)
        self.guard.sent(len(payload))
        self.schedule()

    def send_trailers(self, stream_id: int, fields: Fields) -> None:
        self.engine.send_trailers(stream_id, fields)
        self.schedule()

    def acknowledge(self, stream_id: int, count: int) -> None:
        self.engine.acknowledge(stream_id, count)
        self.schedule()

    def wake_by(self, deadline: float) -> None:
        """A stream has a deadline."""
        self.deadline = min(self.deadline, deadline)

    def stream_over(self, stream: Http2ClientStream, code: int | None = None) -> None:
        """A stream needs nothing more. code: of the reset that ends it; None when it was answered."""
        self._forget(stream.stream_id)
        if code is not None:
            self.engine.reset(stream.stream_id, code)
        else:
            self.guard.answered += 1
            if not stream.client_ended:
                self._answered_early(stream.stream_id)
        stream.release()
        self.schedule()
        self._rest_if_idle()

    def let_rest_in(self, stream_id: int, rest: int) -> None:
        """The answer is about to end and the request has not, of which `rest` bytes are to come, or UNKNOWN.

        There are clients that take no notice of the reset below, but wait for room: for ever (Java), and without reading (curl 7.88,
        at full CPU). So there is room for all of it beforehand, and it is dropped.
        """
        self.engine.let_in(stream_id, REST if rest == UNKNOWN else min(rest, REST))

    def _answered_early(self, stream_id: int) -> None:
        """RFC 9113 section 8.1: a reset with NO_ERROR says that the rest of the request is not wanted.

        Not at once: there are clients that throw away an answer when its reset comes in the same read.
        """
        self._unfinished[stream_id] = monotonic() + HEARD
        self.wake_by(self._unfinished[stream_id])

    def _forget(self, stream_id: int) -> Http2ClientStream | None:
        stream = self._streams.pop(stream_id, None)
        if stream is not None:
            self.blocked.pop(stream, None)
            self.engine.acknowledge(stream_id, stream.unread)
        return stream

    def _rest_if_idle(self) -> None:
        if self._streams or self._state is OVER:
            return
        idle = self.door.settings.keepalive_timeout
        if self._client_leaves or self._state is LEFT or not idle:
            self._connections.loop.call_soon(self._leave_if_idle)
        else:
            self._idle_by = monotonic() + idle
            self.wake_by(self._idle_by)

    def _leave_if_idle(self) -> None:
        if not self._streams and self._state is not OVER:
            self._leave()

    # -- the end --------------------------------------------------------------------------------

    def _broke(self, error: Http2Error, is_said: bool) -> None:
        """The connection cannot go on: GOAWAY says why. is_said: the engine has made that already."""
        context = self._connections.context
        context.count("http2_connection_errors", code=str(error.code))
        context.log("debug", "HTTP/2 connection error", code=error.code, detail=error.detail, client=self.arrival.peer.ip)
        if not is_said:
            self.engine.goaway(error.code)
        self._say_and_close()

    def _leave(self) -> None:
        """An orderly end, with no streams left."""
        self.engine.goaway(NO_ERROR)
        self._say_and_close()

    def _say_and_close(self) -> None:
        """Writes the last frames, and nothing after them."""
        self._flush()
        self._state = OVER
        self._abandon()
        self.deadline = monotonic() + LINGER
        self.outlet.say_last()

    def close_if_idle(self, reprieve: float) -> None:
        """RFC 9113 section 6.8: first a GOAWAY that lets through what is on its way, then, a round trip later, the last one."""
        if self._state is OVER:
            return
        now = monotonic()
        if self._state is OPEN:
            self._state = LEAVING
            self._last_word_by = now + ROUND_TRIP
            self.engine.goaway(NO_ERROR, LAST_STREAM)
            self._flush()  # before the PING, which libnghttp2 would put first
            self.engine.ping(DRAINING)
            self._flush()
        elif now >= self._last_word_by:
            self._say_last()

    def _say_last(self) -> None:
        """No stream that comes from now on is looked at."""
        if self._state is not LEFT:
            self._state = LEFT
            self.engine.goaway(NO_ERROR)
            self._flush()
        if not self._streams:
            self._say_and_close()

    # -- time ---------------------------------------------------------------------------------

    @property
    def write_deadline(self) -> float:
        return self.outlet.deadline

    def expired(self, now: float) -> None:
        if self.outlet.expired(now) or self.deadline > now:
            return
        if self._state is OVER:
            if self.transport.get_write_buffer_size():
                self.deadline = now + LINGER  # not for who has not got all of it yet
            else:
                self.transport.abort()
            return
        if not self._streams and self._idle_by <= now:
            self._leave()
            return
        for stream in list(self._streams.values()):
            stream.expired(now)
        for stream_id in [one for one, until in self._unfinished.items() if until <= now]:
            del self._unfinished[stream_id]
            self.engine.reset(stream_id, NO_ERROR)
        deadlines = [min(stream.read_by, stream.write_by) for stream in self._streams.values()]
        self.deadline = min((self._idle_by, *deadlines, *self._unfinished.values()))
        self._flush()
