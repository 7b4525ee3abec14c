"""What a certificate says of itself, for who shows it and for who watches its end."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pingap.config.certificates import leaf_of, names_of

if TYPE_CHECKING:
    from cryptography.x509 import Certificate as X509
    from cryptography.x509 import Name

KEPT: Final = 2048
"""Certificates whose facts are remembered: reading one takes 0.1 ms, and they are asked for again and again."""


class LeafFacts(NamedTuple):
    """Of one certificate."""

    subject: str
    """Its common name, or else its first name; "" for one that names nobody."""
    names: tuple[str, ...]
    """DNS names and addresses that it is for."""
    issuer: str
    """Who signed it: the organization and the common name, as far as they are there, `Let's Encrypt E7`."""
    serial: str
    """Hex digits, as certificate transparency logs and `openssl x509 -serial` have them."""
    fingerprint: str
    """SHA-256 of its DER, in hex digits."""
    not_before: float
    """Unix seconds."""
    not_after: float
    """Unix seconds."""
    key: str
    """`ECDSA P-256`, `RSA 2048`, `Ed25519`."""
    is_self_signed: bool
    """It names itself as who signed it."""


@lru_cache(KEPT)
def leaf_facts(pem: str) -> LeafFacts:
    """Of the first certificate in PEM. Raises ValueError."""
    return facts_of(leaf_of(pem))


def facts_of(leaf: X509) -> LeafFacts:
    """Raises ValueError for one whose fields cannot be read."""
    from cryptography.hazmat.primitives.hashes import SHA256

    names = names_of(leaf)
    return LeafFacts(
        _common_name(leaf.subject) or next(iter(names), ""),
        names,
        _issuer(leaf.issuer),
        f"{leaf.serial_number:X}",
        leaf.fingerprint(SHA256()).hex(),
        leaf.not_valid_before_utc.timestamp(),
        leaf.not_valid_after_utc.timestamp(),
        _key(leaf),
        leaf.issuer == leaf.subject,
    )


def _issuer(name: Name) -> str:
    from cryptography.x509 import NameOID

    organization = _first(name, NameOID.ORGANIZATION_NAME)
    common = _common_name(name)
    if organization and common and not common.lower().startswith(organization.lower()):
        return f"{organization} {common}"
    return common or organization or name.rfc4514_string()


def _common_name(name: Name) -> str:
    from cryptography.x509 import NameOID

    return _first(name, NameOID.COMMON_NAME)


def _first(name: Name, oid: Any) -> str:
    return next((str(entry.value) for entry in name.get_attributes_for_oid(oid)), "")


def _key(leaf: X509) -> str:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

    try:
        key = leaf.public_key()
    except (UnsupportedAlgorithm, ValueError):
        return "of an unknown kind"
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        known = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
        return f"ECDSA {known.get(key.curve.name, key.curve.name)}"
    return {ed25519.Ed25519PublicKey: "Ed25519", ed448.Ed448PublicKey: "Ed448"}.get(type(key), type(key).__name__.removesuffix("PublicKey"))
