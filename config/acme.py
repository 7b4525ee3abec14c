"""[certificates.X] with `acme`: what such an entry must say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from typing import Final

from pingap.config.addresses import is_host_name
from pingap.config.dns_service import check_dns_service
from pingap.config.leaf_facts import leaf_facts
from pingap.config.model import Certificate, Server
from pingap.config.problems import Note, Problem, path_of

MOST_NAMES: Final = 100
"""Names in one certificate; Let's Encrypt takes no more."""

_OF_ACME: Final = (
    *("dns_challenge", "dns_provider", "dns_service_url", "dns_server", "acme_challenge", "acme_email", "acme_key_type", "acme_profile"),
    *("acme_eab_kid", "acme_eab_hmac_key", "acme_ca"),
)


def check_acme(
    certificates: Mapping[str, Certificate], servers: Mapping[str, Server], partial: frozenset[str] | set[str]
) -> Iterator[Problem | Note]:
    """What is wrong with entries that ask an authority. partial: paths of those that lack keys which were wrong."""
    for name, certificate in certificates.items():
        path = path_of("certificates", name)
        if path not in partial:
            yield from _check_one(path, certificate, servers) if certificate.acme else _without_effect(path, certificate)


def is_proved_by_dns(certificate: Certificate) -> bool:
    """That its names are ours is shown by records in their zones."""
    return certificate.dns_challenge or certificate.acme_challenge == "dns-01"


def _without_effect(path: str, certificate: Certificate) -> Iterator[Note]:
    for key in _OF_ACME:
        if getattr(certificate, key) not in ("", False, (), "manual", "ecdsa-p256"):
            yield Note(f"{path}.{key}", "without effect: the certificate is not one by ACME", 'acme = "lets_encrypt" makes it one')


def _check_one(path: str, certificate: Certificate, servers: Mapping[str, Server]) -> Iterator[Problem | Note]:
    domains = certificate.domains
    if certificate.is_ca:
        yield Problem(f"{path}.is_ca", "an authority hands out no certificate that makes others", "leave out is_ca, or acme")
    if not domains:
        yield Problem(f"{path}.domains", "an authority has to be told for which names", 'domains = "example.com,www.example.com"')
    if len(domains) > MOST_NAMES:
        yield Problem(f"{path}.domains", f"{len(domains)} names are more than an authority takes: {MOST_NAMES}", "make it several")
    is_by_dns = is_proved_by_dns(certificate)
    if certificate.dns_challenge and certificate.acme_challenge not in ("", "dns-01"):
        yield Problem(f"{path}.acme_challenge", f"{certificate.acme_challenge} and dns_challenge exclude each other", "leave one out")
    for domain in domains:
        if domain.startswith("*.") and not is_by_dns:
            yield Problem(f"{path}.domains", f"{domain}: a wildcard is proved by DNS only", "dns_challenge = true, and dns_provider")
        elif is_address(domain):
            if is_by_dns:
                yield Problem(f"{path}.domains", f"{domain}: an address cannot be proved by DNS", "leave dns_challenge out")
        elif not is_host_name(domain) and not domain.startswith("*."):
            yield Problem(f"{path}.domains", f"{domain} is no name that an authority knows")
    if bool(certificate.acme_eab_kid) != bool(certificate.acme_eab_hmac_key):
        missing = "acme_eab_hmac_key" if certificate.acme_eab_kid else "acme_eab_kid"
        yield Problem(f"{path}.{missing}", "is missing: the two go together", "the authority gives both to its customers")
    if is_by_dns:
        yield from _check_provider(path, certificate)
    else:
        for key in ("dns_provider", "dns_service_url", "dns_server"):
            if getattr(certificate, key) not in ("", (), "manual"):
                yield Note(f"{path}.{key}", "without effect: dns_challenge is not true")
    if _is_self_signed(certificate.tls_cert):
        hint = "nothing has to be done; tls_cert and tls_key can go when it has come"
        yield Note(f"{path}.tls_cert", "signed by itself: it is served only until the first one from the authority has come", hint)
    is_secure = [server.global_certificates for server in servers.values()]
    if certificate.acme_challenge == "tls-alpn-01" and is_secure and not any(is_secure):
        hint = "global_certificates = true, and the authority reaches it at port 443"
        yield Problem(f"{path}.acme_challenge", "tls-alpn-01 needs a server that speaks TLS", hint)
    if certificate.acme_challenge == "http-01" and is_secure and all(is_secure):
        hint = 'a server with addr = "0.0.0.0:80", or acme_challenge = "tls-alpn-01"'
        yield Problem(f"{path}.acme_challenge", "http-01 needs a server that speaks plain HTTP", hint)


def _check_provider(path: str, certificate: Certificate) -> Iterator[Problem | Note]:
    if certificate.dns_provider == "manual":
        if certificate.dns_service_url:
            yield Note(f"{path}.dns_service_url", "without effect: no dns_provider is named")
    elif not certificate.dns_service_url:
        hint = '"https://…?access_key_id=…&access_key_secret=$ENV:NAME"' if certificate.dns_provider != "cf" else '"?token=$ENV:NAME"'
        yield Problem(f"{path}.dns_service_url", "is missing: it has the keys of the provider's interface", hint)
    else:
        yield from check_dns_service(path, certificate.dns_provider, certificate.dns_service_url)


def _is_self_signed(pem: str) -> bool:
    try:
        return bool(pem) and leaf_facts(pem).is_self_signed
    except ValueError:  # of which others tell
        return False


def is_address(domain: str) -> bool:
    """It is an IP address, not a name."""
    try:
        ip_address(domain)
    except ValueError:
        return False
    return True
