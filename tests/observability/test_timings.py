"""Where the time of a request went."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingap.observability import timings
from pingap.observability.records import Access
from pingap.tail import access_json, request_line
from tests.observability.samples import access


def rounded(times: dict[str, float]) -> dict[str, float]:
    return {stage: round(seconds * 1000, 3) for stage, seconds in times.items()}


def test_a_request_through_all_stages_is_split_among_them() -> None:
    assert rounded(timings.stages(access())) == {
        "accept": 1.0,
        "routing": 1.0,
        "bus": 2.0,
        "plugins": 2.0,
        "upstream": 2.0,
        "backend": 10.0,
        "respond": 2.0,
        "body": 5.5,
        "total": 25.5,
    }


def test_a_stage_that_was_not_visited_has_no_time() -> None:
    times = timings.stages(access(stamps=(1000.001, 1000.002, 0.0, 0.0, 1000.006, 1000.008, 1000.009, 1000.018)))
    assert "plugins" not in times
    assert rounded(times)["bus"] == 4.0


def test_a_plugin_that_answered_gets_the_time_until_the_answer() -> None:
    times = timings.stages(access(stamps=(1000.001, 1000.002, 1000.003)))
    assert rounded(times)["plugins"] == 17.0
    assert "backend" not in times


def test_an_answer_of_routing_has_no_time_on_the_bus() -> None:
    assert set(timings.stages(access(stamps=(1000.001, 1000.002)))) == {"accept", "routing", "respond", "body", "total"}


def test_a_client_that_left_before_the_answer_is_seen_waiting_for_the_backend() -> None:
    times = timings.stages(access(stamps=(1000.001, 1000.002, 0.0, 0.0, 1000.003, 1000.004), responded=0.0))
    assert rounded(times)["backend"] == 21.5
    assert "body" not in times


stamp = st.one_of(st.just(0.0), st.floats(990.0, 1010.0))


@given(st.lists(stamp, max_size=8), stamp)
def test_the_parts_are_never_negative_and_add_up_to_the_total(stamps: list[float], responded: float) -> None:
    ended = max([1000.0, responded, *stamps])
    times = timings.stages(access(stamps=tuple(stamps), responded=responded, ended=ended))
    total = times.pop("total")
    assert all(seconds >= 0 for seconds in times.values())
    assert sum(times.values()) == pytest.approx(total)
    assert set(times) <= set(timings.STAGES)


def test_plugins_that_took_long_are_named() -> None:
    sample = access(context={"plugin_seconds": {"auth": 0.0019, "geo": 0.0012}, "user": "ada"})
    assert timings.plugins(sample) == {"auth": 0.0019, "geo": 0.0012}
    for theirs in ("what a capture is called", ["a"], {"auth": "long"}, {"auth": None}, {"auth": float("nan")}):
        assert timings.plugins(access(context={"plugin_seconds": theirs})) == {}
    line = "".join(part for part, _ in request_line(Access(*sample)))
    assert "plugins 2.0 (auth 1.9, geo 1.2)  upstream 2.0" in line
    assert json.loads(access_json(sample))["plugins"] == {"auth": 0.0019, "geo": 0.0012}


@pytest.mark.parametrize(
    ("said", "shown"), [("stale-updating", "stale-updating"), (None, ""), (["of a claim"], ""), ("\x1b[2J", "\\u001b[2J")]
)
def test_tap_says_what_became_of_a_request_in_a_cache(said: object, shown: str) -> None:
    sample = access(context={"cache_status": said} if said else {})
    line = "".join(part for part, _ in request_line(Access(*sample)))
    assert (f"  cache {shown}" in line) if shown else "  cache" not in line
    assert json.loads(access_json(sample))["cache"] == shown
