"""What a client meets that begins TLS somewhere: the certificate as it is sent, and whether this system believes it."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from pingap.config.addresses import host_name
from pingap.config.leaf_facts import LeafFacts, facts_of
from pingap.config.parts import host_and_port
from pingap.config.problems import BadValue

PORT: Final = 443

_DER: Final = 2
"""_ssl.ENCODING_DER."""

_UNTRUSTED: Final = {
    9: "it is not valid yet",
    10: "it is expired",
    18: "it is signed by itself, and this system does not know it",
    19: "its chain ends at an authority that this system does not know",
    20: "this system does not know who has signed it, or the chain that was sent is not complete",
    21: "the certificate of its authority was not sent, and this system does not know who has signed it",
    23: "it was revoked",
    66: "its key is too short",
    68: "it is signed with a digest that nobody believes any more",
}
"""By X509_V_ERR_… of OpenSSL (x509_vfy.h)."""
_OTHER_NAME: Final = frozenset((62, 64))
_ENDED: Final = 10

_NO_TLS: Final = frozenset(("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"))
_OLD: Final = frozenset(("TLSV1_ALERT_PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL", "WRONG_SSL_VERSION"))


class BadTlsTarget(ValueError):
    """It names no host and port; the text says what to write."""


class NoCertificateMet(Exception):
    """There is no certificate to look at; the text says why."""


class TlsTarget(NamedTuple):
    """Whom a client would want to reach."""

    host: str
    """A name in the form in which it is sent, or an IP address without brackets."""
    port: int

    def __str__(self) -> str:
        return host_and_port(self.host, self.port)


class Probed(NamedTuple):
    """What was met."""

    address: TlsTarget
    """To which the connection went."""
    version: str
    """`TLSv1.3`."""
    cipher: str
    alpn: str
    """"" where none was agreed on."""
    distrust: str
    """Why a client that is strict ends the connection; "" when it does not."""
    chain: tuple[LeafFacts, ...]
    """As it was sent: the server's own first."""


def parse_target(text: str, port: int = PORT) -> TlsTarget:
    """`HOST`, `HOST:PORT`, `[IPv6]:PORT` or an https URL. port: where the text has none. Raises BadTlsTarget."""
    authority = text
    if "://" in text:
        try:
            parts = urlsplit(text)
        except ValueError as error:
            raise BadTlsTarget(f"{text!r} is no URL: {error}") from None
        if parts.scheme != "https":
            raise BadTlsTarget(f"{text!r}: only https has certificates: write HOST or HOST:PORT")
        authority = parts.netloc.rpartition("@")[2]
    host, digits = _parted(authority)
    if digits:
        if not (digits.isascii() and digits.isdecimal() and 1 <= int(digits[:6]) <= 65535):
            raise BadTlsTarget(f"{text!r}: the port is a number from 1 to 65535")
        port = int(digits)
    try:
        return TlsTarget(str(ipaddress.ip_address(host)), port)
    except ValueError:
        pass
    try:
        return TlsTarget(host_name(host).removesuffix("."), port)
    except BadValue as error:
        raise BadTlsTarget(f"{error.message}: {error.hint}") from None


