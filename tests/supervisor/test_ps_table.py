"""The table of `pingap ps`: never wider than there is room, and pid and state always whole."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingap import ps_table

STAGES = ("accept", "routing", "plugins", "upstream", "logging", "config", "discovery", "metrics")

ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "stage": st.sampled_from(STAGES),
            "replica": st.integers(0, 1023),
            "pid": st.none() | st.integers(1, 4194304),
            "state": st.sampled_from(["starting", "ready", "draining", "stopping", "waiting"]),
            "uptime": st.floats(0, 10**9),
            "restarts": st.integers(0, 10**6),
            "cpus": st.just([]) | st.lists(st.integers(0, 255), min_size=1, max_size=8),
            "rss": st.integers(0, 10**12),
            "in_flight": st.integers(0, 10**6),
            "requests": st.integers(0, 10**12),
        }
    ),
    min_size=1,
    max_size=20,
)


def row(**more: Any) -> dict[str, Any]:
    plain = {"stage": "discovery", "replica": 0, "pid": 4194304, "state": "draining", "uptime": 86400.0 * 99, "restarts": 3, "cpus": []}
    return plain | {"rss": 123.4 * 1048576, "in_flight": 1000, "requests": 10_000_000} | more


@given(ROWS, st.integers(40, 300))
def test_it_fits_and_cuts_nothing(rows: list[dict[str, Any]], width: int) -> None:
    found = ps_table.lines(rows, width)
    assert all(len(line.text) <= width for line in found)
    for line, one in zip(found[1:], rows, strict=True):
        words = line.text.split()
        assert words[:3] == [f"{one['stage']}.{one['replica']}", str(one["pid"] or "-"), one["state"]]


@given(ROWS)
def test_without_a_width_nothing_is_left_out(rows: list[dict[str, Any]]) -> None:
    assert ps_table.lines(rows)[0].text.split() == [column.head for column in ps_table.COLUMNS]


def test_80_columns_hold_all_of_a_busy_instance() -> None:
    head = ps_table.lines([row()], 80)[0].text
    assert head.split() == ["STAGE", "PID", "STATE", "UPTIME", "RESTARTS", "RSS", "IN-FLIGHT", "REQUESTS"]


def test_cpus_are_shown_at_80_columns_where_some_are_pinned() -> None:
    assert "CPUS" in ps_table.lines([row(cpus=[0], uptime=5.0, requests=7, rss=1e7, pid=12)], 80)[0].text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0s"), (59.9, "59s"), (60, "1m"), (3599, "59m"), (3600, "1h"), (3660, "1h1m"), (86400, "1d"), (90000, "1d1h")],
)
def test_a_span_is_short(seconds: float, text: str) -> None:
    assert ps_table.span(seconds) == text


def supervisor(**more: Any) -> dict[str, Any]:
    return row(stage="supervisor", state="ready", uptime=61.0, version="1.2.3", generation=7, reload=None) | more


def test_the_summary_says_what_became_of_the_last_configuration() -> None:
    assert ps_table.summary([supervisor()], 0.0) == ["pingap 1.2.3, ready for 1m", "generation 7"]
    assert ps_table.summary([supervisor(config="ab12cd34ef56")], 0.0)[1] == "generation 7, configuration ab12cd34ef56"
    taken = {"time": 100.0, "problems": [], "changed": "added locations.x"}
    assert ps_table.summary([supervisor(reload=taken)], 130.0)[1].startswith("generation 7, taken 30s ago, at ")
    refused = {"time": 100.0, "problems": ["a: is wrong\n    write b"], "changed": ""}
    lines = ps_table.summary([supervisor(reload=refused)], 130.0)
    assert "; a configuration was refused 30s ago" in lines[1] and lines[2:] == ["  a: is wrong", "      write b"]


def test_what_does_not_serve_is_ailing_but_not_what_leaves() -> None:
    rows = [supervisor(), row(state="waiting"), row(stage="accept", state="draining")]
    assert ps_table.ailing(rows) == ["discovery.0 (waiting)"]
    assert "not ready: discovery.0 (waiting)" in ps_table.summary(rows, 0.0)[0]
