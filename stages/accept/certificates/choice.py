"""Which certificate a client gets: by the name that it asks for (SNI, RFC 6066 section 3), exact, wildcard, default."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field

from pingap.config.model import Certificate, Server
from pingap.stages.accept.certificates.contexts import context_of
from pingap.stages.accept.certificates.minting import CertificateMint, NotMinted, mint_of


@dataclass(frozen=True, slots=True)
class Choice:
    """The certificates of one server, as contexts of the TLS library."""

    exact: Mapping[str, ssl.SSLContext] = field(default_factory=dict)
    wildcard: Mapping[str, ssl.SSLContext] = field(default_factory=dict)
    """By what follows `*.`; it stands for one label."""
    default: ssl.SSLContext | None = None
    minted: Mapping[str, CertificateMint] = field(default_factory=dict)
    """By domain, `*.` included: who makes certificates for it."""
    mint: CertificateMint | None = None
    """Who makes them for all other names."""

    def of(self, name: str | None) -> ssl.SSLContext | None:
        """The context for a client that asks for `name`; None when there is none. Raises NotMinted when one should have been made."""
        found = None
        if name:
            name = name.lower().removesuffix(".")
            found = self.exact.get(name)
            if found is None and (mint := self.minted.get(name)) is not None:
                return self._minted(mint, name)
            rest = name.partition(".")[2]
            found = found or self.wildcard.get(rest)
            if found is None and (mint := self.minted.get(f"*.{rest}") or self.mint) is not None:
                return self._minted(mint, name)
        return found or self.default

    def _minted(self, mint: CertificateMint, name: str) -> ssl.SSLContext:
        """The default's is for those alone for whom there will never be one: nobody is to get now this and now that."""
        try:
            return mint.of_name(name)
        except NotMinted as error:
            if error.is_passing or self.default is None:
                raise
            return self.default

    def of_address(self, address: str) -> ssl.SSLContext | None:
        """What is made for a client that names nobody and has connected to `address`; None: the default is for it. Raises NotMinted."""
        mint = self.minted.get(address) or (self.mint if self.default is None else None)
        return mint.of_address(address) if mint is not None else None


def compile_choices(servers: Mapping[str, Server], certificates: Mapping[str, Certificate]) -> dict[str, Choice]:
    """By name of the server. Raises ValueError for a certificate that the TLS library does not take."""
    return {name: _choice(server, certificates) for name, server in servers.items() if server.global_certificates}


def refused_of(servers: Mapping[str, Server], certificates: Mapping[str, Certificate]) -> dict[str, str]:
    """Those that the TLS library does not take with the keys of some server, and why."""
    refused = {}
    for name, certificate in certificates.items():
        try:
            compile_choices(servers, {name: certificate})
        except ValueError as error:
            refused[name] = str(error)
    return refused


def _choice(server: Server, certificates: Mapping[str, Certificate]) -> Choice:
    """Of several for a name, and of several defaults, the first: config/certificates.py tells which that is."""
    exact: dict[str, ssl.SSLContext] = {}
    wildcard: dict[str, ssl.SSLContext] = {}
    minted: dict[str, CertificateMint] = {}
    default: ssl.SSLContext | None = None
    mint: CertificateMint | None = None
    has_default = False
    taken: set[str] = set()
    for name, certificate in certificates.items():
        if not certificate.tls_cert:
            continue  # the authority has not issued it yet
        is_default = not has_default and (certificate.is_default or (len(certificates) == 1 and not certificate.is_ca))
        has_default = has_default or is_default
        domains = [one for one in certificate.domains if one not in taken]
        taken.update(domains)
        try:
            if certificate.is_ca:
                maker = mint_of(server, certificate, name)
                minted |= dict.fromkeys(domains, maker)
                if mint is None and (is_default or not certificate.domains):
                    mint = maker
                continue
            context = context_of(server, certificate)
        except (ssl.SSLError, OSError, ValueError) as error:
            raise ValueError(f"certificates.{name}: {error}") from error
        for domain in domains:
            if domain.startswith("*."):
                wildcard[domain[2:]] = context
            else:
                exact[domain] = context
        if is_default:
            default = context
    return Choice(exact, wildcard, default, minted, mint)
