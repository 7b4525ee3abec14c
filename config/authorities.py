"""[certificates.X] with `is_ca`: whether it is an authority that clients would believe what it makes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from pingap.config.diff import shortened
from pingap.config.model import Certificate
from pingap.config.name_bounds import bounds_of
from pingap.config.problems import Note, Problem

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
    from cryptography.x509 import Certificate as X509

_MAKE_ONE: Final = "`pingap ca` makes one"


def check_authority(path: str, certificate: Certificate, chain: list[X509], key: object) -> Iterator[Problem | Note]:
    """chain: of `tls_cert`, the authority first. key: of `tls_key`, None for one that is wrong, which is told elsewhere."""
    authority = chain[0]
    try:
        yield from _check_extensions(f"{path}.tls_cert", authority)
        bounds = bounds_of(chain)
        outside = [domain for domain in certificate.domains if not bounds.permits(domain)]
        pathlens = [_length_of_path(one) for one in chain]
    except ValueError as error:  # of an extension that is garbled
        yield Problem(f"{path}.tls_cert", f"has an extension that cannot be read: {str(error)[:200]}", _MAKE_ONE)
        return
    if key is not None and issuer_key(key) is None:
        yield Problem(f"{path}.tls_key", "is of a kind that signs no certificates", "RSA, ECDSA and Ed25519 keys do")
    if outside:
        message = f"the authority may not make certificates for {shortened(outside)} (its name constraints)"
        yield Note(f"{path}.domains", message, "clients that ask for that get the default certificate, or none")
    for below, length in enumerate(pathlens):
        if length is not None and length < below:
            message = f"certificate {below + 1} of the chain permits {length} authorities under it, and {below} are"
            yield Note(f"{path}.tls_cert", message, "clients refuse what is made")
            break


def _check_extensions(path: str, authority: X509) -> Iterator[Problem | Note]:
    """Raises ValueError."""
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    try:
        is_authority = authority.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        is_authority = False
    if not is_authority:
        hint = f"{_MAKE_ONE}; without is_ca the certificate is served itself"
        yield Problem(path, "is no authority's (basicConstraints lacks CA:TRUE)", hint)
        return
    try:
        if not authority.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign:
            yield Problem(path, "may not sign certificates (keyUsage lacks keyCertSign)", _MAKE_ONE)
    except x509.ExtensionNotFound:
        pass  # then it is good for everything
    try:
        usages = authority.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return
    if ExtendedKeyUsageOID.SERVER_AUTH not in usages and ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE not in usages:
        yield Note(path, "is not for certificates of servers (extendedKeyUsage lacks serverAuth)", "clients refuse what is made")


def _length_of_path(authority: X509) -> int | None:
    """Authorities that may be between it and a server's certificate, None for any number. Raises ValueError."""
    from cryptography import x509

    try:
        return authority.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
    except x509.ExtensionNotFound:
        return None


def issuer_key(key: object) -> CertificateIssuerPrivateKeyTypes | None:
    """The same key, if certificates can be signed with it (stages/accept/certificates/signing.py) and clients take that."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

    kinds = (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey, ed448.Ed448PrivateKey)
    return key if isinstance(key, kinds) else None
