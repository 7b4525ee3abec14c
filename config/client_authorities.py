"""`client_ca` and `client_auth` of [servers.X]: what is wrong with the authorities of clients' certificates."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime

from pingap.config.certificates import chain_of
from pingap.config.model import Server
from pingap.config.pem import labels_of
from pingap.config.problems import Note, Problem


def check_client_authorities(path: str, server: Server) -> Iterator[Problem | Note]:
    """`path`: of the server. Where clients would come in unasked though somebody meant them to be asked, that is a problem."""
    if not server.client_ca:
        if server.client_auth == "required":
            yield Problem(f"{path}.client_auth", "there is no client_ca to know certificates by", "add client_ca, or leave this out")
        elif server.client_auth:
            yield Note(f"{path}.client_auth", "without effect: there is no client_ca")
        return
    if not server.global_certificates:
        hint = "global_certificates = true, or leave client_ca out: anybody could come in without TLS"
        yield Problem(f"{path}.client_ca", "this server does not speak TLS", hint)
    foreign = [label for label in dict.fromkeys(labels_of(server.client_ca)) if label != "CERTIFICATE"]
    if foreign:
        hint = "it takes the certificates of authorities alone"
        if any(label.endswith("PRIVATE KEY") for label in foreign):
            hint += "; keep their keys away from here"
        yield Problem(f"{path}.client_ca", f"holds {', '.join(foreign)}", hint)
        return
    try:
        believe(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), server)
    except ssl.SSLError as error:
        why = (error.reason or str(error)).lower().replace("_", " ")
        yield Problem(f"{path}.client_ca", f"is not taken by the TLS library: {why}", "`openssl x509 -noout -text` shows each")


def expired_authorities(path: str, server: Server, now: datetime) -> Iterator[Note]:
    """A note on each that is out of its time: what it has issued is refused, whatever its own time is."""
    if not server.client_ca:
        return
    try:
        found = chain_of(server.client_ca)
    except ValueError:  # one that the TLS library takes and this one does not
        return
    for one in found:
        name = one.subject.rfc4514_string()[:100]
        if one.not_valid_after_utc <= now:
            end = f"{one.not_valid_after_utc.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
            yield Note(f"{path}.client_ca", f"{name!r} expired on {end}: clients with its certificates are refused")
        elif one.not_valid_before_utc > now:
            start = f"{one.not_valid_before_utc.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
            yield Note(f"{path}.client_ca", f"{name!r} is not valid before {start}: clients with its certificates are refused until then")


def believe(context: ssl.SSLContext, server: Server) -> None:
    """The context asks clients for a certificate as the server has it. Raises ssl.SSLError."""
    if not server.client_ca:
        context.verify_mode = ssl.CERT_NONE
        return
    context.verify_mode = ssl.CERT_OPTIONAL if server.client_auth == "optional" else ssl.CERT_REQUIRED
    # Whoever is listed is believed, with or without the authority that has issued its own certificate.
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=server.client_ca)
