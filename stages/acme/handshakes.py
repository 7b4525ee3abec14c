"""Whether clients are shown a certificate: we connect to our own addresses, as they do. Blocks."""

from __future__ import annotations

import socket
from collections.abc import Container, Iterable, Mapping, Sequence
from contextlib import suppress
from ipaddress import ip_address
from time import monotonic
from typing import Any, Final

from pingap.config.model import Certificate, Server

SECONDS: Final = 5.0
"""Of one handshake."""

Address = tuple[str, int]

_ANY: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}


def addresses_of(servers: Mapping[str, Server]) -> tuple[Address, ...]:
    """Where clients speak TLS. Not those that believe only a PROXY header, nor those whose port the system chooses."""
    secure = (server for server in servers.values() if server.global_certificates and not server.proxy_protocol)
    return tuple(dict.fromkeys((_ANY.get(one.host, one.host), one.port) for server in secure for one in server.addr if one.port))


def name_to_ask(section: str, domains: Sequence[str], certificates: Mapping[str, Certificate], shown: Container[str]) -> str:
    """One of the domains for which clients get this section's certificate; "" when there is none by which it could be seen.

    Of several sections with a domain the first is used. Who connects by an address asks for nobody, and gets the default.
    shown: sections that have a certificate although none stands in them.
    """
    usable = {name: one for name, one in certificates.items() if one.tls_cert or name in shown}
    default = next((name for name, one in usable.items() if one.is_default), section if len(certificates) == 1 else "")
    for domain in domains:
        if _name_for(domain) is None:
            if default == section:
                return domain
        elif next((name for name, one in usable.items() if domain in one.domains), "") == section:
            return domain
    return ""


def why_not_shown(addresses: Iterable[Address], domain: str, fingerprint: str) -> str:
    """Why a certificate is not what clients get that ask for its name; "" when it is, or when there is no address to look at.

    fingerprint: SHA-256 of its DER, hex. An address where nobody listens is passed over if another shows it: it may wait for a restart.
    """
    silent, shown, looked = "", False, False
    for address in addresses:
        looked = True
        where = f"{address[0]}:{address[1]}"
        try:
            found = _fingerprint_at(address, domain)
        except (OSError, ValueError) as error:
            silent = f"{where}: {(getattr(error, 'strerror', None) or str(error) or type(error).__name__).lower()}"
            continue
        if found != fingerprint:
            return f"{where} shows another one for {domain} (SHA-256 {found[:16]}…)"
        shown = True
    return silent if looked and not shown else ""


def _fingerprint_at(address: Address, domain: str) -> str:
    """Left as soon as it is there: where clients have to show one of their own (`client_ca`), the handshake would fail."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from OpenSSL import SSL  # which `acme` needs; `ssl` does not show the certificate before the handshake is done

    found: list[str] = []

    def see(_: object, certificate: Any, __: int, depth: int, ___: int) -> bool:
        if not depth:
            found.append(certificate.to_cryptography().fingerprint(SHA256()).hex())
        return True  # which certificate it is, is all that is asked

    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_verify(SSL.VERIFY_PEER, see)
    tls = SSL.Connection(context, None)
    tls.set_connect_state()
    name = _name_for(domain)
    if name is not None:
        tls.set_tlsext_host_name(name.encode())
    end = monotonic() + SECONDS
    with socket.create_connection(address, SECONDS) as plain:
        while True:
            try:
                tls.do_handshake()
            except SSL.WantReadError:
                pass
            except SSL.Error as error:
                if not found:
                    raise OSError(f"no handshake: {error}") from None
            if found:
                return found[-1]
            plain.settimeout(max(end - monotonic(), 0.001))
            with suppress(SSL.WantReadError):
                plain.sendall(tls.bio_read(65536))
            data = plain.recv(65536)
            if not data:
                raise OSError("the connection was closed in the handshake")
            tls.bio_write(data)


def _name_for(domain: str) -> str | None:
    """What a client asks for: nothing by an address (RFC 6066 section 3), and any name under a wildcard."""
    try:
        ip_address(domain)
    except ValueError:
        return domain.replace("*.", "pingap-looks.", 1)
    return None
