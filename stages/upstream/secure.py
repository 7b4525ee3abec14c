"""TLS to backends: contexts, sessions, and the handshake."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from functools import partial
from typing import Final

from pingap.stages.tls import TlsTransport
from pingap.stages.tls_contexts import SharedContexts
from pingap.stages.tls_words import in_plain_words
from pingap.stages.upstream.backend import BackendGroup, BackendState

MAX_NAMES: Final = 64
"""Names of one backend whose sessions are kept."""

_PROTOCOLS: Final = {"h1": ["http/1.1"], "h2": ["h2"], "h2h1": ["h2", "http/1.1"]}


def context_for(alpn: str, verify: bool) -> ssl.SSLContext:
    """verify: the system's authorities; SSL_CERT_FILE and SSL_CERT_DIR name others (OpenSSL)."""
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(_PROTOCOLS[alpn])
    return context


_shared: Final = SharedContexts(context_for)
"""Sessions are none of theirs: each backend has its own."""


class Sessions:
    """The TLS sessions of one backend, by the name that it has proved to be.

    With TLS 1.3 the backend gives one some time after the handshake, so it is looked for when another connection
    wants to go on with it, or when the connection ends: of that nothing else is kept then.
    """

    __slots__ = ("_kept", "_newest")

    def __init__(self) -> None:
        self._newest: dict[str, TlsTransport] = {}
        """Name → the connection that shook hands last, as long as it is open."""
        self._kept: dict[str, ssl.SSLSession] = {}
        """Name → what those before it have left."""

    def get(self, name: str) -> ssl.SSLSession | None:
        newest = self._newest.get(name)
        if newest is not None:
            session = newest.session
            if session is not None and _can_go_on(newest, session):
                return session
        return self._kept.get(name)

    def made(self, name: str, transport: TlsTransport) -> None:
        """`transport` has shaken hands."""
        self._keep(name)
        self._newest.pop(name, None)
        self._newest[name] = transport
        if len(self._newest) > MAX_NAMES:
            del self._newest[next(iter(self._newest))]
        transport.ended = partial(self._over, name, transport)

    def _over(self, name: str, transport: TlsTransport) -> None:
        if self._newest.get(name) is transport:
            self._keep(name)
            del self._newest[name]

    def _keep(self, name: str) -> None:
        session = self.get(name)
        if session is not None:
            self._kept.pop(name, None)
            self._kept[name] = session
            if len(self._kept) > MAX_NAMES:
                del self._kept[next(iter(self._kept))]


def _can_go_on(transport: TlsTransport, session: ssl.SSLSession) -> bool:
    """One of TLS 1.3 without a ticket is no more than this very connection."""
    if session.has_ticket:
        return True
    return transport.get_extra_info("ssl_object").version() != "TLSv1.3" and bool(session.id)


# A session goes on only under the offer that it began with: so where HTTP/1.1 alone is offered, instead of HTTP/2 with it, both
# the context and the sessions are others.


def context_of(group: BackendGroup, only_http1: bool) -> ssl.SSLContext:
    """Made when it is first needed, and kept as long as the upstream lives: its sessions go on only with it."""
    known: dict[bool, ssl.SSLContext] = group.tls_contexts
    if only_http1 not in known:
        known[only_http1] = _shared.get("h1" if only_http1 else group.settings.alpn, group.settings.verify_cert)
    return known[only_http1]


def sessions_of(backend: BackendState, only_http1: bool) -> Sessions:
    """Kept as long as the backend lives."""
    known: dict[bool, Sessions] = backend.tls_sessions
    if only_http1 not in known:
        known[only_http1] = Sessions()
    return known[only_http1]


Choose = Callable[[str], asyncio.Protocol]
"""From the protocol that was agreed on ("" when the backend does not know ALPN) to what speaks it. Raises OSError."""


class Handshake:
    """One with a backend, over a plain transport that is yet to be made; `transport` is its protocol."""

    __slots__ = ("_choose", "_name", "done", "transport")

    def __init__(self, context: ssl.SSLContext, name: str, session: ssl.SSLSession | None, choose: Choose) -> None:
        self._name = name
        self._choose = choose
        self.done: asyncio.Future[asyncio.Protocol] = asyncio.get_running_loop().create_future()
        """What goes on; OSError when nothing does."""
        self.transport = TlsTransport(context, self._agreed, self._failed, hostname=name, session=session)

    def _agreed(self, transport: TlsTransport) -> asyncio.Protocol | None:
        if self.done.done():
            return None  # called off
        try:
            protocol = self._choose(transport.get_extra_info("ssl_object").selected_alpn_protocol() or "")
        except OSError as error:
            self.done.set_exception(error)
            return None
        self.done.set_result(protocol)
        return protocol

    def _failed(self, error: Exception | None) -> None:
        if not self.done.done():
            reason = "closed by the backend" if error is None else in_plain_words(error)
            self.done.set_exception(ConnectionError(f"TLS handshake as {self._name}: {reason}"))
