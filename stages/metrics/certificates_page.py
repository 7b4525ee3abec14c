"""The part of the page that tells of certificates: what the acme stage knows of them, else what the configuration says.

The reference has none of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric

from pingap.stages.certificate_status import CertificateStatus

_BY_NAME: Final = ("certificate",)


def certificate_families(ends: Mapping[str, float], rows: Sequence[CertificateStatus]) -> Iterator[Metric]:
    """ends: when those of the configuration end, in Unix seconds, for want of rows."""
    text = "When the certificate that clients get ends, in Unix seconds."
    end = GaugeMetricFamily("pingap_certificate_expiration_timestamp_seconds", text, labels=_BY_NAME)
    known = {row.name: row for row in rows}
    names = known if rows else ends
    for name in names:
        at = known[name].not_after if name in known else ends[name]
        if at:
            end.add_metric((name,), at)
    yield end
    valid = _gauge("valid", "Whether there is a certificate which clients may believe as of now.")
    failures = _gauge("renewal_failures", "Tries to get it by ACME that have failed since the last success.")
    renewal = _gauge("next_renewal_timestamp_seconds", "When it is to be renewed by ACME, or tried again, in Unix seconds.")
    stapled = _gauge("staple_timestamp_seconds", "When the responder gave the OCSP response that is stapled, in Unix seconds.")
    for row in rows:
        valid.add_metric((row.name,), row.is_served)
        if row.authority:
            failures.add_metric((row.name,), row.attempts)
            if planned := row.next_try or row.next_renewal:
                renewal.add_metric((row.name,), planned)
        if row.stapled_at:
            stapled.add_metric((row.name,), row.stapled_at)
    yield from (valid, failures, renewal, stapled)


def _gauge(name: str, text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"pingap_certificate_{name}", text, labels=_BY_NAME)
