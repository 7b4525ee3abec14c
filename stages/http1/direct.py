"""Writing to a plain socket without the detour over the transport's queue.

uvloop's `transport.write` queues, and writes at the end of the loop's turn; for the
one small write that an answer is, that costs about 0.8 µs more than the system
call itself, twice a request. What the socket does not take at once goes to the
transport, which then owns the order until its queue is empty again.

The descriptor belongs to the transport. It is closed after `connection_lost`, and
might then be somebody else's: `end` must be called there. And all writes must come
this way: one that went to the transport unseen could be overtaken.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import sys
from asyncio import Transport
from collections.abc import Iterable
from typing import Final

_Bytes = bytes | memoryview
_write: Final = os.write
_BROKEN: Final = -2
_ACKED: Final = slice(120, 128)
"""tcpi_bytes_acked in struct tcp_info (linux/tcp.h; Linux 4.1)."""

_RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER of zero seconds."""


LAST_WORDS: Final = 0.3
"""Seconds that a peer which takes nothing more has until its connection is given up; what it sent is read meanwhile."""


def taken(transport: asyncio.BaseTransport) -> int:
    """Bytes that the other end's kernel has acknowledged on a TCP connection so far; 0 for one without a socket.

    The transport's queue says too little: the kernel takes nothing more of it until a third of its own, which may be
    megabytes, is empty, and a slow peer needs minutes for that.
    """
    sock = transport.get_extra_info("socket")
    if sock is None:
        return 0
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKED.stop)
    return int.from_bytes(info[_ACKED], sys.byteorder)


def reset(transport: asyncio.Transport) -> None:
    """Closes a TCP connection with a reset, and throws away what the other end has not got of it."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.abort()


class DirectWriter:
    """`write` for one connection. Not for TLS, whose bytes are made by the transport."""

    __slots__ = ("_fd", "_gathers", "_queued", "_transport")

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._gathers = type(transport).__module__.startswith("uvloop")
        self._queued = True  # perhaps, by who spoke on this connection before (Upgrade)
        sock = transport.get_extra_info("socket")
        self._fd = sock.fileno() if sock is not None and transport.get_extra_info("sslcontext") is None else -1

    def write(self, data: _Bytes) -> None:
        """Sends `data` now as far as the socket takes it, the rest when it can. An error shows as `connection_lost`, soon."""
        if self._fd < 0 or (self._queued and self._transport.get_write_buffer_size()):
            if self._fd != _BROKEN:
                self._transport.write(data)
            return
        try:
            sent = _write(self._fd, data)
        except BlockingIOError:
            sent = 0
        except OSError:
            # The peer takes nothing more, but what it said before may still be here to be read: an early answer, as a
            # rule. The transport would close on a failed write and throw that away, so it is not told yet.
            self._fd = _BROKEN
            asyncio.get_running_loop().call_later(LAST_WORDS, self._transport.abort)
            return
        if sent == len(data):
            self._queued = False
            return
        self._queued = True
        self._transport.write(memoryview(data)[sent:] if sent else data)

    def writelines(self, pieces: Iterable[_Bytes]) -> None:
        """For long pieces, which are better gathered by the transport than joined by us."""
        self._queued = True
        if self._gathers:
            self._transport.writelines(pieces)
        else:
            # asyncio's own forgets to pause its protocol here, whatever has piled up (Python 3.12 and 3.13.0).
            self._transport.write(b"".join(pieces))

    @property
    def socket(self) -> int:
        """The descriptor, for somebody who writes there now instead; -1 when none may: something waits to be written, or it is TLS."""
        return self._fd if self._fd >= 0 and not self._transport.get_write_buffer_size() else -1

    def end(self) -> None:
        """The connection is lost: the descriptor is no longer ours."""
        self._fd = -1
