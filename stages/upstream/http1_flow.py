"""Flow and time on an HTTP/1.1 connection to a backend: whose turn it is, whether the connection still lives, how it ends."""

from __future__ import annotations

import asyncio
import socket
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Final

from pingap.stages.http1.body import BodyDecoder
from pingap.stages.http1.direct import has_unread
from pingap.stages.read_gate import CREDIT, ReadGate
from pingap.stages.upstream.core import Failure
from pingap.stages.upstream.pool import LONGEST_WAIT, BackendState

if TYPE_CHECKING:
    from pingap.stages.upstream.exchange import Exchange

SETTLED: Final = 1.0
"""Seconds of idleness after which a connection is looked at before it is used again."""


class Http1Flow(asyncio.Protocol):
    """Its state is set by who speaks HTTP: what may be waited for depends on what has been said."""

    __slots__ = ("_decoder", "_socket", "_taken", "backend", "choked", "deadline", "exchange", "gate", "is_closed", "transport")

    transport: asyncio.Transport
    backend: BackendState
    exchange: Exchange | None
    _socket: socket.socket
    """Under TLS what it holds is no HTTP, but that it holds anything still tells something."""
    _decoder: BodyDecoder | None
    """Of an answer whose head has come."""
    gate: ReadGate
    _taken: float
    """Bytes of the request's body that the socket had taken when that was last looked at."""
    choked: bool
    """The backend takes less than it is sent."""
    is_closed: bool
    deadline: float

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
                self.close()
        else:
            unsent = self.transport.get_write_buffer_size()
            if unsent and exchange.uploaded - unsent > self._taken:
                self._taken = exchange.uploaded - unsent
                self.deadline = now + exchange.write_timeout  # slow, but it takes the request
                return
            self.close()
            if self._decoder is not None:
                exchange.backend_failed("gateway_timeout", "nothing came any more of the body of its answer")
            else:
                exchange.attempt_failed(Failure.TIMEOUT)

    def finish(self) -> None:
        """Both halves of a tunnel have ended: closed when the backend has taken what was written, or takes nothing any more."""
        self.exchange = None
        self._taken = -self.transport.get_write_buffer_size()
        self.deadline = monotonic() + self.backend.group.write_timeout
        self.transport.close()

    def close(self) -> None:
        """Drops the connection; its exchange, if any, hears no more of it."""
        self.exchange = None
        self.deadline = inf
        if not self.is_closed:
            self.transport.abort()
