"""What the tests of discovery by DNS share: clients of servers on loopback, lookups, and an ear for what a source tells."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from pingap.config.parts import Backend, DnsAddress, DnsSetting
from pingap.stages.discovery.dns.client import AT_ONCE, DnsClient
from pingap.stages.discovery.dns.lookup import DnsLookup, Found
from pingap.stages.discovery.dns.source import DnsSource
from pingap.stages.discovery.gate import CheckGate
from tests.kit.waiting import eventually


def client(
    *ports: int, tmp: Path | None = None, domain: str = "", search: tuple[str, ...] = (), hosts: str = "", resolv: str = ""
) -> DnsClient:
    """Of servers at these ports of 127.0.0.1. hosts, resolv: what the system's files say."""
    gate = CheckGate(asyncio.get_running_loop(), AT_ONCE)
    setting = DnsSetting(tuple(DnsAddress("127.0.0.1", port) for port in ports), domain, search)
    if tmp is None:
        return DnsClient(setting, gate, "/nonexistent", "/nonexistent")
    (tmp / "hosts").write_text(hosts)
    (tmp / "resolv.conf").write_text(resolv)
    return DnsClient(setting, gate, str(tmp / "hosts"), str(tmp / "resolv.conf"))


def lookup(entry: str, asked: DnsClient, port: int = 80, weight: int = 1, ipv4_only: bool = False) -> DnsLookup:
    return DnsLookup(Backend(entry, port, weight), ipv4_only, asked)


def addresses(found: Found) -> list[str]:
    return [backend.address for backend in found.backends]


class Ear:
    """What a source has told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, tuple[Backend, ...]]] = []
        self.failures: list[tuple[str, str]] = []
        self.said: list[tuple[str, str]] = []
        self.lost = False
        self.source: DnsSource

    def found(self, entry: str, backends: Iterable[Backend]) -> None:
        self.told.append((entry, tuple(backends)))

    def failed(self, entry: str, reason: str) -> None:
        self.failures.append((entry, reason))

    def is_lost(self, entry: str) -> bool:
        return self.lost

    def say(self, entry: str, lacking: str) -> None:
        self.said.append((entry, lacking))

    @property
    def last(self) -> list[str]:
        return [backend.address for backend in self.told[-1][1]] if self.told else []

    async def until(self, is_so: Callable[[], object], seconds: float = 5) -> None:
        await eventually(is_so, seconds, said=lambda: (self.told[-3:], self.failures[-3:]))


@asynccontextmanager
async def source(*entries: Backend, asked: DnsClient, frequency: float | None = 0.1, ipv4_only: bool = False) -> AsyncIterator[Ear]:
    ear = Ear()
    ear.source = DnsSource(entries, ipv4_only, frequency, asked, ear, ear.say)
    task = asyncio.create_task(ear.source.run())
    try:
        yield ear
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
