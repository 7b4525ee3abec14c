"""The sums behind the metrics page.

Names and bucket bounds are the reference's (pingap-performance/src/prom.rs). As
there, the location "" stands for all requests of a server, and each location of
the configuration has series of its own besides.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from typing import Any, Final, NamedTuple

from pingap.observability import timings
from pingap.observability.records import Access

CODES: Final = ("unknown", "1xx", "2xx", "3xx", "4xx", "5xx")

RECEIVED_KB: Final = (1.0, 5.0, 10.0, 50.0, 100.0, 1000.0)
SENT_KB: Final = (1.0, 5.0, 10.0, 50.0, 100.0, 1000.0, 10000.0)
RESPONSE_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
CONNECT_SECONDS: Final = (0.005, 0.01, 0.05, 0.1, 0.5, 1.0)
HANDSHAKE_SECONDS: Final = (0.01, 0.05, 0.1, 0.5, 1.0)
PROCESSING_SECONDS: Final = (0.01, 0.02, 0.1, 0.5, 1.0, 5.0, 10.0)
UPSTREAM_RESPONSE_SECONDS: Final = (0.005, 0.01, 0.05, 0.1, 0.5, 1.0)
COMPRESSION: Final = (1.0, 2.0, 3.0, 5.0, 10.0)
CACHE_LOOKUP_SECONDS: Final = (0.00001, 0.00005, 0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0)
CACHE_LOCK_SECONDS: Final = (0.01, 0.05, 0.1, 1.0, 3.0)

FRESH: Final = 3.0
"""Seconds after which the figures of an actor that has fallen silent no longer count."""

MAX_COUNTERS: Final = 1000
"""Series that COUNT events may make; what is beyond is counted as one number."""

_FIELDS: Final = Access._fields
_SERVER: Final = _FIELDS.index("server")
_STATUS: Final = _FIELDS.index("status")
_RECEIVED: Final = _FIELDS.index("received")
_SENT: Final = _FIELDS.index("sent")
_STARTED: Final = _FIELDS.index("started")
_ENDED: Final = _FIELDS.index("ended")
_REUSED: Final = _FIELDS.index("connection_reused")
_LOCATION: Final = _FIELDS.index("location")
_UPSTREAM: Final = _FIELDS.index("upstream")
_UPSTREAM_REUSED: Final = _FIELDS.index("upstream_reused")
_CONTEXT: Final = _FIELDS.index("context")


class Histogram:
    """Observations by bucket; the last bucket is everything above the bounds."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class LocationSums:
    """What is counted of one location, or of a whole server."""

    __slots__ = ("codes", "received", "received_bytes", "requests", "seconds", "sent", "sent_bytes")

    def __init__(self) -> None:
        self.requests = 0
        self.received_bytes = 0
        self.sent_bytes = 0
        self.codes = [0] * len(CODES)
        self.received = Histogram(RECEIVED_KB)
        self.sent = Histogram(SENT_KB)
        self.seconds = Histogram(RESPONSE_SECONDS)


class UpstreamSums:
    """What is counted of one upstream."""

    __slots__ = ("processing", "response", "reuses", "tcp_connect", "tls_handshake")

    def __init__(self) -> None:
        self.reuses = 0
        self.tcp_connect = Histogram(CONNECT_SECONDS)
        self.tls_handshake = Histogram(HANDSHAKE_SECONDS)
        self.processing = Histogram(PROCESSING_SECONDS)
        self.response = Histogram(UPSTREAM_RESPONSE_SECONDS)


class ServerSums:
    """What is counted of one server: all its requests, and each location and upstream."""

    __slots__ = ("all", "cache_lock", "cache_lookup", "compression", "locations", "reuses", "tls_handshake", "upstreams")

    def __init__(self) -> None:
        self.all = LocationSums()
        self.reuses = 0
        self.tls_handshake = Histogram(HANDSHAKE_SECONDS)
        self.compression = Histogram(COMPRESSION)
        self.cache_lookup = Histogram(CACHE_LOOKUP_SECONDS)
        self.cache_lock = Histogram(CACHE_LOCK_SECONDS)
        self.locations: dict[str, LocationSums] = {}
        self.upstreams: dict[str, UpstreamSums] = {}


class Scope(NamedTuple):
    """Which names may become labels."""

    locations: Mapping[str, tuple[str, ...]]
    """Server that has metrics → its locations."""
    upstreams: frozenset[str]
    only_server: str
    """The server if the configuration has but one, else ""."""
    ends: Mapping[str, float] = {}
    """Certificate → when it ends, in Unix seconds."""
    uses: Mapping[str, tuple[str, ...]] = {}
    """Server → the upstreams that its locations name."""
    exported: frozenset[str] = frozenset()
    """Upstreams whose statistics are wanted by the backend."""


class Figures(NamedTuple):
    """What an actor last said of itself."""

    at: float
    stage: str
    values: Mapping[str, float]


