"""The metrics page, as Prometheus reads it."""

from __future__ import annotations

import subprocess

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from pingap.stages.certificate_status import CertificateStatus
from pingap.stages.metrics.asking import OthersTold
from pingap.stages.metrics.core import Scope, Sums
from pingap.stages.metrics.page import page
from pingap.stages.statuses import BackendStatus, SourceStatus, UpstreamStatus
from tests.kit.peers import needs
from tests.observability.samples import access

ROWS = (
    UpstreamStatus(
        "backend",
        "dns",
        (
            BackendStatus('odd"\n', "", "healthy", False, 1, window_requests=3),
            BackendStatus("unix:/x", "", "unhealthy", True, 1, "open"),
        ),
        (SourceStatus("a:80", 1.8e9, "SERVFAIL"),),
    ),
)
CERTIFICATES = (
    CertificateStatus("site", ("a.example",), "valid", "file", not_after=1.9e9, stapled_at=1.7e9),
    CertificateStatus("shop", ("b.example",), "expired", "acme", not_after=1.6e9, authority="x", attempts=3, next_try=1.81e9),
    CertificateStatus("new", ("c.example",), "waiting", "acme", authority="x", next_renewal=1.82e9),
)
TOLD = OthersTold(ROWS, CERTIFICATES)


@pytest.fixture
def sums() -> Sums:
    made = Sums()
    made.configure(
        Scope(
            {"web": ("api", 'odd"\n\\name'), "other": ("api",)},
            frozenset({"backend"}),
            "",
            {"site": 1.8e9},
            {"web": ("backend",)},
            frozenset({"backend"}),
        )
    )
    for event in (access(), access(status=404, location=""), access(server="other", context={"compression_ratio": 2.5})):
        made.take_access(event)
    made.take_count((98, "accept", 0, [["connections_refused", {}, 2], ["Odd name!", {"a-b": 'x"\n'}, 1]], {"in_flight": 4}), 100.0)
    made.take_count((98, "config", 0, [], {"generation": 5, "notes": 2}), 100.0)
    made.take_count((98, "upstream", 0, [], {"connections:backend": 7, "in_use:backend": 2, "in_use:unknown": 1, "connections": 9}), 100.0)
    return made


def parsed(text: bytes) -> dict[str, Metric]:
    return {metric.name: metric for metric in text_string_to_metric_families(text.decode())}


def value(metrics: dict[str, Metric], name: str, **labels: str) -> float:
    [found] = [s.value for m in metrics.values() for s in m.samples if s.name == name and s.labels == labels]
    return found


NAMES = [
    "pingap_http_requests_total",
    "pingap_http_requests_current",
    "pingap_http_received_count",
    "pingap_http_received_bytes",
    "pingap_http_responses_codes",
    "pingap_http_response_time_count",
    "pingap_http_sent_count",
    "pingap_http_sent_bytes",
    "pingap_connection_reuses",
    "pingap_tls_handshake_time_count",
    "pingap_upstream_connections",
    "pingap_upstream_connections_current",
    "pingap_upstream_tcp_connect_time_count",
    "pingap_upstream_tls_handshake_time_count",
    "pingap_upstream_reuses",
    "pingap_upstream_processing_time_count",
    "pingap_upstream_response_time_count",
    "pingap_compression_ratio_count",
    "pingap_cache_lookup_time_count",
    "pingap_cache_lock_time_count",
    "pingap_certificate_expiration_timestamp_seconds",
    "pingap_configuration_notes",
]


@pytest.mark.parametrize("name", NAMES)
def test_the_references_metrics_have_their_exact_names(sums: Sums, name: str) -> None:
    assert name in {sample.name for metric in parsed(page(sums, "", 100.0)).values() for sample in metric.samples}


def test_the_values_are_those_that_were_counted(sums: Sums) -> None:
    metrics = parsed(page(sums, "", 100.0))
    assert value(metrics, "pingap_http_requests_total", server="web", location="") == 2
    assert value(metrics, "pingap_http_requests_total", server="web", location="api") == 1
    assert value(metrics, "pingap_http_responses_codes", server="web", location="", code="4xx") == 1
    assert value(metrics, "pingap_http_response_time_bucket", server="web", location="", le="0.05") == 2
    assert value(metrics, "pingap_http_response_time_bucket", server="web", location="", le="+Inf") == 2
    assert value(metrics, "pingap_http_requests_current", server="", location="") == 4
    assert value(metrics, "pingap_upstream_connections", upstream="backend") == 7
    assert value(metrics, "pingap_upstream_connections_current", upstream="backend") == 2
    assert value(metrics, "pingap_accept_connections_refused_total") == 2
    assert value(metrics, "pingap_compression_ratio_sum", server="other") == 2.5


def test_a_server_shows_its_own_metrics_only(sums: Sums) -> None:
    servers = {s.labels["server"] for m in parsed(page(sums, "web", 100.0)).values() for s in m.samples if "server" in s.labels}
    assert servers == {"web", ""}


def test_gauges_of_actors_that_fell_silent_are_left_out(sums: Sums) -> None:
    metrics = parsed(page(sums, "", 200.0))
    assert not metrics["pingap_http_requests_current"].samples
    assert not metrics["pingap_upstream_connections"].samples


@pytest.mark.processes
def test_promtool_finds_nothing_to_object_to(sums: Sums) -> None:
    needs("promtool", "prometheus")
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=page(sums, "", 100.0, TOLD), capture_output=True, timeout=30, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_it_says_when_certificates_end_and_how_much_is_noted(sums: Sums) -> None:
    metrics = parsed(page(sums, "web", 100.0))
    assert value(metrics, "pingap_certificate_expiration_timestamp_seconds", certificate="site") == 1.8e9
    assert value(metrics, "pingap_configuration_notes") == 2


def test_what_acme_knows_of_certificates_is_told_instead_of_what_the_configuration_says(sums: Sums) -> None:
    metrics = parsed(page(sums, "web", 100.0, TOLD))

    def all_of(name: str) -> dict[str, float]:
        return {sample.labels["certificate"]: sample.value for sample in metrics[f"pingap_certificate_{name}"].samples}

    assert all_of("expiration_timestamp_seconds") == {"site": 1.9e9, "shop": 1.6e9}
    assert all_of("valid") == {"site": 1, "shop": 0, "new": 0}
    assert all_of("renewal_failures") == {"shop": 3, "new": 0}
    assert all_of("next_renewal_timestamp_seconds") == {"shop": 1.81e9, "new": 1.82e9}
    assert all_of("staple_timestamp_seconds") == {"site": 1.7e9}
