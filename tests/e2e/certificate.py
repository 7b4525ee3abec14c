"""A certificate for tests whose peers do not verify."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat


def self_signed(*names: str, days: float = 30) -> tuple[str, str]:
    """(certificate, key) in PEM, good for `days` from now."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, names[0])])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(
        name, name, key.public_key(), x509.random_serial_number(), now - timedelta(1), now + timedelta(days)
    ).add_extension(x509.SubjectAlternativeName([x509.DNSName(one) for one in names]), False)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode(), private.decode()


def authority(name: str, days: float = 30) -> tuple[str, str]:
    """(certificate, key) in PEM of one that may sign others."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number(), now - timedelta(1), now + timedelta(days))
        .add_extension(x509.BasicConstraints(True, None), True)
        .add_extension(usage, True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode(), private.decode()


def chained(name: str) -> tuple[str, str, str]:
    """(certificate of an RSA key with the one of its authority, key, root) in PEM."""
    since, until = datetime.now(UTC) - timedelta(1), datetime.now(UTC) + timedelta(30)
    issuer = issuer_key = None
    made = []
    for step in ("root", "authority", name):
        key = ec.generate_private_key(ec.SECP256R1()) if step != name else rsa.generate_private_key(65537, 2048)
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, step)])
        signer = issuer_key or key
        builder = (
            x509.CertificateBuilder(issuer or subject, subject, key.public_key(), x509.random_serial_number(), since, until)
            .add_extension(x509.BasicConstraints(step != name, None), True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(step)]), False)
        )
        made.append(builder.sign(signer, hashes.SHA256()).public_bytes(Encoding.PEM).decode())
        issuer, issuer_key = subject, key
    private = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()
    return made[2] + made[1], private, made[0]


def section(name: str, *names: str) -> str:
    """[certificates.NAME] of a new one."""
    cert, key = self_signed(*names)
    return f"[certificates.{name}]\ntls_cert = '''{cert}'''\ntls_key = '''{key}'''\n"
