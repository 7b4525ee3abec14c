"""A transport without a socket: one end of a connection, with the buffers in between."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any


class FakeTransport(asyncio.Transport):
    """Its socket takes everything at once, or nothing while `is_stuck`."""

    def __init__(self, protocol: Any) -> None:
        super().__init__()
        self.protocol = protocol
        self.out = b""
        """What has left for the other end."""
        self.unsent = b""
        self.is_stuck = False
        self.is_lost = False
        self.was_reset = False
        self.eof_sent = False
        self._reading = True
        self._eof = False
        self._closing = False
        self._choked = False
        self._high, self._low = 64 * 1024, 16 * 1024

    # -- asyncio.Transport ------------------------------------------------------

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high is not None
        self._high, self._low = high, high // 4 if low is None else low

    def get_write_buffer_size(self) -> int:
        return len(self.unsent)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self._eof, "write after write_eof"
        self.unsent += bytes(data)
        if not self.is_stuck:
            self.drain(len(self.unsent))
        if len(self.unsent) > self._high and not self._choked:
            self._choked = True
            self.protocol.pause_writing()

    def writelines(self, parts: Iterable[Any]) -> None:
        self.write(b"".join(parts))

    def write_eof(self) -> None:
        self._eof = True
        self.drain(0)

    def can_write_eof(self) -> bool:
        return True

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True

    def is_reading(self) -> bool:
        return self._reading

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self.drain(0)

    def abort(self) -> None:
        self.lose(None)

    # -- the other end ------------------------------------------------------------

    def drain(self, size: int) -> None:
        """It takes so many bytes."""
        self.out += self.unsent[:size]
        self.unsent = self.unsent[size:]
        if self._choked and len(self.unsent) <= self._low:
            self._choked = False
            self.protocol.resume_writing()
        if not self.unsent and self._closing:
            self.lose(None)
        elif not self.unsent and self._eof:
            self.eof_sent = True

    def lose(self, error: Exception | None) -> None:
        """The connection is over; the protocol hears of it in the next turn."""
        if not self.is_lost:
            self.is_lost = self._closing = True
            self.unsent = b""
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, error)
