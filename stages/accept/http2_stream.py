"""One request on an HTTP/2 connection and its answer (RFC 9113 section 8).

A slow side holds back its own stream, never the connection: what the bus has no credit for
stays unacknowledged in the stream's window, and what the client's windows have no room for
waits here, which in turn holds back the credit of its sender.
"""

from __future__ import annotations

import asyncio
from collections import deque
from math import inf
from time import monotonic
from typing import Final, Protocol

from pingap.stages.accept import intake
from pingap.stages.accept.departures import Departures
from pingap.stages.accept.door import Door
from pingap.stages.accept.outlet import BODILESS, STREAM_TOP_UP, Outlet
from pingap.stages.accept.refusals import ErrorAnswers, as_read_by, status_of_cut
from pingap.stages.accept.server_timing import timed
from pingap.stages.client import Arrival
from pingap.stages.date import dated
from pingap.stages.headers import cutter, value_of
from pingap.stages.http1.rules import ProtocolError, RequestHead
from pingap.stages.http2.engine import CANCEL, INTERNAL_ERROR, Fields, Http2Engine
from pingap.stages.http2.fields import response_fields, trailer_fields
from pingap.stages.messages import INLINE, UNKNOWN, Data, FileRef, Interim, Response
from pingap.stages.stream import OwnedStream
from pingap.stages.stream_states import ANSWERING, ENDED, HALF_SHUT, TUNNEL, WHOLE
from pingap.stages.streams import Streams

_CONTINUE: Final = ((b":status", b"100"),)

PORTION: Final = 64 * 1024
"""Bytes of one answer that are written before the next stream has its turn."""

_without_accept: Final = cutter([b"sec-websocket-accept"])


class Carrier(Protocol):
    """The connection that a stream is one of (http2.py)."""

    arrival: Arrival
    served: int
    """Requests so far."""
    door: Door
    engine: Http2Engine
    outlet: Outlet
    streams: Streams
    answers: ErrorAnswers
    departures: Departures
    blocked: dict[Http2ClientStream, None]
    """Streams whose answer waits for room, in turn."""
    heard: dict[Http2ClientStream, None]
    """Streams of whose body something came in this read."""

    def has_others_before(self, now: float) -> bool:
        """Whether a stream that waits for room may only wait for its turn."""

    def wake_by(self, deadline: float) -> None:
        """A stream has a deadline."""

    def schedule(self) -> None:
        """Something waits for the end of the turn."""

    def send_head(self, stream_id: int, fields: Fields, ended: bool) -> None: ...

    def send_data(self, stream_id: int, payload: bytes, ended: bool) -> None: ...

    def send_trailers(self, stream_id: int, fields: Fields) -> None: ...

    def acknowledge(self, stream_id: int, count: int) -> None:
        """So many bytes of its request are dealt with."""

    def let_rest_in(self, stream_id: int, rest: int) -> None:
        """The answer is about to end and the request has not, of which `rest` bytes are to come, or UNKNOWN."""

    def refuse(self, stream: Http2ClientStream, error: ProtocolError) -> None:
        """A request breaks the rules after its head."""

    def stream_over(self, stream: Http2ClientStream, code: int | None = None) -> None:
        """A stream needs nothing more. code: of the reset that ends it; None when it was answered."""


