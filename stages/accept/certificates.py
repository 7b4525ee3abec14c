"""Which certificate a client gets: by the name that it asks for (SNI, RFC 6066 section 3), exact, wildcard, default."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from weakref import WeakValueDictionary

from pingap.config.model import Certificate, Server, Snapshot
from pingap.config.tls_library import load_into

_VERSIONS: Final = {"tlsv1.2": ssl.TLSVersion.TLSv1_2, "tlsv1.3": ssl.TLSVersion.TLSv1_3}

SHARED: Final = 16
"""Servers whose session tickets every accept process of an instance takes."""

_beginnings: Final = tuple(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) for _ in range(SHARED))
"""Where handshakes begin. OpenSSL draws the key of a context's tickets when it is made, and Python's `ssl` can neither read nor
set it: made here, before the spawner forks the processes, they have one key each in all of them (0.5 ms and 45 KB apiece)."""

_in_use: Final[WeakValueDictionary[tuple[Any, ...], ssl.SSLContext]] = WeakValueDictionary()
"""By all that goes into one. To make one takes 1.6 ms, for hundreds of certificates a stall at every reload, be it of a location."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The certificates of one server, as contexts of the TLS library."""

    exact: Mapping[str, ssl.SSLContext] = field(default_factory=dict)
    wildcard: Mapping[str, ssl.SSLContext] = field(default_factory=dict)
    """By what follows `*.`; it stands for one label."""
    default: ssl.SSLContext | None = None

    def of(self, name: str | None) -> ssl.SSLContext | None:
        """The context for a client that asks for `name`; None when there is none."""
        if name:
            name = name.lower().removesuffix(".")
            found = self.exact.get(name) or self.wildcard.get(name.partition(".")[2])
            if found is not None:
                return found
        return self.default


class Chooser:
    """What stays the same of a server's TLS over all reloads.

    Every handshake begins in `context`, to which session tickets belong: so a client can go on with a session from
    before a reload, and by another replica. The certificate comes from the `choice` of the newest generation.
    """

    def __init__(self, server: Server, choice: Choice, place: int = SHARED) -> None:
        """place: of the server among those of the instance, the same in each of its processes."""
        self.context = _beginnings[place] if place < SHARED else ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.sni_callback = self._choose
        self.unknown = ""
        """The last name that somebody asked for in vain, as text that cannot forge a log line; "" for no name."""
        self.update(server, choice)

    def update(self, server: Server, choice: Choice) -> None:
        self._choice = choice
        set_up(self.context, server)

    def context_for(self, name: bytes) -> ssl.SSLContext | None:
        """What the handshake of a client that asks for `name`, as it came, begins in; None when there is no certificate for it.

        No certificate is for a name outside ASCII, and the TLS library's `sni_callback` breaks on one: it gets the default at once.
        """
        if name.isascii():
            return self.context
        self.unknown = ascii(name[:255])
        return self._choice.default

    def _choose(self, tls: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: ssl.SSLContext) -> int | None:
        found = self._choice.of(name)
        if found is None:
            self.unknown = ascii(name[:255]) if name else ""
            return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        tls.context = found
        return None


def set_up(context: ssl.SSLContext, server: Server) -> None:
    """The keys of a server that are not about its certificates."""
    context.maximum_version = ssl.TLSVersion.MAXIMUM_SUPPORTED  # or the next line might make them cross
    context.minimum_version = _VERSIONS[server.tls_min_version]
    context.maximum_version = _VERSIONS[server.tls_max_version]
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_SINGLE_ECDH_USE
    context.set_ciphers(server.tls_cipher_list or "DEFAULT")
    if server.tls_ciphersuites:
        choose: Any = getattr(context, "set_ciphersuites", None)  # config.values has refused the key where it is missing
        choose(server.tls_ciphersuites)
    context.set_alpn_protocols(["h2", "http/1.1"] if server.enabled_h2 else ["http/1.1"])


def compile_choices(snapshot: Snapshot) -> dict[str, Choice]:
    """By name of the server. Raises ValueError for a certificate that the TLS library does not take."""
    return {name: _choice(server, snapshot.certificates) for name, server in snapshot.servers.items() if server.global_certificates}


def _choice(server: Server, certificates: Mapping[str, Certificate]) -> Choice:
    """Of several for a name, and of several defaults, the first: config/certificates.py tells which that is."""
    exact: dict[str, ssl.SSLContext] = {}
    wildcard: dict[str, ssl.SSLContext] = {}
    default: ssl.SSLContext | None = None
    for name, certificate in certificates.items():
        try:
            context = _context(server, certificate)
        except (ssl.SSLError, OSError) as error:
            raise ValueError(f"certificates.{name}: {error}") from error
        for domain in certificate.domains:
            if domain.startswith("*."):
                wildcard.setdefault(domain[2:], context)
            else:
                exact.setdefault(domain, context)
        if default is None and (certificate.is_default or len(certificates) == 1):
            default = context
    return Choice(exact, wildcard, default)


def _context(server: Server, certificate: Certificate) -> ssl.SSLContext:
    """The one that a generation in use has for the same, or a new one."""
    settings = (server.tls_min_version, server.tls_max_version, server.tls_cipher_list, server.tls_ciphersuites, server.enabled_h2)
    key = (certificate.tls_cert, certificate.tls_key, settings)
    context = _in_use.get(key)
    if context is None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        set_up(context, server)
        load_into(context, certificate)
        _in_use[key] = context
    return context
