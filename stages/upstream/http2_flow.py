"""Flow and time on one stream of an HTTP/2 connection to a backend: what there is room for, whose turn it is and for how long."""

from __future__ import annotations

from collections import deque
from math import inf
from time import monotonic
from typing import TYPE_CHECKING

from pingap.stages.http2.fields import trailer_fields
from pingap.stages.upstream.core import Failure
from pingap.stages.upstream.pool import LONGEST_WAIT

if TYPE_CHECKING:
    from pingap.stages.upstream.exchange import Exchange
    from pingap.stages.upstream.http2 import Http2Connection


class Http2Flow:
    """What the backend's window has no room for waits here; the credit that was given bounds it.

    While the exchange has no room for an answer what comes of it is not acknowledged, so that no more than one window of
    it can come.
    """

    __slots__ = (
        "_ends",
        "_has_begun",
        "_held",
        "_is_paused",
        "_owed",
        "_sent_end",
        "_taken",
        "_trailers",
        "connection",
        "deadline",
        "exchange",
        "id",
    )

    connection: Http2Connection
    exchange: Exchange | None
    id: int
    deadline: float
    _has_begun: bool
    """The answer's head has been passed on."""
    _held: deque[memoryview]
    """Bytes of the request's body that the backend has no room for."""
    _ends: bool
    """Nothing comes after what is held."""
    _sent_end: bool
    _trailers: bytes
    _is_paused: bool
    _owed: int
    """Bytes that came and were not acknowledged."""
    _taken: int
    """Bytes that the socket had taken when the deadline was set."""

    @property
    def choked(self) -> bool:
        return not self._sent_end and (bool(self._held) or self._ends or self.connection.choked)

    def send_body(self, payload: bytes, ended: bool, trailers: bytes) -> None:
        self._ends = ended
        self._trailers = trailers if trailers and self.connection.takes_trailers(len(trailers)) else b""
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
            exchange.backend_failed("gateway_timeout", "nothing came any more of the body of its answer")
        else:
            exchange.attempt_failed(Failure.TIMEOUT)
        return waited
