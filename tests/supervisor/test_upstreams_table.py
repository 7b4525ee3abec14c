"""The table of `pingap upstreams`, by example and of any names."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingap import upstreams_table
from pingap.stages.statuses import BackendStatus, SourceStatus, UpstreamStatus, plain

NOW = 1_800_000_000.0


def backend(address: str, health: str = "healthy", **more: Any) -> BackendStatus:
    fields: dict[str, Any] = {"entry": "", "health": health, "is_drained": False, "weight": 1, "connections": 4, "in_flight": 2}
    fields |= {"requests": 12345, "failures": 3, "window_requests": 200, "window_failures": 1}
    fields |= {"checked": NOW - 3, "check_seconds": 0.0012}
    return BackendStatus(address, **(fields | more))


def upstream(name: str, *backends: BackendStatus, discovery: str = "static", sources: tuple[SourceStatus, ...] = ()) -> dict[str, Any]:
    return plain(UpstreamStatus(name, discovery, backends, sources))


BUSY = [
    upstream(
        "api",
        backend("10.0.0.1:8080"),
        backend("10.0.0.2:8080", "unhealthy", check_error="cannot connect: Connection refused", checked=NOW - 61),
        backend("10.0.0.3:8080", is_drained=True, in_flight=0),
        backend("10.0.0.4:8080", circuit="open", open_for=8.2, window_failures=150, weight=5),
        backend("[2001:db8::5]:8080", "unchecked", checked=0.0, requests=0, window_requests=0, window_failures=0),
        discovery="dns",
        sources=(SourceStatus("api.internal:8080", NOW - 12, ""),),
    ),
    upstream("img", discovery="docker", sources=(SourceStatus("img:80", 0.0, "no such file: /var/run/docker.sock"),)),
    upstream("any", discovery="transparent"),
]


def shown(rows: list[dict[str, Any]], width: int) -> list[str]:
    return [line.text for line in upstreams_table.lines(rows, NOW, width)]


def test_a_wide_terminal_has_all_of_it() -> None:
    assert shown(BUSY, 200) == [
        "UPSTREAM  BACKEND             STATE        CIRCUIT  WEIGHT  CONNS  IN-FLIGHT  REQUESTS  FAILED  CHECKED",
        "api       10.0.0.1:8080       healthy      closed        1      4          2     12345    0.5%   3s 1ms",
        "api       10.0.0.2:8080       unhealthy    closed        1      4          2     12345    0.5%   1m 1ms",
        "api       10.0.0.3:8080       drained      closed        1      4          0     12345    0.5%   3s 1ms",
        "api       10.0.0.4:8080       healthy      open 8s       5      4          2     12345   75.0%   3s 1ms",
        "api       [2001:db8::5]:8080  unchecked    closed        1      4          2         0       -        -",
        "  dns: found 12s ago",
        "  10.0.0.2:8080 failed its check 1m ago: cannot connect: Connection refused",
        "img       -                   none         closed        1      -          -         -       -        -",
        "  docker: img:80 cannot be found out: no such file: /var/run/docker.sock",
        "any       -                   transparent  closed        1      -          -         -       -        -",
    ]


def test_80_columns_have_what_matters_most() -> None:
    found = shown(BUSY, 80)
    assert all(len(line) <= 80 for line in found)
    assert found[0].split() == ["UPSTREAM", "BACKEND", "STATE", "CIRCUIT", "IN-FLIGHT", "REQUESTS", "FAILED"]
    assert found[5].startswith("api ") and "[2001:db8::5]:8080" in found[5]


def test_where_all_is_as_usual_80_columns_have_more() -> None:
    rows = [upstream("api", backend("10.0.0.1:8080"), backend("10.0.0.2:8080"))]
    head = shown(rows, 80)[0].split()
    assert head == ["UPSTREAM", "BACKEND", "STATE", "CONNS", "IN-FLIGHT", "REQUESTS", "FAILED", "CHECKED"]


NAMES = st.text("abc-xyz.", min_size=1, max_size=60)


@given(st.lists(st.tuples(NAMES, st.lists(NAMES, max_size=3, unique=True)), min_size=1, max_size=4))
def test_the_table_fits_80_columns_whatever_the_names(upstreams: list[tuple[str, list[str]]]) -> None:
    rows = [
        upstream(name, *(backend(f"{host}:65535", "unhealthy", circuit="open", open_for=9e4) for host in hosts))
        for name, hosts in upstreams
    ]
    found = shown(rows, 80)
    assert all(len(line) <= 80 for line in found)
    words = [line.split() for line in found[1:]]
    assert [word[2] for word in words] == [state for _, hosts in upstreams for state in (["unhealthy"] * len(hosts) or ["none"])]


def test_of_many_entries_that_fail_some_are_named() -> None:
    sources = tuple(SourceStatus(f"s{number}:80", NOW - 90, "SERVFAIL") for number in range(8))
    found = shown([upstream("api", backend("10.0.0.1:80"), discovery="dns", sources=sources)], 0)
    assert found[2] == "  dns: s0:80 cannot be found out: SERVFAIL; what was found 1m ago stays"
    assert len(found) == 2 + upstreams_table.MOST + 1 and found[-1] == "  dns: 3 more fail"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (upstream("api", backend("a:1"), backend("b:1", "unhealthy")), []),
        (upstream("api", backend("a:1", "unchecked")), []),
        (upstream("api", backend("a:1", circuit="half-open")), []),
        (upstream("any", discovery="transparent"), []),
        (upstream("img", discovery="docker"), ["img (no backends)"]),
        (
            upstream("api", backend("a:1", "unhealthy"), backend("b:1", is_drained=True), backend("c:1", circuit="open", open_for=3.0)),
            ["api (1 unhealthy, 1 drained, 1 with an open circuit)"],
        ),
        (upstream("api", backend("a:1", weight=0)), ["api (1 of weight 0)"]),
    ],
)
def test_an_upstream_without_a_usable_backend_is_named_with_what_they_are(row: dict[str, Any], said: list[str]) -> None:
    assert upstreams_table.unserved([row]) == said


def test_colours_are_for_what_one_looks_for() -> None:
    states = [line.state for line in upstreams_table.lines(BUSY, NOW)]
    assert states == ["", "healthy", "unhealthy", "drained", "open", "unchecked", "", "failing", "none", "failing", ""]
    assert [upstreams_table.colour_of(state) for state in ("healthy", "unhealthy", "drained", "open")] == ["", "red", "yellow", "red"]


def test_what_a_backend_says_cannot_write_to_the_terminal() -> None:
    row = upstream("api", backend("10.0.0.1:80", "unhealthy", check_error="answered \x1b[2J\r\nok"))
    found = shown([row], 80)
    assert all(line.isprintable() for line in found)
    assert "answered \\u001b[2J\\r\\nok" in found[2]
