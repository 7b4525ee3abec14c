"""TLS on a plain connection: a layer between the event loop's transport and a protocol that knows nothing of it.

The loop's own TLS costs about 4 µs more a small request (docs/decisions/0007), and it decides things that are ours:
how much of a turn of the loop handshakes may take, what becomes of a connection whose other end stops without saying so,
and which protocol goes on once it is known what was agreed. Whose handshake has its turn is in lane.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from asyncio import Transport
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any, Final, cast

from pingap.stages.client_hello import Hello, HelloReader
from pingap.stages.http1.direct import DirectWriter
from pingap.stages.lane import Lane
from pingap.stages.read_gate import INNER, TLS, ReadGate

RECORD: Final = 16 * 1024
"""Most plaintext bytes of one record (RFC 8446 section 5.1), and so of one read: OpenSSL hands out one at a time."""

READ: Final = 256 * 1024
"""Most plaintext bytes that are handed on at once."""

ANSWERS: Final = 4 * 1024 * 1024
"""Bytes that may wait for a peer which asks for key updates and does not read what they are answered with."""

EARLY: Final = 64 * 1024
"""Bytes that may wait for the turn of their handshake; more are left to the kernel."""

HANDSHAKES: Final = 0.002
"""Seconds of one turn of the loop that those of clients may take: an RSA key makes each cost a millisecond."""

_HANDSHAKE: Final = 0x16
"""Type of the record that every TLS connection begins with."""


_UNRECOGNIZED_NAME: Final = bytes((0x15, 3, 3, 0, 2, 2, ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME))
"""The record of this fatal alert (RFC 6066 section 3), for a handshake that is refused before the library has begun it."""


class NoContext(Exception):
    """There is none for the name that the client asks for."""


class TlsTransport(asyncio.Protocol):
    """To the plain transport a protocol, to the protocol inside a transport: no subclass of asyncio's, whose slot mypyc would overwrite.

    agreed: called when the handshake is done; it returns the protocol that goes on, which then gets `connection_made`,
    or None to close. failed: called when there will be no protocol: the handshake failed, or the peer left in it.
    """

    __slots__ = (
        "_agreed",
        "_choose",
        "_context",
        "_early",
        "_end_of_reading",
        "_failed",
        "_gate",
        "_has_begun",
        "_hello",
        "_hostname",
        "_incoming",
        "_is_closing",
        "_is_waiting",
        "_lane",
        "_lingers",
        "_outgoing",
        "_protocol",
        "_raw",
        "_send",
        "_session",
        "_ssl",
        "_started",
        "_stays_open",
        "_writer",
        "ended",
        "seconds",
    )

    def __init__(
        self,
        context: ssl.SSLContext,
        agreed: Callable[[TlsTransport], asyncio.Protocol | None],
        failed: Callable[[Exception | None], None],
        *,
        lane: Lane | None = None,
        choose: Callable[[Hello], ssl.SSLContext | None] | None = None,
        lingers: Callable[[Exception], bool] | None = None,
        hostname: str | None = None,
        session: ssl.SSLSession | None = None,
    ) -> None:
        """lane: of a server; without it this is the client's end, which names `hostname` and may go on with `session`.

        choose: of a server, gives the context by what the client says first, in place of `context`; None refuses.
        lingers: whether the plain transport stays open after this failure, for `failed` to end it.
        """
        self._context = context
        self._agreed = agreed
        self._failed = failed
        self._lane = lane
        self._lingers = lingers
        self._choose = choose
        self._hello: HelloReader | None = None if choose is None else HelloReader()
        """What has come of the client's first message, until its context is chosen."""
        self._hostname = hostname
        self._session = session
        self._raw: Transport
        """The plain transport."""
        self._ssl: ssl.SSLObject
        self._send: Callable[[bytes], None]
        self._protocol: asyncio.Protocol | None = None
        """The one inside, once the handshake is done."""
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._is_closing = False
        self._is_waiting = False
        """For its turn to read the client's first message."""
        self._end_of_reading = False
        self._stays_open = False
        """The peer has ended its half, and the protocol goes on with the other one."""
        self._has_begun = False
        self._early = b""
        """What was read before its time, for it had to be read before our own close_notify."""
        self._started = 0.0
        self.seconds = 0.0
        """What the handshake took."""
        self.ended: Callable[[], None] | None = None
        """To be told once when the plain transport is gone, if anything: what is known of the session by then is all that will be."""

    # -- the plain transport's side ---------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._raw = transport  # type: ignore[assignment]
        self._gate = ReadGate(self._raw)
        self._writer = DirectWriter(self._raw)
        self._send = self._writer.write
        self._started = monotonic()
        if self._choose is None:
            self._begin()
        if self._lane is None and not self._is_closing:
            self.shake()

    def _begin(self) -> None:
        try:
            is_server = self._lane is not None
            self._ssl = self._context.wrap_bio(self._incoming, self._outgoing, is_server, self._hostname, self._session)
        except ValueError as error:  # a name that cannot be one
            self._give_up(error)

    def data_received(self, data: bytes) -> None:
        if self._protocol is not None:
            self._incoming.write(data)
            self._read()
        elif self._is_closing:
            return
        elif self._lane is None:
            self._incoming.write(data)
            self.shake()
        else:
            if not self._has_begun:
                self._has_begun = True
                if data[0] != _HANDSHAKE and data[:3].isalpha():
                    self._answer_plainly()
                    return
            hello = self._hello
            if hello is not None:
                hello.data += data
                if len(hello.data) > EARLY:
                    self._gate.shut(TLS)
                if self._is_waiting:
                    return
                self._is_waiting = True
            else:
                self._incoming.write(data)
                if self._incoming.pending > EARLY:
                    self._gate.shut(TLS)
            self._lane.put(self)

    def _choose_context(self, hello: HelloReader) -> None:
        """Chooses by what the client has said, if that is enough to know the name."""
        assert self._choose is not None
        said = hello.read()
        if said is None and (hello.has_more or len(hello.data) <= EARLY):
            return
        context = self._choose(said or Hello())
        self._choose = self._hello = None
        if context is None:
            self._send(_UNRECOGNIZED_NAME)
            self._give_up(NoContext())
        else:
            self._context = context
            self._begin()
            self._incoming.write(bytes(hello.data))

    def _answer_plainly(self) -> None:
        """A client that does not speak TLS here is told so if it seems to speak HTTP; it would find an alert odd."""
        body = b"This port speaks TLS: use https.\n"
        head = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        self._send(head % len(body) + body)
        self._give_up(ssl.SSLError(1, "plain HTTP on a TLS port"))

    def eof_received(self) -> bool:
        if self._protocol is None:
            self._give_up(None)
        elif not self._end_of_reading:
            if self._lane is None:
                # Without close_notify anybody may have cut it short (RFC 8446 section 6.1): a body must not look complete.
                self._protocol.connection_lost(ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "ended without close_notify"))
                self._protocol = _NOBODY
                self._raw.abort()
            else:
                self._end(self._protocol)
        return self._stays_open and not self._is_closing

    def connection_lost(self, error: Exception | None) -> None:
        self._writer.end()
        if self.ended is not None:
            ended, self.ended = self.ended, None
            ended()
        protocol = self._protocol
        if protocol is not None:
            self._protocol = _NOBODY  # they name each other, and the garbage collector, which would part them, comes seldom
            protocol.connection_lost(error)
        elif not self._is_closing or error is not None:
            self._give_up(error)
        self._is_closing = True

    def pause_writing(self) -> None:
        if self._protocol is not None:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        if self._protocol is not None:
            self._protocol.resume_writing()

    # -- handshake ----------------------------------------------------------------

    def work(self) -> bool:
        """For the lane: it reads what the client says first, then goes on with the handshake."""
        hello = self._hello
        if hello is not None:
            self._is_waiting = False
            if self._is_closing:
                return False
            self._choose_context(hello)
            if self._hello is not None:
                self._is_waiting = hello.has_more
                return hello.has_more
        self.shake()
        return False

    def shake(self) -> None:
        """Goes on with the handshake as far as the peer's bytes allow."""
        if self._protocol is not None:
            self._read()  # the end of the handshake and the first request came in two reads before the lane had its turn
            return
        if self._is_closing:
            return
        self._gate.open(TLS)
        try:
            self._ssl.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except (ssl.SSLError, OSError, ValueError) as error:
            self._flush()  # the alert that says why
            self._give_up(error)
            return
        self._flush()
        self.seconds = monotonic() - self._started
        protocol = self._agreed(self)
        self._agreed, self._failed = _agrees_no_more, _fails_no_more  # they know this transport, or what goes on over it
        if protocol is None:
            self.close()
            return
        self._protocol = protocol
        protocol.connection_made(cast(asyncio.BaseTransport, self))
        if self._incoming.pending:
            self._read()

    def _give_up(self, error: Exception | None) -> None:
        if not self._is_closing:
            self._is_closing = True
            if error is None or self._lingers is None or not self._lingers(error):
                self._raw.close()
            failed = self._failed
            self._agreed, self._failed = _agrees_no_more, _fails_no_more
            failed(error)

    # -- reading ----------------------------------------------------------------------

    def _read(self) -> None:
        """Hands on what is complete. One record, as a small request is, costs one call and no exception."""
        protocol = self._protocol
        assert protocol is not None
        read, incoming, tls, gate = self._ssl.read, self._incoming, self._ssl, self._gate
        while not gate.reasons and not self._is_closing and not self._end_of_reading:
            if self._early:
                early, self._early = self._early, b""
                protocol.data_received(early)
                protocol = self._protocol or protocol
                continue
            try:
                data = read(RECORD)
            except ssl.SSLWantReadError:
                self._flush()
                return
            except ssl.SSLZeroReturnError:  # both have said that they will send no more
                self._end(protocol)
                return
            except (ssl.SSLError, OSError) as error:
                self._broke(error)
                return
            if not data:
                self._end(protocol)
                return
            if incoming.pending or tls.pending():
                data = self._read_on(data)
            protocol.data_received(data)
            protocol = self._protocol or protocol  # HTTP/1.1 may have given place to another
            if not (incoming.pending or tls.pending() or self._early):
                return

    def _read_on(self, first: bytes) -> bytes:
        """The records behind the first, as long as they are complete."""
        pieces = [first]
        size = len(first)
        while size < READ:
            try:
                data = self._ssl.read(RECORD)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:
                data = b""
            except (ssl.SSLError, OSError) as error:
                self._end_later(error)
                break
            if not data:
                self._end_later(None)
                break
            pieces.append(data)
            size += len(data)
        return b"".join(pieces)

    def _end_later(self, error: Exception | None) -> None:
        """The records behind what is about to be handed on are an end, or broken."""
        self._end_of_reading = True
        asyncio.get_running_loop().call_soon(self._end_now, error)

    def _end_now(self, error: Exception | None) -> None:
        if self._protocol is not None and not self._is_closing:
            if error is None:
                self._end(self._protocol)
            else:
                self._broke(error)

    def _end(self, protocol: asyncio.Protocol) -> None:
        """The peer has said that it will send no more."""
        self._end_of_reading = True
        self._stays_open = bool(protocol.eof_received())
        if not self._stays_open:
            self.close()

    def _broke(self, error: Exception) -> None:
        """A record that cannot be one: nothing after it can be believed."""
        self._flush()
        protocol, self._protocol = self._protocol, _NOBODY
        self._is_closing = True
        if protocol is not None:
            protocol.connection_lost(error)
        self._raw.abort()

    # -- the inner protocol's side ----------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._is_closing:
            return
        if len(data) <= RECORD:
            self._ssl.write(data)
        else:
            rest = memoryview(data)
            while rest:
                written = self._ssl.write(rest[:RECORD])  # by itself: in the slice mypyc would call it twice
                rest = rest[written:]
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

    def close(self) -> None:
        """Says so, and closes when what waits has been taken. What the peer still says is not waited for."""
        if not self._is_closing:
            self._say_end()
            self._is_closing = True
            self._raw.close()

    def write_eof(self) -> None:
        """Says that no more will be written. Reading goes on (RFC 8446 section 6.1)."""
        if not self._is_closing:
            self._say_end()
            self._raw.write_eof()
            if self._early:
                asyncio.get_running_loop().call_soon(self._go_on_reading)

    def can_write_eof(self) -> bool:
        return True

    def _say_end(self) -> None:
        # After its own close_notify OpenSSL looks for the peer's, and an ordinary record in its place would be an error.
        while self._incoming.pending:
            try:
                data = self._ssl.read(RECORD)
            except (ssl.SSLError, OSError):
                break
            if not data:
                break
            self._early += data
        with contextlib.suppress(ssl.SSLError, OSError, ValueError):  # the peer's part of it is wanted, or it is beyond that
            self._ssl.unwrap()
        self._flush()

    def pause_reading(self) -> None:
        self._gate.shut(INNER)

    def resume_reading(self) -> None:
        if self._gate.reasons and not self._is_closing:
            self._gate.open(INNER)
            if self._incoming.pending or self._ssl.pending() or self._early:
                asyncio.get_running_loop().call_soon(self._go_on_reading)

    def _go_on_reading(self) -> None:
        if self._protocol is not None:
            self._read()


def _agrees_no_more(transport: TlsTransport) -> asyncio.Protocol | None:
    return None


def _fails_no_more(error: Exception | None) -> None:
    pass


_NOBODY: Final = asyncio.Protocol()
"""Takes the place of a protocol that has been told that all is over."""
