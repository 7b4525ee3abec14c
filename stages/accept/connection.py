"""HTTP/1.x server side on one client connection (RFC 9112).

Hot path: this file turns bytes into a stream and an answer into bytes without
command objects between; they would cost about 2 µs of the 6 that a request may
spend here. Decisions that are not about bytes live in core.py.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Final

from stages.accept.core import State
from stages.accept.stream import Stream
from stages.http1.body import BodyDecoder, ChunkedBody, LengthBody
from stages.http1.direct import DirectWriter
from stages.http1.render import CONTINUE, LAST_CHUNK, STATUS_LINES, chunk
from stages.http1.rules import ProtocolError, RequestHead, head_too_large
from stages.messages import INLINE, UNKNOWN, WINDOW, Data, Peer, Response

if TYPE_CHECKING:
    from stages.accept.actor import AcceptActor, Door

BACKLOG: Final = 64 * 1024
"""Bytes of pipelined requests that wait in the buffer before reading pauses."""

TOP_UP: Final = WINDOW // 4
"""Credit is returned in portions of at least this many bytes."""

WRITE_BUFFER: Final = 256 * 1024
"""Response bytes that may wait for the socket before credit is held back."""

LINGER: Final = 2.0
"""Seconds that a client gets to read an answer that came before its body was all sent (RFC 9112 section 9.6)."""

DISCARD: Final = 30.0
"""Seconds that the rest of a request body may take to arrive after its answer, so that the connection can be kept."""

BODILESS: Final = frozenset((204, 304))

ONE_PIECE: Final = 16 * 1024
"""Up to this many bytes it is cheaper to copy a payload into its chunk than to hand the parts to the kernel."""

_EMPTY_LINES: Final = re.compile(rb"(?:\r\n)+")
_FINAL: Final = {status: line for status, line in STATUS_LINES.items() if status >= 200}
_RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER of zero seconds: what is closed then is reset."""


