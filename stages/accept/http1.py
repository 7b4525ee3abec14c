"""HTTP/1.x server side on one client connection (RFC 9112).

Hot path: bytes become a stream here, and an answer becomes bytes, without command
objects between; they would cost about 2 µs of the 6 that a request may spend here.
The way of a request's body is in intake.py, the states in states.py.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from math import inf
from time import monotonic
from typing import Final

from pingap.stages.accept.connections import Connections
from pingap.stages.accept.door import Door
from pingap.stages.accept.file_answer import FileAnswer
from pingap.stages.accept.h2c import PRIOR_KNOWLEDGE, asked_settings
from pingap.stages.accept.http2 import Http2ClientConnection
from pingap.stages.accept.intake import Intake, decoder_of, tunnel_of
from pingap.stages.accept.origin import origin_of
from pingap.stages.accept.outlet import BODILESS, LINGER, TOP_UP, Outlet
from pingap.stages.accept.refusals import as_read_by
from pingap.stages.accept.server_timing import timed
from pingap.stages.accept.states import BUSY, CHOKED, CLOSED, COLLECTING, DROPPING, HEAD, IDLE, LINGERING
from pingap.stages.bulk import LONG
from pingap.stages.client import Arrival
from pingap.stages.date import dated
from pingap.stages.http1.direct import reset
from pingap.stages.http1.refused import start_of
from pingap.stages.http1.render import CONTINUE, LAST_CHUNK, STATUS_LINES, chunk, status_line
from pingap.stages.http1.rules import ProtocolError, RequestHead, head_too_large, reads_trailers
from pingap.stages.http1.spelling import Spelled, respelled
from pingap.stages.http2.engine import Http2Error
from pingap.stages.messages import UNKNOWN, Data, FileRef, Interim, Peer, Response
from pingap.stages.read_gate import BACKLOG, CREDIT, ReadGate
from pingap.stages.stream import OwnedStream
from pingap.stages.stream_states import ANSWERING, HALF_SHUT, TUNNEL

AHEAD: Final = 64 * 1024
"""Bytes of pipelined requests that wait in the buffer before reading pauses."""

ONE_PIECE: Final = 16 * 1024
"""Up to this many bytes it is cheaper to copy a payload into its chunk than to hand the parts to the kernel."""

_FINAL: Final = {status: line for status, line in STATUS_LINES.items() if status >= 200}
_EMPTY_LINES: Final = re.compile(rb"(?:\r\n)+")


class Http1ClientConnection(asyncio.Protocol):
    """One connection; at most one stream at a time."""

    __slots__ = (
        "_buffer",
        "_connections",
        "_file",
        "_head_started",
        "_intake",
        "_is_half_closed",
        "_outlet",
        "_parse",
        "_state",
        "_stream",
        "_streams",
        "arrival",
        "deadline",
        "door",
        "gate",
        "nth",
        "transport",
        "write",
    )

    arrival: Arrival
    transport: asyncio.Transport
    gate: ReadGate
    write: Callable[[bytes], None]
    _outlet: Outlet

    def __init__(self, connections: Connections, door: Door, arrival: Arrival | None = None) -> None:
        """arrival: of a connection that is registered already; None for one that begins here."""
        self._connections = connections
        self._streams = connections.streams
        self.door = door
        self.deadline = inf
        self.nth = 0
        """Requests so far, the present one included."""
        self._parse = door.engine.parse_request
        self._buffer = b""
        self._head_started = 0.0
        self._intake: Intake | None = None
        """Of a request whose body has not all come, or whose answer has not waited for it."""
        self._stream: OwnedStream | None = None
        """The request that waits for its answer, or is being answered."""
        self._file: FileAnswer | None = None
        """The body of the answer, where that is a file."""
        self._state = IDLE
        self._is_half_closed = False
        """The client has shut its side, and its requests go on."""
        if arrival is not None:
            self.arrival = arrival

    # -- the transport's side ------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        outlet = self._outlet = Outlet(transport, self.door)  # type: ignore[arg-type]
        self.transport, self.write = outlet.transport, outlet.writer.write
        self.gate = ReadGate(outlet.transport)
        now = monotonic()
        if not hasattr(self, "arrival"):
            peer = Peer(*origin_of(transport), "http", self._connections.connected(self, self.door))
            self.arrival = Arrival(peer, now, None)
        self.deadline = now + self.door.settings.header_timeout

    def connection_lost(self, error: Exception | None) -> None:
        self._outlet.lost()
        self.deadline = inf
        # Pipelined requests die with their connection: nothing that is still scheduled may open a stream on it.
        self._state = CLOSED
        self._buffer = b""
        self._collected_in_vain()
        self._intake = None
        stream, self._stream = self._stream, None
        if stream is not None and self._file is not None:
            self._file.stop()
            self._file = None
            self._streams.abandon(stream, "client_closed")
        elif stream is not None:
            self._connections.departures.left(stream)
        self._connections.disconnected(self, self.door)

    def _collected_in_vain(self) -> None:
        """The client has left. If a request's body was being collected, nobody but us knows of that request."""
        intake = self._intake
        if intake is not None and intake.head is not None:
            self.nth += 1
            started, size, why = self._head_started or monotonic(), intake.collected, "gone before its body was here"
            self._connections.answers.record(self, self.door, intake.head, "client_closed", why, started, received=size)

    def eof_received(self) -> bool:
        # A client that shuts its side before the answer has come is taken for gone, as nginx does:
        # a browser that was closed looks the same, and its backend must hear of it at once.
        stream = self._stream
        if stream is None:
            self._collected_in_vain()
            self._close()
        elif stream.state in (TUNNEL, HALF_SHUT) and self._intake is not None and self.transport.can_write_eof():
            self._intake.ended()
            return True
        elif self._connections.departures.may_go_on(stream) and self.transport.can_write_eof():
            self._is_half_closed = True
            if not self._buffer:  # else there are requests in it, which came before the end
                stream.keep_alive = False
            self._connections.departures.half_closed(stream, self.transport.abort)
            return True
        else:
            self.transport.abort()
        return False

    def pause_writing(self) -> None:
        self._outlet.choked = True
        self._outlet.watch()

    def resume_writing(self) -> None:
        self._outlet.choked = False
        if self._state is LINGERING or self._state is CLOSED:
            return  # the last bytes: they are watched to the end
        self._outlet.deadline = inf
        if self._state is CHOKED:
            self._await_next(monotonic())
        elif self._stream is not None and self._stream.unacked:
            self._streams.give_credit(self._stream)

    def data_received(self, data: bytes) -> None:
        state = self._state
        if state is IDLE or state is HEAD:
            self._next(self._buffer + data if self._buffer else data)
        elif self._intake is not None:
            if len(data) >= LONG:
                self._connections.bulk.took(len(data), self.gate, self._stream.wanter if self._stream is not None else 0)
            try:
                if state is DROPPING:
                    self._intake.drop(data)
                else:
                    self._intake.arrived(data)
            except ProtocolError as error:
                if state is DROPPING:
                    self._close()
                else:
                    self._refuse(error.kind, error.detail, self._head_started or monotonic())
        elif state is BUSY or state is CHOKED:  # else read only so that the answer is not reset away
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
                self._state = BUSY
                self.nth += 1
                self._stream = self._streams.open(self, self.door.name, head, started, 0, b"", True)
                if len(self._buffer) > AHEAD:
                    self.gate.shut(BACKLOG)
                elif self.gate.reasons:
                    self.gate.open(BACKLOG)
                return
            rest, self._buffer = self._buffer, b""
            self.gate.open(BACKLOG)
            self._state = COLLECTING
            self._head_started = started  # until it is a stream
            self._intake = Intake(self, self._streams, decoder_of(head), self.door.settings.downstream_read_timeout)
            self._intake.begin(head, started, rest)
        except ProtocolError as error:
            if head_block == PRIOR_KNOWLEDGE and self._speaks_http2 and not self.nth:
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
        if data and self._state is IDLE:
            self._state = HEAD
            self._head_started = monotonic()
            self.deadline = self._head_started + self.door.settings.header_timeout
        self._buffer = data
        self.gate.open(BACKLOG)

    def open(self, head: RequestHead, started: float, length: int, body: bytes, ended: bool) -> OwnedStream:
        """For the intake: the request is complete, or complete enough."""
        self._state = BUSY
        self._head_started = 0.0
        if ended:
            self.deadline = inf
        self.nth += 1
        self._stream = self._streams.open(self, self.door.name, head, started, length, body, ended)
        return self._stream

    def is_taken_by(self, intake: Intake) -> bool:
        """What comes from the client goes to this intake."""
        return self._intake is intake

    def intake_over(self, rest: bytes) -> None:
        """For the intake: it has taken all that there was. rest: what follows the body."""
        self._intake = None
        self._buffer = rest
        self.deadline = inf
        if self._state is DROPPING:
            self._await_next(monotonic())
        elif self._stream is not None and self._stream.state is HALF_SHUT:
            self._finish(self._stream, monotonic())

    def credited(self) -> None:
        intake = self._intake
        if intake is None:
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
        connection = Http2ClientConnection(self._connections, self.door, self.arrival)
        self.transport.set_protocol(connection)
        connection.connection_made(self.transport)
        self._hand_over(connection, preface)

    def _upgrade(self, head: RequestHead, block: bytes, started: float) -> bool:
        """Switches to HTTP/2 when the request asks for that as it should, its answer included."""
        settings = asked_settings(head, block)
        if settings is None:
            return False
        connection = Http2ClientConnection(self._connections, self.door, self.arrival)
        connection.served = self.nth
        try:
            connection.upgraded(self.transport, settings, head, started)
        except Http2Error:
            return False  # settings that are none: an Upgrade may be ignored
        self._hand_over(connection, b"")
        return True

    def _hand_over(self, connection: Http2ClientConnection, begun: bytes) -> None:
        """begun: what this one has taken out of its buffer."""
        self.deadline = inf
        self._state = CLOSED
        rest, self._buffer = begun + self._buffer, b""
        self._connections.handed_over(self, connection)
        connection.gate = self.gate  # Bulk may hold it
        self.gate.open(BACKLOG)
        if rest:
            connection.data_received(rest)

    # -- the answer: how it is framed, and when it is cut (RFC 9112 section 6) --

    def respond(self, response: Response, now: float) -> None:
        stream = self._stream
        assert stream is not None
        request = stream.request
        if response.status >= 400:
            response = as_read_by(stream, response)
        settings = self.door.settings
        if settings.enable_server_timing:
            response = timed(response, request.started, now)
        status, length, body, ended = response.status, response.length, response.body, response.ended
        framing = b""
        if status == 101:
            self._open_tunnel(stream, response, now)
            return
        if request.method == b"HEAD" or status in BODILESS:
            stream.bodiless = True
            body = b""  # a stage may have answered HEAD like GET: the client would take it for the next answer
            if length != UNKNOWN and status != 204:
                framing = b"content-length: %d\r\n" % length
        elif ended:
            framing = b"content-length: %d\r\n" % len(body)
        elif length != UNKNOWN:
            framing = b"content-length: %d\r\n" % length
        elif request.version >= 11:
            stream.chunked = True
            framing = b"transfer-encoding: chunked\r\n"
        else:
            stream.keep_alive = False
        if self._connections.draining or not settings.keepalive_timeout:
            stream.keep_alive = False
        if not stream.upload_done:
            intake = self._intake
            if status >= 400 or intake is None or intake.is_expected:
                stream.keep_alive = False
            if intake is not None:
                intake.is_expected = False  # this is the final answer: 100 must not come after it
        if not stream.keep_alive:
            framing += b"connection: close\r\n"
        elif request.version < 11:
            framing += b"connection: keep-alive\r\n"
        if stream.chunked:
            body = chunk(body)
        headers = response.headers
        start = _FINAL[status]
        if response.reason:
            start = status_line(status, response.reason)
        date = dated(headers, now)
        if settings.preserve_header_case:
            headers, date, framing = respelled(b"%b%b%b" % (headers, date, framing), response.spelled), b"", b""
        out = b"%b%b%b%b\r\n%b" % (start, headers, date, framing, body)
        stream.responded = now
        self.write(out)
        if ended:
            stream.sent = len(body)
            self._finish(stream, now)
        else:
            stream.unacked = len(response.body)
            stream.sent = 0 if stream.bodiless else stream.unacked

    def interim(self, interim: Interim) -> None:
        assert self._stream is not None
        if self._stream.request.version >= 11:  # a client of 1.0 knows none (RFC 9110 section 15.2)
            headers = self._written(interim.headers, interim.spelled)
            self.write(b"%b%b\r\n" % (status_line(interim.status, interim.reason), headers))

    def _written(self, block: bytes, spelled: Spelled) -> bytes:
        """A block in normal form as this server's clients get it."""
        return respelled(block, spelled) if self.door.settings.preserve_header_case else block

    def body(self, data: Data) -> None:
        stream = self._stream
        assert stream is not None
        response = stream.response
        assert response is not None
        if data.error:
            stream.failed = data.error
            if data.payload and response.length == UNKNOWN and not stream.bodiless:
                self._end_cut(stream, data.payload)
            else:
                self.cut()
            return
        payload = data.payload
        size = len(payload)
        stream.unacked += size
        if not stream.bodiless:
            stream.sent += size
            if stream.chunked:
                if data.trailers and reads_trailers(stream.request.headers):
                    self._write_chunk(payload, False)
                    self.write(b"0\r\n%b\r\n" % self._written(data.trailers, response.spelled))
                else:
                    self._write_chunk(payload, data.ended)
            elif response.length == UNKNOWN or stream.sent <= response.length:
                if size:
                    self.write(payload)
            else:
                excess = stream.sent - response.length
                stream.sent = response.length
                if size > excess:
                    self.write(payload[:-excess])
                stream.failed = "bad_gateway"  # more than was promised: the client would take it for the next answer
                self.cut()
                return
        if data.ended:
            if data.context and response.report is not None:
                response.report.context.update(data.context)
            if stream.state is TUNNEL and not stream.upload_done:
                self._half_shut(stream)
            elif response.length in (UNKNOWN, stream.sent) or stream.bodiless:
                self._finish(stream, monotonic())
            else:
                stream.failed = "bad_gateway"  # less than was promised: only a close can tell the client
                self.cut()
        elif not self._outlet.choked and stream.unacked >= TOP_UP:
            self._streams.give_credit(stream)

    def _write_chunk(self, payload: bytes, ended: bool) -> None:
        size = len(payload)
        if size > ONE_PIECE:
            self._outlet.writer.writelines((b"%x\r\n" % size, payload, b"\r\n0\r\n\r\n" if ended else b"\r\n"))
        elif size:
            self.write(b"%x\r\n%b\r\n0\r\n\r\n" % (size, payload) if ended else b"%x\r\n%b\r\n" % (size, payload))
        elif ended:
            self.write(LAST_CHUNK)

    def _half_shut(self, stream: OwnedStream) -> None:
        """The backend's half of a tunnel has ended."""
        if self.transport.can_write_eof():
            stream.state = HALF_SHUT
            self.transport.write_eof()
        else:
            self._finish(stream, monotonic())

    def fail(self, kind: str) -> None:
        assert self._stream is not None
        self.respond(self._connections.answers.answer(self._stream, kind), monotonic())

    def cut(self) -> None:
        stream, self._stream = self._stream, None
        assert stream is not None
        if self._file is not None:
            self._file.stop()
            self._file = None
        self._streams.ended(stream, monotonic(), stream.failed or "cut")
        response = stream.response
        if response is not None and response.length == UNKNOWN and not stream.chunked and not stream.bodiless:
            self._state = CLOSED
            reset(self.transport)  # its end is the connection's end, so an orderly close would say that all is there
        else:
            self._close()

    def _end_cut(self, stream: OwnedStream, last: bytes) -> None:
        """An answer that is cut off and says so at its end, which is an orderly one."""
        self._stream = None
        stream.sent += len(last)
        if stream.chunked:
            self._write_chunk(last, True)
        else:
            self.write(last)
        self._streams.ended(stream, monotonic(), stream.failed)
        self._close()

    # -- an answer that is a file ----------------------------------------------

    def send_file(self, ref: FileRef) -> bool:
        assert self._stream is not None
        self._file = FileAnswer.begun(self, self._outlet, self._connections, self._stream, ref)
        return self._file is not None

    def file_over(self, is_sent: bool) -> None:
        """For the file: all of it is sent, or none, for its bytes are asked for."""
        self._file = None
        if is_sent:
            assert self._stream is not None
            self._finish(self._stream, monotonic())

    # -- a tunnel -------------------------------------------------------------

    def _open_tunnel(self, stream: OwnedStream, response: Response, now: float) -> None:
        """The backend has agreed to switch (RFC 9110 section 7.8): from now on the bytes are theirs."""
        if not stream.request.upgrade:
            raise ValueError("101 that nobody asked for")
        if self._intake is not None:
            raise ValueError("101 before the request was sent")  # the rest of its body would be taken for the tunnel's bytes
        stream.state = TUNNEL
        stream.keep_alive = stream.upload_done = False
        stream.credit = 0  # that was for the request's body; the tunnel's comes behind the 101
        stream.responded = now
        rest, self._buffer = self._buffer, b""
        protocol = stream.request.upgrade
        headers = b"%bconnection: upgrade\r\nupgrade: %b\r\n" % (response.headers, protocol)
        self.write(b"%b%b\r\n" % (status_line(101, response.reason), self._written(headers, response.spelled)))
        self._intake = tunnel_of(self, self._streams)
        self.gate.open(BACKLOG)
        self._intake.tunnel(stream, rest)
        if response.body:
            self.write(response.body)
            stream.sent = stream.unacked = len(response.body)

    # -- between requests ---------------------------------------------------

    def _finish(self, stream: OwnedStream, now: float) -> None:
        self._stream = None
        self._streams.ended(stream, now)
        if not stream.keep_alive:
            if self._buffer or not stream.upload_done:
                self._linger()
            else:
                self._close()
        elif self._intake is not None:
            self._state = DROPPING
            try:
                self._intake.begin_drop(now)
            except ProtocolError:
                self._close()
        else:
            self._await_next(now)

    def _await_next(self, now: float) -> None:
        if self._outlet.choked:
            self._state = CHOKED
            # Who does not read shall not ask for more: pipelined answers would fill the memory.
            self.deadline = inf
            self.gate.shut(BACKLOG)
            return
        self._state = IDLE
        self.deadline = now + self.door.settings.keepalive_timeout
        if self._buffer:  # not from here: a long pipeline of refusals would go too deep
            self._connections.loop.call_soon(self._next_pipelined)
        elif self.gate.reasons:
            self.gate.open(BACKLOG)

    def _next_pipelined(self) -> None:
        if self._buffer and self._state is IDLE:
            data, self._buffer = self._buffer, b""
            self._next(data)
            if self._is_half_closed and not self.eof_received():  # for this request, too
                self.transport.close()

    def _refuse(self, kind: str, detail: str, started: float, block: bytes = b"") -> None:
        """Answers a request that broke the rules, and closes. block: what came of its head, if that is what broke them."""
        stream, intake = self._stream, self._intake
        self._head_started = 0.0
        if stream is not None and stream.state >= ANSWERING:
            stream.failed = kind
            self.cut()
            return
        self._stream = None
        refused = stream or (intake.head if intake is not None else None) or start_of(block)
        if stream is None:
            self.nth += 1
        status, headers, body = self._connections.answers.refuse(self, self.door, refused, kind, detail, started)
        headers = b"%b%bcontent-length: %d\r\nconnection: close\r\n" % (headers, dated(headers, monotonic()), len(body))
        self.write(b"%b%b\r\n%b" % (STATUS_LINES[status], self._written(headers, ()), body))
        self._linger()

    # -- endings ------------------------------------------------------------

    def _close(self) -> None:
        """Closes once the client has taken what waits for it."""
        self._state = CLOSED
        self._intake = None
        self._buffer = b""
        self.deadline = inf
        self._outlet.close_when_taken()

    def _linger(self) -> None:
        """Ends the answer but goes on reading for a moment: closing now would reset it away."""
        if not self.transport.can_write_eof():
            self._close()
            return
        self._state = LINGERING
        self._intake = None
        self._buffer = b""
        self.gate.open(BACKLOG | CREDIT)
        self.deadline = monotonic() + LINGER
        self._outlet.say_last()

    def close_if_idle(self, reprieve: float) -> None:
        if self._state is DROPPING:
            self._linger()  # the rest of that body no longer matters
        elif self._state is IDLE or self._state is CHOKED:
            if reprieve:
                self.deadline = min(self.deadline, monotonic() + reprieve)
            else:
                self._close()

    # -- time ---------------------------------------------------------------

    @property
    def write_deadline(self) -> float:
        return self._outlet.deadline

    def expired(self, now: float) -> None:
        if self._outlet.expired(now) or self.deadline > now:
            return
        self.deadline = inf
        if self._state is LINGERING or self._state is DROPPING:
            if self.transport.get_write_buffer_size():
                self.deadline = now + LINGER  # not for who has not got all of it yet
            else:
                self.transport.abort()
        elif self._state is HEAD or self._state is COLLECTING or self._state is BUSY:
            self._refuse("request_timeout", "the request took too long to arrive", self._head_started or now, self._buffer)
        else:
            self._close()
