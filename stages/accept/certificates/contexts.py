"""Contexts of the TLS library: made of a server's keys and of a certificate, and the same for the same."""

from __future__ import annotations

import ssl
from contextlib import suppress
from typing import Any, Final
from weakref import WeakValueDictionary

from pingap.config.client_authorities import believe
from pingap.config.model import Certificate, Server
from pingap.config.tls_library import CIPHERS, load_into
from pingap.stages.accept.certificates.openssl import NotThisLibrary
from pingap.stages.accept.certificates.openssl_trial import usable
from pingap.stages.accept.certificates.staples import staples

_VERSIONS: Final = {"tlsv1.2": ssl.TLSVersion.TLSv1_2, "tlsv1.3": ssl.TLSVersion.TLSv1_3}

_PRIORITIZE_CHACHA: Final = 1 << 21
"""SSL_OP_PRIORITIZE_CHACHA: a client that names ChaCha20 first has no AES in hardware, as small phones, and gets it."""

_in_use: Final[WeakValueDictionary[tuple[Any, ...], ssl.SSLContext]] = WeakValueDictionary()
"""By all that goes into one. To make one takes 1.6 ms, for hundreds of certificates a stall at every reload, be it of a location."""


def set_up(context: ssl.SSLContext, server: Server) -> None:
    """The keys of a server that are not about its certificates."""
    context.maximum_version = ssl.TLSVersion.MAXIMUM_SUPPORTED  # or the next line might make them cross
    context.minimum_version = _VERSIONS[server.tls_min_version]
    context.maximum_version = _VERSIONS[server.tls_max_version]
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_SINGLE_ECDH_USE
    context.options |= _PRIORITIZE_CHACHA
    context.set_ciphers(server.tls_cipher_list or CIPHERS)
    if server.tls_ciphersuites:
        choose: Any = getattr(context, "set_ciphersuites", None)  # config.values has refused the key where it is missing
        choose(server.tls_ciphersuites)
    context.set_alpn_protocols(["h2", "http/1.1"] if server.enabled_h2 else ["http/1.1"])
    believe(context, server)
    if server.client_ca:
        # Who goes on with a session is who he was, without being asked. chooser.py allows it where its key depends on these rules.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
        _name_authorities(context, server.client_ca)


def _name_authorities(context: ssl.SSLContext, authorities: str) -> None:
    """Browsers offer those certificates alone then that would do. Where it does not work they offer all that they have."""
    calls = usable().calls
    if calls is not None:
        with suppress(NotThisLibrary):
            calls.name_authorities(context, authorities)


def client_rules(server: Server) -> tuple[str, str]:
    """The keys by which clients prove who they are: no session goes on where they are others."""
    return (server.client_ca, server.client_auth or "required") if server.client_ca else ("", "")


def settings_of(server: Server) -> tuple[Any, ...]:
    """All of a server that goes into a context."""
    versions = (server.tls_min_version, server.tls_max_version)
    return (*versions, server.tls_cipher_list, server.tls_ciphersuites, server.enabled_h2, client_rules(server))


def context_of(server: Server, certificate: Certificate) -> ssl.SSLContext:
    """The one that a generation in use has for the same, or a new one."""
    key = (certificate.tls_cert, certificate.tls_key, settings_of(server))
    context = _in_use.get(key)
    if context is None:
        context = new_context(server, certificate)
        staples.made(context, certificate.tls_cert)
        _in_use[key] = context
    return context


def new_context(server: Server, certificate: Certificate) -> ssl.SSLContext:
    """One that nobody else gets, and that never has a staple."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    set_up(context, server)
    load_into(context, certificate)
    return context
