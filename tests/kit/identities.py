"""Certificates of clients, and of the authorities that issue them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat, pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID

CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH


@dataclass
class Identity:
    """A certificate with its key and those between it and its authority."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    chain: tuple[x509.Certificate, ...] = ()

    @cached_property
    def pem(self) -> str:
        """Of the certificate alone."""
        return self.certificate.public_bytes(Encoding.PEM).decode()

    @cached_property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @cached_property
    def key_pem(self) -> str:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    def written(self, root: Path, name: str) -> tuple[str, str]:
        """(certificate and chain, key): paths of files."""
        chain = "".join(one.public_bytes(Encoding.PEM).decode() for one in self.chain)
        (root / f"{name}.pem").write_text(self.pem + chain)
        (root / f"{name}.key").write_text(self.key_pem)
        return str(root / f"{name}.pem"), str(root / f"{name}.key")

    def pkcs12(self, phrase: str) -> bytes:
        return pkcs12.serialize_key_and_certificates(
            b"client", self.key, self.certificate, list(self.chain), BestAvailableEncryption(phrase.encode())
        )

    def issue(
        self,
        subject: x509.Name | str,
        *,
        names: Sequence[x509.GeneralName] = (),
        is_authority: bool = False,
        since: timedelta = timedelta(-1),
        until: timedelta = timedelta(30),
        usage: Sequence[Any] = (CLIENT,),
        serial: int = 0,
        sends: bool = True,
    ) -> Identity:
        """since, until: from now. sends: its holder sends this certificate too, unless it is a root's."""
        made = _made(subject, self, names, is_authority, since, until, usage, serial)
        is_root = self.certificate.issuer == self.certificate.subject
        chain = (self.certificate, *self.chain) if sends and not is_root else ()
        return Identity(made.certificate, made.key, chain)


def root(name: str, *, since: timedelta = timedelta(-1), until: timedelta = timedelta(30)) -> Identity:
    """An authority that has signed itself."""
    return _made(name, None, (), True, since, until, (), 0)


def alone(name: str) -> Identity:
    """A client that has signed itself."""
    return _made(name, None, (), False, timedelta(-1), timedelta(30), (CLIENT,), 0)


def _made(
    subject: x509.Name | str,
    issuer: Identity | None,
    names: Sequence[x509.GeneralName],
    is_authority: bool,
    since: timedelta,
    until: timedelta,
    usage: Sequence[Any],
    serial: int,
) -> Identity:
    key = ec.generate_private_key(ec.SECP256R1())
    if isinstance(subject, str):
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)])
    now = datetime.now(UTC)
    signer = issuer.certificate.subject if issuer else subject
    builder = x509.CertificateBuilder(
        signer, subject, key.public_key(), serial or x509.random_serial_number(), now + since, now + until
    ).add_extension(x509.BasicConstraints(is_authority, None), True)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), False)
    if usage:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usage), False)
    return Identity(builder.sign(issuer.key if issuer else key, hashes.SHA256()), key)
