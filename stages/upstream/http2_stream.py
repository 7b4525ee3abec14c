"""One request and its answer on a stream of an HTTP/2 connection: the channel that an exchange sees."""

from __future__ import annotations

from collections import deque
from math import inf
from time import monotonic
from typing import Final, Protocol

from pingap.stages.grpc import is_call, timeout_of
from pingap.stages.http1.rules import AnswerHead, ProtocolError
from pingap.stages.http2.engine import CANCEL, ENHANCE_YOUR_CALM, PROTOCOL_ERROR, Fields, Http2Engine
from pingap.stages.http2.fields import request_fields, response_head, trailer_block, trailer_fields
from pingap.stages.messages import EMPTY, UNKNOWN
from pingap.stages.upstream.backend import BackendState
from pingap.stages.upstream.channel import Carried
from pingap.stages.upstream.core import LIMITS, MAX_INTERIM, Outcome, meaning_of_cancel, meaning_of_reset
from pingap.stages.upstream.risky import exceeds, is_large
from pingap.stages.upstream.waiting import LONGEST_WAIT
from pingap.stages.upstream.websocket import WEBSOCKET, answered_over_http2, with_key

NO_BODY: Final = (204, 304)


class Multiplexer(Protocol):
    """The connection, as its streams know it (http2.py)."""

    backend: BackendState
    engine: Http2Engine
    opened: float
    served: int
    """Answers so far."""
    choked: bool
    """The socket takes less than it is sent."""
    blocked: dict[BackendStream, None]
    """Those that hold bytes for want of room, in the order of their turns."""
    unshown: list[BackendStream]
    """Those whose answer's head came in this read, and nothing of its body yet."""
    header_list: int
    """Bytes of the largest field list that the backend wants to get."""
    last_code: int
    """Of its GOAWAY."""

    @property
    def scheme(self) -> bytes: ...

    @property
    def taken(self) -> int:
        """Bytes that the socket has taken."""

    def open_stream(self, stream: BackendStream, fields: Fields, ended: bool) -> int:
        """Sends a request's field list; the new stream's id."""

    def admit_trailers(self, size: int) -> bool:
        """Whether trailers of a request may be sent, of so many bytes."""

    def sent_trailers(self) -> None: ...

    def reset_stream(self, stream_id: int, code: int) -> None: ...

    def answered(self) -> None:
        """A whole answer has come on a stream."""

    def refused_one(self) -> None:
        """The backend takes fewer streams than it has said."""

    def parted(self, stream: BackendStream) -> None:
        """A stream has ended, in whatever way."""

    def flush_soon(self) -> None:
        """What the engine has for the backend leaves at the end of this turn of the loop."""


