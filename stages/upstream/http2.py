"""HTTP/2 client side on one backend connection (RFC 9113): what all its streams have in common.

What the engine has to say leaves once a turn of the loop, however many exchanges had a part in it.
"""

from __future__ import annotations

import asyncio
from math import inf
from time import monotonic
from typing import Final

from pingap.stages.bulk import LONG
from pingap.stages.http1.direct import DirectWriter
from pingap.stages.http2.engine import (
    ANY_SIZE,
    HTTP_1_1_REQUIRED,
    LARGEST_WINDOW,
    LAST_STREAM,
    NO_ERROR,
    PROTOCOL_ERROR,
    Body,
    Event,
    Fields,
    GoAway,
    Head,
    Http2Error,
    InterimHead,
    LocalSettings,
    Pong,
    Reset,
    Room,
    SettingsChanged,
    Trailers,
)
from pingap.stages.http2.guard import Bucket, FloodGuard, Floods
from pingap.stages.read_gate import ReadGate
from pingap.stages.upstream.backend import BackendState
from pingap.stages.upstream.core import Outcome
from pingap.stages.upstream.http2_stream import BackendStream
from pingap.stages.upstream.keeper import Keeper
from pingap.stages.upstream.places import Places
from pingap.stages.upstream.risky import LONG as LONGEST
from pingap.stages.upstream.words import words_of

OURS: Final = LocalSettings(max_streams=0, connection_window=LARGEST_WINDOW, header_list=128 * 1024)
"""What we tell backends. They open no streams: push is off. What may come is bounded by the window of each stream: one for
all of them would be used up by a few slow clients, and everybody else on the connection would wait for those."""

FLOODS: Final = Floods(
    resets=Bucket(2000, 500), pings=Bucket(200, 20), empty=Bucket(1000, 100), windows=Bucket(20_000, 5000), block=256 * 1024
)
"""A backend serves many clients on one connection, and may well open its window for every frame or refuse a burst."""

WRITE_BUFFER: Final = 256 * 1024

TRAILERS_READ: Final = b"trailers"
"""Payload of the PING that is sent behind trailers: when it comes back the backend has read them, and lives."""

SPARE_IDS: Final = 20_000
"""A connection takes no new streams when it has fewer ids than this left."""