def _parted(authority: str) -> tuple[str, str]:
    """(host, port or "")."""
    if authority.startswith("["):
        host, bracket, rest = authority[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise BadTlsTarget(f"{authority!r}: write an IPv6 address with a port as [::1]:443")
        return host, rest[1:]
    if authority.count(":") > 1:
        return authority, ""
    host, _, digits = authority.partition(":")
    return host, digits


def probe(target: TlsTarget, connect: TlsTarget | None, seconds: float, authorities: str | None = None) -> Probed:
    """Begins TLS with `target`, at another address if `connect` names one.

    seconds: for the connection, and again for the handshake. authorities: a file of PEM with some to believe besides those of the
    system. Raises NoCertificateMet.
    """
    context = ssl.create_default_context()
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # what browsers and curl do not ask for
    if authorities is not None:
        try:
            context.load_verify_locations(authorities)
        except (ssl.SSLError, OSError) as error:
            raise NoCertificateMet(f"{authorities}: {getattr(error, 'strerror', None) or error}") from None
    addresses = _addresses(connect or target)
    try:
        return _met(target, addresses, seconds, context)
    except ssl.SSLCertVerificationError as error:
        open_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        open_context.check_hostname, open_context.verify_mode = False, ssl.CERT_NONE
        open_context.set_ciphers("DEFAULT:@SECLEVEL=0")
        return _met(target, addresses, seconds, open_context, error)


def _addresses(target: TlsTarget) -> list[tuple[Any, ...]]:
    """(family, address) of each, as the resolver sorts them."""
    try:
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise NoCertificateMet(f"{target.host} cannot be looked up: {error.strerror or error}") from None
    return [(one[0], one[4]) for one in found]


def _met(
    target: TlsTarget,
    addresses: list[tuple[Any, ...]],
    seconds: float,
    context: ssl.SSLContext,
    error: ssl.SSLCertVerificationError | None = None,
) -> Probed:
    """error: of an attempt before this. Raises NoCertificateMet; ssl.SSLCertVerificationError of a context that verifies."""
    context.set_alpn_protocols(["h2", "http/1.1"])
    with _connected(target, addresses, seconds) as plain:
        try:
            with context.wrap_socket(plain, server_hostname=target.host) as secure:
                chain = tuple(_facts(der) for der in _chain(secure))
                if not chain:
                    raise NoCertificateMet(f"{target} sent no certificate")
                cipher = secure.cipher()
                peer = TlsTarget(*secure.getpeername()[:2])
                distrust = _why_not(error, target, chain[0]) if error else ""
                return Probed(
                    peer, secure.version() or "", cipher[0] if cipher else "", secure.selected_alpn_protocol() or "", distrust, chain
                )
        except ssl.SSLCertVerificationError:
            raise
        except TimeoutError:
            raise NoCertificateMet(f"{target} did not answer within {seconds:g} s: perhaps no TLS is spoken there") from None
        except ssl.SSLError as failure:
            raise NoCertificateMet(_in_words(failure, target)) from None
        except OSError as failure:
            why = (failure.strerror or str(failure)).lower()
            raise NoCertificateMet(f"{target} ended the connection in the handshake ({why}): perhaps no TLS is spoken there") from None


@contextmanager
def _connected(target: TlsTarget, addresses: list[tuple[Any, ...]], seconds: float) -> Iterator[socket.socket]:
    """With the first address that takes a connection."""
    why = ""
    for family, address in addresses:
        peer = TlsTarget(*address[:2])
        where = "" if peer == target else f" of {peer}"
        connection = socket.socket(family, socket.SOCK_STREAM)
        connection.settimeout(seconds)
        try:
            connection.connect(address)
        except TimeoutError:
            why = why or f"no answer{where} within {seconds:g} s"
        except OSError as error:
            why = why or f"{(error.strerror or str(error)).lower()}{where}"
        else:
            with connection:
                yield connection
            return
        connection.close()
    raise NoCertificateMet(f"no connection to {target}: {why}")


def _chain(secure: ssl.SSLSocket) -> list[bytes]:
    """DER of what the peer sent."""
    anything: Any = secure
    if hasattr(anything, "get_unverified_chain"):  # since Python 3.13
        return list(anything.get_unverified_chain() or ())
    return [one.public_bytes(_DER) for one in anything._sslobj.get_unverified_chain() or ()]


def _facts(der: bytes) -> LeafFacts:
    from cryptography import x509

    try:
        return facts_of(x509.load_der_x509_certificate(der))
    except ValueError as error:
        raise NoCertificateMet(f"what was sent is a certificate that cannot be read: {error}") from None


def _why_not(error: ssl.SSLCertVerificationError, target: TlsTarget, leaf: LeafFacts) -> str:
    """In plain words, as far as there are some."""
    if error.verify_code in _OTHER_NAME:
        names = ", ".join(leaf.names[:5]) + (f" and {len(leaf.names) - 5} more" if len(leaf.names) > 5 else "")
        return f"it is not for {target.host}, but for {names or 'nobody'}"
    if error.verify_code == _ENDED and time.time() < leaf.not_after:
        return "a certificate of its chain is expired"
    return _UNTRUSTED.get(error.verify_code) or str(error.verify_message or error).rstrip(".")


def _in_words(error: ssl.SSLError, target: TlsTarget) -> str:
    reason = error.reason or ""
    if reason in _NO_TLS:
        return f"what answers at {target} speaks no TLS"
    if reason in _OLD:
        return f"{target} speaks neither TLS 1.2 nor 1.3"
    if "UNRECOGNIZED_NAME" in reason:
        return f"{target} refused the handshake: it has no certificate for {target.host}"
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return f"{target} ended the connection in the handshake: it speaks no TLS, or not for {target.host}"
    said = reason.lower().replace("_", " ") or str(error)
    if "ALERT" in reason:
        return f"{target} refused the handshake ({said}): it has no certificate for {target.host}, or wants one of the client"
    return f"the handshake with {target} failed: {said}"
