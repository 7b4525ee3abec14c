"""What a responder is asked about a certificate: from its chain alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING

from pingap.config.certificates import chain_of

if TYPE_CHECKING:
    from cryptography.x509 import Certificate as X509


class NoOcspQuestion(Exception):
    """Nobody can be asked about this certificate; the text says why."""


@dataclass(frozen=True, slots=True)
class OcspQuestion:
    leaf: str
    """SHA-256 of the DER of the certificate, in hex."""
    names: tuple[str, ...]
    """Of the sections that have it, for messages."""
    urls: tuple[str, ...]
    """http or https, in the order of the certificate; one at least."""
    request: bytes
    """DER (RFC 6960 section 4.1)."""
    certificate: X509 = field(repr=False)
    issuer: X509 = field(repr=False)


def has_to_be_stapled(leaf: X509) -> bool:
    """`status_request` is among its features (RFC 7633): without a staple clients refuse it."""
    from cryptography import x509

    try:
        return x509.TLSFeatureType.status_request in leaf.extensions.get_extension_for_class(x509.TLSFeature).value
    except (x509.ExtensionNotFound, ValueError):
        return False


def responders_of(leaf: X509) -> tuple[str, ...]:
    from cryptography import x509

    try:
        found = leaf.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    urls = [
        one.access_location.value
        for one in found
        if one.access_method == x509.oid.AuthorityInformationAccessOID.OCSP
        if isinstance(one.access_location, x509.UniformResourceIdentifier)
    ]
    return tuple(url for url in urls if url.lower().startswith(("http://", "https://")))


def ocsp_question(names: tuple[str, ...], chain: str) -> OcspQuestion:
    """chain: PEM, the server's own certificate first. Raises NoOcspQuestion, ValueError for what is no chain."""
    from cryptography.hazmat.primitives.hashes import SHA1
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509 import ocsp

    leaf, *others = chain_of(chain)
    urls = responders_of(leaf)
    if not urls:
        raise NoOcspQuestion("the certificate names no responder")
    issuer = next((one for one in others if _has_issued(one, leaf)), None)
    if issuer is None:
        raise NoOcspQuestion("the certificate of its issuer is not in the chain")
    # SHA-1 only names the issuer here, and is what every responder understands (RFC 5019 section 2.1.1).
    request = ocsp.OCSPRequestBuilder().add_certificate(leaf, issuer, SHA1()).build().public_bytes(Encoding.DER)
    return OcspQuestion(sha256(leaf.public_bytes(Encoding.DER)).hexdigest(), names, urls, request, leaf, issuer)


def _has_issued(issuer: X509, leaf: X509) -> bool:
    try:
        leaf.verify_directly_issued_by(issuer)
    except Exception:  # InvalidSignature, ValueError, TypeError, UnsupportedAlgorithm: it has not
        return False
    return True
