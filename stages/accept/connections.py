"""All client connections of this replica: how many there may be, whose time is up, and what they share."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Final, Protocol

from pingap.bus.actor import Context
from pingap.bus.descriptors import kept
from pingap.stages.accept.departures import Departures
from pingap.stages.accept.door import Door
from pingap.stages.accept.refusals import ErrorAnswers
from pingap.stages.bulk import Bulk
from pingap.stages.lane import Lane
from pingap.stages.streams import Streams
from pingap.stages.tls import HANDSHAKES

FULL_PAUSE: Final = 60.0
"""Seconds between two words on connections that are not accepted for want of descriptors."""


class Held(Protocol):
    """One connection, be it only at its beginning. Its deadlines are looked at twice a second."""

    transport: asyncio.Transport
    deadline: float
    """Monotonic seconds until which the client may take to send what is expected of it; inf for none."""

    @property
    def write_deadline(self) -> float:
        """The same for taking some of what waits for it."""

    def close_if_idle(self, reprieve: float) -> None:
        """On draining: closes it when nothing of a request has come, or does within so many seconds."""

    def expired(self, now: float) -> None:
        """A deadline has passed."""


class Entrance(Protocol):
    """What is asked of the listeners (doors.py)."""

    is_paused: bool

    def pause(self) -> None:
        """No new connections for the time being."""

    async def resume(self) -> None:
        """After `pause`."""


class Connections:
    """Each is registered from its beginning to its end, whatever it comes to speak."""

    def __init__(self, context: Context, entrance: Entrance, streams: Streams, departures: Departures, answers: ErrorAnswers) -> None:
        self.context = context
        self.loop = context.loop
        self.streams = streams
        self.departures = departures
        self.answers = answers
        self.bulk = Bulk(context.loop, context.pipes)
        """For all that clients send."""
        self.lane = Lane(context.loop, HANDSHAKES)
        """For the TLS handshakes of all listeners."""
        self.draining = False
        self._reprieve = 0.0
        self.held: set[Held] = set()
        self.files = 0
        """Connections to which a file is sent (file_sender.py): each has two descriptors more."""
        self._entrance = entrance
        self._descriptors = context.descriptors
        self._descriptors.join()
        self._last_number = 0
        self._tell_full = 0.0

    def connected(self, connection: Held, door: Door) -> int:
        """Registers a connection; returns its number. Over the cap it is closed at once."""
        self.held.add(connection)
        self._last_number += 1
        door.connections += 1
        cap = door.settings.max_connections
        if (cap and door.connections > cap) or (self.draining and not self._reprieve):
            self.context.count("connections_refused")
            connection.transport.abort()
        elif len(self.held) >= self._descriptors.most:
            self._full()
        return self._last_number

    def may_send_file(self) -> bool:
        """Half of the descriptors that connections leave alone may be files on their way, and copies of their sockets."""
        return self.files < kept(self._descriptors.limit) // 4

    def handed_over(self, before: Held, connection: Held) -> None:
        """A connection goes on as another object, which speaks the protocol that was agreed on."""
        self.held.discard(before)
        self.held.add(connection)

    def disconnected(self, connection: Held, door: Door) -> None:
        self.held.discard(connection)
        door.connections -= 1

    def drain(self, reprieve: float) -> None:
        """From now on connections end with the request that they have, or with one that comes within so many seconds.

        A client that has just connected, or keeps a connection in use, so learns of the end from an answer: to close under
        a request that is on its way would lose it.
        """
        self.draining = True
        self._reprieve = reprieve
        self._close_idle()

    def _close_idle(self) -> None:
        for connection in list(self.held):
            connection.close_if_idle(self._reprieve)

    def close(self) -> None:
        """All of them, whatever they are at."""
        for connection in list(self.held):
            connection.transport.close()

    def sweep(self, now: float) -> None:
        """Ends what has taken too long, and sees whether there is room for more. To be called now and then."""
        for connection in [c for c in self.held if c.deadline <= now or c.write_deadline <= now]:
            connection.expired(now)
        if self.draining:
            self._close_idle()
        elif self._entrance.is_paused or len(self.held) > self._descriptors.most:
            self._make_room()

    # -- descriptors ------------------------------------------------------------------

    def _full(self) -> None:
        """There may be no more connections: those who come wait before the door, or find another replica."""
        if not self._entrance.is_paused:
            self._entrance.pause()
            self.context.count("accept_pauses")
        now = monotonic()
        if now >= self._tell_full:
            self._tell_full = now + FULL_PAUSE
            self.context.log(
                "error",
                "no more connections are accepted until others end: too few file descriptors (ulimit -n)",
                connections=len(self.held),
                limit=self._descriptors.limit,
            )

    def _make_room(self) -> None:
        """Opens the doors again, or makes room for the pipes to new actors."""
        over = len(self.held) - self._descriptors.most
        if over < 0 and self._entrance.is_paused:
            self.loop.create_task(self._entrance.resume())
        over -= self._descriptors.slack
        for connection in list(self.held) if over > 0 else ():
            connection.close_if_idle(0.0)
            over -= connection.transport.is_closing()
            if over <= 0:
                return
