"""Whether clients are shown a certificate: we connect to our own addresses, as they do. Blocks."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Container, Iterable, Mapping, Sequence
from hashlib import sha256
from ipaddress import ip_address
from typing import Final

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
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # which certificate it is, is all that is asked
    with (
        socket.create_connection(address, SECONDS) as plain,
        context.wrap_socket(plain, server_hostname=_name_for(domain)) as secure,
    ):
        der = secure.getpeercert(binary_form=True)
    return sha256(der or b"").hexdigest()


def _name_for(domain: str) -> str | None:
    """What a client asks for: nothing by an address (RFC 6066 section 3), and any name under a wildcard."""
    try:
        ip_address(domain)
    except ValueError:
        return domain.replace("*.", "pingap-looks.", 1)
    return None
