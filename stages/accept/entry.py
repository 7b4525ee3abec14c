"""The beginning of a connection on a listener that asks for more than plain HTTP: who comes, encrypted or not, speaking what.

An entry lives until that is known; then the protocol that was agreed on takes its place.
"""

from __future__ import annotations

import asyncio
import ssl
from datetime import UTC, datetime
from math import inf
from time import monotonic
from typing import Final

from pingap.stages.accept.certificates.chooser import Chooser
from pingap.stages.accept.client_refusals import EXPIRED, UNREADABLE, WITHOUT, is_of_certificate, refusal_of
from pingap.stages.accept.connections import Connections
from pingap.stages.accept.door import Door
from pingap.stages.accept.http1 import Http1ClientConnection
from pingap.stages.accept.http2 import Http2ClientConnection
from pingap.stages.accept.origin import origin_of
from pingap.stages.accept.outlet import LINGER
from pingap.stages.accept.proxy_protocol import BadHeader, parse
from pingap.stages.client import Arrival, Secured
from pingap.stages.client_certificates.details import details_of
from pingap.stages.client_hello import ACME_TLS, Hello
from pingap.stages.messages import Peer
from pingap.stages.tls import NoContext, TlsTransport

QUIET: Final = 60.0
"""Seconds between two warnings of a server that somebody connects in the same wrong way."""


