"""A certificate for tests whose peers do not verify."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
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


def section(name: str, *names: str) -> str:
    """[certificates.NAME] of a new one."""
    cert, key = self_signed(*names)
    return f"[certificates.{name}]\ntls_cert = '''{cert}'''\ntls_key = '''{key}'''\n"
