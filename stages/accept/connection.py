"""What a client's connection is, whatever it speaks: a transport, a way to write to it, an eye on who takes nothing."""

from __future__ import annotations

import asyncio
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Final

from pingap.stages.accept.client import Arrival
from pingap.stages.http1.direct import DirectWriter, reset, taken
from pingap.stages.messages import STREAM_WINDOW, WINDOW
from pingap.stages.read_gate import ReadGate

if TYPE_CHECKING:
    from pingap.stages.accept.actor import AcceptActor
    from pingap.stages.accept.doors import Door

TOP_UP: Final = WINDOW // 4
STREAM_TOP_UP: Final = STREAM_WINDOW // 4
"""Credit is returned in portions of at least this many bytes, over HTTP/1.1 and HTTP/2."""

WRITE_BUFFER: Final = 256 * 1024
"""Response bytes that may wait for the socket before credit is held back."""

LINGER: Final = 2.0
"""Seconds that a client gets to read an answer that came before its body was all sent (RFC 9112 section 9.6)."""

BODILESS: Final = frozenset((204, 304))


class Connection(asyncio.Protocol):
    """The part that HTTP/1.1 and HTTP/2 share."""

    __slots__ = ("_taken", "_writer", "actor", "arrival", "deadline", "door", "gate", "served", "transport", "write", "write_deadline")

    transport: asyncio.Transport
    arrival: Arrival

    def __init__(self, actor: AcceptActor, door: Door) -> None:
        self.actor = actor
        self.door = door
        self.deadline = inf
        self.write_deadline = inf
        self.served = 0
        self._taken = 0

    def take_over(self, transport: asyncio.BaseTransport) -> None:
        """From now on it writes to this transport, and says whether it is read."""
        self.transport = transport  # type: ignore[assignment]
        self.gate = ReadGate(self.transport)
        self._writer = DirectWriter(self.transport)
        self.write = self._writer.write
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER)

    def lost(self) -> None:
        """The transport is gone."""
        self._writer.end()
        self.deadline = self.write_deadline = inf

    def watch_writing(self) -> None:
        """From now on the client must take something within each time-out."""
        self._taken = taken(self.transport)
        self.write_deadline = monotonic() + self.door.settings.downstream_write_timeout

    def is_stuck(self, now: float) -> bool:
        """True for a client that has taken nothing for too long: it has been reset."""
        if self.write_deadline > now:
            return False
        if self.transport.get_write_buffer_size() == 0:
            self.write_deadline = inf
        elif taken(self.transport) > self._taken:
            self.watch_writing()  # slow, but it reads
        else:
            reset(self.transport)  # else the kernel would keep what waits, megabytes perhaps, and try for minutes
            return True
        return False

    def close_when_taken(self) -> None:
        """Closes once the client has taken what waits for it."""
        self.transport.close()
        if self.transport.get_write_buffer_size():  # asked now: under TLS closing writes something too
            self.watch_writing()

    def say_last(self) -> None:
        """Ends its side and goes on reading for a moment: closing now would reset away what the client has not read yet."""
        self.deadline = monotonic() + LINGER
        self.transport.write_eof()
        if self.transport.get_write_buffer_size():
            self.watch_writing()

    def has_lingered(self, now: float) -> None:
        """That moment is over; not for who has not got all of it yet."""
        if self.transport.get_write_buffer_size():
            self.deadline = now + LINGER
        else:
            self.transport.abort()