class Http2ClientStream:
    """The client of one `OwnedStream`, as `Http1ClientConnection` is that of one at a time."""

    __slots__ = (
        "_answered",
        "_connection",
        "_has_moved",
        "_head",
        "_is_collecting",
        "_is_expected",
        "_is_watched",
        "_pending",
        "_pending_size",
        "_request_trailers",
        "_started",
        "_taken",
        "_trailers",
        "_waiting",
        "arrival",
        "client_ended",
        "nth",
        "read_by",
        "stream",
        "stream_id",
        "write_by",
    )

    def __init__(self, connection: Carrier, stream_id: int, head: RequestHead, now: float) -> None:
        self._connection = connection
        self.arrival = connection.arrival
        self.nth = connection.served = connection.served + 1
        self.stream_id = stream_id
        self.stream: OwnedStream | None = None
        """None while its body is being collected, and after its end."""
        self._head = head
        self._started = now
        self._is_collecting = False
        self._is_expected = False
        """The client waits for 100 Continue."""
        self._is_watched = False
        """Whether the body that is being collected pauses will be looked at soon."""
        self._has_moved = False
        """Some of it has come since that was last looked at."""
        self._pending: list[bytes] = []
        """Request body bytes that nobody has taken yet."""
        self._pending_size = 0
        self._request_trailers = b""
        self.client_ended = False
        self._waiting: deque[bytes | memoryview] = deque()
        """Answer bytes that the client's windows have no room for."""
        self._taken = 0
        """Answer bytes that came from the stages, without the content of bodiless answers."""
        self._answered = False
        """The stages have given all of the answer."""
        self._trailers = b""
        self.read_by = inf
        """Monotonic seconds until which the client may send nothing of its body."""
        self.write_by = inf
        """Monotonic seconds until which the client may make no room for its answer."""

    # -- the request ------------------------------------------------------------------

    @property
    def refused(self) -> OwnedStream | RequestHead:
        """What is refused if this request breaks the rules now: a stream, or a head whose body is awaited."""
        return self.stream or self._head

    def _open(self, length: int, body: bytes, ended: bool) -> None:
        connection = self._connection
        self.stream = connection.streams.open(self, connection.door.name, self._head, self._started, length, body, ended)

    def begin(self, ended: bool) -> None:
        """The head is here. ended: there is no body."""
        head = self._head
        if ended or head.upgrade:
            self.client_ended = ended
            self._open(0, b"", True)
        elif head.expects_continue or head.length > INLINE:
            self._is_expected = head.expects_continue
            self._open(head.length, b"", False)
            self._await_more()
        else:
            # As over HTTP/1.1: small bodies travel inside REQUEST, one of unknown length if its end comes with its head.
            self._is_collecting = True
            self._connection.heard[self] = None

    def arrived(self, data: bytes, padding: int, ended: bool) -> None:
        """Bytes of the request's body, or of a tunnel."""
        self._is_expected = False
        self.client_ended = ended
        if padding:
            self._connection.engine.acknowledge(self.stream_id, padding)
        if data:
            self._pending.append(data)
            self._pending_size += len(data)
        if self.stream is not None:
            self.stream.received += len(data)
        self._connection.heard[self] = None

    def trailed(self, trailers: bytes) -> None:
        """The end of the request's body, with trailers, which a tunnel has none of (RFC 9113 section 8.5)."""
        self.client_ended = True
        self._request_trailers = b"" if self._head.upgrade else trailers
        self._connection.heard[self] = None

    def settle(self) -> None:
        """All that came in one read is here: a client's frames are short, and one envelope for many of them is cheaper."""
        if self._is_collecting:
            self._collect()
        elif self.stream is not None:
            self._upload()

    def _collect(self) -> None:
        streams = self._head.length == UNKNOWN and not self.client_ended
        if streams or self._pending_size > INLINE or self._request_trailers:
            self._stop_collecting()
        elif self.client_ended:
            body, size = b"".join(self._pending), self._pending_size
            self._pending, self._pending_size = [], 0
            self._is_collecting, self.read_by = False, inf
            self._connection.engine.acknowledge(self.stream_id, size)
            self._open(size, body, True)
        else:
            self._await_more()
            self._has_moved = self._is_watched
            if not self._is_watched:
                self._is_watched = True
                asyncio.get_running_loop().call_later(intake.PAUSE, self._pause_passed)

    def _pause_passed(self) -> None:
        """As over HTTP/1.1: a client that pauses may wait for an answer to what it has sent."""
        if not self._is_collecting:
            return
        if self._has_moved:
            self._has_moved = False
            asyncio.get_running_loop().call_later(intake.PAUSE, self._pause_passed)
        else:
            self._stop_collecting()

    def _stop_collecting(self) -> None:
        """The body is not here yet: it streams."""
        self._is_collecting = False
        self._open(self._head.length, b"", False)
        assert self.stream is not None
        self.stream.received = self._pending_size
        self._await_more()

    def _upload(self) -> None:
        """Sends request body bytes as far as credit goes; the rest stays in the client's window."""
        stream = self.stream
        if stream is None or stream.upload_done:
            return
        if not stream.wanter:
            self._await_more()
            return
        size, ended = self._pending_size, self.client_ended
        if size > stream.credit:
            size, ended = stream.credit, False
        whole = self._pending[0] if len(self._pending) == 1 else b"".join(self._pending)
        payload = whole[:size]
        self._pending = [whole[size:]] if len(whole) > size else []
        self._pending_size -= size
        if payload or ended:
            stream.credit -= size
            stream.upload_done = ended
            self._connection.streams.send_body(stream, payload, ended, self._request_trailers if ended else b"")
            self._connection.acknowledge(self.stream_id, size)
        if ended:
            self.read_by = inf
            if stream.state is HALF_SHUT:
                self._finish(monotonic())
        else:
            self._await_more()

    def _await_more(self) -> None:
        """The client is the one to wait for, unless it has done its part or the others have not."""
        stream = self.stream
        others_wait = bool(self._pending) and not self._is_collecting
        if self.client_ended or others_wait or self._is_expected or (stream is not None and stream.state in (TUNNEL, HALF_SHUT)):
            self.read_by = inf
        else:
            self.read_by = monotonic() + self._connection.door.settings.downstream_read_timeout
            self._connection.wake_by(self.read_by)

    def credited(self) -> None:
        if self._is_expected:
            self._is_expected = False
            self._connection.send_head(self.stream_id, _CONTINUE, False)
            self._await_more()
        self._upload()

    @property
    def unread(self) -> int:
        """Bytes of the client's window that were not given back."""
        return self._pending_size

    # -- the answer -----------------------------------------------------------------------

    def respond(self, response: Response, now: float) -> None:
        connection, stream = self._connection, self.stream
        assert stream is not None
        if response.status >= 400:
            response = as_read_by(stream, response)
        if connection.door.settings.enable_server_timing:
            response = timed(response, stream.request.started, now)
        status, headers, length, body, ended = response.status, response.headers, response.length, response.body, response.ended
        if status == 101:
            if not stream.request.upgrade:
                raise ValueError("101 that nobody asked for")
            # RFC 8441 section 5: what HTTP/1.1 says with 101 is 200 here, and keys are of no use; but a proxy whose own client began
            # in HTTP/1.1 may send that one's (Envoy), and then it needs the answer to it.
            self.read_by = inf
            status, length = 200, UNKNOWN
            if value_of(self._head.headers, b"sec-websocket-key") is None:
                headers = _without_accept(headers)
        elif self._head.upgrade and 200 <= status < 300:
            # A backend that did not switch: the client would take its 2xx for an open tunnel.
            connection.streams.cancel(stream, "no tunnel")
            addr = response.report.addr if response.report is not None else ""
            path = self._head.target.partition(b"?")[0].decode()  # a query may hold what no log should
            connection.streams.repeats.log("warn", "backend opened no tunnel", f"no tunnel {addr}", addr=addr, status=status, path=path)
            response = connection.answers.answer(stream, "bad_gateway")
            status, headers, length, body, ended = response.status, response.headers, response.length, response.body, True
        elif stream.request.method == b"HEAD" or status in BODILESS:
            stream.bodiless = True
            body = b""
            length = UNKNOWN if status == 204 else length
        elif ended:
            length = len(body)
        self._is_expected = False
        fields = response_fields(status, headers + dated(headers, now), length)
        stream.responded = now
        is_whole = ended and not body
        self._taken = len(body)
        self._answered = ended
        if response.status == 101:
            stream.state = TUNNEL
            stream.upload_done = False
        elif ended:
            stream.state = WHOLE
        if is_whole or (stream.bodiless and ended):
            self._let_rest_in()
        connection.send_head(self.stream_id, fields, is_whole or stream.bodiless)
        if stream.bodiless:
            stream.unacked = len(response.body)
        if is_whole:
            self._finish(now)
        elif body:
            self._give(body)

    def send_file(self, ref: FileRef) -> bool:
        return False

    def interim(self, interim: Interim) -> None:
        self._connection.send_head(self.stream_id, response_fields(interim.status, interim.headers, UNKNOWN), False)

    def body(self, data: Data) -> None:
        stream = self.stream
        assert stream is not None
        response = stream.response
        assert response is not None
        if data.error:
            stream.failed = data.error
            self.cut(data.payload)
            return
        payload = data.payload
        size = len(payload)
        if data.ended and data.context and response.report is not None:
            response.report.context.update(data.context)
        if stream.bodiless:
            stream.unacked += size
            if data.ended:
                self._finish(monotonic())
            elif stream.unacked >= STREAM_TOP_UP:
                self._connection.streams.give_credit(stream)
            return
        taken = self._taken = self._taken + size
        promised = response.length
        if promised != UNKNOWN and stream.state is ANSWERING and (taken > promised or (data.ended and taken < promised)):
            stream.failed = "bad_gateway"  # the client would wait for what is missing; what is too much is nobody's
            self.cut()
            return
        if data.ended:
            self._answered = True
            if stream.state is ANSWERING:
                stream.state = WHOLE
            self._trailers = data.trailers
        if size or data.ended:
            self._give(payload)

    def _give(self, payload: bytes) -> None:
        """More of the answer: a little of it is written now, if there is room, the rest when the turn ends."""
        connection = self._connection
        size = len(payload)
        if size <= PORTION and not self._waiting and not connection.outlet.choked and size <= connection.engine.room(self.stream_id):
            self._write(payload, self._answered)
            return
        if payload:
            self._waiting.append(payload)
        connection.blocked[self] = None
        if self.write_by == inf:
            self._await_room()
        connection.schedule()

    def pump(self) -> bool:
        """Writes a portion of what waits; False when there was no room for any of it."""
        waiting = self._waiting
        room = min(self._connection.engine.room(self.stream_id), PORTION)
        if waiting and not room:
            return False
        pieces: list[bytes | memoryview] = []
        while waiting and room:
            piece = memoryview(waiting[0])
            if len(piece) > room:
                pieces.append(piece[:room])
                waiting[0] = piece[room:]
                break
            pieces.append(piece)
            room -= len(piece)
            waiting.popleft()
        if waiting:
            self._await_room()
        else:
            self._connection.blocked.pop(self, None)
            self.write_by = inf
        self._write(b"".join(pieces), self._answered and not waiting)
        return True

    def _await_room(self) -> None:
        self.write_by = monotonic() + self._connection.door.settings.downstream_write_timeout
        self._connection.wake_by(self.write_by)

    def _write(self, payload: bytes, ended: bool) -> None:
        """Bytes for which there is room. ended: the answer is complete with them."""
        connection, stream = self._connection, self.stream
        assert stream is not None
        size = len(payload)
        stream.sent += size
        stream.unacked += size
        if not ended:
            connection.send_data(self.stream_id, payload, False)
            if stream.unacked >= STREAM_TOP_UP and not connection.outlet.choked:
                connection.streams.give_credit(stream)
            return
        self._let_rest_in()
        trailers = self._trailers
        if payload or not trailers:
            connection.send_data(self.stream_id, payload, not trailers)
        if trailers:
            connection.send_trailers(self.stream_id, trailer_fields(trailers))
        if stream.state is TUNNEL and not stream.upload_done:
            stream.state = HALF_SHUT
        else:
            self._finish(monotonic())

    def _let_rest_in(self) -> None:
        """Nothing but the end of the answer is to come."""
        stream = self.stream
        if not self.client_ended and stream is not None and stream.state is not TUNNEL:
            length = self._head.length
            self._connection.let_rest_in(self.stream_id, length if length == UNKNOWN else max(0, length - stream.received))

    # -- the end ----------------------------------------------------------------------------

    def _finish(self, now: float) -> None:
        assert self.stream is not None
        if self.stream.state is not ENDED:
            self._connection.streams.ended(self.stream, now)
        self._connection.stream_over(self)

    def fail(self, kind: str) -> None:
        assert self.stream is not None
        self.respond(self._connection.answers.answer(self.stream, kind), monotonic())

    def cut(self, last: bytes = b"") -> None:
        """A reset, so that what there is cannot be taken for all; a gRPC client gets that, and a status.

        last: how the body ends all the same, if it says so itself.
        """
        stream = self.stream
        assert stream is not None
        trailers = b"" if self._answered else status_of_cut(stream)
        self._connection.streams.ended(stream, monotonic(), stream.failed or "cut")
        if trailers or last:
            stream.upload_done = self._answered = True
            self._trailers, self.read_by = trailers, inf
            self._give(last)
        else:
            self._connection.stream_over(self, INTERNAL_ERROR)

    def left(self, kind: str = "client_closed") -> None:
        """The stream is gone, as a rule because the client left: whoever holds the request forgets it."""
        connection, stream = self._connection, self.stream
        if stream is None:
            why, size = "gone before its body was here", self._pending_size
            connection.answers.record(self, connection.door, self._head, kind, why, self._started, received=size)
        elif stream.state is ENDED:
            pass  # it is in the log already
        elif kind == "client_closed":
            connection.departures.left(stream)
        else:
            connection.streams.abandon(stream, kind)

    def release(self) -> None:
        """It is over. What it held must not wait for the garbage collector, which comes seldom: it and its OwnedStream name each other."""
        self.stream = None
        self._is_collecting = False
        self._waiting.clear()
        self._pending = []

    def expired(self, now: float) -> None:
        """One of its deadlines may have passed."""
        if self.write_by <= now:
            if not self._connection.has_others_before(now):
                self.left()
                self._connection.stream_over(self, CANCEL)
                return
            self._await_room()
        if self.read_by <= now:
            self.read_by = inf
            self._connection.refuse(self, ProtocolError("request_timeout", "the request took too long to arrive"))
