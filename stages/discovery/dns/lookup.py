"""What one entry of `addrs` stands for now: the addresses of its name, or with `_service._proto` what its SRV records name."""

from __future__ import annotations

import asyncio
import ipaddress
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final, NamedTuple

import dns.name

from pingap.config.addresses import no_backend
from pingap.config.parts import Backend
from pingap.stages.discovery.dns.client import DnsClient, DnsFailed, DnsRefused, Records, shown

LONGEST: Final = 40.0
"""Seconds that all questions of one lookup take together at the most."""

MOST_TARGETS: Final = 128
"""Targets of SRV records that are looked up, of the records in their order."""

MOST_BACKENDS: Final = 1024
"""Backends of one entry. An answer has room for a few more."""

MOST_SHARES: Final = 2048
"""Weights of all SRV records of a lookup together: what hashes over them has to place each. Beyond it they lose in precision."""

NEXT_TO_NOTHING: Final = 100
"""A record of weight 0 beside others "should have a very small chance of being selected" (RFC 2782): one in so many."""

STALE_TTL: Final = 30.0
"""Seconds after which what could not be asked is asked again while something else of the entry was (RFC 8767 section 5)."""

HOSTS_TTL: Final = 5.0
"""Seconds after which the hosts file is looked at again."""


Known = Mapping[tuple[dns.name.Name, str], tuple[str, ...]]
"""Whole name and type → the addresses that were found of it."""


class Found(NamedTuple):
    """What a lookup has found."""

    backends: tuple[Backend, ...]
    """At least one, in an order that depends on nothing else, each address once."""
    ttl: float
    """Seconds."""
    lacking: str = ""
    """Why some of them are those of before, or some may be missing."""


@dataclass(slots=True)
class _Round:
    """One lookup, while it goes on."""

    ttl: float = math.inf
    known: dict[tuple[dns.name.Name, str], tuple[str, ...]] = field(default_factory=dict)
    """What was used, for the next lookup."""
    lacking: list[str] = field(default_factory=list)


