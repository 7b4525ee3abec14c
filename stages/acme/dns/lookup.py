"""What the DNS itself says, asked without a cache, and so without what it has said before."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

import dns.exception
import dns.message
import dns.name
import dns.nameserver
import dns.query
import dns.rcode
import dns.rdatatype
import dns.rdtypes.ANY.TXT
import dns.resolver

from pingap.config.parts import host_and_port

SECONDS: Final = 5.0
"""For one question to one server."""
MOST_HOPS: Final = 8
"""CNAMEs one behind the other; Let's Encrypt follows about as many."""
MOST_SERVERS: Final = 16
_PORT: Final = 53


class NameServer(NamedTuple):
    """One that is asked."""

    address: str
    port: int

    def __str__(self) -> str:
        return host_and_port(self.address, self.port)


class TxtLookup:
    """servers: resolvers as `address:port`; none are those of the system. port: of servers of zones, which is another in tests only."""

    def __init__(self, servers: Iterable[str], port: int = _PORT) -> None:
        self._given = [NameServer(one.rpartition(":")[0].strip("[]"), int(one.rpartition(":")[2])) for one in servers]
        self._port = port

    def end_of(self, name: str) -> str:
        """Where the CNAMEs lead that begin at a name; the name itself without any, or when nobody can say."""
        seen = [name]
        while len(seen) <= MOST_HOPS:
            target = self._cname(seen[-1])
            if not target or target in seen:
                break
            seen.append(target)
        return seen[-1]

    def servers_of(self, name: str, zone: str = "") -> list[NameServer]:
        """Who knows first what a name has: the resolvers that are given, else the servers of its zone, [] when nobody can say.

        zone: its name, where that is known.
        """
        if self._given:
            return self._given
        try:
            resolver = self._resolver()
            if not zone:
                zone = resolver_zone(resolver, name)
            hosts = sorted(str(one.target) for one in resolver.resolve(f"{zone}.", "NS", search=False))
        except (dns.exception.DNSException, OSError):
            return []
        found: dict[NameServer, None] = {}
        for host in hosts:
            for kind in ("A", "AAAA"):
                try:
                    answer = resolver.resolve(host, kind, search=False)
                except (dns.exception.DNSException, OSError):
                    continue
                found.update((NameServer(str(one.address), self._port), None) for one in answer)
        return list(found)[:MOST_SERVERS]

    def has(self, server: NameServer, name: str, value: str) -> bool | None:
        """Whether a server has a value among the TXT records of a name; None when it gives no answer of use."""
        query = dns.message.make_query(f"{name}.", dns.rdatatype.TXT)
        try:
            answer, _ = dns.query.udp_with_fallback(query, server.address, timeout=SECONDS, port=server.port)
        except (dns.exception.DNSException, OSError, ValueError):
            return None
        if answer.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
            return None
        records = (one for rrset in answer.answer if rrset.rdtype == dns.rdatatype.TXT for one in rrset)
        return any(isinstance(one, dns.rdtypes.ANY.TXT.TXT) and b"".join(one.strings) == value.encode() for one in records)

    def _cname(self, name: str) -> str:
        try:
            answer = self._resolver().resolve(f"{name}.", "CNAME", search=False)
            return str(answer[0].target).rstrip(".").lower()
        except (dns.exception.DNSException, OSError, IndexError):
            return ""

    def _resolver(self) -> dns.resolver.Resolver:
        """Raises dns.exception.DNSException without any, OSError."""
        resolver = dns.resolver.Resolver(configure=not self._given)
        if self._given:
            resolver.nameservers = [dns.nameserver.Do53Nameserver(one.address, one.port) for one in self._given]
        resolver.cache = None
        resolver.timeout = SECONDS
        resolver.lifetime = 2 * SECONDS
        return resolver


def resolver_zone(resolver: dns.resolver.Resolver, name: str) -> str:
    """The zone that a name is in, by its SOA. Raises dns.exception.DNSException."""
    zone = dns.resolver.zone_for_name(dns.name.from_text(name), resolver=resolver, lifetime=2 * SECONDS)
    return zone.to_text(omit_final_dot=True)
