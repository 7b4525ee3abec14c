"""Both ends of a connection in memory: the layer under test on one, OpenSSL itself on the other."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import tempfile
from functools import cache
from typing import Any

from pingap.stages.lane import Lane
from pingap.stages.tls import HANDSHAKES, TlsTransport
from tests.e2e.certificate import self_signed


@cache
def contexts(newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """(server's, client's)."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.options |= ssl.OP_NO_RENEGOTIATION
    server.maximum_version = newest
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write("".join(self_signed("a.example")))
        file.flush()
        server.load_cert_chain(file.name)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    return server, client


class Raw(asyncio.Transport):
    """The plain transport below: what was written, and whether it was ended, paused, closed."""

    def __init__(self) -> None:
        super().__init__()
        self.out = bytearray()
        self.unread = 0
        """What the peer has not taken, bytes."""
        self.is_paused = self.is_ended = self.is_closed = self.is_aborted = False

    def write(self, data: Any) -> None:
        self.out += data

    def write_eof(self) -> None:
        self.is_ended = True

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_closed = self.is_aborted = True

    def is_closing(self) -> bool:
        return self.is_closed

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False

    def get_write_buffer_size(self) -> int:
        return self.unread

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


class Inner(asyncio.Protocol):
    """What goes on over TLS: it records what it is told. `says`: called with each piece."""

    def __init__(self, stays: bool = False) -> None:
        self.stays = stays
        self.heard: list[bytes] = []
        self.has_begun = self.is_ended = False
        self.lost: list[Exception | None] = []
        self.choked: list[bool] = []

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.has_begun = True
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self.heard.append(data)

    def eof_received(self) -> bool:
        self.is_ended = True
        return self.stays

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.append(error)

    def pause_writing(self) -> None:
        self.choked.append(True)

    def resume_writing(self) -> None:
        self.choked.append(False)

    @property
    def all(self) -> bytes:
        return b"".join(self.heard)


class Peer:
    """A client of the server under test."""

    def __init__(
        self, *, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3, inner: Inner | None = None, lane: Lane | None = None, refuse: bool = False
    ) -> None:
        server, client = contexts(newest)
        self.raw = Raw()
        self.inner = inner or Inner()
        self.failures: list[Exception | None] = []
        self.layer = TlsTransport(
            server,
            lambda _: None if refuse else self.inner,
            self.failures.append,
            lane=lane or Lane(asyncio.get_running_loop(), HANDSHAKES),
        )
        self.layer.connection_made(self.raw)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = client.wrap_bio(self._in, self._out, False, "a.example")

    def flight(self) -> bytes:
        """What the client would send now."""
        return self._out.read()

    def take(self) -> None:
        """The client gets what the server has written."""
        self._in.write(bytes(self.raw.out))
        self.raw.out.clear()

    async def shakes(self, size: int = 1 << 20) -> None:
        """The whole handshake; the client's bytes come in pieces of `size`."""
        for _ in range(4):
            self.take()
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                pass
            else:
                self.deliver(self.flight(), size)
                await turn()
                return
            self.deliver(self.flight(), size)
            await turn()
        raise AssertionError("no handshake")

    def deliver(self, data: bytes, size: int = 1 << 20) -> None:
        for at in range(0, len(data), size):
            self.layer.data_received(data[at : at + size])

    def says(self, *pieces: bytes) -> None:
        """Plaintext, each piece in records of its own; all arrives at once."""
        for piece in pieces:
            rest = memoryview(piece)
            while rest:
                rest = rest[self.tls.write(rest) :]
        self.deliver(self.flight())

    def says_end(self) -> None:
        """close_notify."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        self.deliver(self.flight())

    def hears(self) -> bytes:
        """All plaintext that has come. Raises ssl.SSLZeroReturnError or returns what came before close_notify, then b""."""
        self.take()
        found = bytearray()
        while True:
            try:
                data = self.tls.read(1 << 18)
            except ssl.SSLWantReadError:
                return bytes(found)
            if not data:
                return bytes(found)
            found += data

    @property
    def left_over(self) -> int:
        """Bytes of the server that the client's TLS has not looked at."""
        return self._in.pending

    def hears_end(self) -> bool:
        """The server has said close_notify, and nothing before it."""
        self.take()
        try:
            return self.tls.read(1) == b""
        except ssl.SSLZeroReturnError:
            return True
        except ssl.SSLWantReadError:
            return False


async def turn(times: int = 3) -> None:
    """Lets the loop do what is scheduled."""
    for _ in range(times):
        await asyncio.sleep(0)
