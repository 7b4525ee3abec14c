"""The writing half of the TLS layer: what the protocol inside writes becomes records on the plain transport.

With it is all else that a transport is asked and that does not depend on what was read.
"""

from __future__ import annotations

import asyncio
import ssl
from asyncio import Transport
from collections.abc import Callable, Iterable
from typing import Any, Final

RECORD: Final = 16 * 1024
"""Most plaintext bytes of one record (RFC 8446 section 5.1), and so of one read: OpenSSL hands out one at a time."""

READ: Final = 256 * 1024
"""Most plaintext bytes that are handed on at once."""

ANSWERS: Final = 4 * 1024 * 1024
"""Bytes that may wait for a peer which asks for key updates and does not read what they are answered with."""


class TlsOutput(Transport):
    """Its state is set by who reads, `tls.TlsTransport`: before the handshake is done there is nothing to write with."""

    __slots__ = ("_context", "_is_closing", "_outgoing", "_protocol", "_raw", "_send", "_ssl")

    _raw: Transport
    _ssl: ssl.SSLObject
    _outgoing: ssl.MemoryBIO
    _send: Callable[[bytes], None]
    _context: ssl.SSLContext
    _protocol: asyncio.Protocol | None
    _is_closing: bool

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._is_closing:
            return
        if len(data) <= RECORD:
            self._ssl.write(data)
        else:
            rest = memoryview(data)
            while rest:
                rest = rest[self._ssl.write(rest[:RECORD]) :]
                if self._outgoing.pending >= READ:
                    self._send(self._outgoing.read())
        self._send(self._outgoing.read())

    def writelines(self, pieces: Iterable[Any]) -> None:
        self.write(b"".join(pieces))

    def _flush(self) -> None:
        """Sends what TLS itself has to say: a step of the handshake, an alert, the answer to a key update."""
        if self._outgoing.pending:
            self._send(self._outgoing.read())
            if self._raw.get_write_buffer_size() > ANSWERS:
                self.abort()

    def abort(self) -> None:
        self._is_closing = True
        self._raw.abort()

    def is_closing(self) -> bool:
        return self._is_closing

    def get_write_buffer_size(self) -> int:
        return self._raw.get_write_buffer_size()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._raw.set_write_buffer_limits(high, low)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol  # type: ignore[assignment]

    def get_protocol(self) -> asyncio.BaseProtocol:
        assert self._protocol is not None
        return self._protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "ssl_object":
            return self._ssl
        if name == "sslcontext":
            return self._context
        return self._raw.get_extra_info(name, default)

    @property
    def session(self) -> ssl.SSLSession | None:
        """To go on with on another connection; with TLS 1.3 known only after the first answer."""
        return self._ssl.session
