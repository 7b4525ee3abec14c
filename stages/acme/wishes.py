"""What a configuration asks authorities for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from pingap.config.acme import is_proved_by_dns
from pingap.config.model import Certificate, Server
from pingap.config.parts import host_and_port
from pingap.stages.acme.wanted import ChallengeKind, DnsAccess, WantedCertificate

HTTP_PORT: Final = 80
"""Where an authority looks for a proof over HTTP (RFC 8555 section 8.3); whoever forwards it here makes it another one."""


def wanted_of(certificates: Mapping[str, Certificate], servers: Mapping[str, Server]) -> dict[str, WantedCertificate]:
    """By name of the section, in its order."""
    usual = _usual_challenge(servers)
    return {name: _wanted(name, one, usual) for name, one in certificates.items() if one.acme and one.domains}


def _wanted(name: str, one: Certificate, usual: ChallengeKind) -> WantedCertificate:
    challenge: ChallengeKind = "dns-01" if is_proved_by_dns(one) else one.acme_challenge or usual
    servers = tuple(host_and_port(each.host, each.port) for each in one.dns_server)
    return WantedCertificate(
        name=name,
        domains=tuple(sorted(set(one.domains))),
        directory=one.acme,
        challenge=challenge,
        key_type=one.acme_key_type,
        profile=one.acme_profile,
        email=one.acme_email,
        eab_kid=one.acme_eab_kid,
        eab_hmac_key=one.acme_eab_hmac_key,
        authority_ca=one.acme_ca,
        dns=DnsAccess(provider=cast(Any, one.dns_provider), service_url=one.dns_service_url, servers=servers),
        buffer_days=one.buffer_days,
    )


def _usual_challenge(servers: Mapping[str, Server]) -> ChallengeKind:
    """HTTP where somebody listens plainly at the port that authorities ask; else TLS where there is any."""
    plain = [server for server in servers.values() if not server.global_certificates and not server.proxy_protocol]
    if any(listen.port == HTTP_PORT for server in plain for listen in server.addr):
        return "http-01"
    return "tls-alpn-01" if any(server.global_certificates for server in servers.values()) or not plain else "http-01"