class ClientConnection(asyncio.Protocol):
    """One connection; at most one stream at a time."""

    __slots__ = (
        "_actor",
        "_buffer",
        "_choked",
        "_collected",
        "_decoder",
        "_door",
        "_expects",
        "_head",
        "_head_started",
        "_lingering",
        "_parse",
        "_paused",
        "_pending",
        "_stream",
        "_unsent",
        "_write",
        "_writer",
        "connected",
        "deadline",
        "number",
        "peer",
        "served",
        "transport",
        "write_deadline",
    )

    transport: asyncio.Transport
    peer: Peer

    def __init__(self, actor: AcceptActor, door: Door) -> None:
        self._actor = actor
        self._door = door
        self._parse = door.engine.parse_request
        self._buffer = b""
        self._head: RequestHead | None = None
        self._head_started = 0.0
        self._decoder: BodyDecoder | None = None
        self._collected: list[bytes] | None = None
        self._pending = b""
        self._expects = False
        self._stream: Stream | None = None
        self._paused = False
        self._choked = False
        self._lingering = False
        """Nothing more is wanted of the client, unless there is a decoder: then the rest of a body, to drop it."""
        self._unsent = 0
        self.deadline = inf
        """Monotonic seconds until which the client may take to send what is expected of it."""
        self.write_deadline = inf
        """The same for taking some of what waits for it."""
        self.served = 0
        """Requests so far, the present one included."""
        self.number = 0

    # -- the transport's side ------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self._writer = DirectWriter(self.transport)
        self._write = self._writer.write
        ip, port = (transport.get_extra_info("peername") or ("", 0))[:2]
        if ip.startswith("::ffff:"):  # an IPv4 client on a listener for both families
            ip = ip[7:]
        local_ip, local_port = (transport.get_extra_info("sockname") or ("", 0))[:2]
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER)
        self.number = self._actor.connected(self, self._door)
        self.peer = Peer(ip, port, local_ip, local_port, self._door.scheme, self.number)
        self.connected = monotonic()
        self.deadline = self.connected + self._door.settings.header_timeout

    def connection_lost(self, error: Exception | None) -> None:
        self._writer.end()
        self.deadline = self.write_deadline = inf
        # Pipelined requests die with their connection: nothing that is still scheduled may open a stream on it.
        self._lingering = True
        self._buffer = self._pending = b""
        self._decoder = self._collected = self._head = None
        stream, self._stream = self._stream, None
        if stream is not None:
            self._actor.client_left(stream)
        self._actor.disconnected(self, self._door)

    def eof_received(self) -> bool:
        # A client that shuts its side before the answer has come is taken for gone, as nginx does:
        # a browser that was closed looks the same, and its backend must hear of it at once.
        if self._stream is not None:
            self.transport.abort()
        else:
            self._close()
        return False

    def pause_writing(self) -> None:
        self._choked = True
        self._watch_writing()

    def resume_writing(self) -> None:
        self._choked = False
        if self._lingering and self._decoder is None:
            return  # the last bytes: they are watched to the end
        self.write_deadline = inf
        if self._stream is not None:
            if self._stream.unacked:
                self._actor.give_credit(self._stream)
        elif not self._lingering:
            self._await_next(monotonic())

    def data_received(self, data: bytes) -> None:
        if self._stream is None and self._collected is None and not self._lingering:
            self._next(self._buffer + data if self._buffer else data)
        elif self._lingering:
            if self._decoder is not None:
                self._discard(data)
            # else read only so that the answer is not reset away
        elif self._decoder is not None:
            self._take_body(data)
        else:
            self._buffer += data
            if len(self._buffer) > BACKLOG:
                self._pause()

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            self.transport.pause_reading()

    def _resume(self) -> None:
        if self._paused:
            self._paused = False
            self.transport.resume_reading()

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
            head = self._parse(head_block, self._door.limits)
            if head.length == 0:
                self.deadline = inf
                self._stream = self._actor.open(self, self._door, head, started, 0, b"", True)
                if len(self._buffer) > BACKLOG:
                    self._pause()
                elif self._paused:
                    self._resume()
                return
            self._begin_body(head, started, now)
        except ProtocolError as error:
            self._refuse(error.kind, error.detail, started)

    def _wait_for_head(self, data: bytes) -> None:
        limits = self._door.limits
        if len(data) > limits.head:
            error = head_too_large(data, limits)
            self._refuse(error.kind, error.detail, self._head_started or monotonic())
            return
        at = data.find(b"\n", max(0, len(self._buffer) - 1))
        while at >= 0:
            if data[at - 1 : at] != b"\r":
                # A bare LF will never become a valid head: say so now rather than at the time-out.
                self._refuse("bad_request", "bare LF in the head", self._head_started or monotonic())
                return
            at = data.find(b"\n", at + 1)
        if data and not self._head_started:
            self._head_started = monotonic()
            self.deadline = self._head_started + self._door.settings.header_timeout
        self._buffer = data
        self._resume()

    def _begin_body(self, head: RequestHead, started: float, now: float) -> None:
        rest, self._buffer = self._buffer, b""
        self._resume()
        self._decoder = decoder = ChunkedBody() if head.length == UNKNOWN else LengthBody(head.length)
        self.deadline = now + self._door.settings.downstream_read_timeout
        if head.expects_continue:
            # The body waits until somebody wants it: its CREDIT is what sends 100. Till then the client has nothing to send.
            self._expects = not rest
            if self._expects:
                self.deadline = inf
        elif 0 < head.length <= INLINE or (head.length == UNKNOWN and rest):
            self._head, self._head_started = head, started
            self._collected = []
            self._collect(rest)
            return
        self._stream = self._actor.open(self, self._door, head, started, head.length, b"", False)
        if rest:
            self._upload(self._stream, decoder.feed(rest))

    def _collect(self, data: bytes) -> None:
        """Small bodies travel inside REQUEST: one message instead of three, and the request can be sent again."""
        head, decoder, parts = self._head, self._decoder, self._collected
        assert head is not None and decoder is not None and parts is not None
        if data:
            parts.append(decoder.feed(data))
            self.deadline = monotonic() + self._door.settings.downstream_read_timeout
        # A chunked body is taken along when its end came with the head, else it streams.
        if not decoder.done and head.length != UNKNOWN:
            return
        started, self._head_started = self._head_started, 0.0
        self._head = self._collected = None
        body = b"".join(parts)
        if decoder.done and len(body) <= INLINE:
            self.deadline = inf
            self._decoder, self._buffer = None, decoder.rest
            self._stream = self._actor.open(self, self._door, head, started, len(body), body, True)
            return
        self._stream = self._actor.open(self, self._door, head, started, head.length, b"", False)
        self._upload(self._stream, body)

    def _take_body(self, data: bytes) -> None:
        try:
            if self._collected is not None:
                self._collect(data)
                return
            assert self._decoder is not None and self._stream is not None
            self.deadline = monotonic() + self._door.settings.downstream_read_timeout
            self._upload(self._stream, self._decoder.feed(data))
        except ProtocolError as error:
            self._refuse(error.kind, error.detail, self._head_started or monotonic())

    def _upload(self, stream: Stream, payload: bytes) -> None:
        """Sends request body bytes as far as credit goes; the rest waits and reading pauses."""
        decoder = self._decoder
        assert decoder is not None
        stream.received += len(payload)
        if self._pending:
            payload = self._pending + payload
        if not payload and not decoder.done:
            return  # a part of a chunk's size line
        if len(payload) <= stream.credit and stream.wanter:
            self._pending = b""
            stream.credit -= len(payload)
            if payload or decoder.done:
                self._actor.send_body(stream, payload, decoder.done)
        else:
            if stream.credit:
                self._actor.send_body(stream, payload[: stream.credit], False)
                payload = payload[stream.credit :]
                stream.credit = 0
            self._pending = payload
            self._pause()
            self.deadline = inf  # the client is not the one to wait for
            return
        if decoder.done:
            self._upload_ended(stream, decoder)

    def _upload_ended(self, stream: Stream, decoder: BodyDecoder) -> None:
        stream.upload_done = True
        self._decoder = None
        self._buffer = decoder.rest
        self.deadline = inf

    def credited(self, stream: Stream) -> None:
        """More of the request body may be sent."""
        if stream is not self._stream or self._decoder is None:
            return
        if self._expects:
            self._expects = False
            self._write(CONTINUE)
        self._upload(stream, b"")
        if not self._pending:
            if self._decoder is not None:
                self.deadline = monotonic() + self._door.settings.downstream_read_timeout
            self._resume()

    # -- answers ------------------------------------------------------------

    def respond(self, stream: Stream, response: Response, now: float) -> None:
        """Writes the response head and what came with it. Raises before it writes when the head is no head."""
        request = stream.request
        status, length, body = response.status, response.length, response.body
        framing = b""
        if request.method == b"HEAD" or status in BODILESS:
            stream.bodiless = True
            body = b""  # a stage may have answered HEAD like GET: the client would take it for the next answer
            if length != UNKNOWN and status != 204:
                framing = b"content-length: %d\r\n" % length
        elif response.ended:
            framing = b"content-length: %d\r\n" % len(body)
        elif length != UNKNOWN:
            framing = b"content-length: %d\r\n" % length
        elif request.version >= 11:
            stream.chunked = True
            framing = b"transfer-encoding: chunked\r\n"
        else:
            stream.keep_alive = False
        if self._actor.draining or not self._door.settings.keepalive_timeout:
            stream.keep_alive = False
        if not stream.upload_done:
            if status >= 400 or self._expects:
                stream.keep_alive = False
            self._expects = False  # this is the final answer: 100 must not come after it
        if not stream.keep_alive:
            framing += b"connection: close\r\n"
        elif request.version < 11:
            framing += b"connection: keep-alive\r\n"
        if stream.chunked:
            body = chunk(body)
        out = b"%b%b%b\r\n%b" % (_FINAL[status], response.headers, framing, body)
        stream.responded = now
        if self._choked:
            self._unsent += len(out)
        self._write(out)
        if response.ended:
            stream.sent = len(body)
            self._finish(stream, now)
        else:
            stream.unacked = len(response.body)
            stream.sent = 0 if stream.bodiless else stream.unacked

    def body(self, stream: Stream, data: Data) -> None:
        """Writes response body bytes."""
        response = stream.response
        assert response is not None
        if data.error:
            stream.failed = data.error
            self.cut(stream)
            return
        payload = data.payload
        size = len(payload)
        stream.unacked += size
        if not stream.bodiless:
            stream.sent += size
            if self._choked:
                self._unsent += size
            if stream.chunked:
                self._write_chunk(payload, data.ended)
            elif response.length == UNKNOWN or stream.sent <= response.length:
                if size:
                    self._write(payload)
            else:
                excess = stream.sent - response.length
                stream.sent = response.length
                if size > excess:
                    self._write(payload[:-excess])
                stream.failed = "bad_gateway"  # more than was promised: the client would take it for the next answer
                self.cut(stream)
                return
        if data.ended:
            if data.context and response.report is not None:
                response.report.context.update(data.context)
            if response.length in (UNKNOWN, stream.sent) or stream.bodiless:
                self._finish(stream, monotonic())
            else:
                stream.failed = "bad_gateway"  # less than was promised: only a close can tell the client
                self.cut(stream)
        elif not self._choked and stream.unacked >= TOP_UP:
            self._actor.give_credit(stream)

    def _write_chunk(self, payload: bytes, ended: bool) -> None:
        size = len(payload)
        if size > ONE_PIECE:
            self._writer.writelines((b"%x\r\n" % size, payload, b"\r\n0\r\n\r\n" if ended else b"\r\n"))
        elif size:
            self._write(b"%x\r\n%b\r\n0\r\n\r\n" % (size, payload) if ended else b"%x\r\n%b\r\n" % (size, payload))
        elif ended:
            self._write(LAST_CHUNK)

    def _finish(self, stream: Stream, now: float) -> None:
        self._stream = None
        self._actor.ended(stream, now)
        if not stream.keep_alive:
            if self._buffer or not stream.upload_done:
                self._linger()
            else:
                self._close()
        elif not stream.upload_done:
            self._begin_discard(now)
        else:
            self._await_next(now)

    def _await_next(self, now: float) -> None:
        if self._choked:
            # Who does not read shall not ask for more: pipelined answers would fill the memory.
            self.deadline = inf
            self._pause()
            return
        self.deadline = now + self._door.settings.keepalive_timeout
        if self._buffer:  # not from here: a long pipeline of refusals would go too deep
            self._actor.context.loop.call_soon(self._next_pipelined)
        elif self._paused:
            self._resume()

    def _begin_discard(self, now: float) -> None:
        """The answer was complete before the request: what is left of the body is read and dropped, then comes the next."""
        self._lingering = True
        self._pending = b""
        self.deadline = now + DISCARD
        self._resume()
        self._discard(b"")

    def _discard(self, data: bytes) -> None:
        decoder = self._decoder
        assert decoder is not None
        try:
            if not decoder.done:  # it may be: all of the body was here and waited for credit
                decoder.feed(data)
        except ProtocolError:
            self._close()
            return
        if decoder.done:
            self._lingering = False
            self._decoder, self._buffer = None, decoder.rest
            self._await_next(monotonic())

    def _next_pipelined(self) -> None:
        if self._buffer and self._stream is None and not self._lingering:
            data, self._buffer = self._buffer, b""
            self._next(data)

    def _refuse(self, kind: str, detail: str, started: float) -> None:
        """Answers a request that broke the rules, and closes."""
        stream, head = self._stream, self._head
        self._head_started = 0.0
        self._collected = self._head = None
        if stream is not None and stream.state is State.RESPONDING:
            stream.failed = kind
            self.cut(stream)
            return
        self._stream = None
        self._write(self._actor.refusal(self, self._door, stream if stream is not None else head, kind, detail, started))
        self._linger()

    def fail(self, stream: Stream, kind: str) -> None:
        """Answers a stream that the stages could not: the connection stays open."""
        self.respond(stream, self._actor.own_answer(stream, kind), monotonic())

    def cut(self, stream: Stream) -> None:
        """Ends a half-sent answer in the only honest way: what is missing must not look complete."""
        self._stream = None
        self._actor.ended(stream, monotonic(), stream.failed or "cut")
        response = stream.response
        if response is not None and response.length == UNKNOWN and not stream.chunked and not stream.bodiless:
            # Its end is the connection's end, so an orderly close would say that all is there.
            sock = self.transport.get_extra_info("socket")
            if sock is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.transport.abort()
        else:
            self._close()

    # -- endings ------------------------------------------------------------

    def _close(self) -> None:
        """Closes once the client has taken what waits for it."""
        self._lingering = True
        self._decoder = None
        self._buffer = self._pending = b""
        self.deadline = inf
        if self.transport.get_write_buffer_size():
            self._watch_writing()
        self.transport.close()

    def _linger(self) -> None:
        """Ends the answer but goes on reading for a moment: closing now would reset it away."""
        if not self.transport.can_write_eof():
            self._close()
            return
        self._lingering = True
        self._decoder = None
        self._buffer = self._pending = b""
        self.deadline = monotonic() + LINGER
        self._resume()
        if self.transport.get_write_buffer_size():
            self._watch_writing()
        self.transport.write_eof()

    def _watch_writing(self) -> None:
        """From now on the client must take something within each time-out."""
        self._unsent = self.transport.get_write_buffer_size()
        self.write_deadline = monotonic() + self._door.settings.downstream_write_timeout

    def close_if_idle(self) -> None:
        """On draining: nothing of a request has come."""
        if self._lingering:
            if self._decoder is not None:
                self._linger()  # the rest of that body no longer matters
        elif self._stream is None and self._collected is None and not self._head_started:
            self._close()

    # -- time ---------------------------------------------------------------

    def expired(self, now: float) -> None:
        """A deadline has passed (looked at twice a second)."""
        unsent = self.transport.get_write_buffer_size()
        if self.write_deadline <= now:
            if unsent == 0:
                self.write_deadline = inf
            elif unsent < self._unsent:
                self._watch_writing()  # slow, but it reads
            else:
                self.transport.abort()
                return
        if self.deadline > now:
            return
        self.deadline = inf
        if self._lingering:
            if unsent:
                self.deadline = now + LINGER  # it has not got all of the answer yet
            else:
                self.transport.abort()
        elif self._stream is not None or self._collected is not None or self._head_started:
            self._refuse("request_timeout", "the request took too long to arrive", self._head_started or now)
        else:
            self._close()
