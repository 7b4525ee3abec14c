"""What a configuration asks of discovery, by the upstream: entries, where their backends come from, how those are checked."""

from __future__ import annotations

from dataclasses import dataclass

from pingap.config.addresses import is_host_name
from pingap.config.model import Snapshot, Upstream
from pingap.config.parts import Backend, DnsSetting, HealthCheck

STATIC = "static"
DNS = "dns"
DOCKER = "docker"
NO_DNS = DnsSetting()


@dataclass(frozen=True, slots=True)
class CheckTarget:
    """A backend to check, or an entry of `addrs`."""

    address: str
    """`host:port`, its name everywhere."""
    host: str
    port: int
    entry: str = ""
    """The entry of `addrs` of which this was found; "" when it is the entry itself."""
    weight: int = 1

    @property
    def is_name(self) -> bool:
        """It is a host name, and its addresses are the backends once they are known."""
        return is_host_name(self.host)

    def found(self, backend: Backend) -> CheckTarget:
        """A backend that this entry stands for."""
        return CheckTarget(backend.address, backend.host, backend.port, self.address, backend.weight)


@dataclass(frozen=True, slots=True)
class Plan:
    """One upstream: what it is made of, and how its backends are checked."""

    check: HealthCheck
    entries: tuple[CheckTarget, ...]
    ipv4_only: bool = False
    discovery: str = STATIC
    """As in `config.model.Upstream`. With static an entry is a backend, or a name that the system looks up; else a source finds backends
    for it, and until then there are none."""

    frequency: float | None = None
    """Seconds between two lookups of its source; None leaves it to that."""
    dns: DnsSetting = NO_DNS
    docker_host: str = ""

    @property
    def is_static(self) -> bool:
        return self.discovery == STATIC


def plans_of(snapshot: Snapshot) -> dict[str, Plan]:
    """By the name of the upstream."""
    plans = {}
    for name, upstream in snapshot.upstreams.items():
        entries: dict[str, CheckTarget] = {}
        for backend in upstream.addrs:
            known = entries.get(backend.address)
            weight = backend.weight + (known.weight if known else 0)
            entries[backend.address] = CheckTarget(backend.address, backend.host, backend.port, weight=weight)
        plans[name] = Plan(upstream.health_check, tuple(entries.values()), upstream.ipv4_only, upstream.discovery, *_source_of(upstream))
    return plans


def _source_of(upstream: Upstream) -> tuple[float | None, DnsSetting, str]:
    """What its source goes by: nothing where that is none, so that a key without effect changes no plan."""
    if upstream.discovery == DNS:
        return upstream.update_frequency, DnsSetting(upstream.dns_server, upstream.dns_domain, upstream.dns_search), ""
    if upstream.discovery == DOCKER:
        return upstream.update_frequency, NO_DNS, upstream.docker_host
    return None, NO_DNS, ""
