"""[certificates.X] with `acme`: what such an entry must say."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from ipaddress import ip_address
from typing import Final

from pingap.config.acme_values import DIRECTORIES, SHOWN
from pingap.config.addresses import is_host_name
from pingap.config.dns_service import check_dns_service
from pingap.config.leaf_facts import leaf_facts
from pingap.config.model import Certificate, Server
from pingap.config.problems import Note, Problem, path_of

MOST_NAMES: Final = 100
"""Names in one certificate; Let's Encrypt takes no more."""

_FOR_CUSTOMERS: Final = (DIRECTORIES["zerossl"], DIRECTORIES["google"])
"""Authorities that register nobody without a key id."""

_PUBLIC_DAYS: Final = 90
"""That certificates of public authorities are good for, at most."""

_NOBODYS: Final = frozenset(("example", "internal", "invalid", "local", "localhost", "test", "home.arpa"))
"""Ends of names that lead nowhere on the internet (RFC 2606, 6761, 6762, 8375; `internal` is ICANN's)."""

_BASE64URL: Final = re.compile("[A-Za-z0-9_+/-]+={0,2}")
_EMAIL: Final = re.compile(r"[^\s@,;<>]+@[^\s@,;<>]+")

_BY_DNS: Final = ("dns_provider", "dns_service_url", "dns_server")
_OF_ACME: Final = (
    *("dns_challenge", *_BY_DNS, "acme_challenge", "acme_email", "acme_key_type", "acme_profile"),
    *("acme_eab_kid", "acme_eab_hmac_key", "acme_ca"),
)
_DECIDING: Final = ("acme", "dns_challenge", "acme_challenge")
"""Keys that say which others are of effect."""


def check_acme(
    certificates: Mapping[str, Certificate], servers: Mapping[str, Server], partial: AbstractSet[str]
) -> Iterator[Problem | Note]:
    """What is wrong with entries that ask an authority. partial: paths of keys which were wrong, whose place is empty here."""
    for name, certificate in certificates.items():
        path = path_of("certificates", name)
        if certificate.acme or f"{path}.acme" in partial:
            yield from _check_one(path, certificate, servers, partial)
        else:
            for key in _idle(certificate):
                yield Note(f"{path}.{key}", "without effect: the certificate is not one by ACME", 'acme = "lets_encrypt" makes it one')


def idle_keys(certificates: Mapping[str, Certificate], partial: AbstractSet[str]) -> Iterator[str]:
    """Paths of keys that are written and of no effect. partial: as of `check_acme`."""
    for name, certificate in certificates.items():
        path = path_of("certificates", name)
        if partial.isdisjoint(f"{path}.{key}" for key in _DECIDING):
            yield from (f"{path}.{key}" for key in _idle(certificate))


def is_proved_by_dns(certificate: Certificate) -> bool:
    """That its names are ours is shown by records in their zones."""
    return certificate.dns_challenge or certificate.acme_challenge == "dns-01"


def _idle(certificate: Certificate) -> Iterator[str]:
    keys = _OF_ACME if not certificate.acme else () if is_proved_by_dns(certificate) else _BY_DNS
    return (key for key in keys if getattr(certificate, key) not in ("", False, (), "manual", "ecdsa-p256"))


def _check_one(path: str, certificate: Certificate, servers: Mapping[str, Server], partial: AbstractSet[str]) -> Iterator[Problem | Note]:
    def is_sound(*keys: str) -> bool:
        return partial.isdisjoint(f"{path}.{key}" for key in keys)

    ways = ("dns_challenge", "acme_challenge")
    if certificate.is_ca:
        yield Problem(f"{path}.is_ca", "an authority hands out no certificate that makes others", "leave out is_ca, or acme")
    if is_sound("domains", "tls_cert"):
        yield from _check_names(path, certificate, is_sound(*ways))
    if certificate.dns_challenge and certificate.acme_challenge not in ("", "dns-01"):
        yield Problem(f"{path}.acme_challenge", f"{certificate.acme_challenge} and dns_challenge exclude each other", "leave one out")
    if is_sound("acme_eab_kid", "acme_eab_hmac_key"):
        yield from _check_account(path, certificate)
    if certificate.acme_email and not _EMAIL.fullmatch(certificate.acme_email):
        yield Problem(f"{path}.acme_email", f"{certificate.acme_email!r} is no address", 'one such as "ops@example.com"')
    if is_sound(*ways):
        yield from _check_way(path, certificate, servers, is_sound(*_BY_DNS))
    if certificate.acme in SHOWN and (certificate.buffer_days or 0) > _PUBLIC_DAYS // 2:
        said = f"no more than half of its life counts, and {SHOWN[certificate.acme]} gives {_PUBLIC_DAYS} days at most"
        yield Note(f"{path}.buffer_days", said, "leave it out: then it is renewed when the authority says")
    if _is_self_signed(certificate.tls_cert):
        hint = "nothing has to be done; tls_cert and tls_key can go when it has come"
        yield Note(f"{path}.tls_cert", "signed by itself: it is served only until the first one from the authority has come", hint)


