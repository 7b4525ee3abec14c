"""A connection to a backend, plain or under TLS: it reads only when it is told to, a small piece at a time, and counts.

There is no transport in between, which would read on by itself: a backend that sends without end fills the kernel's
buffer and no more, and closing takes no turn of the loop.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Final

from pingap.stages.discovery.probes.failed import ClosedEarly, ProbeFailed, TooMuch
from pingap.stages.tcp import has_unread
from pingap.stages.tls_contexts import SharedContexts
from pingap.stages.tls_words import in_plain_words

PIECE: Final = 4 * 1024
"""Bytes of one read. What a parser makes of them is done in one go, and some bytes are dear."""

MOST: Final = 64 * 1024
"""Bytes that are read from one request to the end of its answer, those of TLS included."""

MOST_HANDSHAKE: Final = 128 * 1024
"""Bytes of a TLS handshake: certificates of the other end (OpenSSL takes 100 KB of them)."""


class ProbeLine:
    __slots__ = ("_incoming", "_left", "_loop", "_outgoing", "_sock", "_tls")

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
        """sock: connected and non-blocking; it is closed with this."""
        self._loop = loop
        self._sock = sock
        self._tls: ssl.SSLObject | None = None
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._left = MOST

    async def secure(self, context: ssl.SSLContext, name: str) -> str:
        """Shakes hands and returns the protocol that was agreed on by ALPN, "" for none. Raises ProbeFailed, OSError.

        name: whom the backend is asked to be.
        """
        self._left = MOST_HANDSHAKE
        try:
            tls = context.wrap_bio(self._incoming, self._outgoing, False, name)
            while True:
                try:
                    tls.do_handshake()
                except ssl.SSLWantReadError:
                    await self._flush()
                    if not await self._fill():
                        raise ClosedEarly(f"TLS handshake as {name}: closed by the backend") from None
                else:
                    break
            await self._flush()
        except (ssl.SSLError, ValueError) as error:  # ValueError: a name that cannot be one
            raise ProbeFailed(f"TLS handshake as {name}: {in_plain_words(error)}") from error
        self._tls = tls
        return tls.selected_alpn_protocol() or ""

    @property
    def has_unread(self) -> bool:
        """Something has come that nobody has read yet."""
        tls = self._tls
        return has_unread(self._sock) or (tls is not None and bool(tls.pending() or self._incoming.pending))

    def begin(self) -> None:
        """A request is about to be sent: its answer may have MOST bytes."""
        self._left = MOST

    async def send(self, data: bytes) -> None:
        if self._tls is None:
            await self._loop.sock_sendall(self._sock, data)
            return
        rest = memoryview(data)
        while rest:
            rest = rest[self._tls.write(rest) :]
        await self._flush()

    async def receive(self) -> bytes:
        """The next piece; b"" at the end. Raises TooMuch, OSError (of TLS: ssl.SSLError)."""
        if self._tls is None:
            return await self._fill(is_plain=True)
        while True:
            try:
                return self._tls.read(PIECE)
            except ssl.SSLWantReadError:
                await self._flush()  # the answer to a key update
                if not await self._fill():
                    self._incoming.write_eof()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                # Many end without close_notify. Whether the answer is whole shows in HTTP.
                return b""

    async def _fill(self, is_plain: bool = False) -> bytes:
        data = await self._loop.sock_recv(self._sock, PIECE)
        self._left -= len(data)
        if self._left < 0:
            raise TooMuch("sends more than an answer to a check may have")
        await asyncio.sleep(0)  # asyncio reads what is there without a turn of the loop, and others have theirs to do
        if data and not is_plain:
            self._incoming.write(data)
        return data

    async def _flush(self) -> None:
        if self._outgoing.pending:
            await self._loop.sock_sendall(self._sock, self._outgoing.read())

    def close(self) -> None:
        self._sock.close()


def _context_for(protocol: str, verify: bool) -> ssl.SSLContext:
    """protocol: what is offered by ALPN. verify: the system's authorities; SSL_CERT_FILE and SSL_CERT_DIR name others (OpenSSL)."""
    if verify:
        context = ssl.create_default_context()
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols([protocol])
    return context


_shared: Final = SharedContexts(_context_for)


def context_for(protocol: str, verify: bool) -> ssl.SSLContext:
    """The same for the checks of all upstreams. protocol, verify: as above."""
    return _shared.get(protocol, verify)
