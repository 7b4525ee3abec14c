"""What the acme stage knows of the certificates of a configuration, for who shows it: `pingap certs`, the page of metrics."""

from __future__ import annotations

from typing import Any, Final

from pingap.bus.envelope import Part

VALID: Final = "valid"
SOON: Final = "expires soon"
EXPIRED: Final = "expired"
NOT_YET: Final = "not yet valid"
WAITING: Final = "waiting"
"""There is no certificate, and none is being issued at the moment."""
ISSUING: Final = "issuing"
"""There is no certificate, but one is under way."""

FILE: Final = "file"
CONFIGURATION: Final = "configuration"
ACME: Final = "acme"
MINTS: Final = "mints"
"""It is an authority's: certificates are made of it for whatever name is asked for."""

TO_BE_SET: Final = "set the DNS record"
"""With this a step begins that waits for people."""

DAY: Final = 86400.0


class CertificateStatus(Part, frozen=True):
    """One certificate of the configuration. Times are Unix seconds, 0 where there is none."""

    name: str
    """Of its section."""
    domains: tuple[str, ...]
    """Names for which it is chosen."""
    state: str
    """VALID, SOON, EXPIRED, NOT_YET, WAITING or ISSUING: of the certificate that clients get now."""
    source: str
    """FILE, CONFIGURATION, ACME or MINTS: where the one comes from that clients get now."""
    issuer: str = ""
    """"" like all that follows about it while there is no certificate."""
    serial: str = ""
    fingerprint: str = ""
    """SHA-256 of its DER, in hex digits."""
    key: str = ""
    """Its kind, `ECDSA P-256`."""
    not_before: float = 0.0
    not_after: float = 0.0
    servers: tuple[str, ...] = ()
    """Those that hand it to clients."""
    is_default: bool = False
    authority: str = ""
    """Who issues it, in words for people: `Let's Encrypt`; "" for one without ACME, as with all that follows but the warnings."""
    challenge: str = ""
    step: str = ""
    """What an issue that is under way waits for."""
    last_error: str = ""
    """Why the last try failed; "" when it did not."""
    failed_at: float = 0.0
    attempts: int = 0
    """Tries that have failed since the last success."""
    next_try: float = 0.0
    """After a failure."""
    next_renewal: float = 0.0
    renewal_reason: str = ""
    """What that comes of."""
    stapled_at: float = 0.0
    """When the responder said what is stapled."""
    warnings: tuple[str, ...] = ()

    @property
    def is_served(self) -> bool:
        """Clients get it and may believe it."""
        return self.state in (VALID, SOON)


def plain_certificate(status: CertificateStatus, now: float) -> dict[str, Any]:
    """For `pingap certs --json`; docs/certificates.md says what the keys are, and they stay. now: Unix seconds."""
    return {
        "certificate": status.name,
        "domains": list(status.domains),
        "state": status.state,
        "source": status.source,
        "issuer": status.issuer or None,
        "serial": status.serial or None,
        "fingerprint": status.fingerprint or None,
        "key": status.key or None,
        "not_before": status.not_before or None,
        "not_after": status.not_after or None,
        "days": round((status.not_after - now) / DAY, 2) if status.not_after else None,
        "servers": list(status.servers),
        "default": status.is_default,
        "acme": _plain_issuing(status) if status.authority else None,
        "stapled_at": status.stapled_at or None,
        "warnings": list(status.warnings),
    }


def _plain_issuing(status: CertificateStatus) -> dict[str, Any]:
    return {
        "authority": status.authority,
        "challenge": status.challenge,
        "step": status.step or None,
        "last_error": status.last_error or None,
        "failed_at": status.failed_at or None,
        "attempts": status.attempts,
        "next_try": status.next_try or None,
        "next_renewal": status.next_renewal or None,
        "renewal_reason": status.renewal_reason or None,
    }