def _check_names(path: str, certificate: Certificate, is_way_known: bool) -> Iterator[Problem | Note]:
    domains = certificate.domains
    if not domains:
        yield Problem(f"{path}.domains", "an authority has to be told for which names", 'domains = "example.com,www.example.com"')
    if len(domains) > MOST_NAMES:
        yield Problem(f"{path}.domains", f"{len(domains)} names are more than an authority takes: {MOST_NAMES}", "make it several")
    is_by_dns = is_proved_by_dns(certificate)
    for domain in domains:
        if domain.startswith("*.") and not is_by_dns and is_way_known:
            yield Problem(f"{path}.domains", f"{domain}: a wildcard is proved by DNS only", "dns_challenge = true, and dns_provider")
        elif is_address(domain):
            if is_by_dns:
                yield Problem(f"{path}.domains", f"{domain}: an address cannot be proved by DNS", "leave dns_challenge out")
        elif not is_host_name(domain) and not domain.startswith("*."):
            yield Problem(f"{path}.domains", f"{domain} is no name that an authority knows")
    if nobodys := [domain for domain in domains if _is_nobodys(domain)] if certificate.acme in SHOWN else []:
        said = f"{SHOWN[certificate.acme]} issues for names and addresses of the internet, and not for {', '.join(nobodys[:5])}"
        said += f" and {len(nobodys) - 5} more" if len(nobodys) > 5 else ""
        yield Note(f"{path}.domains", said, "an authority of your own: acme with its URL, or `pingap ca`")


def _is_nobodys(domain: str) -> bool:
    if is_address(domain):
        return not ip_address(domain).is_global
    labels = domain.removeprefix("*.").removesuffix(".").split(".")
    return len(labels) == 1 or labels[-1] in _NOBODYS or ".".join(labels[-2:]) in _NOBODYS


def _check_account(path: str, certificate: Certificate) -> Iterator[Problem | Note]:
    if bool(certificate.acme_eab_kid) != bool(certificate.acme_eab_hmac_key):
        missing = "acme_eab_hmac_key" if certificate.acme_eab_kid else "acme_eab_kid"
        yield Problem(f"{path}.{missing}", "is missing: the two go together", "the authority gives both to its customers")
    elif not certificate.acme_eab_kid and certificate.acme in _FOR_CUSTOMERS:
        hint = "acme_eab_kid and acme_eab_hmac_key, which it shows to its customers"
        yield Note(f"{path}.acme", f"{SHOWN[certificate.acme]} issues to its customers only, unless it knows the account already", hint)
    if certificate.acme_eab_hmac_key and not _is_base64url(certificate.acme_eab_hmac_key):
        yield Problem(f"{path}.acme_eab_hmac_key", "is not base64url", "as the authority shows it: letters, digits, - and _")


def _is_base64url(text: str) -> bool:
    return _BASE64URL.fullmatch(text.strip()) is not None and len(text.strip().rstrip("=")) % 4 != 1


def _check_way(path: str, certificate: Certificate, servers: Mapping[str, Server], is_provider_known: bool) -> Iterator[Problem | Note]:
    if not is_proved_by_dns(certificate):
        for key in _idle(certificate):
            yield Note(f"{path}.{key}", "without effect: dns_challenge is not true")
    elif is_provider_known:
        yield from _check_provider(path, certificate)
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
