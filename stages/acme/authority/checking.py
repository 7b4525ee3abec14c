"""Whether what an authority sent is what it was asked for. Decides only."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pingap.config.certificates import chain_of, leaf_of
from pingap.stages.acme.authority.keys import CertifiedKey, as_address, read_key

AHEAD: Final = timedelta(days=1)
"""How far the clock of this machine may be behind the authority's."""


def _public(owner: x509.Certificate | CertifiedKey) -> bytes:
    return owner.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def san_of(certificate: x509.Certificate) -> set[str]:
    """Of its SAN, lower case; addresses in their shortest form."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    names = {name.lower() for name in found.get_values_for_type(x509.DNSName)}
    return names | {str(address) for address in found.get_values_for_type(x509.IPAddress)}


def _in_order(certificates: list[x509.Certificate], leaf: x509.Certificate) -> list[x509.Certificate]:
    """The leaf, its issuer, the issuer's issuer. Clients that go by the order of TLS 1.2 need it so (RFC 5246 section 7.4.2)."""
    chain, rest = [leaf], [one for one in certificates if one is not leaf]
    while rest:
        issuer = next((one for one in rest if chain[-1].issuer == one.subject), None)
        if issuer is None:
            raise ValueError(f"its chain has a certificate that issued none of the others ({rest[0].subject.rfc4514_string()})")
        try:
            chain[-1].verify_directly_issued_by(issuer)
        except (InvalidSignature, ValueError, TypeError):
            raise ValueError(f"its chain does not hold: {issuer.subject.rfc4514_string()} has not signed what comes before it") from None
        chain.append(issuer)
        rest.remove(issuer)
    return chain


def checked_chain(pem: str, key: str, domains: tuple[str, ...], now: float) -> str:
    """PEM, the leaf first and each after it the issuer of the one before. Raises ValueError: what is wrong with it.

    More names than were asked for are no harm: some authorities add `www.`.
    """
    try:
        certificates = chain_of(pem)
    except ValueError:
        raise ValueError("it is no certificate in PEM") from None
    public = _public(read_key(key))
    leaf = next((one for one in certificates if _public(one) == public), None)
    if leaf is None:
        raise ValueError("it is for another key than ours")
    lacking = {str(as_address(domain) or domain) for domain in domains} - san_of(leaf)
    if lacking:
        raise ValueError(f"it is not for {', '.join(sorted(lacking))}")
    moment = datetime.fromtimestamp(now, UTC)
    if leaf.not_valid_after_utc <= moment:
        raise ValueError(f"it has ended at {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC already; is the clock of this machine right?")
    if leaf.not_valid_before_utc > moment + AHEAD:
        raise ValueError(f"it begins at {leaf.not_valid_before_utc:%Y-%m-%d %H:%M} UTC only; is the clock of this machine right?")
    return "".join(one.public_bytes(Encoding.PEM).decode() for one in _in_order(certificates, leaf))


def readable_leaf(pem: str) -> x509.Certificate | None:
    """The first certificate; None: there is none that can be read."""
    try:
        return leaf_of(pem)
    except ValueError:
        return None


def has_most_of_its_life(leaf: x509.Certificate, now: float) -> bool:
    return now < (leaf.not_valid_before_utc.timestamp() + leaf.not_valid_after_utc.timestamp()) / 2
