"""The DNS servers of one setting: asks them, within bounds; and what the system says besides, its hosts file and search domains."""

from __future__ import annotations

import asyncio
import io
import ipaddress
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import dns.asyncresolver
import dns.exception
import dns.name
import dns.rcode
import dns.rdatatype
import dns.resolver

from pingap.config.parts import DnsSetting
from pingap.stages.discovery.dns.kept_file import KeptFile
from pingap.stages.discovery.dns.server import PAYLOAD, DnsServer
from pingap.stages.discovery.gate import CheckGate

AT_ONCE: Final = 128
"""Questions under way at the same time, of all settings together; one alone has less than half (shares.py)."""

A_TRY: Final = 2.0
"""Seconds for which one server is waited for, unless `options timeout:` of resolv.conf says less."""

TRIES: Final = 2
"""So often each server is asked before a question has failed."""

LONGEST: Final = 15.0
"""Seconds that a question takes at the most, however many servers there are."""

LOOPBACK: Final = ("127.0.0.1", "::1")


class DnsFailed(Exception):
    """Nothing was found out; the text says why, and names the servers."""


class DnsRefused(DnsFailed):
    """Every server is there, and says that it does not answer for such names."""


@dataclass(frozen=True, slots=True)
class Records:
    """What a server has said of one name and type."""

    values: tuple[Any, ...]
    """dnspython's, at least one unless `absence` says why there is none."""
    ttl: float
    """Seconds."""
    absence: str = ""


@dataclass(frozen=True, slots=True)
class _System:
    """resolv.conf, as far as it matters here."""

    servers: tuple[str, ...] = ()
    search: tuple[dns.name.Name, ...] = ()
    dots: int = 1
    a_try: float = A_TRY
    rotate: bool = False


class DnsClient:
    """Asks. hosts_file, resolv_conf: paths; without servers of its own a setting has those of the latter."""

    def __init__(self, setting: DnsSetting, gate: CheckGate, hosts_file: str = "/etc/hosts", resolv_conf: str = "/etc/resolv.conf") -> None:
        self._setting = setting
        self._hosts = KeptFile(hosts_file, parse_hosts)
        self._system = KeptFile(resolv_conf, _parse_resolv_conf)
        self._gate = gate
        self._share = repr(setting)
        self._resolver: tuple[_System, dns.asyncresolver.Resolver] | None = None

    async def known_here(self, host: str) -> tuple[str, ...]:
        """The addresses of a name that no server is asked for: of the hosts file, if there are no servers of our own, and of localhost."""
        name = host.lower().removesuffix(".")
        if not self._setting.servers and (found := (await self._hosts.value()).get(name)):
            return found
        return LOOPBACK if name == "localhost" or name.endswith(".localhost") else ()

    async def names(self, host: str) -> list[dns.name.Name]:
        """The whole names that `host` may stand for, in the order in which they are asked for; none if it can be no name."""
        try:
            name = dns.name.from_text(host, None)
        except dns.exception.DNSException:
            return []
        if name.is_absolute():
            return [name]
        system = await self._system.value()
        domain, search = self._setting.domain, self._setting.search
        suffixes = [dns.name.from_text(domain)] if domain else []
        suffixes += [*system.search, *map(dns.name.from_text, search)]
        # As it is comes first when it has dots, and last when it has none (RFC 1535).
        has_dots = len(name) > system.dots
        suffixes = [dns.name.root, *suffixes] if has_dots else [*suffixes, dns.name.root]
        found: dict[dns.name.Name, None] = {}
        for suffix in suffixes:
            with suppress(dns.exception.DNSException):  # too long with it
                found[name.concatenate(suffix)] = None
        return list(found)

    async def ask(self, name: dns.name.Name, kind: str) -> Records:
        """The records of a whole name. kind: A, AAAA or SRV. Raises DnsFailed, after LONGEST seconds at the most."""
        async with self._gate.turn(self._share):
            resolver = self._resolver_for(await self._system.value())
            if not resolver.nameservers:
                raise DnsFailed(f"{shown(name)}: there is no DNS server in /etc/resolv.conf, and dns_server is not set")
            servers = " or ".join(map(str, resolver.nameservers))
            try:
                async with asyncio.timeout(LONGEST + 1):  # the resolver's own goes by a clock that can be set
                    answer = await resolver.resolve(name, kind, raise_on_no_answer=False, search=False)
            except dns.resolver.NXDOMAIN:
                return Records((), 0.0, f"{shown(name)}: no such name (NXDOMAIN) says {servers}")
            except (dns.resolver.NoNameservers, dns.resolver.LifetimeTimeout) as error:
                last = _last_words(error)
                if set(last.values()) == {"REFUSED"}:
                    raise DnsRefused(f"{shown(name)} {kind}: {_reasons(last)}") from error
                raise DnsFailed(f"{shown(name)} {kind}: {_reasons(last) or f'no answer from {servers}'}") from error
            except TimeoutError as error:
                raise DnsFailed(f"{shown(name)} {kind}: no answer from {servers}") from error
            except dns.exception.DNSException as error:
                raise DnsFailed(f"{shown(name)} {kind}: {error} ({servers})") from error
            chain = answer.chaining_result
            if answer.rrset is None:
                aka = "" if chain.canonical_name == name else f", which is {shown(chain.canonical_name)},"
                return Records((), 0.0, f"{shown(name)}{aka} has no {kind} record says {servers}")
            return Records(tuple(answer.rrset), float(chain.minimum_ttl))

    def _resolver_for(self, system: _System) -> dns.asyncresolver.Resolver:
        if self._resolver is not None and self._resolver[0] is system:
            return self._resolver[1]
        resolver = dns.asyncresolver.Resolver(configure=False)
        servers = [(server.host, server.port) for server in self._setting.servers] or [(host, 53) for host in system.servers]
        resolver.nameservers = [DnsServer(host, port) for host, port in servers]
        resolver.rotate = system.rotate and not self._setting.servers
        resolver.timeout = min(A_TRY, system.a_try)
        resolver.lifetime = min(LONGEST, TRIES * len(servers) * resolver.timeout + 0.5)
        resolver.use_edns(0, 0, PAYLOAD)
        self._resolver = system, resolver
        return resolver


