"""What a [certificates.X] with `acme` asks for, and what comes of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from typing import Final, Literal, NamedTuple

KeyType = Literal["ecdsa-p256", "ecdsa-p384", "rsa-2048", "rsa-3072", "rsa-4096"]
ChallengeKind = Literal["http-01", "tls-alpn-01", "dns-01"]

_UNSAFE: Final = re.compile(r"[^a-z0-9.-]")


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsAccess:
    """How a TXT record is put into a zone, and who is asked whether it is there."""

    provider: Literal["manual", "ali", "cf", "tencent", "huawei"] = "manual"
    service_url: str = field(default="", repr=False)
    """`dns_service_url`: where the interface of the provider is, with the keys in its query; "" for manual."""
    servers: tuple[str, ...] = ()
    """Resolvers, `address:port`; none are the zone's own servers, found by the system's resolver."""


@dataclass(frozen=True, kw_only=True)
class WantedCertificate:
    """One certificate. Without slots, so that it keeps what it has made of itself: its `id` is asked for all the time."""

    name: str
    """Of the section: `X` of [certificates.X]."""
    domains: tuple[str, ...]
    """Lower case, sorted, each once; `*.example.com` only with dns-01."""
    directory: str
    """URL of the authority's directory (RFC 8555 section 7.1.1)."""
    challenge: ChallengeKind = "http-01"
    key_type: KeyType = "ecdsa-p256"
    profile: str = ""
    """Of those that the directory offers; "" is the authority's own choice."""
    email: str = ""
    eab_kid: str = ""
    eab_hmac_key: str = field(default="", repr=False)
    """base64url, as authorities hand it out (RFC 8555 section 7.3.4); with `eab_kid`."""
    authority_ca: str = field(default="", repr=False)
    """PEM of those whom the directory's own TLS is believed by; "" is the system's authorities."""
    dns: DnsAccess = DnsAccess()
    buffer_days: int | None = None
    """Days before its end at which it is renewed; None goes by the authority's word (RFC 9773) or by its lifetime."""

    @cached_property
    def id(self) -> str:
        """Under which it is stored: other names, another authority or another kind of key are another certificate."""
        told = "\0".join((*self.domains, "", self.directory, self.key_type, self.profile))
        shown = _UNSAFE.sub("_", self.domains[0].replace("*.", "any.")) if self.domains else "none"
        return f"{shown[:80]}-{sha256(told.encode()).hexdigest()[:16]}"

    @cached_property
    def means(self) -> str:
        """All that is not in `id` and may be why it could not be got: who has changed one of these wants to see whether it helped."""
        told = (self.challenge, self.email, self.eab_kid, self.eab_hmac_key, self.authority_ca)
        dns = (self.dns.provider, self.dns.service_url, *self.dns.servers)
        return sha256("\0".join((*told, *dns)).encode()).hexdigest()[:16]


class Issued(NamedTuple):
    """What an authority has issued."""

    cert: str
    """PEM: the server's own certificate first, then the chain."""
    key: str
    """PEM, PKCS #8, not encrypted."""
