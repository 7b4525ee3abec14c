"""What is counted, and that labels stay bounded."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pingap.stages.metrics import core
from pingap.stages.metrics.core import CODES, Histogram, Scope, Sums
from tests.observability.samples import access

SCOPE = Scope({"web": ("api", "static")}, frozenset({"backend"}), "web")


def sums(*events: Any, scope: Scope = SCOPE) -> Sums:
    made = Sums()
    made.configure(scope)
    for event in events:
        made.take_access(event)
    return made


def test_a_request_counts_for_its_server_and_for_its_location() -> None:
    web = sums(access(), access(location="static")).servers["web"]
    assert (web.all.requests, web.locations["api"].requests, web.locations["static"].requests) == (2, 1, 1)
    assert (web.all.received_bytes, web.locations["api"].sent_bytes) == (2048, 2500)
    assert (web.all.sent.counts, web.all.sent.sum) == ([0, 2, 0, 0, 0, 0, 0, 0], 2 * 2500 / 1024)
    assert web.all.seconds.counts[:4] == [0, 0, 0, 2]


def test_statuses_are_counted_by_class() -> None:
    web = sums(*(access(status=status) for status in (101, 200, 204, 304, 404, 499, 503, 0, 999))).servers["web"]
    assert dict(zip(CODES, web.all.codes, strict=True)) == {"unknown": 2, "1xx": 1, "2xx": 2, "3xx": 1, "4xx": 2, "5xx": 1}


def test_a_server_without_metrics_is_not_counted() -> None:
    assert sums(access(server="other")).servers["web"].all.requests == 0


def test_names_that_are_not_configured_never_become_labels() -> None:
    web = sums(access(location="x", upstream="y"), access(location="", upstream="")).servers["web"]
    assert web.all.requests == 2
    assert set(web.locations) == {"api", "static"}
    assert set(web.upstreams) == set()


def test_what_was_done_upstream_counts_for_the_upstream() -> None:
    web = sums(access(), access(upstream_reused=True, connect=())).servers["web"]
    backend = web.upstreams["backend"]
    assert (backend.reuses, sum(backend.tcp_connect.counts), sum(backend.tls_handshake.counts)) == (1, 1, 0)
    assert (sum(backend.processing.counts), sum(backend.response.counts)) == (2, 2)
    assert web.reuses == 2


def test_an_answer_that_never_came_counts_no_times_of_the_backend() -> None:
    backend = sums(access(stamps=(1.0, 2.0, 0.0, 0.0, 3.0), status=502, connect=())).servers["web"].upstreams["backend"]
    assert sum(backend.processing.counts) == sum(backend.response.counts) == 0


def test_compression_counts_when_it_happened() -> None:
    web = sums(access(context={"compression_ratio": 3.5}), access()).servers["web"]
    assert web.compression.counts == [0, 0, 0, 1, 0, 0]
    for theirs in ("3.5", None, [3.5], float("nan"), float("inf")):  # of a capture, a claim, a plugin
        web = sums(access(context={"compression_ratio": theirs, "tls_handshake_time": theirs})).servers["web"]
        assert (web.compression.sum, web.tls_handshake.sum) == (0, 0)


def test_tls_handshakes_of_clients_count_with_the_first_request_of_a_connection() -> None:
    first, second = {"tls_version": "TLSv1.3", "tls_handshake_time": 0.02}, {"tls_version": "TLSv1.3"}
    web = sums(access(context=first), access(context=second)).servers["web"]
    assert (web.tls_handshake.counts, web.tls_handshake.sum) == ([0, 1, 0, 0, 0, 0], 0.02)


def test_caches_tell_how_long_they_looked_and_waited() -> None:
    hit, waited, past = {"cache_lookup_time": 0.0004}, {"cache_lookup_time": 0.002, "cache_lock_time": 0.5}, {"cache_lock_time": 9.0}
    web = sums(access(context=hit), access(context=waited), access(context=past), access()).servers["web"]
    assert web.cache_lookup.counts == [0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0]
    assert web.cache_lock.counts == [0, 0, 0, 1, 0, 0]
    for theirs in ("3.5", None, [3.5], float("nan"), float("inf")):  # of a capture, a claim, a plugin
        web = sums(access(context={"cache_lookup_time": theirs, "cache_lock_time": theirs})).servers["web"]
        assert (web.cache_lookup.sum, web.cache_lock.sum) == (0, 0)


def test_counters_survive_reloads_and_series_of_what_is_removed_go() -> None:
    made = sums(access(), access(location="static"))
    made.configure(Scope({"web": ("api", "new")}, frozenset(), "web"))
    web = made.servers["web"]
    assert (web.all.requests, web.locations["api"].requests, web.locations["new"].requests) == (2, 1, 0)
    assert set(web.locations) == {"api", "new"} and not web.upstreams
    made.take_access(access(location="static"))
    assert web.all.requests == 3 and "static" not in web.locations


def test_a_thousand_reloads_leave_no_series_behind() -> None:
    made = sums(access())
    for number in range(1000):
        made.configure(Scope({f"s{number}": (f"l{number}",)}, frozenset({f"u{number}"}), ""))
        made.take_access(access(server=f"s{number}", location=f"l{number}", upstream=f"u{number}"))
    assert list(made.servers) == ["s999"]
    assert (set(made.servers["s999"].locations), set(made.servers["s999"].upstreams)) == ({"l999"}, {"u999"})


@given(st.lists(st.floats(0, 1e5)))
def test_every_observation_falls_into_the_first_bucket_that_holds_it(values: list[float]) -> None:
    histogram = Histogram(core.RESPONSE_SECONDS)
    for value in values:
        histogram.observe(value)
    assert sum(histogram.counts) == len(values)
    below = 0
    for bound, count in zip(core.RESPONSE_SECONDS, histogram.counts, strict=False):
        below += count
        assert below == sum(value <= bound for value in values)


def test_counts_of_actors_are_added_up_by_name_stage_and_labels() -> None:
    made = sums()
    made.take_count((98, "accept", 0, [["refused", {}, 2], ["refused", {"why": "cap"}, 1]], {}), 0.0)
    made.take_count((98, "accept", 1, [["refused", {}, 3]], {}), 0.0)
    assert made.counters == {("refused", "accept"): 5, ("refused", "accept", ("why", "cap")): 1}


def test_a_counter_with_endless_labels_is_stopped_and_the_rest_is_still_counted() -> None:
    made = sums()
    for number in range(core.MAX_COUNTERS + 5):
        made.take_count((98, "plugins", 0, [["x", {"user": str(number)}, 2]]), 0.0)
    assert (len(made.counters), made.overflow) == (core.MAX_COUNTERS, 10)


def test_figures_are_added_up_over_replicas_and_a_silent_one_no_longer_counts() -> None:
    made = sums()
    made.take_count((98, "accept", 0, [], {"in_flight": 3}), 10.0)
    made.take_count((98, "accept", 1, [], {"in_flight": 4}), 12.0)
    made.take_count((98, "upstream", 0, [], {"in_flight": 9}), 12.0)
    assert made.figures("accept", 12.5) == {"in_flight": 7}
    made.take_count((98, "accept", 1, [], {"in_flight": 5}), 12.6)
    assert made.figures("accept", 13.5) == {"in_flight": 5}
    assert made.figures("accept", 20.0) == {}
