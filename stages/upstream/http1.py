"""HTTP/1.1 client side on one backend connection (RFC 9112).

Hot path, like accept/http1.py: bytes become messages without command objects
between them.
"""

from __future__ import annotations

import asyncio
import socket
from math import inf
from time import monotonic
from typing import Final

from pingap.stages.bulk import LONG
from pingap.stages.http1.body import BodyDecoder, ChunkedBody, CloseBody, LengthBody
from pingap.stages.http1.direct import DirectWriter
from pingap.stages.http1.engine import Httptools
from pingap.stages.http1.lenient import end_of_head, mended
from pingap.stages.http1.lines import quick_response
from pingap.stages.http1.methods import IDEMPOTENT
from pingap.stages.http1.render import LAST_CHUNK, chunk, request_head
from pingap.stages.http1.rules import AnswerHead, HeadLimits, ProtocolError
from pingap.stages.http1.spelling import respelled
from pingap.stages.messages import UNKNOWN
from pingap.stages.read_gate import CREDIT, ReadGate
from pingap.stages.tcp import has_unread
from pingap.stages.upstream.backend import BackendState
from pingap.stages.upstream.channel import Carried
from pingap.stages.upstream.core import LIMITS, MAX_INTERIM, Outcome
from pingap.stages.upstream.keeper import Keeper
from pingap.stages.upstream.waiting import LONGEST_WAIT
from pingap.stages.upstream.websocket import WEBSOCKET, answered_our_key, fresh_key, lacks_key

WRITE_BUFFER: Final = 256 * 1024

ONE_PIECE: Final = 16 * 1024
"""Up to this many bytes it is cheaper to copy a payload into its chunk than to hand the parts to the kernel."""

LAST_READ: Final = 64 * 1024

_NOT_SEEN: Final = -(1 << 40)
"""Less than any count of bytes that a backend has taken."""

_HTTP: Final = b"HTTP/1."
_parse: Final = Httptools().parse_whole_response