class SharedConnection(asyncio.Protocol):
    """Carries several exchanges at a time, each on a stream of its own."""

    __slots__ = (
        "_calls_line",
        "_forced",
        "_gate",
        "_guard",
        "_heard_at",
        "_is_ending",
        "_is_flushing",
        "_keeper",
        "_last_words",
        "_loop",
        "_sent",
        "_streams",
        "_unasked",
        "_write",
        "_writer",
        "backend",
        "blocked",
        "choked",
        "connect_seconds",
        "ending",
        "engine",
        "greeted",
        "header_list",
        "idle_since",
        "is_apart",
        "is_closed",
        "last_code",
        "name",
        "opened",
        "places",
        "served",
        "transport",
        "unshown",
    )

    def __init__(self, keeper: Keeper, backend: BackendState, name: str = "") -> None:
        """name: whom the backend has proved to be; "" without TLS."""
        self._keeper = keeper
        self.backend = backend
        self.name = name
        self.connect_seconds: tuple[float, ...] = ()
        """TCP connect, TLS handshake."""
        self.choked = False
        """The socket takes less than it is sent."""
        self.is_closed = False
        self.is_apart = False
        """It is for one request at a time: for those over which the backend may end it."""
        self.header_list = ANY_SIZE
        """Bytes of the largest field list that the backend wants to get."""
        self._last_words = ""
        """What its GOAWAY has said, if that was because of an error."""
        self.last_code = NO_ERROR
        """The code of that."""
        self.opened = self.idle_since = self._heard_at = monotonic()
        self.served = 0
        """Answers so far."""
        self.engine = backend.group.new_engine(OURS)
        self.places = Places(self)
        self._guard = FloodGuard(0, FLOODS)
        self._forced = 0
        self._streams: dict[int, BackendStream] = {}
        self._unasked: dict[BackendStream, None] = {}
        """Handed out, and without a stream id yet."""
        self.blocked: dict[BackendStream, None] = {}
        """Those that hold bytes for want of room, in the order of their turns."""
        self.unshown: list[BackendStream] = []
        """Those whose answer's head came in this read, and nothing of its body yet."""
        self.greeted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """The backend's settings have come. Before that nobody knows how many streams it takes, or whether it speaks HTTP/2 at all."""
        self._is_ending = False
        self.ending = ""
        """Why it ends, if we end it."""
        self._is_flushing = False
        """What the engine has leaves at the end of this turn, or of this read."""
        self._calls_line = False
        """A stream has ended, and others wait."""
        self._sent = 0
        """Bytes handed to the socket."""

    # -- for those who look for a connection ---------------------------------------

    @property
    def has_room(self) -> bool:
        return self.places.free > 0

    @property
    def in_use(self) -> int:
        """Its streams, and those handed out that will be ones soon."""
        return len(self._streams) + len(self._unasked)

    @property
    def is_unused(self) -> bool:
        return not self._streams and not self._unasked

    def stand_by(self, is_apart: bool = False) -> None:
        """Opened and counted: ready for exchanges. is_apart: for one at a time."""
        self.is_apart = is_apart
        self.places.open()

    def channel(self) -> BackendStream:
        """For one exchange, which asks at once. Only while it has room."""
        stream = BackendStream(self)
        self._unasked[stream] = None
        if self.in_use >= self.places.limit:
            self.places.put_on_shelf()
        return stream

    # -- the transport's side --------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._gate = ReadGate(self.transport)
        self._loop = asyncio.get_running_loop()
        self._writer = DirectWriter(self.transport)
        self._write = self._writer.write
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER)
        self.engine.start()
        self.flush_soon()

    def connection_lost(self, error: Exception | None) -> None:
        self._writer.end()
        self.is_closed = True
        self.places.put_on_shelf()
        self._keeper.lost(self.backend, self, error)
        self._drop_streams(self._last_words or ("" if error is None else str(error)), None)

    def eof_received(self) -> bool:
        self._is_ending = True
        self.places.shut()
        self._drop_streams(self._last_words, None)
        self.transport.abort()
        return False

    def data_received(self, data: bytes) -> None:
        if self._is_ending:
            return
        now = self._heard_at = monotonic()
        if len(data) >= LONG:
            self._mind_bulk(len(data))
        engine = self.engine
        try:
            if data.startswith(b"HTTP/") and not self.greeted.done():
                raise Http2Error(PROTOCOL_ERROR, "the backend answers in HTTP/1.1")
            self._guard.came(data, now)
        except Http2Error as error:
            engine.goaway(error.code)
            self._broke(error)
            return
        self._is_flushing = True  # at the end of this
        try:
            for event in engine.receive(data):
                self._take(event)
            if self.unshown:
                unshown, self.unshown = self.unshown, []
                for stream in unshown:
                    stream.show_head()
        except Http2Error as error:
            self._broke(error)
        finally:
            self._flush()
        forced = engine.forced_resets
        if forced != self._forced:
            self._count_forced(forced, now)

    def _count_forced(self, forced: int, now: float) -> None:
        """Streams had to be reset because of what the backend did to them."""
        try:
            self._guard.forced(forced - self._forced, now)
            self._forced = forced
        except Http2Error as error:
            self.engine.goaway(error.code)
            self._broke(error)

    def _mind_bulk(self, size: int) -> None:
        exchange = next((stream.exchange for stream in self._streams.values() if stream.exchange is not None), None)
        if exchange is not None:
            # Slow clients stop streams, never a connection.
            # Whoever else it is for: what one connection brings is mostly for one accept, if there are not many.
            self._keeper.bulk.took(size, self._gate, exchange.answers_to)

    def _take(self, event: Event) -> None:
        if isinstance(event, Room):
            self._make_use_of_room(event.stream_id)
        elif isinstance(event, GoAway):
            self._going_away(event)
        elif isinstance(event, SettingsChanged):
            self._learn_settings()
        elif isinstance(event, Pong):
            if event.payload == TRAILERS_READ:
                self.backend.takes_trailers = True
        else:
            stream = self._streams.get(event.stream_id)
            if stream is None:
                if isinstance(event, Body):
                    self.engine.acknowledge(event.stream_id, event.flow_length)
            elif isinstance(event, Body):
                stream.took_body(event.data, event.flow_length, event.ended)
            elif isinstance(event, Head):
                stream.took_head(event.fields, event.ended)
            elif isinstance(event, Trailers):
                stream.took_trailers(event.fields)
            elif isinstance(event, InterimHead):
                stream.took_interim(event.fields)
            elif isinstance(event, Reset):
                stream.was_reset(event.code, event.is_ours)

    def _learn_settings(self) -> None:
        """The backend's settings have come, or changed."""
        self.backend.streams = max(1, min(self.backend.group.settings.max_h2_streams, self.engine.remote_max_streams))
        self.backend.takes_tunnels = self.engine.connect_enabled
        self.header_list = self.engine.remote_header_list
        if not self.greeted.done():
            self.greeted.set_result(None)
        self.places.learn()
        if self.places.limit <= 0 and self.is_unused and self in self.backend.connections:
            self.close("the backend lets us open no streams")  # among the idle ones it would not be found
        self._keeper.serve_line(self.backend)

    def _going_away(self, event: GoAway) -> None:
        """No new streams; those that the backend has not touched go elsewhere (RFC 9113 section 6.8)."""
        self.places.shut()
        if event.code == HTTP_1_1_REQUIRED:
            self.backend.asked_for_http1(monotonic())
        why = words_of(event)
        is_lost = event.code != NO_ERROR and len(self._streams) > 1
        if event.code:
            self._last_words, self.last_code = why, event.code
        for stream_id, stream in list(self._streams.items()):
            if stream_id > event.last_stream_id:
                stream.was_refused(why, is_lost)
        if self.is_unused:
            self.close(f"the backend has said {why}")

    # -- for its streams -------------------------------------------------------------

    @property
    def scheme(self) -> bytes:
        return b"https" if self.name else b"http"

    def open_stream(self, stream: BackendStream, fields: Fields, ended: bool) -> int:
        """Sends a request's field list; the new stream's id."""
        del self._unasked[stream]
        stream_id = self.engine.request(fields, ended)
        self._streams[stream_id] = stream
        if stream_id > LAST_STREAM - SPARE_IDS:
            self.places.shut()
        self.flush_soon()
        return stream_id

    def reset_stream(self, stream_id: int, code: int) -> None:
        if not self._is_ending and not self.is_closed:
            self.engine.reset(stream_id, code)
            self.places.reset(monotonic())

    def answered(self) -> None:
        """A whole answer has come on a stream."""
        self.served += 1
        self._guard.answered += 1
        self.places.answered()

    def refused_one(self) -> None:
        """The backend takes fewer streams than it has said."""
        self.places.refused(len(self._streams) - 1)

    def parted(self, stream: BackendStream) -> None:
        """A stream has ended, in whatever way."""
        self._streams.pop(stream.id, None)
        self._unasked.pop(stream, None)
        self.blocked.pop(stream, None)
        places = self.places
        places.one_ended()
        if self.is_unused:
            self.idle_since = monotonic()
            if places.is_shut or places.limit <= 0 or not (self.backend.pending or self.backend.keeps_idle):
                self.close("it takes no more requests" if places.is_shut or places.limit <= 0 else "nothing is to idle")
                return
        self._calls_line = bool(self.backend.pending)
        self.flush_soon()

    def admit_trailers(self, size: int) -> bool:
        """Whether trailers of a request may be sent: they were read before, or nobody else is here, who would go with the connection
        (and nobody comes any more).

        size: bytes of them. Else they are dropped, as RFC 9110 section 6.5.1 allows; who has announced them is apart.
        """
        if self.is_apart or (self.backend.takes_trailers and size <= LONGEST):
            return True
        if self.in_use > 1:
            return False
        self.places.shut()
        return True

    def sent_trailers(self) -> None:
        """Whether the backend has read them shows by a PING that comes back."""
        if not self.backend.takes_trailers:
            self._loop.call_soon(self._ask_after_trailers)

    def _ask_after_trailers(self) -> None:
        if not self._is_ending and not self.is_closed:
            self._flush()  # before the PING, which libnghttp2 would put first
            self.engine.ping(TRAILERS_READ)
            self.flush_soon()

    # -- what leaves for the backend ---------------------------------------------------

    def pause_writing(self) -> None:
        self.choked = True
        for stream in list(self._streams.values()):
            stream.watch()

    def resume_writing(self) -> None:
        self.choked = False
        self.blocked.clear()
        for stream in list(self._streams.values()):
            stream.go_on()
        self.flush_soon()

    def _make_use_of_room(self, stream_id: int) -> None:
        """The backend has made some, on a stream or (0) on the connection."""
        if not self.blocked:
            return
        if stream_id:
            stream = self._streams.get(stream_id)
            if stream is not None and stream in self.blocked:
                del self.blocked[stream]
                stream.go_on()
            return
        blocked, self.blocked = self.blocked, {}
        for waiting in blocked:
            waiting.go_on()

    @property
    def taken(self) -> int:
        """Bytes that the socket has taken."""
        return self._sent - self.transport.get_write_buffer_size()

    def flush_soon(self) -> None:
        """What the engine has for the backend leaves at the end of this turn of the loop."""
        if not self._is_flushing:
            self._is_flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        if self._calls_line:
            self._calls_line = False
            self._keeper.serve_line(self.backend)
            if self.is_unused and (self.backend.pending or not self.backend.keeps_idle):
                self.close("nothing is to idle, or of no use to who waits at max_connections")  # who wants another name, or has gone
        self._is_flushing = False
        if self.is_closed or self.transport.is_closing():
            return
        data = self.engine.outgoing()
        if data:
            self._sent += len(data)
            self._guard.sent(len(data))
            self._write(data)

    # -- time, end ---------------------------------------------------------------------

    @property
    def deadline(self) -> float:
        """The first of its streams'."""
        return min((stream.deadline for stream in self._all()), default=inf)

    def expired(self, now: float) -> None:
        """The time of some streams is up. If nothing at all has come while one of them waited, that is all there will be."""
        is_dead = False
        for stream in [stream for stream in self._all() if stream.deadline <= now]:
            waited = stream.expired(now)
            if waited and self._heard_at <= now - waited:
                is_dead = True
        if is_dead and not self.is_closed:
            self._is_ending = True
            self.ending = "read_timeout"
            self.places.shut()
            self._drop_streams("nothing came any more", None)
            self.transport.abort()

    def _all(self) -> list[BackendStream]:
        return [*self._streams.values(), *self._unasked]

    def _drop_streams(self, why: str, outcome: Outcome | None) -> None:
        if not self.greeted.done():
            self.greeted.set_exception(ConnectionError(f"no HTTP/2: {why or 'closed'}"))
        streams = self._all()
        for stream in streams:
            stream.lost(why, outcome, len(streams) > 1)

    def _broke(self, error: Http2Error) -> None:
        """The backend has broken the protocol, or floods us. The GOAWAY that says so is queued."""
        self.places.shut()
        self._is_ending = True
        self.ending = error.detail
        self._drop_streams(error.detail, Outcome.INVALID)
        self._end()

    def close(self, why: str = "") -> None:
        """Says so and closes. What is left of its streams hears of the loss. why: for the log."""
        if not self._is_ending and not self.is_closed:
            self.ending = why
            self._is_ending = True
            self.places.shut()
            self.engine.goaway(NO_ERROR)
            self._end()

    def _end(self) -> None:
        """The last frames, and no more."""
        if self.transport.is_closing():
            return
        data = self.engine.outgoing()
        if data:
            self._write(data)
        if self.transport.get_write_buffer_size():
            self.transport.abort()  # it takes nothing: not to be waited for
        else:
            self.transport.close()