class DnsLookup:
    """Looks one entry up, each time anew. It knows what it found the last time, for questions that fail while others are answered."""

    def __init__(
        self, entry: Backend, ipv4_only: bool, client: DnsClient, known: Known | None = None, assumed: Iterable[Backend] = ()
    ) -> None:
        """known: what a lookup of the same name by the same client has found, before a reload.

        assumed: the backends in use, which a life before this one may have found; they say nothing of the targets of SRV records.
        """
        self._entry = entry
        self._kinds = ("A",) if ipv4_only else ("A", "AAAA")
        self._ipv4_only = ipv4_only
        self._client = client
        self.known: Known = known or {}
        self._assumed: dict[str, tuple[str, ...]] = {}
        """By the type of the record, until something is known."""
        if not known and not entry.host.startswith("_"):
            hosts = [backend.host for backend in assumed]
            self._assumed = {kind: tuple(host for host in hosts if (":" in host) == (kind == "AAAA")) for kind in self._kinds}

    async def find(self) -> Found:
        """Raises DnsFailed: then nothing is known that was not before, and an answer without records is no better."""
        entry, now = self._entry, _Round()
        try:
            async with asyncio.timeout(LONGEST):
                if entry.host.startswith("_"):
                    backends = await self._services(now)
                else:
                    backends = [Backend(address, entry.port, entry.weight) for address in await self._addresses(now)]
        except TimeoutError:
            raise DnsFailed(f"{entry.host}: not all answers have come within {LONGEST:g} s") from None
        self.known, self._assumed = now.known, {}
        once = {backend.address: backend for backend in backends}
        if len(once) > MOST_BACKENDS:
            now.lacking.append(f"{entry.host}: {len(once)} addresses, of which {MOST_BACKENDS} are used")
        chosen = sorted(once.values(), key=lambda backend: (":" in backend.host, ipaddress.ip_address(backend.host), backend.port))
        return Found(tuple(chosen[:MOST_BACKENDS]), now.ttl, "; ".join(now.lacking))

    # -- A, AAAA ------------------------------------------------------------------------

    async def _addresses(self, now: _Round) -> tuple[str, ...]:
        host = self._entry.host
        here = await self._here(host)
        if here:
            now.ttl = min(now.ttl, HOSTS_TTL)
            return here
        absences: list[str] = []
        for name in await self._client.names(host):
            try:
                found = await self._of_name(name, now, absences)
            except DnsRefused as error:
                self._pass_over(name, error, absences)
                continue
            if found:
                return found
        raise DnsFailed("; ".join(dict.fromkeys(absences)) or f"{host}: not a name")

    async def _here(self, host: str) -> tuple[str, ...]:
        """The addresses for which no server is asked."""
        found = [ipaddress.ip_address(address) for address in await self._client.known_here(host)]
        return tuple(str(ip) for ip in found if not (no_backend(ip) or (self._ipv4_only and ip.version == 6)))

    def _pass_over(self, name: dns.name.Name, refusal: DnsRefused, absences: list[str]) -> None:
        """A server of inner names alone refuses `api.inner` and knows `api.inner.example.org`. Not when it has known it before."""
        if any(known == name for known, _ in self.known):
            raise refusal
        absences.append(str(refusal))

    async def _of_name(self, name: dns.name.Name, now: _Round, absences: list[str]) -> tuple[str, ...]:
        """The addresses of a whole name; none when a server says that there are none. Raises DnsFailed when not even that is known."""
        answers = await asyncio.gather(*(self._client.ask(name, kind) for kind in self._kinds), return_exceptions=True)
        found: list[str] = []
        failures: list[tuple[str, DnsFailed]] = []
        is_there = False
        for kind, answer in zip(self._kinds, answers, strict=True):
            if isinstance(answer, DnsFailed):
                failures.append((kind, answer))
            elif isinstance(answer, BaseException):
                raise answer
            elif answer.values:
                usable = self._usable(name, answer, now)
                if usable:
                    is_there = True
                    now.ttl = min(now.ttl, answer.ttl)
                    now.known[name, kind] = usable
                    found += usable
            else:
                absences.append(answer.absence)
        if failures and not is_there:
            raise failures[0][1]
        for kind, failure in failures:
            # One kind of address is answered for and the other is not: its addresses of before stay.
            before = self.known.get((name, kind)) or self._assumed.get(kind, ())
            now.ttl = min(now.ttl, STALE_TTL)
            now.lacking.append(str(failure))
            if before:
                now.known[name, kind] = before
                found += before
        if not is_there and not failures and any(not isinstance(answer, BaseException) and answer.values for answer in answers):
            absences.append(f"{shown(name)} has no address at which a backend can be")
        return tuple(found)

    def _usable(self, name: dns.name.Name, records: Records, now: _Round) -> tuple[str, ...]:
        addresses = [ipaddress.ip_address(record.address) for record in records.values]
        bad = {str(address): why for address in addresses if (why := no_backend(address))}
        for address, why in list(bad.items())[:3]:
            now.lacking.append(f"{shown(name)}: {address} is {why}, no backend can be there")
        return tuple(str(address) for address in addresses if str(address) not in bad)

    # -- SRV (RFC 2782) --------------------------------------------------------------------

    async def _services(self, now: _Round) -> list[Backend]:
        absences: list[str] = []
        for name in await self._client.names(self._entry.host):
            try:
                records = await self._client.ask(name, "SRV")
            except DnsRefused as error:
                self._pass_over(name, error, absences)
                continue
            if not records.values:
                absences.append(records.absence)
                continue
            now.ttl = min(now.ttl, records.ttl)
            now.known[name, "SRV"] = ()
            # Those of the lowest number that is there; what could not be found out is not taken for not being there.
            ordered = sorted(records.values, key=lambda record: (record.priority, record.target, record.port))
            if len(ordered) > MOST_TARGETS:
                now.lacking.append(f"{shown(name)}: {len(ordered)} SRV records, of which {MOST_TARGETS} are used")
            for _, level in groupby(ordered[:MOST_TARGETS], key=lambda record: record.priority):
                backends = await self._level(level, now, absences)
                if backends:
                    return backends
            break
        raise DnsFailed("; ".join(dict.fromkeys(absences)) or f"{self._entry.host}: its SRV records name nothing")

    async def _level(self, level: Iterable[Any], now: _Round, absences: list[str]) -> list[Backend]:
        """The backends of one priority."""
        records = [record for record in level if record.target != dns.name.root]
        targets = list(dict.fromkeys(record.target for record in records))
        answers = await asyncio.gather(*(self._of_target(target, now, absences) for target in targets), return_exceptions=True)
        found: dict[dns.name.Name, tuple[str, ...]] = {}
        failures: list[DnsFailed] = []
        for target, answer in zip(targets, answers, strict=True):
            if isinstance(answer, DnsFailed):
                failures.append(answer)
            elif isinstance(answer, BaseException):
                raise answer
            else:
                found[target] = answer
        if failures and not any(found.values()):
            raise failures[0]
        now.lacking += map(str, failures)
        places = [(address, record) for record in records if record.port for address in found.get(record.target, ())]
        shares = shares_of([record.weight for _, record in places])
        return [Backend(address, record.port, share) for (address, record), share in zip(places, shares, strict=True)]

    async def _of_target(self, target: dns.name.Name, now: _Round, absences: list[str]) -> tuple[str, ...]:
        """The addresses of a target; those of before when it cannot be looked up."""
        here = await self._here(shown(target))
        if here:
            return here
        try:
            return await self._of_name(target, now, absences)
        except DnsFailed as error:
            before = {kind: self.known[target, kind] for kind in self._kinds if (target, kind) in self.known}
            if not before:
                raise
            now.ttl = min(now.ttl, STALE_TTL)
            now.lacking.append(str(error))
            for kind, addresses in before.items():
                now.known[target, kind] = addresses
            return tuple(address for addresses in before.values() for address in addresses)


def shares_of(weights: Sequence[int]) -> list[int]:
    """Weights of SRV records as those of backends, in lowest terms, all together not too many. 0 is a hundredth of the least."""
    divisor = math.gcd(*weights) or 1
    unit = NEXT_TO_NOTHING if 0 in weights and any(weights) else 1
    total = sum(weights) // divisor * unit
    factor = min(1.0, MOST_SHARES / total) if total else 1.0
    return [max(1, round(weight // divisor * unit * factor)) for weight in weights]
