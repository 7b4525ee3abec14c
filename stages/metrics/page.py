"""The metrics page: the sums as prometheus-client metrics.

Some counters of the reference have names without `_total`. prometheus-client cannot
write "counter" of such a name, and promtool objects to it; they are told as
untyped, under the reference's exact names, so that dashboards go on working.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric, UntypedMetricFamily
from prometheus_client.registry import Collector

from pingap.observability.figures import CONNECTIONS, IN_USE, NOTES
from pingap.stages.metrics.asking import NOTHING, OthersTold
from pingap.stages.metrics.certificates_page import certificate_families
from pingap.stages.metrics.core import CODES, Histogram, LocationSums, Sums, UpstreamSums
from pingap.stages.metrics.upstreams_page import families

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_SERVER: Final = ("server",)
_BY_LOCATION: Final = ("server", "location")
_BY_UPSTREAM: Final = ("server", "upstream")
_NOT_IN_NAMES: Final = re.compile(r"[^a-z0-9_]+")


def page(sums: Sums, server: str, now: float, told: OthersTold = NOTHING) -> bytes:
    """The text of the metrics of one server, "" for all. now: monotonic seconds. told: what other stages know."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Page(sums, server, now, told))
    return generate_latest(registry)


class Page(Collector):
    """What the registry asks when it is scraped."""

    def __init__(self, sums: Sums, server: str, now: float, told: OthersTold) -> None:
        self._sums = sums
        self._told = told
        self._now = now
        self._servers = {name: each for name, each in sums.servers.items() if server in ("", name)}

    def collect(self) -> Iterator[Metric]:
        """All metrics, in about the order of the reference's page."""
        yield from self._requests()
        yield from self._connections()
        yield from self._upstreams()
        yield from families(self._told.upstreams, self._sums.servers_of(self._servers), self._sums.exported)
        ratio = HistogramMetricFamily("pingap_compression_ratio", "Response compression ratio.", labels=_SERVER)
        for name, server in self._servers.items():
            _add(ratio, (name,), server.compression)
        yield ratio
        yield from self._caches()
        yield from self._configuration()
        yield from self._counters()

    def _requests(self) -> Iterator[Metric]:
        total = CounterMetricFamily("pingap_http_requests", "HTTP requests that have ended.", labels=_BY_LOCATION)
        codes = _counter("pingap_http_responses_codes", "Responses by class of their status", (*_BY_LOCATION, "code"))
        in_bytes = _counter("pingap_http_received_bytes", "Bytes of request bodies", _BY_LOCATION)
        out_bytes = _counter("pingap_http_sent_bytes", "Bytes of response bodies", _BY_LOCATION)
        received = HistogramMetricFamily("pingap_http_received", "Sizes of request bodies in KB.", labels=_BY_LOCATION)
        sent = HistogramMetricFamily("pingap_http_sent", "Sizes of response bodies in KB.", labels=_BY_LOCATION)
        time = HistogramMetricFamily(
            "pingap_http_response_time", "From a request's first byte to its answer's last, in seconds.", labels=_BY_LOCATION
        )
        for where, sums in self._locations():
            total.add_metric(where, sums.requests)
            in_bytes.add_metric(where, sums.received_bytes)
            out_bytes.add_metric(where, sums.sent_bytes)
            for code, count in zip(CODES, sums.codes, strict=True):
                if count:
                    codes.add_metric((*where, code), count)
            _add(received, where, sums.received)
            _add(sent, where, sums.sent)
            _add(time, where, sums.seconds)
        current = GaugeMetricFamily("pingap_http_requests_current", "HTTP requests in flight.", labels=_BY_LOCATION)
        in_flight = self._sums.figures("accept", self._now).get("in_flight")
        if in_flight is not None:
            # accept counts over all servers: when there are several, no one of them can be named.
            current.add_metric((self._sums.only_server, ""), in_flight)
        yield from (total, current, received, in_bytes, codes, time, sent, out_bytes)

    def _locations(self) -> Iterator[tuple[tuple[str, str], LocationSums]]:
        for name, server in self._servers.items():
            yield (name, ""), server.all
            for location, sums in server.locations.items():
                yield (name, location), sums

    def _connections(self) -> Iterator[Metric]:
        reuses = _counter("pingap_connection_reuses", "Requests on a kept-alive client connection", _SERVER)
        for name, server in self._servers.items():
            reuses.add_metric((name,), server.reuses)
        yield reuses
        handshakes = HistogramMetricFamily("pingap_tls_handshake_time", "TLS handshakes with clients in seconds.", labels=_SERVER)
        for name, server in self._servers.items():
            _add(handshakes, (name,), server.tls_handshake)
        yield handshakes
        figures = self._sums.figures("upstream", self._now)
        for prefix, name, text in (
            (CONNECTIONS, "pingap_upstream_connections", "Open connections to backends."),
            (IN_USE, "pingap_upstream_connections_current", "Requests at backends; over HTTP/2 they share connections."),
        ):
            gauge = GaugeMetricFamily(name, text, labels=("upstream",))
            for figure, value in sorted(figures.items()):
                upstream = figure.removeprefix(prefix)
                if upstream != figure and self._sums.is_upstream(upstream):
                    gauge.add_metric((upstream,), value)
            yield gauge

    def _upstreams(self) -> Iterator[Metric]:
        yield self._upstream_times("tcp_connect_time", "TCP connects to backends in seconds.", lambda sums: sums.tcp_connect)
        yield self._upstream_times("tls_handshake_time", "TLS handshakes with backends in seconds.", lambda sums: sums.tls_handshake)
        reuses = _counter("pingap_upstream_reuses", "Requests on a kept-alive backend connection", _BY_UPSTREAM)
        for where, sums in self._upstream_sums():
            reuses.add_metric(where, sums.reuses)
        yield reuses
        text = "From a ready backend connection to the response head, in seconds."
        yield self._upstream_times("processing_time", text, lambda sums: sums.processing)
        text = "From the response head to the end of the answer, in seconds."
        yield self._upstream_times("response_time", text, lambda sums: sums.response)

    def _upstream_times(self, name: str, text: str, of: Callable[[UpstreamSums], Histogram]) -> Metric:
        family = HistogramMetricFamily(f"pingap_upstream_{name}", text, labels=_BY_UPSTREAM)
        for where, sums in self._upstream_sums():
            _add(family, where, of(sums))
        return family

    def _upstream_sums(self) -> Iterator[tuple[tuple[str, str], UpstreamSums]]:
        for name, server in self._servers.items():
            for upstream, sums in server.upstreams.items():
                yield (name, upstream), sums

    def _caches(self) -> Iterator[Metric]:
        lookup = HistogramMetricFamily("pingap_cache_lookup_time", "Until the store of a cache had answered, in seconds.", labels=_SERVER)
        lock = HistogramMetricFamily("pingap_cache_lock_time", "Waits for the fetch of another request, in seconds.", labels=_SERVER)
        for name, server in self._servers.items():
            _add(lookup, (name,), server.cache_lookup)
            _add(lock, (name,), server.cache_lock)
        yield from (lookup, lock)

    def _configuration(self) -> Iterator[Metric]:
        yield from certificate_families(self._sums.ends, self._told.certificates)
        noted = self._sums.figures("config", self._now).get(NOTES)
        if noted is not None:
            yield GaugeMetricFamily(
                "pingap_configuration_notes", "Notes on the configuration in use; `pingap check` tells them.", value=noted
            )

    def _counters(self) -> Iterator[Metric]:
        """What actors count besides, each under the name of its stage."""
        families: dict[str, CounterMetricFamily] = {}
        for (counted, stage, *labels), value in sorted(self._sums.counters.items()):
            name = f"pingap_{stage}_{_name(counted)}"
            family = families.get(name)
            if family is None:
                family = families[name] = CounterMetricFamily(name, f"Counted by {stage}: {counted}.")
            family.add_sample(f"{name}_total", {_name(label): str(text) for label, text in labels}, value)
        yield from families.values()
        text = "Counted by actors in series beyond the number that is kept."
        yield CounterMetricFamily("pingap_metrics_overflow", text, value=self._sums.overflow)


def _name(text: str) -> str:
    return _NOT_IN_NAMES.sub("_", text.lower())


def _counter(name: str, text: str, labels: tuple[str, ...]) -> UntypedMetricFamily:
    return UntypedMetricFamily(name, f"{text} (a counter).", labels=labels)


def _add(family: HistogramMetricFamily, labels: tuple[str, ...], histogram: Histogram) -> None:
    buckets: list[tuple[str, float]] = []
    below = 0
    for bound, count in zip(histogram.bounds, histogram.counts, strict=False):
        below += count
        buckets.append((f"{bound:g}", below))  # as the reference writes them: 1, not 1.0
    buckets.append(("+Inf", below + histogram.counts[-1]))
    family.add_metric(labels, buckets, histogram.sum)