class BackendConnection(asyncio.Protocol):
    """One connection to a backend; carries one exchange at a time."""

    __slots__ = (
        "_buffer",
        "_chunks",
        "_decoder",
        "_got_bytes",
        "_keep",
        "_keeper",
        "_key",
        "_socket",
        "_switches",
        "_taken",
        "_writer",
        "backend",
        "choked",
        "connect_seconds",
        "deadline",
        "ending",
        "exchange",
        "gate",
        "idle_since",
        "is_closed",
        "is_doubtful",
        "name",
        "opened",
        "served",
        "transport",
        "write",
    )

    has_room = True

    def __init__(self, keeper: Keeper, backend: BackendState, sock: socket.socket, name: str = "") -> None:
        """name: whom the backend has proved to be; "" without TLS."""
        self._keeper = keeper
        self.backend = backend
        self.name = name
        self._socket = sock
        """Under TLS what it holds is no HTTP, but that it holds anything still tells something."""
        self.connect_seconds: tuple[float, ...] = ()
        """TCP connect, TLS handshake."""
        self.exchange: Carried | None = None
        self._decoder: BodyDecoder | None = None
        """Of an answer whose head has come."""
        self._buffer = b""
        self._keep = True
        self._chunks = False
        """The request's body is sent in chunks."""
        self._switches = b""
        """The protocol that the request asks for; once the backend has agreed, this is a tunnel."""
        self._key = b""
        """Of a WebSocket handshake for a client that has none."""
        self._got_bytes = False
        self._taken = _NOT_SEEN
        """Bytes of the request's body that the socket had taken when that was last looked at."""
        self.choked = False
        """The backend takes less than it is sent."""
        self.is_closed = False
        self.is_doubtful = False
        """Its last answer had no body by the rules; there are backends that send one all the same, a moment later."""
        self.deadline = inf
        self.idle_since = 0.0
        self.ending = ""
        """Why it ends, if we end it."""
        self.opened = monotonic()
        self.served = 0

    # -- the transport's side --------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.gate = ReadGate(self.transport)
        self._writer = DirectWriter(self.transport)
        self.write = self._writer.write
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER)

    def connection_lost(self, error: Exception | None) -> None:
        self._writer.end()
        self.is_closed = True
        if error is not None and self.exchange is not None and not self.name:
            self._read_the_rest()
        self.deadline = inf
        exchange, self.exchange = self.exchange, None
        self.backend.forget(self)
        self._keeper.lost(self.backend, self, error)
        if exchange is not None:
            self._broke_off(exchange)

    def _read_the_rest(self) -> None:
        """A write failed, and what the backend said before it stopped listening has not been read: an early answer, perhaps."""
        try:
            while self.exchange is not None and not self.gate.reasons & CREDIT:
                data = self._socket.recv(LAST_READ, socket.MSG_DONTWAIT)
                if not data:
                    break
                self.data_received(data)
        except OSError:
            return

    def eof_received(self) -> bool:
        exchange = self.exchange
        if exchange is not None and exchange.is_tunnel:
            exchange.body_arrived(b"", True)
            if not exchange.is_over:
                self.watch()
                return True  # the other half goes on
            return False
        self.exchange = None
        if exchange is None:
            self.backend.forget(self)
        elif type(self._decoder) is CloseBody:
            # Its end is here, whatever becomes of the part of the request that the backend did not wait for.
            self._finish(exchange, b"")
        else:
            self._broke_off(exchange)
        # Not close(), which would first wait until the backend has taken all that is still to be written.
        self.transport.abort()
        return False

    def _broke_off(self, exchange: Carried) -> None:
        """No more will come, and the answer is not complete."""
        if self._decoder is not None:
            exchange.answer_cut(Outcome.CUT, "closed within the body of its answer")
        elif self._got_bytes:
            exchange.attempt_failed(Outcome.INVALID, "closed within the head of its answer")
        else:
            exchange.attempt_failed(Outcome.CLOSED_REUSED if self.served else Outcome.CLOSED_FRESH)

    def data_received(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is None:
            self.backend.forget(self)
            self.close("spoke without being asked")
            return
        if len(data) >= LONG:
            self._keeper.bulk.took(len(data), self.gate, exchange.answers_to)
        decoder = self._decoder
        try:
            if decoder is not None:
                payload = decoder.feed(data)
                if decoder.done:
                    self._finish(exchange, payload)
                else:
                    self.watch()
                    if payload:
                        exchange.body_arrived(payload, False)
                return
            self._got_bytes = True
            self._take_head(exchange, self._buffer + data if self._buffer else data)
        except ProtocolError as error:
            self._broke(exchange, error)

    # -- one exchange -------------------------------------------------------------

    def ask(self, exchange: Carried, now: float, headers: bytes, length: int) -> None:
        """The connection now belongs to an exchange: writes its head and what there is of its body. length: as in `request_head`."""
        self.exchange = exchange
        self._got_bytes = False
        self._taken = _NOT_SEEN
        self.deadline = now + (exchange.read_timeout if exchange.upload_done else LONGEST_WAIT)
        routed = exchange.routed
        self._chunks = length == UNKNOWN
        self._switches = upgrade = routed.upgrade
        if upgrade and upgrade == WEBSOCKET and lacks_key(headers, routed.version):
            self._key = fresh_key()
            headers = b"%bsec-websocket-key: %b\r\n" % (headers, self._key)
        head = request_head(exchange.method, routed.target, headers, length, upgrade)
        if self.backend.keeps_case:
            start, end, block = head.partition(b"\r\n")
            head = start + end + respelled(block, exchange.spelled)
        body = routed.body
        self.write(head + body if body else head)

    def send_body(self, payload: bytes, ended: bool, trailers: bytes) -> None:
        """More of the request's body, or of a tunnel's bytes."""
        if not self._chunks:
            if payload:
                self.write(payload)
            if ended and self._switches and self.exchange is not None and self.exchange.is_tunnel:
                self.transport.write_eof()
            return
        if len(payload) > ONE_PIECE:
            self._writer.writelines((b"%x\r\n" % len(payload), payload, b"\r\n"))
        elif payload:
            self.write(chunk(payload))
        if ended:
            if trailers and self.backend.keeps_case and self.exchange is not None:
                trailers = respelled(trailers, self.exchange.spelled)
            self.write(b"0\r\n%b\r\n" % trailers if trailers else LAST_CHUNK)

    def _take_head(self, exchange: Carried, data: bytes) -> None:
        while True:
            end = data.find(b"\r\n\r\n") + 4
            head = None
            if end != 3:
                block, rest = (data, b"") if end == len(data) else (data[:end], data[end:])
                head = quick_response(block, exchange.limits)
            if head is None:  # not ordinary: it may have ended earlier, with a bare LF
                end = end_of_head(data)
                if not end:
                    self._await_head(data)
                    return
                rest = data[end:]
                head = _whole_head(data[:end], exchange.limits)
            if self._buffer:
                self._buffer = b""
            status = head.status
            if status >= 200:
                break
            if status == 101:
                self._switch(exchange, head, rest)
                return
            exchange.interims += 1
            if exchange.interims > MAX_INTERIM:
                raise ProtocolError("bad_gateway", "backend sent too many interim answers")
            if status != 100:  # that one is ours to give, and accept has given it
                exchange.interim_arrived(status, head.headers, head.reason, head.spelled)
            self.watch()
            if not rest:
                return
            data = rest
        self._keep = head.keep_alive and not self._switches  # it may still think of switching
        length = head.length
        self.is_doubtful = exchange.method == b"HEAD" or status in (204, 304)
        if self.is_doubtful:
            self._answered(exchange, head, b"", rest)
            return
        if head.chunked:
            decoder: BodyDecoder = ChunkedBody(head.named, is_lenient=True)
        elif length != UNKNOWN:
            if len(rest) == length:
                # The common small answer: all of it in one read, no decoder needed.
                self._answered(exchange, head, rest, b"")
                return
            decoder = LengthBody(length)
        else:
            decoder = CloseBody()
            self._keep = False
        payload = decoder.feed(rest) if rest else b""
        if decoder.done and not (head.chunked and decoder.trailers):  # type: ignore[attr-defined]
            self._answered(exchange, head, payload, decoder.rest)
            return
        self._decoder = decoder
        self.watch()
        exchange.head_arrived(head, payload, False)
        if decoder.done and self.exchange is not None:  # else it is not wanted
            self._finish(exchange, b"")

    def _switch(self, exchange: Carried, head: AnswerHead, rest: bytes) -> None:
        """The backend switches protocols (RFC 9110 section 15.2.2): to the one that was asked for, or it is out of its mind."""
        if not self._switches or head.upgrade != self._switches:
            raise ProtocolError("bad_gateway", "backend switched to a protocol that was not asked for")
        if not exchange.upload_done:
            raise ProtocolError("bad_gateway", "backend switched protocols before the request was sent")
        if self._key:
            block = answered_our_key(self._key, head.headers)
            if block is None:
                raise ProtocolError("bad_gateway", "backend's Sec-WebSocket-Accept does not fit the key")
            head = head._replace(headers=block)
        self._keep = self._chunks = False
        self._decoder = CloseBody()
        exchange.tunnel_opened(head, rest)
        self.watch()

    def _await_head(self, data: bytes) -> None:
        """A part of a head. What can never become one is refused now, not when the time is up."""
        if len(data) > LIMITS.head:
            raise ProtocolError("bad_gateway", "backend's response head too large")
        if data[:7] != _HTTP[: len(data)]:
            raise ProtocolError("bad_gateway", "backend does not speak HTTP/1")
        self._buffer = data

    def _answered(self, exchange: Carried, head: AnswerHead, body: bytes, rest: bytes) -> None:
        """Head and whole body are here."""
        self.exchange = None
        self.deadline = inf
        self.served += 1
        if rest:
            self._keep = False
        now = exchange.head_arrived(head, body, True)
        self._release(exchange, self._keep, now)

    def _finish(self, exchange: Carried, payload: bytes) -> None:
        decoder = self._decoder
        assert decoder is not None
        self.exchange = self._decoder = None
        self.deadline = inf
        self.served += 1
        exchange.body_arrived(payload, True, decoder.trailers if type(decoder) is ChunkedBody else b"")
        self._release(exchange, self._keep and not decoder.rest, monotonic())

    def _release(self, exchange: Carried, keep: bool, now: float) -> None:
        """It has done its part: back to the pool, on to one who waits, or closed."""
        backend = self.backend
        if not keep or not exchange.upload_done or self.choked or self.is_closed:
            # An answer that came before the request was all sent leaves the connection in mid-request.
            # Its loss lets the next one who waits open another.
            self.close("the answer says so" if not keep else "the request was not all sent")
        elif backend.pending:
            first = backend.first_in_line()
            if first.name != self.name or self.has_spoken() or (first.waiter.method not in IDEMPOTENT and self.is_stale()):
                self.close("of no use to who waits at max_connections")
            else:
                del backend.pending[first]
                first.waiter.served(self)
        elif backend.keeps_idle:
            self.idle_since = now
            backend.idle.append(self)
        else:
            self.close("nothing is to idle")

    def _broke(self, exchange: Carried, error: ProtocolError) -> None:
        self.close(error.detail)
        if self._decoder is not None:
            exchange.answer_cut(Outcome.INVALID, error.detail)
        else:
            exchange.attempt_failed(Outcome.INVALID, error.detail)

    # -- flow, time, the end ---------------------------------------------------------

    def pause_writing(self) -> None:
        self.choked = True
        self.watch()

    def resume_writing(self) -> None:
        self.choked = False
        if self.exchange is not None:
            self.watch()
            self.exchange.drained()

    def watch(self) -> None:
        """Sets the deadline, by whose turn it is."""
        exchange = self.exchange
        if exchange is None:
            self.deadline = inf
        elif self.choked:
            self._taken = exchange.uploaded - self.transport.get_write_buffer_size()
            self.deadline = monotonic() + exchange.write_timeout
        elif self.gate.reasons & CREDIT:
            self.deadline = inf  # the client is slow, not the backend
        else:
            # While the request is on its way it is the client whose turn it is, and accept that watches it.
            waits_for_backend = exchange.upload_done or exchange.is_tunnel
            self.deadline = monotonic() + (exchange.read_timeout if waits_for_backend else LONGEST_WAIT)

    def pause(self) -> None:
        if not self.gate.reasons & CREDIT:
            self.gate.shut(CREDIT)
            self.watch()

    def resume(self) -> None:
        if self.gate.reasons & CREDIT:
            self.gate.open(CREDIT)
            self.watch()

    def has_spoken(self) -> bool:
        """Bytes are here that the loop has not read: of an idle connection nobody asked for them, and they answer nothing."""
        return has_unread(self._socket)

    def is_stale(self) -> bool:
        """Looks at the socket: an idle connection with anything to read (data or EOF) is of no use any more."""
        if self.is_closed or self.transport.is_closing():
            return True
        try:
            self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def expired(self, now: float) -> None:
        """The deadline has passed: for the answer, or for taking some of the request."""
        exchange = self.exchange
        if exchange is None:  # the last of a tunnel is on its way
            left = self.transport.get_write_buffer_size()
            if left and -left > self._taken:
                self._taken = -left
                self.deadline = now + self.backend.group.write_timeout
            else:
                self.close("write_timeout")
        else:
            unsent = self.transport.get_write_buffer_size()
            if unsent and exchange.uploaded - unsent > self._taken:
                self._taken = exchange.uploaded - unsent
                self.deadline = now + exchange.write_timeout  # slow, but it takes the request
                return
            self.close("write_timeout" if self.choked else "read_timeout")
            if self._decoder is not None:
                exchange.answer_cut(Outcome.TIMEOUT, "nothing came any more of the body of its answer")
            else:
                exchange.attempt_failed(Outcome.STALLED if self._got_bytes else Outcome.TIMEOUT)

    def finish(self) -> None:
        """Both halves of a tunnel have ended: closed when the backend has taken what was written, or takes nothing any more."""
        self.exchange = None
        self.ending = "the tunnel has ended"
        self._taken = -self.transport.get_write_buffer_size()
        self.deadline = monotonic() + self.backend.group.write_timeout
        self.transport.close()

    def close(self, why: str = "") -> None:
        """Drops the connection; its exchange, if any, hears no more of it. why: for the log."""
        self.exchange = None
        self.deadline = inf
        if not self.is_closed:
            self.ending = self.ending or why
            self.transport.abort()


def _whole_head(block: bytes, limits: HeadLimits) -> AnswerHead:
    """Of an answer that is not ordinary. Raises ProtocolError."""
    sound = mended(block)
    head = _parse(sound, limits)
    return head if sound is block else head._replace(keep_alive=False)
