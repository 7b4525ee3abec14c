"""Certificates of servers, made with a user's own authority: one name or address each (RFC 5280, RFC 6125)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from pingap.config.authorities import issuer_key
from pingap.config.certificates import chain_of
from pingap.config.model import Certificate
from pingap.config.name_bounds import Address, NameBounds, bounds_of

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

LIFE: Final = timedelta(days=90)
"""At most, and not longer than the authority. Of a private one browsers take more (Apple 825 days), but none outlives its process."""

BACKDATED: Final = timedelta(days=1)
"""Clients' clocks may be slow."""

_LONGEST_COMMON_NAME: Final = 64
"""Characters (RFC 5280 appendix A.1: ub-common-name)."""


@dataclass(frozen=True, slots=True)
class Minted:
    """A certificate that was made, with its key."""

    certificate: Certificate = field(repr=False)
    ends: float
    """Seconds since 1970."""


class SigningAuthority:
    """The authority of a [certificates.X] section with `is_ca`. Raises ValueError for what config/authorities.py refuses."""

    def __init__(self, entry: Certificate) -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

        chain = chain_of(entry.tls_cert)
        self._certificate = chain[0]
        key = issuer_key(load_pem_private_key(entry.tls_key.encode(), None))
        if key is None:
            raise ValueError("its key is of a kind that signs no certificates")
        self._key = key
        self._hash = _hash_for(key)
        self._above = "".join(one.public_bytes(Encoding.PEM).decode() for one in chain if one.subject != one.issuer)
        """What leads clients from a certificate to a root, which they have: the authority itself when it is none, and who is above."""
        self.bounds: NameBounds = bounds_of(chain)
        self.ends = min(one.not_valid_after_utc for one in chain).timestamp()
        kinds = (x509.NameOID.ORGANIZATION_NAME, x509.NameOID.ORGANIZATIONAL_UNIT_NAME)
        self._organization = [
            x509.NameAttribute(kind, str(found.value)) for kind in kinds for found in self._certificate.subject.get_attributes_for_oid(kind)
        ]
        self._issuer = _key_identifier(self._certificate)

    def make(self, name: str | Address, now: float) -> Minted:
        """name: lower case, and permitted by `bounds`. now: seconds since 1970, before `ends`."""
        from cryptography import x509
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
        from cryptography.x509.oid import ExtendedKeyUsageOID

        key = ec.generate_private_key(ec.SECP256R1())
        at = datetime.fromtimestamp(int(now), UTC)
        end = min(at + LIFE, datetime.fromtimestamp(self.ends, UTC))
        subject = x509.Name([*_common_name(name), *self._organization])
        named = x509.DNSName(name) if isinstance(name, str) else x509.IPAddress(name)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(min(at, max(at - BACKDATED, self._certificate.not_valid_before_utc)))
            .not_valid_after(end)
            .add_extension(x509.SubjectAlternativeName([named]), critical=not list(subject))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(self._issuer, critical=False)
        )
        made = builder.sign(self._key, self._hash).public_bytes(Encoding.PEM).decode()
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        return Minted(Certificate(tls_cert=made + self._above, tls_key=private), end.timestamp())


def _common_name(name: str | Address) -> list[x509.NameAttribute[str]]:
    """None for an address: some libraries take it for a host name, which constraints may forbid."""
    from cryptography import x509

    if isinstance(name, str) and len(name) <= _LONGEST_COMMON_NAME:
        return [x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]
    return []


def _key_identifier(authority: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """How what it makes refers to its key: as it calls the key itself, where it does."""
    from cryptography import x509

    try:
        own = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key())  # type: ignore[arg-type]  # `issuer_key` has looked
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _usage() -> x509.KeyUsage:
    """Signatures only: with a key of an elliptic curve no version of TLS does anything else."""
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _hash_for(key: object) -> hashes.SHA256 | hashes.SHA384 | hashes.SHA512 | None:
    """As strong as the curve; Ed25519 and Ed448 bring their own."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    if isinstance(key, ec.EllipticCurvePrivateKey):
        return hashes.SHA256() if key.curve.key_size <= 256 else hashes.SHA384() if key.curve.key_size <= 384 else hashes.SHA512()
    return hashes.SHA256() if isinstance(key, rsa.RSAPrivateKey) else None