def shown(name: dns.name.Name) -> str:
    """A name as people write it."""
    return name.to_text(omit_final_dot=True)


def _last_words(error: dns.resolver.NoNameservers | dns.resolver.LifetimeTimeout) -> dict[str, str]:
    """What each server has said or done at last."""
    last: dict[str, str] = {}
    for server, _, _, reason, _ in error.kwargs.get("errors") or ():
        if isinstance(reason, dns.exception.Timeout):
            text = "no answer in time"
        elif isinstance(reason, OSError):
            text = reason.strerror or str(reason)
        else:
            text = str(reason)
        last[server] = text[:200]
    return last


def _reasons(last: Mapping[str, str]) -> str:
    return "; ".join(f"{server}: {text}" for server, text in last.items())


def parse_hosts(text: str) -> Mapping[str, tuple[str, ...]]:
    """A hosts file (hosts(5)): name in lower case → addresses, in its order. Lines that are none are passed over."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        try:
            address = str(ipaddress.ip_address(address))
        except ValueError:
            continue
        for name in names:
            addresses = found.setdefault(name.lower().removesuffix("."), [])
            if address not in addresses:
                addresses.append(address)
    return {name: tuple(addresses) for name, addresses in found.items()}


def _parse_resolv_conf(text: str) -> _System:
    """resolv.conf(5), by dnspython. A line that it stumbles over costs all that comes after it."""
    resolver = dns.resolver.Resolver(configure=False)
    with suppress(dns.exception.DNSException, ValueError):
        resolver.read_resolv_conf(io.StringIO(text))
    search: Sequence[dns.name.Name] = resolver.search or [resolver.domain]
    return _System(
        tuple(server for server in resolver.nameservers if isinstance(server, str)),
        tuple(name for name in search if name != dns.name.root),
        1 if resolver.ndots is None else max(0, resolver.ndots),
        max(0.5, float(resolver.timeout)),
        resolver.rotate,
    )
