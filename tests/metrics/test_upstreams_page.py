"""What the page of metrics tells of upstreams and their backends."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pingap.config.model import Snapshot, Upstream
from pingap.config.parts import Backend
from pingap.stages.metrics import upstreams_page
from pingap.stages.metrics.actor import compile_generation
from pingap.stages.metrics.asking import OthersTold
from pingap.stages.metrics.core import Scope, Sums
from pingap.stages.metrics.page import page
from pingap.stages.statuses import BackendStatus, SourceStatus, UpstreamStatus
from tests.observability.samples import access

Series = dict[tuple[str, ...], float]


def backend(address: str, health: str = "healthy", is_drained: bool = False, **more: Any) -> BackendStatus:
    return BackendStatus(address, "", health, is_drained, 1, **more)


API = UpstreamStatus(
    "api",
    "dns",
    (
        backend("10.0.0.1:80", window_requests=200, window_failures=3),
        backend("10.0.0.2:80", "unhealthy"),
        backend("10.0.0.3:80", is_drained=True),
        backend("10.0.0.4:80", circuit="open", open_for=3.0, window_requests=10, window_failures=10),
        backend("10.0.0.5:80", "unchecked", circuit="half-open"),
    ),
    (SourceStatus("a.test:80", 1.8e9, ""), SourceStatus("b.test:80", 1.7e9, "SERVFAIL"), SourceStatus("c.test:80", 0.0, "")),
)
WEB = UpstreamStatus("web", "static", (backend("10.0.1.1:80"),))


def sums(**more: Any) -> Sums:
    made = Sums()
    locations = {"front": ("a",), "back": ("b",)}
    fields: dict[str, Any] = {"uses": {"front": ("api", "web"), "back": ("api",), "unseen": ("api",)}, "exported": frozenset({"api"})}
    made.configure(Scope(locations, frozenset({"api", "web", "dyn"}), "", **(fields | more)))
    return made


def series(made: Sums, *rows: UpstreamStatus, server: str = "") -> dict[str, Series]:
    """Name → labels by their values, in the order of their names → value."""
    found: dict[str, Series] = {}
    for metric in text_string_to_metric_families(page(made, server, 100.0, OthersTold(rows)).decode()):
        for sample in metric.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels[label] for label in sorted(sample.labels))] = sample.value
    return found


def test_each_state_is_told_and_each_backend_counted_once() -> None:
    found = series(sums(), API, WEB)["pingap_upstream_backends"]
    of_api = {state: count for (state, upstream), count in found.items() if upstream == "api"}
    assert of_api == {"healthy": 1, "unhealthy": 1, "unchecked": 1, "drained": 1, "open": 1}
    assert found["drained", "web"] == 0, "so that an alert has something to go by"
    assert not series(sums(), UpstreamStatus("any", "transparent", ())).get("pingap_upstream_backends"), "it has none, and is well"


def test_health_is_that_of_the_checks_alone() -> None:
    found = series(sums(), API)["pingap_upstream_backend_healthy"]
    assert found == {
        ("10.0.0.1:80", "api"): 1,
        ("10.0.0.2:80", "api"): 0,
        ("10.0.0.3:80", "api"): 1,
        ("10.0.0.4:80", "api"): 1,
    }


def test_statistics_are_told_of_those_that_want_it_under_each_server_that_uses_them() -> None:
    found = series(sums(), API, WEB)
    requests = found["pingap_upstream_backend_requests"]
    assert {(server, upstream) for _, server, upstream in requests} == {("front", "api"), ("back", "api")}
    assert requests["10.0.0.1:80", "front", "api"] == 200
    assert found["pingap_upstream_backend_failure_rate"]["10.0.0.1:80", "back", "api"] == 1.5
    circuits = {
        backend: value for (backend, server, _), value in found["pingap_upstream_backend_circuit_state"].items() if server == "back"
    }
    assert circuits == {"10.0.0.1:80": 0, "10.0.0.2:80": 0, "10.0.0.3:80": 0, "10.0.0.4:80": 1, "10.0.0.5:80": 2}
    only = series(sums(), API, server="back")["pingap_upstream_backend_requests"]
    assert {server for _, server, _ in only} == {"back"}


def test_an_upstream_that_only_a_capture_names_belongs_to_the_server_that_has_used_it() -> None:
    made = sums(exported=frozenset({"dyn"}))
    dyn = UpstreamStatus("dyn", "static", (backend("10.0.2.1:80"),))
    assert "pingap_upstream_backend_requests" not in series(made, dyn)
    made.take_access(access(server="front", upstream="dyn"))
    assert set(series(made, dyn)["pingap_upstream_backend_requests"]) == {("10.0.2.1:80", "front", "dyn")}


def test_a_source_tells_its_oldest_success_and_whether_it_fails() -> None:
    found = series(sums(), API, WEB)
    assert found["pingap_upstream_discovery_last_sync_timestamp_seconds"] == {("api",): 1.7e9}
    assert found["pingap_upstream_discovery_failing"] == {("api",): 1}, "one that finds nothing out has no source"


def test_thousands_of_backends_do_not_become_thousands_of_series(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstreams_page, "MOST", 3)
    many = UpstreamStatus("web", "dns", tuple(backend(f"10.0.3.{n}:80", window_requests=10, window_failures=n) for n in range(5)))
    found = series(sums(exported=frozenset({"api", "web"})), many, API)
    requests = {key[0]: value for key, value in found["pingap_upstream_backend_requests"].items() if key[1:] == ("front", "web")}
    assert requests == {"10.0.3.0:80": 10, "10.0.3.1:80": 10, "10.0.3.2:80": 10, "_OTHER": 20}
    assert found["pingap_upstream_backend_failure_rate"]["_OTHER", "front", "web"] == 35
    assert found["pingap_upstream_backend_requests"]["_OTHER", "front", "api"] == 210
    assert len(found["pingap_upstream_backend_healthy"]) == 3
    assert found["pingap_upstream_backends"]["healthy", "web"] == 5


def test_who_has_asked_for_statistics_gets_them_and_a_breaker_asks_for_them() -> None:
    addrs = (Backend("10.0.0.1"),)
    upstreams = {
        "plain": Upstream(addrs=addrs, backend_stats_interval=5.0),
        "asks": Upstream(addrs=addrs, enable_backend_stats=True),
        "row": Upstream(addrs=addrs, circuit_break_max_consecutive_failures=1),
        "percent": Upstream(addrs=addrs, circuit_break_max_failure_percent=1),
    }
    assert compile_generation(Snapshot(upstreams=upstreams), {}).scope.exported == {"asks", "row", "percent"}
