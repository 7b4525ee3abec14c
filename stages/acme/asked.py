"""Decides what the operator is answered: `pingap certs` and `pingap certs renew`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pingap.config.problems import choices, nearest
from pingap.stages.certificate_status import CertificateStatus, plain_certificate

CERTS: Final = "certs"
RENEW: Final = "cert-renew"
"""Of TELL (bus/PROTOCOL.md section 4); its answer comes when the certificate is served, or when that has failed."""
CERT_WORDS: Final = (CERTS, RENEW)

NAMED: Final = 8
"""Names that a refusal lists."""


class NotOurs(Exception):
    """What was asked for cannot be; the text is the reason."""


def told_of(rows: Sequence[CertificateStatus], names: Sequence[Any], now: float) -> list[dict[str, Any]]:
    """The answer to CERTS: of those with these names, without names of all. now: Unix seconds. Raises NotOurs for another name."""
    for name in names:
        _row(rows, str(name))
    return [plain_certificate(row, now) for row in rows if not names or row.name in names]


def to_renew(rows: Sequence[CertificateStatus], name: str) -> CertificateStatus:
    """The one that RENEW means. Raises NotOurs for a name that there is not, or that ACME does not bring."""
    row = _row(rows, name)
    if not row.authority:
        whence = {"file": "it is read from its file, which is followed: put the new one there", "mints": "it is an authority's own"}
        why = whence.get(row.source, "it stands in the configuration: put the new one there")
        raise NotOurs(f"certificate {name!r} does not come by ACME: {why}")
    return row


def _row(rows: Sequence[CertificateStatus], name: str) -> CertificateStatus:
    known: Mapping[str, CertificateStatus] = {row.name: row for row in rows}
    if name in known:
        return known[name]
    some = choices(known) if 0 < len(known) <= NAMED else f"it is one of {len(known)}" if known else "the configuration has none"
    raise NotOurs(f"there is no certificate {name!r}: {nearest(name, known) or some}")
