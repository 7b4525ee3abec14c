"""HTTP/1.x server side on one client connection (RFC 9112).

Hot path: bytes become a stream here, and an answer becomes bytes in http1_output.py,
without command objects between; they would cost about 2 µs of the 6 that a request
may spend here. Decisions that are not about bytes live in core.py, the way of a
request's body in intake.py.
"""

from __future__ import annotations

import asyncio
import re
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Final

from pingap.stages.accept.client import Arrival, origin_of
from pingap.stages.accept.core import State
from pingap.stages.accept.h2c import PRIOR_KNOWLEDGE, asked_settings
from pingap.stages.accept.http1_output import Http1Output
from pingap.stages.accept.http2 import Http2Connection
from pingap.stages.accept.intake import Intake, decoder_of, tunnel_of
from pingap.stages.accept.stream import Stream
from pingap.stages.bulk import LONG
from pingap.stages.date import dated
from pingap.stages.http1.refused import start_of
from pingap.stages.http1.render import CONTINUE, STATUS_LINES, status_line
from pingap.stages.http1.rules import ProtocolError, RequestHead, head_too_large
from pingap.stages.http2.engine import Http2Error
from pingap.stages.messages import Peer, Response
from pingap.stages.read_gate import BACKLOG, CREDIT

if TYPE_CHECKING:
    from pingap.stages.accept.actor import AcceptActor
    from pingap.stages.accept.doors import Door

AHEAD: Final = 64 * 1024
"""Bytes of pipelined requests that wait in the buffer before reading pauses."""

_EMPTY_LINES: Final = re.compile(rb"(?:\r\n)+")


