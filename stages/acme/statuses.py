"""What is shown of each certificate, made of what this stage knows of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from pingap.config.acme_values import SHOWN
from pingap.config.certificates import not_covered
from pingap.config.diff import shortened
from pingap.config.leaf_facts import LeafFacts, leaf_facts
from pingap.config.model import Certificate, Server
from pingap.stages.acme.expiries import WatchedCertificate, state_of
from pingap.stages.certificate_status import ISSUING, MINTS, WAITING, CertificateStatus


class IssuingFacts(NamedTuple):
    """Of one that ACME brings. Times are Unix seconds, 0 where there is none."""

    directory: str
    """URL."""
    challenge: str
    step: str = ""
    """What is done at the moment: `challenge example.com`, `set the DNS record … IN TXT …`; "" while nothing is."""
    last_error: str = ""
    """Stays until a certificate has come: while the next try is under way, too."""
    failed_at: float = 0.0
    attempts: int = 0
    """That have failed since the last success."""
    next_try: float = 0.0
    next_renewal: float = 0.0
    renewal_reason: str = ""
    """Of Due (due.py)."""


class KnownCertificate(NamedTuple):
    """All that there is to know of one of the configuration."""

    name: str
    domains: tuple[str, ...]
    pem: str
    """What clients get at the moment; "" while there is nothing."""
    source: str
    """Of `pem`: FILE, CONFIGURATION, ACME or MINTS (stages/certificate_status.py); of one that is awaited ACME."""
    servers: tuple[str, ...] = ()
    """As `used_by` says."""
    is_default: bool = False
    buffer_days: int | None = None
    issuing: IssuingFacts | None = None
    """None for one without ACME."""
    stapled_at: float = 0.0
    warnings: tuple[str, ...] = ()
    """What is wrong with it besides."""


def watched_of(known: KnownCertificate) -> WatchedCertificate:
    """For who tells its end."""
    facts, _ = _facts(known)
    issuing = known.issuing
    times = (facts.not_before, facts.not_after) if facts else (0.0, 0.0)
    return WatchedCertificate(known.name, *times, known.buffer_days, issuing is not None, issuing.last_error if issuing else "")


def status_of(known: KnownCertificate, now: float) -> CertificateStatus:
    """What is shown of it. now: Unix seconds."""
    facts, unreadable = _facts(known)
    issuing = known.issuing or IssuingFacts("", "")
    return CertificateStatus(
        name=known.name,
        domains=known.domains,
        state=state_of(watched_of(known), now) if facts else ISSUING if issuing.step else WAITING,
        source=known.source,
        issuer=facts.issuer if facts else "",
        serial=facts.serial if facts else "",
        fingerprint=facts.fingerprint if facts else "",
        key=facts.key if facts else "",
        not_before=facts.not_before if facts else 0.0,
        not_after=facts.not_after if facts else 0.0,
        servers=known.servers,
        is_default=known.is_default,
        authority=authority_of(issuing.directory),
        challenge=issuing.challenge,
        step=issuing.step,
        last_error=issuing.last_error,
        failed_at=issuing.failed_at,
        attempts=issuing.attempts,
        next_try=issuing.next_try,
        next_renewal=issuing.next_renewal,
        renewal_reason=issuing.renewal_reason,
        stapled_at=known.stapled_at,
        warnings=tuple(_warnings(known, facts, unreadable)),
    )


def _facts(known: KnownCertificate) -> tuple[LeafFacts | None, str]:
    """(what the certificate says, why it cannot be read)."""
    if not known.pem:
        return None, ""
    try:
        return leaf_facts(known.pem), ""
    except ValueError as error:  # of a kind that was taken and that this library does not read whole
        return None, f"the certificate cannot be read: {error}"


def _warnings(known: KnownCertificate, facts: LeafFacts | None, unreadable: str) -> Iterator[str]:
    yield from known.warnings
    if unreadable:
        yield unreadable
    if facts and known.source != MINTS and (foreign := not_covered(facts.names, known.domains)):
        yield f"it is not for {shortened(foreign)}: clients that ask for that refuse it"
    if not known.servers:
        yield "no server uses it: global_certificates is off everywhere, or another certificate is chosen for each of its domains"


def authority_of(directory: str) -> str:
    """The authority behind the URL of a directory, in a word for people; "" for none."""
    host = urlsplit(directory).netloc
    return SHOWN.get(directory) or host or directory


def used_by(servers: Mapping[str, Server], certificates: Mapping[str, Certificate]) -> dict[str, tuple[str, ...]]:
    """Certificate → the servers that hand it to clients: of several for a domain, and of several defaults, the first is used."""
    secure = tuple(name for name, server in servers.items() if server.global_certificates)
    owners: dict[str, str] = {}
    default = ""
    for name, certificate in certificates.items():
        for domain in certificate.domains:
            owners.setdefault(domain, name)
        if certificate.is_default or len(certificates) == 1:
            default = default or name
    used = {*owners.values(), default}
    return {name: secure if name in used or one.is_ca else () for name, one in certificates.items()}
