"""A client's connection as one writes to it: a transport, a way to write at once, an eye on who takes nothing, an end that is heard."""

from __future__ import annotations

import asyncio
from math import inf
from time import monotonic
from typing import Final

from pingap.stages.accept.door import Door
from pingap.stages.http1.direct import DirectWriter, reset, taken
from pingap.stages.messages import STREAM_WINDOW, WINDOW

TOP_UP: Final = WINDOW // 4
STREAM_TOP_UP: Final = STREAM_WINDOW // 4
"""Credit is returned in portions of at least this many bytes, over HTTP/1.1 and HTTP/2."""

WRITE_BUFFER: Final = 256 * 1024
"""Response bytes that may wait for the socket before credit is held back."""

LINGER: Final = 2.0
"""Seconds that a client gets to read an answer that came before its body was all sent (RFC 9112 section 9.6)."""

BODILESS: Final = frozenset((204, 304))


class Outlet:
    """Of one connection, whatever it speaks."""

    __slots__ = ("_door", "_taken", "choked", "deadline", "has_file", "transport", "writer")

    def __init__(self, transport: asyncio.Transport, door: Door) -> None:
        self.transport = transport
        self.writer = DirectWriter(transport)
        self.choked = False
        """The client does not take what is written."""
        self.has_file = False
        """Beside what the transport holds, a file waits for the client (file_sender.py)."""
        self.deadline = inf
        """Monotonic seconds until which it must take some of that."""
        self._door = door
        self._taken = 0
        transport.set_write_buffer_limits(high=WRITE_BUFFER)

    def lost(self) -> None:
        """The transport is gone."""
        self.writer.end()
        self.deadline = inf

    # -- who takes nothing ------------------------------------------------------

    def watch(self) -> None:
        """From now on the client must take something within each time-out."""
        self._taken = taken(self.transport)
        self.deadline = monotonic() + self._door.settings.downstream_write_timeout

    def is_stuck(self) -> bool:
        """Whether something waits for the client, which has taken nothing since it was last looked at."""
        return (self.transport.get_write_buffer_size() > 0 or self.has_file) and taken(self.transport) <= self._taken

    def expired(self, now: float) -> bool:
        """Ends it if the client has taken nothing until its deadline; whether it has ended."""
        if self.deadline > now:
            return False
        if self.is_stuck():
            self.give_up()
            return True
        if self.transport.get_write_buffer_size() or self.has_file:
            self.watch()
        else:
            self.deadline = inf
        return False  # it has read, if slowly

    def give_up(self) -> None:
        """Closes with a reset: else the kernel would keep what waits, megabytes perhaps, and try for minutes."""
        reset(self.transport)

    def file_waits(self, waits: bool) -> None:
        """The socket is full, and a file waits for the client; or no more."""
        self.has_file = waits
        if waits:
            self.watch()
        else:
            self.deadline = inf

    # -- ends ---------------------------------------------------------------------

    def close_when_taken(self) -> None:
        """Closes once the client has taken what waits for it."""
        self.transport.close()
        if self.transport.get_write_buffer_size():  # asked now: under TLS closing writes something too
            self.watch()

    def say_last(self) -> None:
        """Ends this side. Reading goes on, for LINGER: closing now would reset away what the client has not read yet."""
        self.transport.write_eof()
        if self.transport.get_write_buffer_size():
            self.watch()
