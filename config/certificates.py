"""Certificates: text, file or base64 in; PEM that is known to be of use, or what is wrong with it, out."""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from config.model import Certificate
from config.problems import BadValue, Problem, path_of
from config.quantities import text_of

if TYPE_CHECKING:
    from cryptography.x509 import Certificate as X509

_BEGIN = "-----BEGIN "
_LABEL = re.compile(r"^-----BEGIN ([A-Z0-9 ]{1,60})-----", re.MULTILINE)
_LONGEST_FILE = 1024 * 1024
_BASE64 = re.compile(r"[A-Za-z0-9+/=\s]{64,}")
_DOMAIN = re.compile(r"(?:\*\.)?[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)*")


def parse_pem(value: Any) -> str:
    """PEM as it is, PEM in base64, or the path of a file of either. Messages never show what was read: it may be a key."""
    text = text_of(value, "a path, PEM, or PEM in base64").strip()
    if not text:
        raise BadValue("is empty", "write a path, PEM, or PEM in base64")
    if text.startswith(_BEGIN):
        return text + "\n"
    if _BASE64.fullmatch(text) and (decoded := _from_base64(text)):
        return decoded
    path = os.path.expanduser(text)
    try:
        with open(path, encoding="utf-8-sig", errors="strict") as file:  # Windows begins text files with a mark
            content = file.read(_LONGEST_FILE).strip()
        content.encode("ascii")
    except (OSError, ValueError) as error:
        shown = text if len(text) < 200 and "\n" not in text else "the text"
        if not isinstance(error, OSError):
            hint = "`openssl x509 -inform DER`, `openssl pkcs12 -nodes` make it of DER, PKCS #12"
            raise BadValue(f"{shown!r} holds no PEM", hint) from None
        hint = "write a path, PEM, or PEM in base64"
        if isinstance(error, FileNotFoundError) and not os.path.isabs(path) and shown == text:
            hint += f"; a path that is not absolute starts at {os.getcwd()}"
        raise BadValue(f"{shown!r} cannot be read: {(error.strerror or str(error)).lower()}", hint) from None
    if content.startswith(_BEGIN):
        return content + "\n"
    if decoded := _from_base64(content):
        return decoded
    at = content.find(_BEGIN)
    if at > 0:  # `openssl x509 -text` writes a description before it
        return content[at:] + "\n"
    raise BadValue(f"{text!r} holds no PEM", "a PEM file has a line -----BEGIN …-----")


def _from_base64(text: str) -> str:
    try:
        decoded = base64.b64decode(text, validate=False).decode("ascii").strip()
    except (binascii.Error, ValueError):
        return ""
    return decoded + "\n" if decoded.startswith(_BEGIN) else ""


def parse_domains(value: Any) -> tuple[str, ...]:
    """`example.com, *.example.org` to names in lower case."""
    names = tuple(name.strip().lower() for name in text_of(value, 'names such as "example.com, *.example.org"').split(",") if name.strip())
    for name in names:
        ascii_name = name if name.isascii() else _punycode(name)
        if not _DOMAIN.fullmatch(ascii_name):
            raise BadValue(f"{name!r} is not a domain", "write example.com or *.example.com")
    return tuple(name if name.isascii() else _punycode(name) for name in names)


def _punycode(name: str) -> str:
    try:
        return name.encode("idna").decode()
    except UnicodeError:
        return ""


def check_certificates(certificates: Mapping[str, Certificate], partial: AbstractSet[str], now: datetime) -> Iterator[Problem]:
    """What is wrong with them, one by one and beside each other. `partial`: paths of those that lack keys which were wrong."""
    owners: dict[str, str] = {}
    default = ""
    for name, certificate in certificates.items():
        path = path_of("certificates", name)
        if path in partial:
            continue
        yield from _check_one(path, certificate, now)
        for domain in certificate.domains:
            if other := owners.get(domain):
                yield Problem(f"{path}.domains", f"{domain} is also in {other}", "one certificate a domain")
            owners[domain] = path
        if certificate.is_default:
            if default:
                yield Problem(f"{path}.is_default", f"{default} is the default already", "keep one")
            default = path


