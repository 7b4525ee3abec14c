"""How one socket is watched, and what is said over each pattern. Opening them is link.py's alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

import zmq

from pingap.bus import envelope as wire

DRAIN: Final = 64
"""Messages taken from one socket before the loop gets a turn for the others."""

LONGEST_TURN: Final = 0.01
"""Seconds after which it gets one anyhow: a message may carry a hundred long bodies, and 64 such would keep it for a second."""

# Plain integers: arithmetic on zmq's enums costs as much as a receive.
NOBLOCK: Final = int(zmq.NOBLOCK)
NOBLOCK_MORE: Final = int(zmq.NOBLOCK | zmq.SNDMORE)
EVENTS: Final = int(zmq.EVENTS)
READABLE: Final = int(zmq.POLLIN)


class Watched:
    """A receiving socket on the event loop: `take` is called for each message, never re-entered."""

    def __init__(self, loop: asyncio.AbstractEventLoop, socket: zmq.Socket[bytes], take: Callable[[], None]) -> None:
        self.socket = socket
        self._loop = loop
        self._take = take
        self._get: Callable[[int], Any] = socket.getsockopt
        self._scheduled = False
        self._closed = False
        self._fd: int = socket.getsockopt(zmq.FD)  # type: ignore[assignment]
        # Not drained at once: first come the other sockets that the loop found readable in the same look. So upstream has
        # seen what a backend sent before a request came, but for the moments of one turn, when it picks a connection.
        loop.add_reader(self._fd, self._schedule)
        self._schedule()  # what arrived before the descriptor was watched gave no edge

    def _drain(self) -> None:
        self._scheduled = False
        if self._closed:
            return
        take, get = self._take, self._get
        try:
            until = 0.0
            for _ in range(DRAIN):
                take()
                # Asking costs a third of what the exception of one receive too many does.
                if not get(EVENTS) & READABLE:
                    return
                if not until:
                    until = monotonic() + LONGEST_TURN
                elif monotonic() > until:
                    break
        except zmq.Again:
            return
        except zmq.ZMQError:
            if not self._closed:
                raise
            return
        except BaseException:
            self._schedule()  # what a message did to its receiver must not cost the ones behind it
            raise
        self._schedule()

    def _is_readable(self) -> bool:
        return bool(self._get(EVENTS) & READABLE)

    def _schedule(self) -> None:
        if not self._scheduled and not self._closed:
            self._scheduled = True
            self._loop.call_soon(self._drain)

    def sent(self) -> None:
        """To be called after every send on this socket: a send swallows the edge of what arrived meanwhile."""
        if self._is_readable():
            self._schedule()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._fd)
            self.socket.close(linger=100)


def rest_of(socket: zmq.Socket[bytes]) -> list[bytes]:
    """The frames that belong to the message whose first one was just received, whatever that one says of them."""
    frames = []
    while socket.getsockopt(zmq.RCVMORE):
        frames.append(socket.recv(NOBLOCK))
    return frames


class Pair:
    """A DEALER: single envelopes to and from one peer."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        socket: zmq.Socket[bytes],
        take: Callable[[list[Any]], None],
        refuse: Callable[[Exception], None],
    ) -> None:
        def take_one() -> None:
            head = socket.recv(NOBLOCK)
            try:
                envelopes = wire.unpack(head, rest_of(socket))
            except wire.WireError as error:
                refuse(error)
                return
            take(envelopes)

        self.watched = Watched(loop, socket, take_one)

    def send(self, *envelopes: Any) -> bool:
        """False when the pipe is full (the peer is dead or stopped)."""
        try:
            self.watched.socket.send_multipart(wire.pack(list(envelopes)), NOBLOCK)
        except zmq.Again:
            return False
        finally:
            self.watched.sent()
        return True


class RouterSocket:
    """A ROUTER: single envelopes to and from many peers, told apart by their socket's identity."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        socket: zmq.Socket[bytes],
        take: Callable[[bytes, list[Any]], None],
        refuse: Callable[[Exception], None],
    ) -> None:
        def take_one() -> None:
            peer = socket.recv(NOBLOCK)
            head, *attachments = rest_of(socket) or [b""]
            try:
                envelopes = wire.unpack(head, attachments)
            except wire.WireError as error:
                refuse(error)
                return
            take(peer, envelopes)

        self.watched = Watched(loop, socket, take_one)

    def send(self, peer: bytes, *envelopes: Any) -> bool:
        """False when the peer is gone or its pipe is full."""
        try:
            self.watched.socket.send_multipart([peer, *wire.pack(list(envelopes))], NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno in (zmq.EAGAIN, zmq.EHOSTUNREACH):
                return False
            raise
        finally:
            self.watched.sent()
        return True


class Publisher:
    """PUB side: never blocks, drops for a subscriber whose pipe is full."""

    watched: Watched

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self._socket = socket

    def send(self, topic: bytes, *envelopes: Any) -> None:
        self._socket.send_multipart([topic, *wire.pack(list(envelopes))], NOBLOCK)
        self.watched.sent()

    def forward(self, topic: bytes, head: bytes) -> None:
        """Hands on a batch exactly as it came."""
        self._socket.send_multipart([topic, head], NOBLOCK)
        self.watched.sent()