class Http1Connection(Http1Output):
    """One connection; at most one stream at a time."""

    __slots__ = ("_buffer", "_head_started", "_is_half_closed", "_lingering", "_parse")

    def __init__(self, actor: AcceptActor, door: Door, arrival: Arrival | None = None) -> None:
        """arrival: of a connection that the actor knows already; None for one that begins here."""
        super().__init__(actor, door)
        self._parse = door.engine.parse_request
        self._buffer = b""
        self._head_started = 0.0
        self._intake = None
        self._stream = None
        self._choked = False
        self._lingering = False
        """Nothing more is wanted of the client."""
        self._is_half_closed = False
        """The client has shut its side, and its requests go on."""
        if arrival is not None:
            self.arrival = arrival

    # -- the transport's side ------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.take_over(transport)
        now = monotonic()
        if not hasattr(self, "arrival"):
            peer = Peer(*origin_of(transport), "http", self.actor.connected(self, self.door))
            self.arrival = Arrival(peer, now, None)
        self.deadline = now + self.door.settings.header_timeout

    def connection_lost(self, error: Exception | None) -> None:
        self.lost()
        # Pipelined requests die with their connection: nothing that is still scheduled may open a stream on it.
        self._lingering = True
        self._buffer = b""
        self._collected_in_vain()
        self._intake = None
        stream, self._stream = self._stream, None
        if stream is not None:
            self.actor.client_left(stream)
        self.actor.disconnected(self, self.door)

    def _collected_in_vain(self) -> None:
        """The client has left. If a request's body was being collected, nobody but us knows of that request."""
        intake = self._intake
        if intake is not None and intake.head is not None:
            started, size = self._head_started or monotonic(), intake.collected
            self.actor.refused(self, self.door, intake.head, "client_closed", "gone before its body was here", started, received=size)

    def eof_received(self) -> bool:
        # A client that shuts its side before the answer has come is taken for gone, as nginx does:
        # a browser that was closed looks the same, and its backend must hear of it at once.
        stream = self._stream
        if stream is None:
            self._collected_in_vain()
            self._close()
        elif stream.is_tunnel and self._intake is not None and self.transport.can_write_eof():
            self._intake.ended()
            return True
        elif self.actor.departures.may_go_on(stream) and self.transport.can_write_eof():
            self._is_half_closed = True
            if not self._buffer:  # else there are requests in it, which came before the end
                stream.keep_alive = False
            self.actor.departures.half_closed(stream, self.transport.abort)
            return True
        else:
            self.transport.abort()
        return False

    def pause_writing(self) -> None:
        self._choked = True
        self.watch_writing()

    def resume_writing(self) -> None:
        self._choked = False
        if self._lingering:
            return  # the last bytes: they are watched to the end
        self.write_deadline = inf
        if self._stream is not None:
            if self._stream.unacked:
                self.actor.give_credit(self._stream)
        elif self._intake is None:
            self._await_next(monotonic())

    def data_received(self, data: bytes) -> None:
        if self._stream is None and self._intake is None and not self._lingering:
            self._next(self._buffer + data if self._buffer else data)
        elif self._intake is not None:
            if len(data) >= LONG:
                self.actor.bulk.took(len(data), self.gate, self._stream.wanter if self._stream is not None else 0)
            try:
                self._intake.arrived(data)
            except ProtocolError as error:
                if self._intake is not None and self._intake.is_dropped:
                    self._close()
                else:
                    self._refuse(error.kind, error.detail, self._head_started or monotonic())
        elif not self._lingering:  # else read only so that the answer is not reset away
            self._buffer += data
            if len(self._buffer) > AHEAD:
                self.gate.shut(BACKLOG)

    # -- requests -----------------------------------------------------------

    def _next(self, data: bytes) -> None:
        """Parses the next head in `data`, if it is complete."""
        if data.startswith(b"\r\n"):  # empty lines before a request are forgiven (RFC 9112 section 2.2)
            data = data[_EMPTY_LINES.match(data).end() :]  # type: ignore[union-attr]
        end = data.find(b"\r\n\r\n") + 4
        if end == 3:
            self._wait_for_head(data)
            return
        now = monotonic()
        started, self._head_started = self._head_started or now, 0.0
        head_block, self._buffer = (data, b"") if end == len(data) else (data[:end], data[end:])
        try:
            head = self._parse(head_block, self.door.limits)
            if head.length == 0:
                if head.upgrade and self._speaks_http2 and self._upgrade(head, head_block, started):
                    return
                self.deadline = inf
                self._stream = self.actor.open(self, self.door, head, started, 0, b"", True)
                if len(self._buffer) > AHEAD:
                    self.gate.shut(BACKLOG)
                elif self.gate.reasons:
                    self.gate.open(BACKLOG)
                return
            rest, self._buffer = self._buffer, b""
            self.gate.open(BACKLOG)
            self._head_started = started  # until it is a stream
            self._intake = Intake(self, decoder_of(head), self.door.settings.downstream_read_timeout)
            self._intake.begin(head, started, rest)
        except ProtocolError as error:
            if head_block == PRIOR_KNOWLEDGE and self._speaks_http2 and not self.served:
                self._begin_http2(head_block)
            else:
                self._refuse(error.kind, error.detail, started, head_block)

    def _wait_for_head(self, data: bytes) -> None:
        limits = self.door.limits
        if len(data) > limits.head:
            error = head_too_large(data, limits)
            self._refuse(error.kind, error.detail, self._head_started or monotonic(), data)
            return
        at = data.find(b"\n", max(0, len(self._buffer) - 1))
        while at >= 0:
            if data[at - 1 : at] != b"\r":
                # A bare LF will never become a valid head: say so now rather than at the time-out.
                self._refuse("bad_request", "bare LF in the head", self._head_started or monotonic(), data)
                return
            at = data.find(b"\n", at + 1)
        if data and not self._head_started:
            self._head_started = monotonic()
            self.deadline = self._head_started + self.door.settings.header_timeout
        self._buffer = data
        self.gate.open(BACKLOG)

    def open(self, head: RequestHead, started: float, length: int, body: bytes, ended: bool) -> Stream:
        """For the intake: the request is complete, or complete enough."""
        self._head_started = 0.0
        if ended:
            self.deadline = inf
        self._stream = self.actor.open(self, self.door, head, started, length, body, ended)
        return self._stream

    def is_taken_by(self, intake: Intake) -> bool:
        """What comes from the client goes to this intake."""
        return self._intake is intake

    def intake_over(self, rest: bytes) -> None:
        """For the intake: it has taken all that there was. rest: what follows the body."""
        intake, self._intake = self._intake, None
        self._buffer = rest
        self.deadline = inf
        if intake is not None and intake.is_dropped:
            self._await_next(monotonic())
        elif self._stream is not None and self._stream.is_half_shut:
            self._finish(self._stream, monotonic())

    def credited(self, stream: Stream) -> None:
        intake = self._intake
        if stream is not self._stream or intake is None:
            return
        if intake.is_expected:
            intake.is_expected = False
            self.write(CONTINUE)
        intake.credited()

    # -- HTTP/2 on a plain connection -------------------------------------------

    @property
    def _speaks_http2(self) -> bool:
        """Under TLS the handshake has settled what is spoken (RFC 9113 section 3.2)."""
        return self.door.make_http2 is not None and self.door.chooser is None

    def _begin_http2(self, preface: bytes) -> None:
        connection = Http2Connection(self.actor, self.door, self.arrival)
        self.transport.set_protocol(connection)
        connection.connection_made(self.transport)
        self._hand_over(connection, preface)

    def _upgrade(self, head: RequestHead, block: bytes, started: float) -> bool:
        """Switches to HTTP/2 when the request asks for that as it should, its answer included."""
        settings = asked_settings(head, block)
        if settings is None:
            return False
        connection = Http2Connection(self.actor, self.door, self.arrival)
        connection.served = self.served
        try:
            connection.upgraded(self.transport, settings, head, started)
        except Http2Error:
            return False  # settings that are none: an Upgrade may be ignored
        self._hand_over(connection, b"")
        return True

    def _hand_over(self, connection: Http2Connection, begun: bytes) -> None:
        """begun: what this one has taken out of its buffer."""
        self.deadline = inf
        self._lingering = True
        rest, self._buffer = begun + self._buffer, b""
        self.actor.handed_over(self, connection)
        connection.gate = self.gate
        self.gate.open(BACKLOG)
        if rest:
            connection.data_received(rest)

    # -- a tunnel -------------------------------------------------------------

    def _open_tunnel(self, stream: Stream, response: Response, now: float) -> None:
        """The backend has agreed to switch (RFC 9110 section 7.8): from now on the bytes are theirs."""
        if not stream.request.upgrade:
            raise ValueError("101 that nobody asked for")
        if self._intake is not None:
            raise ValueError("101 before the request was sent")  # the rest of its body would be taken for the tunnel's bytes
        stream.is_tunnel = True
        stream.keep_alive = stream.upload_done = False
        stream.credit = 0  # that was for the request's body; the tunnel's comes behind the 101
        stream.responded = now
        rest, self._buffer = self._buffer, b""
        protocol = stream.request.upgrade
        headers = b"%bconnection: upgrade\r\nupgrade: %b\r\n" % (response.headers, protocol)
        self.write(b"%b%b\r\n" % (status_line(101, response.reason), self._written(headers, response.spelled)))
        self._intake = tunnel_of(self)
        self.gate.open(BACKLOG)
        self._intake.tunnel(stream, rest)
        if response.body:
            self.write(response.body)
            stream.sent = stream.unacked = len(response.body)

    # -- between requests ---------------------------------------------------

    def _finish(self, stream: Stream, now: float) -> None:
        self._stream = None
        self.actor.ended(stream, now)
        if not stream.keep_alive:
            if self._buffer or not stream.upload_done:
                self._linger()
            else:
                self._close()
        elif self._intake is not None:
            try:
                self._intake.begin_drop(now)
            except ProtocolError:
                self._close()
        else:
            self._await_next(now)

    def _await_next(self, now: float) -> None:
        if self._choked:
            # Who does not read shall not ask for more: pipelined answers would fill the memory.
            self.deadline = inf
            self.gate.shut(BACKLOG)
            return
        self.deadline = now + self.door.settings.keepalive_timeout
        if self._buffer:  # not from here: a long pipeline of refusals would go too deep
            self.actor.context.loop.call_soon(self._next_pipelined)
        elif self.gate.reasons:
            self.gate.open(BACKLOG)

    def _next_pipelined(self) -> None:
        if self._buffer and self._stream is None and self._intake is None and not self._lingering:
            data, self._buffer = self._buffer, b""
            self._next(data)
            if self._is_half_closed and not self.eof_received():  # for this request, too
                self.transport.close()

    def _refuse(self, kind: str, detail: str, started: float, block: bytes = b"") -> None:
        """Answers a request that broke the rules, and closes. block: what came of its head, if that is what broke them."""
        stream, intake = self._stream, self._intake
        self._head_started = 0.0
        if stream is not None and stream.state is State.RESPONDING:
            stream.failed = kind
            self.cut(stream)
            return
        self._stream = None
        refused = stream or (intake.head if intake is not None else None) or start_of(block)
        status, headers, body = self.actor.refusal(self, self.door, refused, kind, detail, started)
        headers = b"%b%bcontent-length: %d\r\nconnection: close\r\n" % (headers, dated(headers, monotonic()), len(body))
        self.write(b"%b%b\r\n%b" % (STATUS_LINES[status], self._written(headers, ()), body))
        self._linger()

    # -- endings ------------------------------------------------------------

    def _close(self) -> None:
        """Closes once the client has taken what waits for it."""
        self._lingering = True
        self._intake = None
        self._buffer = b""
        self.deadline = inf
        self.close_when_taken()

    def _linger(self) -> None:
        """Ends the answer but goes on reading for a moment: closing now would reset it away."""
        if not self.transport.can_write_eof():
            self._close()
            return
        self._lingering = True
        self._intake = None
        self._buffer = b""
        self.gate.open(BACKLOG | CREDIT)
        self.say_last()

    def close_if_idle(self) -> None:
        if self._lingering:
            return
        if self._intake is not None:
            if self._intake.is_dropped:
                self._linger()  # the rest of that body no longer matters
        elif self._stream is None and not self._head_started:
            self._close()

    # -- time ---------------------------------------------------------------

    def expired(self, now: float) -> None:
        if self.is_stuck(now) or self.deadline > now:
            return
        self.deadline = inf
        dropping = self._intake is not None and self._intake.is_dropped
        if self._lingering or dropping:
            self.has_lingered(now)
        elif self._stream is not None or self._intake is not None or self._head_started:
            self._refuse("request_timeout", "the request took too long to arrive", self._head_started or now, self._buffer)
        else:
            self._close()
