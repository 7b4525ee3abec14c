"""All of a client's certificate that somebody may ask for."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from hashlib import sha256
from types import MappingProxyType
from typing import Final
from urllib.parse import quote

from pingap.stages.client_certificates.der import Value, oid, value
from pingap.stages.client_certificates.distinguished_names import distinguished_name
from pingap.stages.messages import Peer

REMEMBERED: Final = 1024
"""Certificates whose details are kept, some kilobytes each: to take one apart costs as much as a whole request."""

_DAY: Final = 24 * 60 * 60
_UTC_TIME: Final = 0x17
_VERSION: Final = 0xA0
_EXTENSIONS: Final = 0xA3
_ALTERNATIVE_NAME: Final = "2.5.29.17"
_EMAIL, _DNS, _URI = 0x81, 0x82, 0x86


@dataclass(frozen=True)
class ClientCertificate:
    """A certificate by which a client has proved who it is, verified by the `client_ca` of its server."""

    der: bytes
    subject: str
    """Whom it is for: the distinguished name as in RFC 2253, `CN=Alice,O=Example`, in ASCII."""
    issuer: str
    """The same of the authority that has issued it."""
    serial: str
    """Hexadecimal, in capitals, an even number of digits."""
    not_before: datetime
    not_after: datetime
    dns_names: tuple[str, ...]
    """Its subject alternative names, of each kind those that are visible ASCII, as they must be (RFC 5280 section 4.2.1.6)."""
    emails: tuple[str, ...]
    uris: tuple[str, ...]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the whole certificate, hexadecimal."""
        return sha256(self.der).hexdigest()

    @cached_property
    def pem(self) -> str:
        lines = base64.b64encode(self.der).decode()
        rows = "".join(f"{lines[at : at + 64]}\n" for at in range(0, len(lines), 64))
        return f"-----BEGIN CERTIFICATE-----\n{rows}-----END CERTIFICATE-----\n"

    @cached_property
    def escaped_pem(self) -> str:
        """`pem` as it may stand in a header: percent-encoded."""
        return quote(self.pem, safe="")

    def is_in_time(self, now: datetime) -> bool:
        return self.not_before <= now <= self.not_after

    @property
    def days_left(self) -> int:
        """Whole days until its end; 0 when that is past."""
        return max(0, int((self.not_after - datetime.now(UTC)).total_seconds()) // _DAY)

    @cached_property
    def logged(self) -> Mapping[str, str]:
        """Context keys for the access log."""
        known = {
            "tls_client_subject": self.subject,
            "tls_client_issuer": self.issuer,
            "tls_client_serial": self.serial,
            "tls_client_fingerprint": self.fingerprint,
            "tls_client_san_dns": listed(self.dns_names),
            "tls_client_san_email": listed(self.emails),
            "tls_client_san_uri": listed(self.uris),
        }
        return MappingProxyType(known)


def listed(names: tuple[str, ...]) -> str:
    """Several in one value, a comma between them; one that is part of a name is written `%2C`."""
    return ",".join(name.replace(",", "%2C") for name in names)


def verified(peer: Peer) -> str:
    """In nginx's words: `SUCCESS`, `NONE` for a client without a certificate, "" for one that does not speak TLS.

    There is no `FAILED`: who has one that is not accepted does not come in.
    """
    if peer.certificate:
        return "SUCCESS"
    return "NONE" if peer.scheme == "https" else ""


def openssl_date(moment: datetime) -> str:
    """`Nov  1 09:05:00 2026 GMT`, as OpenSSL writes it."""
    return f"{_MONTHS[moment.month - 1]} {moment.day:2d} {moment:%H:%M:%S} {moment.year} GMT"


_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@lru_cache(REMEMBERED)
def details_of(der: bytes) -> ClientCertificate:
    """Raises ValueError for one that the TLS library takes and this does not: accept lets nobody in with that."""
    try:
        certificate, *_ = value(der).parts()
        fields = certificate.parts()
        if fields[0].tag == _VERSION:
            fields = fields[1:]
        number, _, issuer, validity, subject, _, *more = fields
        start, end = (_moment(one) for one in validity.parts())
        dns, emails, uris = _alternatives(more)
        return ClientCertificate(
            der, distinguished_name(subject), distinguished_name(issuer), _serial(number.content), start, end, dns, emails, uris
        )
    except (IndexError, OverflowError) as error:
        raise ValueError(str(error)) from None


def _serial(content: bytes) -> str:
    number = int.from_bytes(content, "big", signed=True)
    digits = f"{abs(number):X}"
    return ("-" if number < 0 else "") + ("0" if len(digits) % 2 else "") + digits


def _moment(one: Value) -> datetime:
    """Of RFC 5280 section 4.1.2.5."""
    text = one.content.decode("ascii")
    if one.tag == _UTC_TIME:
        text = ("19" if text[:2] >= "50" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


def _alternatives(more: list[Value]) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """(DNS names, e-mail addresses, URIs)."""
    found: dict[int, list[str]] = {_DNS: [], _EMAIL: [], _URI: []}
    for outer in more:
        if outer.tag != _EXTENSIONS:
            continue
        for extension in outer.parts()[0].parts():
            kind, *_, content = extension.parts()
            if oid(kind.content) == _ALTERNATIVE_NAME:
                for name in value(content.content).parts():
                    if name.tag in found and all(0x20 < byte < 0x7F for byte in name.content):
                        found[name.tag].append(name.content.decode("ascii"))
    return tuple(found[_DNS]), tuple(found[_EMAIL]), tuple(found[_URI])