class BackendStream:
    """What comes of an answer is passed on at once.

    What the backend's window has no room for of a request waits here; the credit that was given bounds it. While the
    exchange has no room for an answer what comes of it is not acknowledged, so that no more than one window of it can come.
    """

    __slots__ = (
        "_ends",
        "_got_end",
        "_has_begun",
        "_head",
        "_heard",
        "_held",
        "_is_paused",
        "_owed",
        "_sent_end",
        "_taken",
        "_trailers",
        "_tunnel",
        "connection",
        "deadline",
        "exchange",
        "id",
    )

    def __init__(self, connection: Multiplexer) -> None:
        self.connection = connection
        self.exchange: Carried | None = None
        self.deadline = inf
        self.id = 0
        self._head: AnswerHead | None = None
        """Of an answer that has not been passed on: the rest of it may be in the same read."""
        self._has_begun = False
        """The answer's head has been passed on."""
        self._heard = False
        """Something of an answer has come."""
        self._got_end = False
        self._held: deque[memoryview] = deque()
        """Bytes of the request's body that the backend has no room for."""
        self._ends = False
        """Nothing comes after what is held."""
        self._sent_end = False
        self._trailers = b""
        self._is_paused = False
        self._owed = 0
        """Bytes that came and were not acknowledged."""
        self._taken = 0
        """Bytes that the socket had taken when the deadline was set."""
        self._tunnel: bytes | None = None
        """The header block of a request that asks for one."""

    @property
    def backend(self) -> BackendState:
        return self.connection.backend

    @property
    def opened(self) -> float:
        return self.connection.opened

    # -- the request -----------------------------------------------------------------

    def ask(self, exchange: Carried, now: float, headers: bytes, length: int) -> None:
        """Of an exchange from now on: sends the request's head and what there is of its body. length: bytes of all of it, or UNKNOWN."""
        self.exchange = exchange
        ended = exchange.upload_done
        self.deadline = now + (exchange.read_timeout if ended else LONGEST_WAIT)
        connection, routed = self.connection, exchange.routed
        if routed.upgrade and length in (0, EMPTY):
            # Before an extended CONNECT there is no room for a body: the upgrade is ignored then, as a server may.
            self._ask_for_tunnel(exchange, routed.target, headers, routed.upgrade)
            return
        if exceeds(connection.header_list, routed.target, headers):
            exchange.head_too_large(connection.header_list)
            return
        body = routed.body
        fields = request_fields(exchange.method, routed.target, connection.scheme, headers, length)
        self.id = connection.open_stream(self, fields, ended and not body)
        if body:
            self.send_body(body, ended, b"")
        else:
            self._ends = self._sent_end = ended

    def _ask_for_tunnel(self, exchange: Carried, target: bytes, headers: bytes, upgrade: bytes) -> None:
        """Extended CONNECT, if the backend's settings say that it takes that (RFC 8441 section 3); else it is asked over HTTP/1.1."""
        if not self.connection.engine.connect_enabled:
            if self.backend.may_fall_back(exchange.routed):
                exchange.go_over_http1()
            else:
                why = 'the backend does not take extended CONNECT over HTTP/2 (RFC 8441), and alpn = "h2" rules out HTTP/1.1'
                exchange.attempt_failed(Outcome.INVALID, why)
            return
        self._tunnel = headers
        if exceeds(self.connection.header_list, target, headers):
            exchange.head_too_large(self.connection.header_list)
            return
        # RFC 8441 section 5 has no use for a key, but a proxy that goes on in HTTP/1.1 may have none of its own (Envoy).
        headers = with_key(headers, exchange.routed.version) if upgrade == WEBSOCKET else headers
        fields = request_fields(b"CONNECT", target, self.connection.scheme, headers, 0, upgrade)
        self.id = self.connection.open_stream(self, fields, False)

    # -- the answer ------------------------------------------------------------------

    def took_interim(self, fields: Fields) -> None:
        exchange = self.exchange
        assert exchange is not None
        self._heard = True
        try:
            head = response_head(fields, LIMITS)
            exchange.interims += 1
            if exchange.interims > MAX_INTERIM:
                raise ProtocolError("bad_gateway", "backend sent too many interim answers")
        except ProtocolError as error:
            self._broke(error)
            return
        if head.status != 100:  # that one is ours to give, and accept has given it
            exchange.interim_arrived(head.status, head.headers)
        self.watch()

    def took_head(self, fields: Fields, ended: bool) -> None:
        exchange = self.exchange
        assert exchange is not None
        self._heard = True
        try:
            head = response_head(fields, LIMITS)
        except ProtocolError as error:
            self._broke(error)
            return
        if self._tunnel is not None and 200 <= head.status < 300:
            self._open_tunnel(exchange, head, ended)
        elif ended:
            if head.length == UNKNOWN and exchange.method != b"HEAD" and head.status not in NO_BODY:
                head = head._replace(length=0)
            self._answered(exchange, head, b"")
        else:
            self._head = head
            self.connection.unshown.append(self)

    def _open_tunnel(self, exchange: Carried, head: AnswerHead, ended: bool) -> None:
        """A 2xx to an extended CONNECT is to the client what a 101 is (RFC 8441 section 5)."""
        assert self._tunnel is not None
        headers = answered_over_http2(self._tunnel, head.headers)
        self._has_begun = True
        exchange.tunnel_opened(head._replace(status=101, headers=headers, length=UNKNOWN), b"")
        if ended:
            self._finish(exchange, b"", b"")
        else:
            self.watch()

    def show_head(self) -> None:
        """All of the read that brought the head has been looked at, and there was nothing of the body in it."""
        head, self._head = self._head, None
        if head is not None and self.exchange is not None:
            self._has_begun = True
            self.watch()
            self.exchange.head_arrived(head, b"", False)

    def took_body(self, data: bytes, flow_length: int, ended: bool) -> None:
        exchange, engine = self.exchange, self.connection.engine
        assert exchange is not None
        head, self._head = self._head, None
        if ended:
            engine.acknowledge(self.id, flow_length + self._owed)
            if head is not None:
                self._answered(exchange, head, data)
            else:
                self._finish(exchange, data, b"")
            return
        if head is not None:
            self._has_begun = True
            exchange.head_arrived(head, data, False)
        elif data:
            exchange.body_arrived(data, False)
        if self.exchange is None:
            return  # its reset has given the bytes back
        if self._is_paused:
            self._owed += flow_length
        else:
            engine.acknowledge(self.id, flow_length)
        self.watch()

    def took_trailers(self, fields: Fields) -> None:
        exchange = self.exchange
        assert exchange is not None
        try:
            trailers = trailer_block(fields)
        except ProtocolError as error:
            self._broke(error)
            return
        self.connection.engine.acknowledge(self.id, self._owed)
        head, self._head = self._head, None
        if head is not None:
            if not trailers:
                self._answered(exchange, head, b"")
                return
            self._has_begun = True
            exchange.head_arrived(head, b"", False)
            if self.exchange is None:
                return  # it is not wanted
        self._finish(exchange, b"", trailers)

    def _answered(self, exchange: Carried, head: AnswerHead, body: bytes) -> None:
        """Head and whole body are here."""
        self._got_end = True
        exchange.head_arrived(head, body, True)
        self._part()

    def _finish(self, exchange: Carried, payload: bytes, trailers: bytes) -> None:
        self._got_end = True
        exchange.body_arrived(payload, True, trailers)
        if self.exchange is None:
            return
        if exchange.is_tunnel:
            self.watch()  # its other half goes on
        else:
            self._part()

    def _part(self) -> None:
        self.connection.answered()
        # An answer that came before the request was all sent: the backend wants no more of it (RFC 9113 section 8.1).
        self._leave(CANCEL)

    # -- flow and time -----------------------------------------------------------------

    @property
    def choked(self) -> bool:
        return not self._sent_end and (bool(self._held) or self._ends or self.connection.choked)

    def send_body(self, payload: bytes, ended: bool, trailers: bytes) -> None:
        self._ends = ended
        self._trailers = trailers if trailers and self.connection.admit_trailers(len(trailers)) else b""
        was_waiting = bool(self._held)
        if payload:
            self._held.append(memoryview(payload))
        self._push()
        if self._held and not was_waiting:
            self.watch()  # from now on it is the backend's turn

    def go_on(self) -> None:
        """There may be room again."""
        exchange = self.exchange
        if exchange is None or self._sent_end:
            return
        moved = self._push()
        if moved or not self.choked:  # else the backend's time goes on
            self.watch()
        if not self.choked:
            exchange.drained()

    def _push(self) -> bool:
        """Sends what there is room for, and remembers to go on with the rest. True when anything was sent."""
        connection, held = self.connection, self._held
        engine = connection.engine
        moved = False
        if not connection.choked:
            while held:
                payload = held[0]
                room = engine.room(self.id)
                if len(payload) > room:
                    if room:
                        engine.send_data(self.id, bytes(payload[:room]), False)
                        held[0] = payload[room:]
                        moved = True
                    break
                held.popleft()
                moved = True
                self._sent_end = self._ends and not self._trailers and not held
                engine.send_data(self.id, bytes(payload), self._sent_end)
            if self._ends and not self._sent_end and not held:
                self._sent_end = moved = True
                if self._trailers:
                    engine.send_trailers(self.id, trailer_fields(self._trailers))
                    connection.sent_trailers()
                else:
                    engine.send_data(self.id, b"", True)
        if held or (self._ends and not self._sent_end):
            connection.blocked[self] = None
        if moved:
            connection.flush_soon()
        return moved

    def watch(self) -> None:
        exchange = self.exchange
        if exchange is None:
            self.deadline = inf
        elif self.choked:
            self._taken = self.connection.taken
            self.deadline = monotonic() + exchange.write_timeout
        elif self._is_paused:
            self.deadline = inf  # the client is slow, not the backend
        else:
            # While the request is on its way it is the client whose turn it is, and accept that watches it.
            waits_for_backend = exchange.upload_done or exchange.is_tunnel
            self.deadline = monotonic() + (exchange.read_timeout if waits_for_backend else LONGEST_WAIT)

    def pause(self) -> None:
        if not self._is_paused:
            self._is_paused = True
            self.watch()

    def resume(self) -> None:
        if self._is_paused:
            self._is_paused = False
            self.watch()
            owed, self._owed = self._owed, 0
            if owed:
                self.connection.engine.acknowledge(self.id, owed)
                self.connection.flush_soon()

    def expired(self, now: float) -> float:
        """The deadline has passed. Returns the seconds that it has waited in vain; 0.0 when it may go on."""
        exchange = self.exchange
        if exchange is None:
            return 0.0
        waited = exchange.read_timeout
        if self.choked:
            waited = exchange.write_timeout
            if self.connection.choked and self.connection.taken > self._taken:
                self._taken = self.connection.taken
                self.deadline = now + waited  # slow, but the socket takes what there is
                return 0.0
        if self._has_begun:
            exchange.answer_cut(Outcome.TIMEOUT, "nothing came any more of the body of its answer")
        else:
            exchange.attempt_failed(Outcome.STALLED if self._heard else Outcome.TIMEOUT)
        return waited

    # -- the end without an answer ---------------------------------------------------------

    def _broke(self, error: ProtocolError) -> None:
        exchange = self.exchange
        assert exchange is not None
        self._leave(PROTOCOL_ERROR)
        self._fail(exchange, Outcome.INVALID, error.detail)

    def was_reset(self, code: int, is_ours: bool) -> None:
        """The stream is gone. is_ours: because of what the backend did to it."""
        exchange = self.exchange
        assert exchange is not None
        self._got_end = self._sent_end = True  # there is nothing left for us to reset
        outcome, why = meaning_of_reset(code, is_ours, self._heard, self.backend.may_fall_back(exchange.routed))
        headers = exchange.routed.headers
        if outcome is Outcome.RESET and code == CANCEL and is_call(headers):
            outcome, why = meaning_of_cancel(timeout_of(headers), monotonic() - exchange.began)
        elif outcome is Outcome.REFUSED:
            self.connection.refused_one()
        elif outcome is Outcome.HTTP1_REQUIRED:
            self.backend.asked_for_http1(monotonic())
        self._fail(exchange, outcome, why)

    def was_refused(self, why: str, is_lost: bool) -> None:
        """By a GOAWAY: the backend has not touched it. is_lost: its connection ends in an error, with others on it."""
        exchange = self.exchange
        assert exchange is not None
        if is_lost:
            exchange.lost_with_others(not self.connection.served)
        self._fail(exchange, Outcome.REFUSED if not self._heard else Outcome.RESET, why)

    def lost(self, why: str, outcome: Outcome | None = None, with_others: bool = False) -> None:
        """The connection is gone. outcome: what that is when nothing of an answer has come. with_others: other streams are too."""
        exchange = self.exchange
        if exchange is None:
            return
        if self._heard:
            self._fail(exchange, Outcome.CUT if self._has_begun else Outcome.INVALID, why or "closed within its answer")
        elif with_others:
            exchange.lost_with_others(not self.connection.served)
            self._fail(exchange, Outcome.CLOSED_REUSED, why)
        elif self.connection.last_code == ENHANCE_YOUR_CALM and is_large(exchange.routed.target, exchange.routed.headers):
            self._fail(exchange, Outcome.HEAD_TOO_LARGE, why)
        else:
            closed = Outcome.CLOSED_REUSED if self.connection.served else Outcome.CLOSED_FRESH
            self._fail(exchange, outcome or closed, why)

    def _fail(self, exchange: Carried, outcome: Outcome, detail: str) -> None:
        if self._has_begun:
            exchange.answer_cut(outcome, detail)  # so that what has come of the body does not look complete
        else:
            # Of a reset that came with something of an answer there is nothing to be tried again.
            exchange.attempt_failed(Outcome.INVALID if self._heard and outcome is Outcome.RESET else outcome, detail)

    def finish(self) -> None:
        if self.exchange is not None:
            self._part()

    def close(self, why: str = "") -> None:
        if self.exchange is not None or not self.id:  # it may have been handed out, and not have asked
            self._leave(CANCEL)

    def _leave(self, code: int) -> None:
        """It is no longer of the connection. code: of the reset, unless both halves have ended."""
        self.exchange = self._head = None
        self.deadline = inf
        if self.id and not (self._got_end and self._sent_end):
            self.connection.reset_stream(self.id, code)
        self.connection.parted(self)
