"""An authority for development: made once, kept in two files, and good for names that no stranger owns."""

from __future__ import annotations

import getpass
import ipaddress
import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pingap.config.addresses import host_name
from pingap.config.certificates import leaf_of
from pingap.config.problems import BadValue

if TYPE_CHECKING:
    from cryptography.x509 import GeneralName

DOMAINS: Final = ("localhost", "test", "local", "internal", "home.arpa", "127.0.0.0/8", "::1/128")
"""Names that are nobody's on the internet (RFC 6761, 6762, 8375; ICANN has set `internal` aside), and this host: whoever steals
the key of the authority can pose as nothing else to those who trust it."""

LIFE: Final = timedelta(days=3652)
CERTIFICATE: Final = "ca.pem"
KEY: Final = "ca.key"
_LONGEST_NAME: Final = 64
"""Characters (RFC 5280 appendix A.1: ub-common-name)."""


@dataclass(frozen=True, slots=True)
class DevAuthority:
    """What its certificate says."""

    name: str
    domains: tuple[str, ...]
    """Names and networks that it may make certificates for, each name with all that is under it; none for any."""
    until: datetime
    sha256: str
    """Of the certificate, in hex."""


def usual_name() -> str:
    """Whose it is, for lists in which several such may stand."""
    user = "somebody"
    with suppress(OSError, KeyError):  # a user without an entry in the table of users
        user = getpass.getuser()
    return f"pingap development CA ({user}@{socket.gethostname()}"[: _LONGEST_NAME - 1] + ")"


def domains_of(text: str) -> tuple[str, ...]:
    """`dev.example.com, *.test, 10.0.0.0/8`: names without `*.`, for what is under them is included; `*` alone: () for any.

    Loopback addresses are added where there is no network. Raises BadValue.
    """
    entries = [entry.strip() for entry in text.split(",") if entry.strip()]
    if entries == ["*"]:
        return ()
    names, networks = [], []
    for entry in entries:
        try:
            networks.append(str(ipaddress.ip_network(entry, strict=False)))
        except ValueError:
            names.append(host_name(entry.removeprefix("*.").removesuffix(".")))
    if not names and not networks:
        raise BadValue("names nothing", 'such as --domains "dev.example.com,10.0.0.0/8", or "*" for all names')
    return (*names, *(networks or DOMAINS[-2:]))


def made(name: str, domains: tuple[str, ...], now: datetime) -> tuple[str, str]:
    """(certificate, key) in PEM, of a root that makes certificates of servers and no other authorities. Raises BadValue."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    if not 0 < len(name) <= _LONGEST_NAME:
        raise BadValue(f"the name has {len(name)} characters", f"1 to {_LONGEST_NAME}")
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, name), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "pingap development CA")]
    )
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number(), now - timedelta(days=1), now + LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(identifier, critical=False)
    )
    if domains:
        permitted = [_general(domain) for domain in domains]
        if not any(isinstance(one, x509.DNSName) for one in permitted):
            raise BadValue("only addresses are named, and then every name would be permitted", "name a domain as well")
        builder = builder.add_extension(x509.NameConstraints(permitted, None), critical=True)
    certificate = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()
    return certificate, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _general(domain: str) -> GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_network(domain))
    except ValueError:
        return x509.DNSName(domain)


def read(directory: Path) -> DevAuthority | None:
    """The one that is there; None where there is none of the two files. Raises BadValue for one that is not whole, OSError."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    there = [name for name in (CERTIFICATE, KEY) if os.path.lexists(directory / name)]
    if not there:
        return None
    if len(there) == 1:
        raise BadValue(f"{directory} has {there[0]} and not the other file", "move it away, or name another --dir")
    try:
        certificate = leaf_of((directory / CERTIFICATE).read_text())
    except ValueError as error:
        raise BadValue(f"{directory / CERTIFICATE} is no certificate", "move it away, or name another --dir") from error
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.NameConstraints).value
        domains = tuple(str(one.value) for one in constraints.permitted_subtrees or ())
    except x509.ExtensionNotFound:
        domains = ()
    names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    name = str(names[0].value) if names else certificate.subject.rfc4514_string()
    return DevAuthority(name, domains, certificate.not_valid_after_utc, certificate.fingerprint(hashes.SHA256()).hex())


def write(directory: Path, certificate: str, key: str) -> None:
    """Overwrites nothing. Raises OSError."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    _create(directory / KEY, key, 0o600)
    try:
        _create(directory / CERTIFICATE, certificate, 0o644)
    except OSError:
        with suppress(OSError):
            os.unlink(directory / KEY)  # made a moment ago, and good for nothing
        raise


def _create(path: Path, text: str, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode), "w") as file:
        try:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            with suppress(OSError):
                os.unlink(path)
            raise


def now() -> datetime:
    return datetime.now(UTC)
