"""What accept keeps of one configuration generation."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pingap.config.model import Certificate, Server, Snapshot
from pingap.observability.access_format import Render
from pingap.stages.accept.access_lines import compile_lines
from pingap.stages.accept.certificates.choice import Choice, compile_choices
from pingap.stages.accept.certificates.topic import NOTHING_YET, CertificatesValue
from pingap.stages.accept.hidden import Hidden
from pingap.stages.accept.patience import Patience, PatienceOf
from pingap.stages.error_page import ErrorPages
from pingap.stages.forwarded import Trust
from pingap.stages.steps import Steps


@dataclass(frozen=True, slots=True)
class AcceptGeneration:
    servers: dict[str, Server]
    pages: ErrorPages
    lines: dict[str, Render]
    """Access log lines by server."""
    certificates: dict[str, Certificate]
    """As configured: of those by ACME what the acme stage has published is newer."""
    choices: dict[str, Choice]
    """Certificates by server, as of that version."""
    topic_version: int
    """Version of the topic `certificates` when this was made."""
    trust: Trust
    patient: frozenset[str]
    """Servers with a location that ignores a client's close."""
    spelled: frozenset[str]
    """Servers with a location whose backend may want header names as the client wrote them."""
    hidden: Hidden
    """Credentials that no log and no event shows."""
    patience: Patience
    """How long an answer may be waited for in silence."""


def compile_generation(snapshot: Snapshot, plans: dict[str, int], value: CertificatesValue = NOTHING_YET) -> Steps[AcceptGeneration]:
    """Raises ValueError for what cannot be served. plans: itinerary flags by location, of no interest here."""
    keeping = {name for name, upstream in snapshot.upstreams.items() if upstream.preserve_header_case}
    patient, spelled, filtered = set(), set(), {}
    patience = PatienceOf(snapshot)
    for name, location in snapshot.locations.items():
        yield 1
        patience.add(name, location)
        if location.ignore_client_close:
            patient.add(name)
        if location.upstream in keeping or location.upstream[:1] == "$":  # a capture may name any upstream
            spelled.add(name)
        if location.plugins:
            filtered[name] = location
    return AcceptGeneration(
        dict(snapshot.servers),
        ErrorPages(snapshot.basic.error_template),
        compile_lines(snapshot),
        dict(snapshot.certificates),
        compile_choices(snapshot.servers, value.over(snapshot.certificates)),
        value.version,
        Trust(snapshot.basic.trusted_proxies),
        frozenset(name for name, server in snapshot.servers.items() if not patient.isdisjoint(server.locations)),
        frozenset(name for name, server in snapshot.servers.items() if keeping and not spelled.isdisjoint(server.locations)),
        Hidden(replace(snapshot, locations=filtered)),
        patience.by_server(snapshot.servers),
    )
