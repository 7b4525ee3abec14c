"""HTTP/1.x server side on one client connection (RFC 9112).

Hot path: this file turns bytes into a stream and an answer into bytes without
command objects between; they would cost about 2 µs of the 6 that a request may
spend here. Decisions that are not about bytes live in core.py.
"""

from __future__ import annotations

import asyncio
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Final

from stages.accept.core import State
from stages.accept.stream import Stream
from stages.http1.body import BodyDecoder, ChunkedBody, LengthBody
from stages.http1.render import CONTINUE, LAST_CHUNK, STATUS_LINES, chunk
from stages.http1.rules import ProtocolError, RequestHead
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
        "_write",
        "connected",
        "deadline",
        "number",
        "peer",
        "served",
        "transport",
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
        self.deadline = inf
        self.served = 0
        self.number = 0

    # -- the transport's side ------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self._write = self.transport.write
        ip, port = (transport.get_extra_info("peername") or ("", 0))[:2]
        if ip.startswith("::ffff:"):  # an IPv4 client on a listener for both families
            ip = ip[7:]
        local_ip, local_port = transport.get_extra_info("sockname")[:2]
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER)
        self.number = self._actor.connected(self, self._door)
        self.peer = Peer(ip, port, local_ip, local_port, self._door.scheme, self.number)
        self.connected = monotonic()
        self.deadline = self.connected + self._door.settings.header_timeout

    def connection_lost(self, error: Exception | None) -> None:
        self.deadline = inf
        stream, self._stream = self._stream, None
        if stream is not None:
            self._actor.client_left(stream)
        self._actor.disconnected(self, self._door)

    def eof_received(self) -> bool:
        # A client that shuts its side before the answer has come is taken for gone, as nginx does:
        # a browser that was closed looks the same, and its backend must hear of it at once.
        return False

    def pause_writing(self) -> None:
        self._choked = True
        self.deadline = monotonic() + self._door.settings.downstream_write_timeout

    def resume_writing(self) -> None:
        self._choked = False
        self.deadline = inf
        if self._stream is not None and self._stream.unacked:
            self._actor.give_credit(self._stream)

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
        if data.startswith(b"\r\n"):  # one empty line before a request is forgiven (RFC 9112 section 2.2)
            data = data[2:]
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
                return
            self._begin_body(head, started, now)
        except ProtocolError as error:
            self._refuse(error.kind, error.detail, started)

    def _wait_for_head(self, data: bytes) -> None:
        limits = self._door.limits
        if len(data) > limits.head:
            kind = "target_too_long" if b"\r\n" not in data[: limits.target + 32] else "headers_too_large"
            self._refuse(kind, "head too large", self._head_started or monotonic())
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

    def _begin_body(self, head: RequestHead, started: float, now: float) -> None:
        rest, self._buffer = self._buffer, b""
        self._decoder = decoder = ChunkedBody() if head.length == UNKNOWN else LengthBody(head.length)
        self.deadline = now + self._door.settings.downstream_read_timeout
        if head.expects_continue:
            # The body waits until somebody wants it: its CREDIT is what sends 100.
            self._expects = not rest
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
        """Writes the response head and what came with it."""
        request = stream.request
        status, length = response.status, response.length
        framing = b""
        chunked = False
        if status in BODILESS or request.method == b"HEAD":
            if length != UNKNOWN and status != 204:
                framing = b"content-length: %d\r\n" % length
        elif length != UNKNOWN:
            framing = b"content-length: %d\r\n" % length
        elif response.ended:
            framing = b"content-length: %d\r\n" % len(response.body)
        elif request.version >= 11:
            chunked = True
            framing = b"transfer-encoding: chunked\r\n"
        else:
            stream.keep_alive = False
        if self._actor.draining or (not stream.upload_done and (status >= 400 or self._expects)):
            stream.keep_alive = False
        if not stream.keep_alive:
            framing += b"connection: close\r\n"
        elif request.version < 11:
            framing += b"connection: keep-alive\r\n"
        body = response.body
        stream.responded = now
        stream.sent = len(body)
        if chunked and body:
            body = chunk(body)
        self._write(b"%b%b%b\r\n%b" % (STATUS_LINES[status], response.headers, framing, body))
        if response.ended:
            self._finish(stream, now)
        else:
            stream.unacked = stream.sent

    def body(self, stream: Stream, data: Data) -> None:
        """Writes response body bytes."""
        response = stream.response
        assert response is not None
        if data.error:
            # What is missing must not look complete: no last chunk, fewer bytes than announced.
            stream.failed = data.error
            self.cut(stream)
            return
        payload = data.payload
        if payload:
            size = len(payload)
            stream.sent += size
            stream.unacked += size
            if response.length == UNKNOWN and stream.request.version >= 11:
                self._write(b"%x\r\n" % size)
                self._write(payload)
                self._write(b"\r\n" if not data.ended else b"\r\n" + LAST_CHUNK)
            else:
                self._write(payload)
        elif data.ended and response.length == UNKNOWN and stream.request.version >= 11:
            self._write(LAST_CHUNK)
        if data.ended:
            if data.context and response.report is not None:
                response.report.context.update(data.context)
            self._finish(stream, monotonic())
        elif not self._choked and stream.unacked >= TOP_UP:
            self._actor.give_credit(stream)

    def _finish(self, stream: Stream, now: float) -> None:
        self._stream = None
        self.served += 1
        response = stream.response
        if response is not None and response.length not in (UNKNOWN, stream.sent) and not self._may_lack_body(stream, response):
            stream.keep_alive = False  # the sender broke its promise: only a close can tell the client
        self._actor.ended(stream, now)
        if not stream.upload_done:
            if stream.keep_alive:
                self._begin_discard(now)
            else:
                self._linger()
        elif not stream.keep_alive:
            self.transport.close()
        else:
            self._await_next(now)

    def _await_next(self, now: float) -> None:
        self.deadline = now + self._door.settings.keepalive_timeout
        self._resume()
        if self._buffer:  # not from here: a long pipeline of refusals would go too deep
            self._actor.context.loop.call_soon(self._next_pipelined)

    def _begin_discard(self, now: float) -> None:
        """The answer was complete before the request: what is left of the body is read and dropped, then comes the next."""
        self._lingering = True
        self._pending = b""
        self.deadline = now + DISCARD
        self._resume()

    def _discard(self, data: bytes) -> None:
        decoder = self._decoder
        assert decoder is not None
        try:
            decoder.feed(data)
        except ProtocolError:
            self.transport.close()
            return
        if decoder.done:
            self._lingering = False
            self._decoder, self._buffer = None, decoder.rest
            self._await_next(monotonic())

    def _next_pipelined(self) -> None:
        if self._buffer and self._stream is None and not self._lingering:
            data, self._buffer = self._buffer, b""
            self._next(data)

    @staticmethod
    def _may_lack_body(stream: Stream, response: Response) -> bool:
        return stream.request.method == b"HEAD" or response.status in BODILESS

    def _linger(self) -> None:
        """Ends the answer but goes on reading for a moment: closing now would reset it away."""
        self._lingering = True
        self._decoder = None
        self._pending = b""
        self.deadline = monotonic() + LINGER
        self._resume()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()

    def _refuse(self, kind: str, detail: str, started: float) -> None:
        """Answers a request that broke the rules, and closes."""
        stream = self._stream
        self._head_started = 0.0
        self._collected = None
        if stream is not None:
            stream.failed = kind
            if stream.state is State.RESPONDING:
                self.cut(stream)
                return
            self._actor.cancel(stream, detail)
            self._stream = None
        self._buffer = self._pending = b""
        self._write(self._actor.refusal(self, self._door, stream, kind, detail, started))
        self._linger()

    def fail(self, stream: Stream, kind: str) -> None:
        """Answers a stream that the stages could not: the connection stays open."""
        self.respond(stream, self._actor.own_answer(stream, kind), monotonic())

    def cut(self, stream: Stream) -> None:
        """Ends a half-sent answer in the only honest way."""
        self._stream = None
        stream.keep_alive = False
        self._actor.ended(stream, monotonic())
        self.transport.close()

    # -- time ---------------------------------------------------------------

    def expired(self) -> None:
        """The deadline has passed (looked at twice a second)."""
        self.deadline = inf
        stream = self._stream
        if self._lingering or self._choked:
            self.transport.abort()
        elif stream is not None or self._collected is not None or self._head_started:
            self._refuse("request_timeout", "the request took too long to arrive", self._head_started or monotonic())
        else:
            self.transport.close()

    def close_if_idle(self) -> None:
        """On draining: nothing of a request has come."""
        if self._stream is None and self._collected is None and not self._head_started and not self._lingering:
            self.transport.close()
