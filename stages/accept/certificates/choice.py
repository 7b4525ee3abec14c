"""Which certificate a client gets: by the name that it asks for (SNI, RFC 6066 section 3), exact, wildcard, default."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field

from pingap.config.model import Certificate, Server
from pingap.stages.accept.certificates.contexts import context_of


@dataclass(frozen=True, slots=True)
class Choice:
    """The certificates of one server, as contexts of the TLS library."""

    exact: Mapping[str, ssl.SSLContext] = field(default_factory=dict)
    wildcard: Mapping[str, ssl.SSLContext] = field(default_factory=dict)
    """By what follows `*.`; it stands for one label."""
    default: ssl.SSLContext | None = None

    def of(self, name: str | None) -> ssl.SSLContext | None:
        """The context for a client that asks for `name`; None when there is none."""
        if name:
            name = name.lower().removesuffix(".")
            found = self.exact.get(name) or self.wildcard.get(name.partition(".")[2])
            if found is not None:
                return found
        return self.default


def compile_choices(servers: Mapping[str, Server], certificates: Mapping[str, Certificate]) -> dict[str, Choice]:
    """By name of the server. Raises ValueError for a certificate that the TLS library does not take."""
    return {name: _choice(server, certificates) for name, server in servers.items() if server.global_certificates}


def _choice(server: Server, certificates: Mapping[str, Certificate]) -> Choice:
    """Of several for a name, and of several defaults, the first: config/certificates.py tells which that is."""
    exact: dict[str, ssl.SSLContext] = {}
    wildcard: dict[str, ssl.SSLContext] = {}
    default: ssl.SSLContext | None = None
    for name, certificate in certificates.items():
        if not certificate.tls_cert:
            continue  # the authority has not issued it yet
        try:
            context = context_of(server, certificate)
        except (ssl.SSLError, OSError) as error:
            raise ValueError(f"certificates.{name}: {error}") from error
        for domain in certificate.domains:
            if domain.startswith("*."):
                wildcard.setdefault(domain[2:], context)
            else:
                exact.setdefault(domain, context)
        if default is None and (certificate.is_default or len(certificates) == 1):
            default = context
    return Choice(exact, wildcard, default)