class ConnectionEntry(asyncio.Protocol):
    """On the plain transport first; under TLS it goes on beside `TlsTransport`, which calls it back."""

    __slots__ = ("_begun", "_connections", "_door", "_lingers", "_why", "arrival", "deadline", "transport", "write_deadline")

    transport: asyncio.Transport
    arrival: Arrival

    def __init__(self, connections: Connections, door: Door) -> None:
        self._connections = connections
        self._door = door
        self._begun = b""
        self._lingers = False
        """It has been refused, and nothing that it says counts."""
        self._why = "it left before it said who it is"
        self.deadline = self.write_deadline = inf

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        now = monotonic()
        number = self._connections.connected(self, self._door)
        self.arrival = Arrival(Peer(*origin_of(transport), self._door.scheme, number), now, None)
        if not self._door.settings.proxy_protocol:
            self._secure(b"")
        elif self._door.trust.is_trusted(self.arrival.peer.ip):
            self.deadline = now + self._door.settings.header_timeout
        else:
            self._refuse("not in basic.trusted_proxies")

    def connection_lost(self, error: Exception | None) -> None:
        self._left(self._why)

    def _left(self, why: str) -> None:
        self.deadline = inf
        self._connections.context.log("debug", "connection ended at its beginning", client=self.arrival.peer.ip, reason=why)
        self._connections.disconnected(self, self._door)

    # -- the PROXY protocol -----------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Bytes of the header that a trusted proxy begins with, and perhaps what follows it."""
        if self._lingers:
            return
        data = self._begun + data
        try:
            header = parse(data)
        except BadHeader as error:
            self._refuse("no sound PROXY header", str(error))
            return
        if header is None:
            self._begun = data
            return
        if header.ends is not None:
            ip, port, local_ip, local_port = header.ends
            peer = self.arrival.peer._replace(ip=ip, port=port, local_ip=local_ip, local_port=local_port)
            self.arrival = self.arrival._replace(peer=peer)
        self._secure(data[header.size :])

    def _refuse(self, why: str, reason: str = "") -> None:
        """It is not to be served without the header, and not to be believed when it may not send one.

        why: one of few, each of them told once a minute. reason: more about this connection.
        """
        self._warn(f"closed: {why}", **{"reason": reason} if reason else {})
        self._connections.context.count("proxy_headers_refused")
        self._why = reason or why
        self.transport.abort()

    def _warn(self, what: str, **details: str) -> None:
        """what: one of few."""
        door, now = self._door, monotonic()
        if now >= door.told.get(what, -inf) + QUIET:
            door.told[what] = now
            self._connections.context.log("warn", what, client=self.arrival.peer.ip, server=door.name, **details)

    # -- TLS ------------------------------------------------------------------------

    def _secure(self, rest: bytes) -> None:
        """Goes on with TLS if the server has it. rest: what came behind the header of a proxy."""
        door = self._door
        if door.chooser is None:
            inner: asyncio.Protocol = self._speak(None, "", rest)
            self.transport.set_protocol(inner)
            inner.connection_made(self.transport)
        else:
            self.deadline = monotonic() + door.settings.tls_handshake_timeout
            lane = self._connections.lane
            inner = TlsTransport(
                door.chooser.context, self._agreed, self._failed, lane=lane, choose=self._context_for, lingers=is_of_certificate
            )
            self.transport.set_protocol(inner)
            inner.connection_made(self.transport)
        if rest:
            inner.data_received(rest)

    def _context_for(self, hello: Hello) -> ssl.SSLContext | None:
        chooser = self._door.chooser
        assert chooser is not None
        return chooser.context_for(hello, self.arrival.peer.local_ip)

    def _agreed(self, tls: TlsTransport) -> asyncio.Protocol | None:
        details = tls.get_extra_info("ssl_object")
        protocol = details.selected_alpn_protocol() or ""
        if protocol == ACME_TLS:  # that is all it came for (RFC 8737 section 3), and it was not asked who it is
            self._left("an authority has looked at a proof")
            return None
        if self._door.settings.client_ca and not self._knows(details):
            return None
        secured = Secured(details.version() or "", (details.cipher() or ("",))[0], tls.seconds)
        self._connections.context.count("tls_handshakes", version=secured.version)
        return self._speak(secured, protocol, b"")

    def _knows(self, details: ssl.SSLObject) -> bool:
        """Notes whom the library has verified. Nobody comes in by a certificate of which the others could not be told.

        Whoever goes on with a session is not verified again: OpenSSL takes the verdict out of the ticket, and gives a new ticket each time.
        """
        certificate = details.getpeercert(True) or b""
        why = ""
        if certificate:
            try:
                known = details_of(certificate)
            except ValueError:
                why = UNREADABLE
            else:
                if details.session_reused and not known.is_in_time(datetime.now(UTC)):
                    why = EXPIRED
        elif self._door.settings.client_auth != "optional":  # the handshake began before that was so
            why = WITHOUT
        if why:
            self._refuse_certificate(why)
            self._connections.context.count("tls_handshakes_failed")
            self._left(why)
            return False
        self.arrival = self.arrival._replace(peer=self.arrival.peer._replace(certificate=certificate))
        return True

    def _refuse_certificate(self, why: str) -> None:
        self._connections.context.count("client_certificates_refused")
        self._warn(f"client certificate refused: {why}")

    def _speak(self, secured: Secured | None, protocol: str, rest: bytes) -> asyncio.Protocol:
        arrival = self.arrival._replace(secured=secured)
        connection: Http1ClientConnection | Http2ClientConnection
        if protocol == "h2" and self._door.make_http2 is not None:
            connection = Http2ClientConnection(self._connections, self._door, arrival)
        else:
            connection = Http1ClientConnection(self._connections, self._door, arrival)
        self.deadline = inf
        self._connections.handed_over(self, connection)
        return connection

    def _failed(self, error: Exception | None) -> None:
        peer = self.arrival.peer
        has_left = error is None or (isinstance(error, OSError) and not isinstance(error, ssl.SSLError))
        if has_left and peer.ip == peer.local_ip:  # of the acme stage, or another probe of this machine: no client has failed
            self._left("somebody on this machine has looked, and left in the TLS handshake")
            return
        self._connections.context.count("tls_handshakes_failed")
        why = "it left in the TLS handshake" if error is None else f"TLS: {error}"
        refusal = refusal_of(error)
        if refusal:
            self._refuse_certificate(refusal)
            self._linger(refusal)
            return
        is_nobodys = isinstance(error, NoContext) or (isinstance(error, ssl.SSLError) and error.reason == "CALLBACK_FAILED")
        if is_nobodys and self._door.chooser is not None:
            why = self._unserved(self._door.chooser)
        self._left(why)

    def _unserved(self, chooser: Chooser) -> str:
        """Why there is no certificate for this client."""
        who, error = chooser.unknown or "a client that names nobody", chooser.not_minted
        if error is None:
            return f"TLS: no certificate for {who}, and none is the default"
        if error.is_passing:
            self._warn("closed: no certificate was made for a client", name=who, reason=str(error))
        return f"TLS: no certificate for {who}: {error}"

    def _linger(self, why: str) -> None:
        """With TLS 1.3 its request may be on the way already: closed now, it would be told of a reset, and not of the alert.

        Nor is its own half ended here: Chromium then says ERR_SOCKET_NOT_CONNECTED before it looks at the alert.
        """
        self._lingers, self._why = True, why
        self.deadline = monotonic() + LINGER
        self.transport.set_protocol(self)

    # -- what is asked of all connections ----------------------------------------------

    def expired(self, now: float) -> None:
        self.deadline = inf
        if not self._lingers:
            self._why = "it took too long to begin"
        self.transport.abort()

    def close_if_idle(self, reprieve: float) -> None:
        if not reprieve:  # else it has deadlines of its own
            self.transport.abort()
