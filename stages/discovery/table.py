"""What is shown of upstreams: what the parts of this stage know of each backend, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from msgspec.structs import replace

from pingap.config.parts import Backend
from pingap.stages import circuit_states
from pingap.stages.discovery.circuits import BackendFigures
from pingap.stages.discovery.drains import Drains
from pingap.stages.discovery.plan import Plan
from pingap.stages.discovery.words import CheckState
from pingap.stages.statuses import (
    CLOSED,
    HALF_OPEN,
    HEALTHY,
    OPEN,
    TRANSPARENT,
    UNCHECKED,
    UNHEALTHY,
    BackendStatus,
    SourceStatus,
    UpstreamStatus,
)

_HEALTH: Final = {None: UNCHECKED, True: HEALTHY, False: UNHEALTHY}
_CIRCUITS: Final = {circuit_states.CLOSED: CLOSED, circuit_states.OPEN: OPEN, circuit_states.HALF_OPEN: HALF_OPEN}


class KnownUpstream(Protocol):
    """What the core knows of one upstream."""

    @property
    def plan(self) -> Plan: ...

    @property
    def found(self) -> Mapping[str, tuple[Backend, ...]]:
        """What entries stand for, as it was found last."""

    @property
    def told(self) -> Mapping[str, tuple[Backend, ...]]:
        """The same as upstream goes by."""

    @property
    def synced(self) -> Mapping[str, float]: ...

    @property
    def failing(self) -> Mapping[str, str]: ...

    def verdict(self, address: str) -> bool | None:
        """None before the first one."""

    def check(self, address: str) -> CheckState:
        """The last one of a backend."""


Figures = Mapping[tuple[str, str], BackendFigures]
"""What replicas have counted and said, by upstream and address (Circuits.figures)."""

NO_FIGURES: Final[Figures] = {}


def statuses(upstreams: Mapping[str, KnownUpstream], drains: Drains, figures: Figures = NO_FIGURES) -> tuple[UpstreamStatus, ...]:
    """Of all upstreams, in the order of the configuration."""
    return tuple(_status(name, upstream, drains, figures) for name, upstream in upstreams.items())


def there(upstreams: Mapping[str, KnownUpstream]) -> dict[str, frozenset[str] | None]:
    """Upstream → the addresses of its backends; None while some of its entries have yet to be found out."""
    return {name: frozenset(_backends(one)) if _is_known(one) else None for name, one in upstreams.items()}


def stands_for(upstream: KnownUpstream, entry: str) -> list[str]:
    """The addresses of the backends that are in the place of an entry of `addrs`."""
    return [address for address, (of, _) in _backends(upstream).items() if of == entry]


def addresses_of(upstream: KnownUpstream) -> tuple[str, ...]:
    """Of the backends that upstream goes by."""
    addresses: dict[str, None] = {}
    for entry in upstream.plan.entries:
        if told := upstream.told.get(entry.address):
            addresses |= dict.fromkeys(backend.address for backend in told)
        elif upstream.plan.is_static:
            addresses[entry.address] = None
    return tuple(addresses)


def _is_known(upstream: KnownUpstream) -> bool:
    plan = upstream.plan
    return all(entry.address in upstream.found for entry in plan.entries if entry.is_name or not plan.is_static)


def _backends(upstream: KnownUpstream) -> dict[str, tuple[str, int]]:
    """Address → (the entry of which it was found, or "", its weight): those that upstream goes by, then those that wait for a verdict."""
    rows: dict[str, tuple[str, int]] = {}
    for entry in upstream.plan.entries:
        found, told = upstream.found.get(entry.address), upstream.told.get(entry.address)
        if not found and not told and upstream.plan.is_static:
            rows[entry.address] = "", rows.get(entry.address, ("", 0))[1] + entry.weight
            continue
        for backend in {each.address: each for each in (*(found or ()), *(told or ()))}.values():
            rows[backend.address] = entry.address, rows.get(backend.address, ("", 0))[1] + backend.weight
    return rows


def _status(name: str, upstream: KnownUpstream, drains: Drains, figures: Figures) -> UpstreamStatus:
    backends = []
    for address, (entry, weight) in _backends(upstream).items():
        health = _HEALTH[upstream.verdict(address)]
        last = upstream.check(address)
        is_drained = drains.has(name, address)
        one = BackendStatus(address, entry, health, is_drained, weight, checked=last.at, check_seconds=last.seconds, check_error=last.error)
        backends.append(_with_figures(one, figures.get((name, address), BackendFigures())))
    return UpstreamStatus(name, upstream.plan.discovery, tuple(backends), _sources(upstream))


def _with_figures(backend: BackendStatus, figures: BackendFigures) -> BackendStatus:
    return replace(
        backend,
        circuit=_CIRCUITS[figures.circuit],
        open_for=figures.open_for,
        connections=figures.connections,
        in_flight=figures.in_flight,
        requests=figures.requests,
        failures=figures.failures,
        window_requests=figures.window.requests,
        window_failures=figures.window.failures,
    )


def _sources(upstream: KnownUpstream) -> tuple[SourceStatus, ...]:
    """Of the entries that have to be found out."""
    plan = upstream.plan
    if plan.discovery == TRANSPARENT:
        return ()
    named = [entry.address for entry in plan.entries if entry.is_name or not plan.is_static]
    return tuple(SourceStatus(entry, upstream.synced.get(entry, 0.0), upstream.failing.get(entry, "")) for entry in named)
