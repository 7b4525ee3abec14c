"""Certificates: what is wrong with one alone or with several beside each other, and what one says of itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from pingap.config.addresses import is_host_name
from pingap.config.authorities import check_authority
from pingap.config.diff import shortened
from pingap.config.model import Certificate
from pingap.config.pem import labels_of
from pingap.config.problems import Note, Problem, path_of

if TYPE_CHECKING:
    from cryptography.x509 import Certificate as X509


BUFFER_DAYS: Final = 7
"""Days before its end from which on a certificate is said to end soon, where `buffer_days` says nothing."""


def check_certificates(certificates: Mapping[str, Certificate], partial: AbstractSet[str]) -> Iterator[Problem | Note]:
    """What is wrong with them, one by one and beside each other. `partial`: paths of those that lack keys which were wrong.

    What is only of no use is noted: the other sites are to be served. Of two for the same, the first is used, in the order of the file.
    """
    owners: dict[str, str] = {}
    default = ""
    for name, certificate in certificates.items():
        path = path_of("certificates", name)
        if path in partial:
            continue
        yield from _check_one(path, certificate)
        for domain in certificate.domains:
            other = owners.setdefault(domain, path)
            if other != path:
                yield Note(f"{path}.domains", f"{domain} is also in {other}, which is the one that is used", "one certificate a domain")
        if certificate.is_default:
            if default:
                yield Note(f"{path}.is_default", f"{default} is the default already, and the one that is used", "keep one")
            default = default or path
        elif len(certificates) > 1 and any(not is_host_name(domain) for domain in certificate.domains):
            hint = "is_default = true in one certificate: who connects by an address names nobody (RFC 6066 section 3)"
            yield Note(f"{path}.domains", "an address has no effect: only the default is used for it", hint)


def _check_one(path: str, certificate: Certificate) -> Iterator[Problem | Note]:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

    missing = [key for key in ("tls_cert", "tls_key") if not getattr(certificate, key)]
    if missing:
        if len(missing) == 1:
            other = "tls_cert" if missing == ["tls_key"] else "tls_key"
            yield Problem(f"{path}.{missing[0]}", f"has to be there, beside {other}")
        elif not certificate.acme:
            yield from (Problem(f"{path}.{key}", "the key is required") for key in missing)
        return
    chain: list[X509] = []
    try:
        chain = chain_of(certificate.tls_cert)
    except ValueError as error:
        yield Problem(f"{path}.tls_cert", *_not_a("certificate", "CERTIFICATE", certificate.tls_cert, error))
    key = None
    try:
        key = load_pem_private_key(certificate.tls_key.encode(), None)
    except TypeError:
        hint = 'tls_key_passphrase = "$ENV:NAME", with its pass phrase in that environment variable'
        yield Problem(f"{path}.tls_key", "is encrypted", hint)
    except Exception as error:  # cryptography has many ways to say no: ValueError, UnsupportedAlgorithm, …
        yield Problem(f"{path}.tls_key", *_not_a("private key", "PRIVATE KEY", certificate.tls_key, error))
    if not chain:
        return
    leaf = chain[0]
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if key is not None and key.public_key().public_bytes(*form) != leaf.public_key().public_bytes(*form):
        yield Problem(f"{path}.tls_key", "does not belong to the certificate", "the first certificate in tls_cert must be the server's own")
    if certificate.is_ca:
        yield from check_authority(path, certificate, chain, key)
        return
    names = names_of(leaf)
    if foreign := not_covered(names, certificate.domains):
        message = f"the certificate is not for {shortened(foreign)}: clients that ask for that refuse it"
        yield Note(f"{path}.domains", message, f"it is for {shortened(names) or 'no name'}")


def names_of(leaf: X509) -> tuple[str, ...]:
    """The DNS names, in lower case, and the addresses that a certificate is for; of an old one without any, its common name."""
    from cryptography import x509

    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = [*found.get_values_for_type(x509.DNSName), *map(str, found.get_values_for_type(x509.IPAddress))]
    except (x509.ExtensionNotFound, ValueError):
        names = [str(entry.value) for entry in leaf.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
    return tuple(name.lower() for name in names)


def covers(name: str, domain: str) -> bool:
    """Whether a name of a certificate is good for a domain; a wildcard stands for one label (RFC 6125 section 6.4.3)."""
    return not not_covered((name,), (domain,))


def not_covered(names: Iterable[str], domains: Iterable[str]) -> list[str]:
    """The domains that none of a certificate's names is good for, as of `covers`."""
    known = set(names)
    return [one for one in domains if one not in known and (one.startswith("*.") or f"*.{one.partition('.')[2]}" not in known)]


def out_of_time(certificates: Mapping[str, Certificate], now: datetime) -> Iterator[Note]:
    """A note on each certificate that clients will not believe today: it is served all the same, beside all the others.

    Of those by ACME the stage that renews them tells.
    """
    for name, certificate in certificates.items():
        if certificate.acme:
            continue
        try:
            leaf = leaf_of(certificate.tls_cert)
        except ValueError:  # one that was taken before this library came to find fault with it
            continue
        path = path_of("certificates", name) + ".tls_cert"
        end, left = f"{leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC", leaf.not_valid_after_utc - now
        if left <= timedelta(0):
            yield Note(path, f"expired on {end}: clients refuse it until it is renewed")
        elif leaf.not_valid_before_utc > now:
            yield Note(path, f"is not valid before {leaf.not_valid_before_utc:%Y-%m-%d %H:%M} UTC: clients refuse it until then")
        elif left <= timedelta(days=certificate.buffer_days or BUFFER_DAYS):
            yield Note(path, f"expires on {end}: renew it")


def leaf_of(pem: str) -> X509:
    """The server's own certificate, which is the first. Raises ValueError."""
    return chain_of(pem)[0]


def chain_of(pem: str) -> list[X509]:
    """All certificates in it, the server's own first. Raises ValueError."""
    from cryptography import x509

    return x509.load_pem_x509_certificates(pem.encode())


def _not_a(what: str, label: str, pem: str, error: Exception) -> tuple[str, str]:
    """Message and hint for PEM that does not load: what it holds instead, else what the library says."""
    labels = labels_of(pem)
    if any(found.endswith(label) for found in labels):
        return f"is no {what}: {(str(error).strip() or type(error).__name__).split(chr(10))[0][:200]}", ""
    held = ", ".join(dict.fromkeys(labels))
    return f"is no {what}: it holds {held or 'nothing'}", f"the file needs a line -----BEGIN {label}-----"