def _check_one(path: str, certificate: Certificate, now: datetime) -> Iterator[Problem]:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

    leaf: X509 | None = None
    try:
        leaf = x509.load_pem_x509_certificates(certificate.tls_cert.encode())[0]
    except ValueError as error:
        yield Problem(f"{path}.tls_cert", *_not_a("certificate", "CERTIFICATE", certificate.tls_cert, error))
    key = None
    try:
        key = load_pem_private_key(certificate.tls_key.encode(), None)
    except TypeError:
        hint = "give it without a pass phrase (`openssl pkey -in OLD -out NEW`), readable by pingap's user alone"
        yield Problem(f"{path}.tls_key", "is encrypted", hint)
    except Exception as error:  # cryptography has many ways to say no: ValueError, UnsupportedAlgorithm, …
        yield Problem(f"{path}.tls_key", *_not_a("private key", "PRIVATE KEY", certificate.tls_key, error))
    if leaf is None:
        return
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if key is not None and key.public_key().public_bytes(*form) != leaf.public_key().public_bytes(*form):
        yield Problem(f"{path}.tls_key", "does not belong to the certificate", "the first certificate in tls_cert must be the server's own")
    if leaf.not_valid_after_utc <= now:
        yield Problem(f"{path}.tls_cert", f"expired on {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC", "renew it, or take its section out")
    if leaf.not_valid_before_utc > now:
        yield Problem(f"{path}.tls_cert", f"is not valid before {leaf.not_valid_before_utc:%Y-%m-%d %H:%M} UTC")
    names = names_of(leaf)
    for domain in certificate.domains:
        if not any(covers(name, domain) for name in names):
            yield Problem(f"{path}.domains", f"the certificate is not for {domain}", f"it is for {', '.join(names) or 'no name'}")


def names_of(leaf: X509) -> tuple[str, ...]:
    """The DNS names that a certificate is for, lower case; of an old one without any, its common name."""
    from cryptography import x509

    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = found.get_values_for_type(x509.DNSName)
    except (x509.ExtensionNotFound, ValueError):
        names = [str(entry.value) for entry in leaf.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
    return tuple(name.lower() for name in names)


def covers(name: str, domain: str) -> bool:
    """Whether a name of a certificate is good for a domain; a wildcard stands for one label (RFC 6125 section 6.4.3)."""
    return name == domain or (name.startswith("*.") and not domain.startswith("*.") and name[2:] == domain.partition(".")[2])


def domains_of(pem: str) -> tuple[str, ...]:
    """For a certificate whose section names no domains."""
    from cryptography import x509

    return names_of(x509.load_pem_x509_certificates(pem.encode())[0])


def files_of(table: Any) -> list[str]:
    """The files that a [certificates.X] section, as written, names."""
    values = (table.get(key) for key in ("tls_cert", "tls_key")) if isinstance(table, dict) else ()
    paths = [os.path.expanduser(value.strip()) for value in values if isinstance(value, str) and len(value) < 4096]
    return [path for path in paths if "\n" not in path and os.path.isfile(path)]


def now_utc() -> datetime:
    return datetime.now(UTC)


def _not_a(what: str, label: str, pem: str, error: Exception) -> tuple[str, str]:
    """Message and hint for PEM that does not load: what it holds instead, else what the library says."""
    labels = _LABEL.findall(pem)
    if any(found.endswith(label) for found in labels):
        return f"is no {what}: {(str(error).strip() or type(error).__name__).split(chr(10))[0][:200]}", ""
    held = ", ".join(dict.fromkeys(labels))
    return f"is no {what}: it holds {held or 'nothing'}", f"the file needs a line -----BEGIN {label}-----"