class Sums:
    """All of them. `take_*` eat events; `stages/metrics/page.py` reads."""

    def __init__(self) -> None:
        self.servers: dict[str, ServerSums] = {}
        self.counters: dict[tuple[Any, ...], float] = {}
        """(name, stage, *sorted labels) → sum of what COUNT events said."""
        self.overflow = 0.0
        """What COUNT events added to series beyond MAX_COUNTERS."""
        self.only_server = ""
        self._upstreams: frozenset[str] = frozenset()
        self.ends: Mapping[str, float] = {}
        self.exported: frozenset[str] = frozenset()
        self._uses: Mapping[str, tuple[str, ...]] = {}
        self._figures: dict[tuple[str, int], Figures] = {}

    def configure(self, scope: Scope) -> None:
        """Takes a new configuration: what it still names counts on, what it no longer names is forgotten."""
        self.only_server = scope.only_server
        self._upstreams = scope.upstreams
        self.ends = scope.ends
        self.exported, self._uses = scope.exported, scope.uses
        servers = {}
        for name, locations in scope.locations.items():
            sums = servers[name] = self.servers.get(name) or ServerSums()
            sums.locations = {location: sums.locations.get(location) or LocationSums() for location in locations}
            sums.upstreams = {upstream: known for upstream, known in sums.upstreams.items() if upstream in scope.upstreams}
        self.servers = servers

    def take_access(self, access: Sequence[Any]) -> None:
        """Counts one finished stream."""
        server = self.servers.get(access[_SERVER])
        if server is None:
            return
        received, sent = access[_RECEIVED], access[_SENT]
        seconds = access[_ENDED] - access[_STARTED]
        code = access[_STATUS] // 100
        if not 0 < code < len(CODES):
            code = 0
        received_kb, sent_kb = received / 1024, sent / 1024
        received_at = bisect_left(RECEIVED_KB, received_kb)
        sent_at = bisect_left(SENT_KB, sent_kb)
        seconds_at = bisect_left(RESPONSE_SECONDS, seconds)
        sums: LocationSums | None = server.all
        location = server.locations.get(access[_LOCATION])
        while sums is not None:  # first the server's, then the location's: both get the same
            sums.requests += 1
            sums.codes[code] += 1
            sums.received_bytes += received
            sums.sent_bytes += sent
            sums.received.counts[received_at] += 1
            sums.received.sum += received_kb
            sums.sent.counts[sent_at] += 1
            sums.sent.sum += sent_kb
            sums.seconds.counts[seconds_at] += 1
            sums.seconds.sum += seconds
            sums, location = location, None
        if access[_REUSED]:
            server.reuses += 1
        if access[_UPSTREAM]:
            self._take_upstream(server, access)
        context = access[_CONTEXT]
        if context:
            ratio = context.get("compression_ratio")
            if isinstance(ratio, float | int) and isfinite(ratio):
                server.compression.observe(ratio)
            handshake = context.get("tls_handshake_time")  # with the first request of a connection
            if isinstance(handshake, float) and isfinite(handshake):
                server.tls_handshake.observe(handshake)
            lookup = context.get("cache_lookup_time")
            if isinstance(lookup, float) and isfinite(lookup):
                server.cache_lookup.observe(lookup)
                lock = context.get("cache_lock_time")  # of those that waited for the fetch of another
                if isinstance(lock, float) and isfinite(lock):
                    server.cache_lock.observe(lock)

    def _take_upstream(self, server: ServerSums, access: Sequence[Any]) -> None:
        name = access[_UPSTREAM]
        sums = server.upstreams.get(name)
        if sums is None:
            if name not in self._upstreams:
                return
            sums = server.upstreams[name] = UpstreamSums()
        if access[_UPSTREAM_REUSED]:
            sums.reuses += 1
        elif (tcp := timings.upstream_tcp_connect(access)) is not None:
            sums.tcp_connect.observe(tcp)
            if (tls := timings.upstream_tls_handshake(access)) is not None:
                sums.tls_handshake.observe(tls)
        if (processing := timings.upstream_processing(access)) is not None:
            sums.processing.observe(processing)
        if (response := timings.upstream_response(access)) is not None:
            sums.response.observe(response)

    def take_count(self, envelope: Sequence[Any], now: float) -> None:
        """Adds what an actor counted since its last heartbeat. now: monotonic seconds."""
        _, stage, replica, rows, *figures = envelope
        for name, labels, delta in rows:
            key = (name, stage, *sorted(labels.items()))
            known = self.counters.get(key)
            if known is not None:
                self.counters[key] = known + delta
            elif len(self.counters) < MAX_COUNTERS:
                self.counters[key] = delta
            else:
                self.overflow += delta
        if figures:
            self._figures[stage, replica] = Figures(now, stage, figures[0])

    def figures(self, stage: str, now: float) -> dict[str, float]:
        """The figures of all living replicas of a stage, added up. now: monotonic seconds."""
        self._figures = {key: figures for key, figures in self._figures.items() if now - figures.at <= FRESH}
        total: dict[str, float] = {}
        for figures in self._figures.values():
            if figures.stage == stage:
                _add(total, figures.values.items())
        return total

    def servers_of(self, servers: Iterable[str]) -> dict[str, list[str]]:
        """Upstream → those of these servers whose locations name it, or have used it: a capture may name any."""
        users: dict[str, list[str]] = {}
        for name in servers:
            for upstream in sorted({*self._uses.get(name, ()), *self.servers[name].upstreams}):
                users.setdefault(upstream, []).append(name)
        return users

    def is_upstream(self, name: str) -> bool:
        """Whether the configuration names that upstream."""
        return name in self._upstreams


def _add(total: dict[str, float], values: Iterable[tuple[str, float]]) -> None:
    for name, value in values:
        total[name] = total.get(name, 0.0) + value
