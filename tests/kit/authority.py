"""Authorities for tests that make certificates with them."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from pingap.config.model import Certificate

KINDS: Final[dict[str, Any]] = {
    "ec": lambda: ec.generate_private_key(ec.SECP256R1()),
    "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "rsa": lambda: rsa.generate_private_key(65537, 2048),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "ed448": ed448.Ed448PrivateKey.generate,
}

SIGNING: Final = x509.KeyUsage(False, False, False, False, False, True, True, False, False)


class TestAuthority:
    """A root, or one under another."""

    __test__ = False

    def __init__(
        self,
        kind: str = "ec",
        above: TestAuthority | None = None,
        *,
        days: float = 300,
        permitted: tuple[str, ...] = (),
        excluded: tuple[str, ...] = (),
        pathlen: int | None = None,
        is_ca: bool = True,
        usage: x509.KeyUsage | None = SIGNING,
        purposes: tuple[x509.ObjectIdentifier, ...] = (),
    ) -> None:
        self.key = KINDS[kind]()
        self.above = above
        attributes = {
            x509.NameOID.ORGANIZATION_NAME: "Tea House",
            x509.NameOID.ORGANIZATIONAL_UNIT_NAME: "Kettles",
            x509.NameOID.COMMON_NAME: f"{kind} {'under ' + above.name if above else 'root'} {id(self)}",
        }
        self.name: str = attributes[x509.NameOID.COMMON_NAME]
        subject = x509.Name([x509.NameAttribute(*one) for one in attributes.items()])
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder(
            above.certificate.subject if above else subject,
            subject,
            self.key.public_key(),
            x509.random_serial_number(),
            now - timedelta(2),
            now + timedelta(days),
        ).add_extension(x509.BasicConstraints(is_ca, pathlen if is_ca else None), True)
        if permitted or excluded:
            constraints = [[general(one) for one in names] or None for names in (permitted, excluded)]
            builder = builder.add_extension(x509.NameConstraints(*constraints), True)
        if usage:
            builder = builder.add_extension(usage, True)
        if purposes:
            builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), False)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), False)
        signer = above.key if above else self.key
        builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False)
        algorithm = None if isinstance(signer, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey) else hashes.SHA256()
        self.certificate: x509.Certificate = builder.sign(signer, algorithm)

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(Encoding.PEM).decode()

    @property
    def key_pem(self) -> str:
        private: bytes = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return private.decode()

    @property
    def chain(self) -> str:
        """It, and all above it."""
        return self.pem + (self.above.chain if self.above else "")

    def entry(self, *domains: str, **more: Any) -> Certificate:
        """Its section in a configuration."""
        return Certificate(tls_cert=self.chain, tls_key=self.key_pem, domains=domains, is_ca=True, **more)

    def section(self, name: str = "house", more: str = "") -> str:
        return f"[certificates.{name}]\nis_ca = true\ntls_cert = '''{self.chain}'''\ntls_key = '''{self.key_pem}'''\n{more}\n"


def general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_network(name))
    except ValueError:
        return x509.DNSName(name)
