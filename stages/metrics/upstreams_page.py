"""The part of the page that tells what discovery knows of upstreams and their backends.

The names with `backend_failure_rate`, `backend_requests` and `backend_circuit_state` are the reference's; the others are ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric

from pingap.stages.statuses import (
    CLOSED,
    DRAINED,
    HALF_OPEN,
    HEALTHY,
    OPEN,
    TRANSPARENT,
    UNCHECKED,
    UNHEALTHY,
    BackendStatus,
    UpstreamStatus,
)

MOST: Final = 1000
"""Backends that have series of their own on a page; what is beyond is one more, of each upstream."""

OTHER: Final = "_OTHER"
"""Label of those beyond; no backend is called that."""

STATES: Final = (HEALTHY, UNHEALTHY, UNCHECKED, DRAINED, OPEN)
"""In which a backend is counted once: by hand, else by its circuit, else by its checks."""

_CIRCUITS: Final = {CLOSED: 0, OPEN: 1, HALF_OPEN: 2}

_BY_SERVER: Final = ("server", "upstream", "backend")


def families(rows: Sequence[UpstreamStatus], servers: Mapping[str, Sequence[str]], exported: frozenset[str]) -> Iterator[Metric]:
    """servers: upstream → those servers that use it. exported: upstreams whose statistics are wanted by the backend."""
    shown = _shown(rows)
    yield from _statistics(shown, rows, servers, exported)
    healthy = GaugeMetricFamily(
        "pingap_upstream_backend_healthy", "Whether a backend passes its checks; not told before the first.", labels=("upstream", "backend")
    )
    states = GaugeMetricFamily("pingap_upstream_backends", "Backends by what they are.", labels=("upstream", "state"))
    synced = GaugeMetricFamily(
        "pingap_upstream_discovery_last_sync_timestamp_seconds",
        "When an upstream's backends were found out last, in Unix seconds; of several entries the one of longest ago.",
        labels=("upstream",),
    )
    failing = GaugeMetricFamily(
        "pingap_upstream_discovery_failing", "Whether an upstream's backends cannot be found out at the moment.", labels=("upstream",)
    )
    for row in rows:
        counts = dict.fromkeys(STATES, 0)
        for backend in row.backends:
            counts[_state(backend)] += 1
        for state, count in counts.items() if row.discovery != TRANSPARENT else ():
            states.add_metric((row.name, state), count)
        for backend in shown[row.name]:
            if backend.health != UNCHECKED:
                healthy.add_metric((row.name, backend.address), backend.health == HEALTHY)
        if row.sources:
            failing.add_metric((row.name,), any(source.error for source in row.sources))
            if times := [source.synced for source in row.sources if source.synced]:
                synced.add_metric((row.name,), min(times))
    yield from (healthy, states, synced, failing)


def _state(backend: BackendStatus) -> str:
    if backend.is_drained:
        return DRAINED
    return OPEN if backend.circuit == OPEN else backend.health


def _shown(rows: Sequence[UpstreamStatus]) -> dict[str, Sequence[BackendStatus]]:
    """Those with series of their own: as many of each upstream as there is room for, in the order of the configuration."""
    room = MOST
    shown: dict[str, Sequence[BackendStatus]] = {}
    for row in rows:
        shown[row.name] = row.backends[:room]
        room -= len(shown[row.name])
    return shown


def _statistics(
    shown: Mapping[str, Sequence[BackendStatus]],
    rows: Sequence[UpstreamStatus],
    servers: Mapping[str, Sequence[str]],
    exported: frozenset[str],
) -> Iterator[Metric]:
    text = "Percent of a backend's requests of the last backend_stats_interval that failed."
    rate = GaugeMetricFamily("pingap_upstream_backend_failure_rate", text, labels=_BY_SERVER)
    requests = GaugeMetricFamily(
        "pingap_upstream_backend_requests", "Requests to a backend in the last backend_stats_interval.", labels=_BY_SERVER
    )
    circuit = GaugeMetricFamily(
        "pingap_upstream_backend_circuit_state", "Circuit of a backend: 0 closed, 1 open, 2 half-open.", labels=_BY_SERVER
    )
    for row in rows:
        rest = row.backends[len(shown[row.name]) :]
        for server in servers.get(row.name, ()) if row.name in exported else ():
            for backend in shown[row.name]:
                where = (server, row.name, backend.address)
                rate.add_metric(where, backend.failure_rate)
                requests.add_metric(where, backend.window_requests)
                circuit.add_metric(where, _CIRCUITS[backend.circuit])
            if rest:
                total = sum(backend.window_requests for backend in rest)
                failures = sum(backend.window_failures for backend in rest)
                rate.add_metric((server, row.name, OTHER), 100 * failures / total if total else 0.0)
                requests.add_metric((server, row.name, OTHER), total)
    yield from (rate, requests, circuit)
