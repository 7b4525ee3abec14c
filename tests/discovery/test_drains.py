"""Which backends are taken out by hand, and what is answered to who asks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pingap.config.parts import Backend, HealthCheck
from pingap.stages import circuit_states
from pingap.stages.discovery import asked, drains, table
from pingap.stages.discovery.circuits import BackendFigures
from pingap.stages.discovery.drains import Drains
from pingap.stages.discovery.plan import CheckTarget, Plan
from pingap.stages.discovery.window import Totals
from pingap.stages.discovery.words import NO_CHECK, CheckState
from pingap.stages.statuses import SourceStatus

A, B, C = "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"


def target(address: str, weight: int = 1) -> CheckTarget:
    host, _, port = address.rpartition(":")
    return CheckTarget(address, host, int(port), weight=weight)


@dataclass
class Known:
    """What the core knows of an upstream."""

    plan: Plan
    verdicts: dict[str, bool] = field(default_factory=dict)
    found: dict[str, tuple[Backend, ...]] = field(default_factory=dict)
    told: dict[str, tuple[Backend, ...]] = field(default_factory=dict)
    synced: dict[str, float] = field(default_factory=dict)
    failing: dict[str, str] = field(default_factory=dict)

    def verdict(self, address: str) -> bool | None:
        return self.verdicts.get(address)

    def check(self, address: str) -> CheckState:
        return CheckState(1e9, 0.25, "refused") if self.verdicts.get(address) is False else NO_CHECK


def static(*addresses: str, weight: int = 1, **verdicts: bool) -> Known:
    return Known(Plan(HealthCheck(), tuple(target(address, weight) for address in addresses)))


def named(entry: str, *addresses: str, discovery: str = "dns") -> Known:
    those = tuple(Backend(one.host, one.port) for one in map(target, addresses))
    plan = Plan(HealthCheck(), (target(entry),), discovery=discovery)
    return Known(plan, found={entry: those}, told={entry: those}) if addresses else Known(plan)


def state_of(upstream: Known, drained: Drains) -> dict[str, str]:
    (status,) = table.statuses({"api": upstream}, drained)
    return {backend.address: backend.state for backend in status.backends}


def drain(upstreams: dict[str, Any], drained: Drains, address: str, force: bool = False, name: str = "api") -> Any:
    return asked.answer(asked.DRAIN, (name, address, force), asked.Known(upstreams, drained))


# -- what is remembered -----------------------------------------------------------------------------


@given(st.dictionaries(st.text(max_size=3), st.lists(st.text(max_size=3), unique=True, min_size=1)))
def test_what_one_life_publishes_is_what_the_next_one_begins_with(value: dict[str, list[str]]) -> None:
    before = Drains(value)
    assert Drains(before.value()).value() == before.value() == {name: sorted(value[name]) for name in sorted(value)}


@pytest.mark.parametrize("junk", [{"api": 1}, {"api": [1, None, [A]]}, {1: [A]}, {"api": {A: True}}])
def test_a_keepsake_of_another_shape_drains_nothing(junk: Any) -> None:
    assert Drains(junk).value() == {}


def test_there_is_an_end_to_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drains, "MOST", 2)
    drained = Drains({"api": [A, B, C]})
    assert drained.value() == {"api": [A, B]}
    with pytest.raises(asked.NotSo, match="too many"):
        drain({"api": static(A, B, C)}, drained, C, force=True)


def test_a_backend_that_has_left_is_forgotten_and_named() -> None:
    drained = Drains({"api": [A, B], "gone": [C]})
    there = table.there({"api": static(B)})
    assert drained.keep(there) == [("api", A), ("gone", C)]
    assert drained.value() == {"api": [B]}


def test_as_long_as_it_is_not_known_which_there_are_none_is_forgotten() -> None:
    drained = Drains({"api": [A]})
    assert drained.keep(table.there({"api": named("app.test:80")})) == []
    assert drained.keep(table.there({"api": named("app.test:80", B)})) == [("api", A)]


# -- the rows ----------------------------------------------------------------------------------------


def test_what_is_drained_is_said_to_be_whatever_its_health() -> None:
    upstream = static(A, B, C)
    upstream.verdicts = {A: True, B: False}
    assert state_of(upstream, Drains()) == {A: "healthy", B: "unhealthy", C: "unchecked"}
    assert state_of(upstream, Drains({"api": [A], "other": [B]})) == {A: "drained", B: "unhealthy", C: "unchecked"}


def test_a_name_gives_way_to_what_it_stands_for() -> None:
    upstream = named("app.test:80", discovery="static")
    assert state_of(upstream, Drains()) == {"app.test:80": "unchecked"}
    upstream = named("app.test:80", A, B, discovery="static")
    assert state_of(upstream, Drains()) == {A: "unchecked", B: "unchecked"}


def test_those_that_wait_for_a_verdict_are_shown_beside_those_in_use() -> None:
    upstream = named("app.test:80", A)
    upstream.found = {"app.test:80": (Backend("10.0.0.2", 80, 3),)}
    (status,) = table.statuses({"api": upstream}, Drains())
    assert {backend.address: backend.weight for backend in status.backends} == {A: 1, B: 3}
    assert {backend.entry for backend in status.backends} == {"app.test:80"}


def test_a_source_says_when_it_succeeded_and_why_it_fails() -> None:
    upstream = named("app.test:80", A)
    upstream.synced, upstream.failing = {"app.test:80": 100.0}, {"app.test:80": "SERVFAIL"}
    (status,) = table.statuses({"api": upstream}, Drains())
    assert status.sources == (SourceStatus("app.test:80", 100.0, "SERVFAIL"),)
    assert table.statuses({"api": static(A)}, Drains())[0].sources == ()


def test_what_replicas_have_counted_stands_beside_it() -> None:
    counted = BackendFigures(100, 5, Totals(40, 2), 3, 7, circuit_states.OPEN, 0.0, 4.5)
    (status,) = table.statuses({"api": static(A, B)}, Drains(), {("api", A): counted, ("other", B): counted})
    one, other = status.backends
    assert (one.requests, one.failures, one.window_requests, one.failure_rate) == (100, 5, 40, 5.0)
    assert (one.in_flight, one.connections, one.circuit, one.open_for, one.is_usable) == (3, 7, "open", 4.5, False)
    assert (other.requests, other.circuit, other.is_usable) == (0, "closed", True)


def test_one_whose_circuit_is_open_is_no_use_to_who_takes_out_the_other() -> None:
    figures = {("api", B): BackendFigures(circuit=circuit_states.OPEN)}
    with pytest.raises(asked.NotSo, match="the only usable backend"):
        asked.drain("api", A, False, asked.Known({"api": static(A, B)}, Drains(), figures))


# -- what is answered ---------------------------------------------------------------------------------


def test_a_backend_is_taken_out_and_put_back() -> None:
    upstreams, drained = {"api": static(A, B)}, Drains()
    answer = drain(upstreams, drained, A)
    assert (answer["changed"], answer["usable"], answer["backends"]) == (True, 1, 2)
    assert drained.value() == {"api": [A]}
    assert drain(upstreams, drained, A)["changed"] is False, "once more is no mistake"
    answer = asked.answer(asked.ENABLE, ("api", A), asked.Known(upstreams, drained))
    assert answer["changed"] and drained.value() == {}
    assert asked.answer(asked.ENABLE, ("api", A), asked.Known(upstreams, drained))["changed"] is False


def test_the_last_usable_one_stays_unless_that_is_forced() -> None:
    upstream = static(A, B)
    upstream.verdicts = {A: True, B: False}
    upstreams, drained = {"api": upstream}, Drains()
    with pytest.raises(asked.NotSo, match=f"{A} is the only usable backend of upstream 'api'"):
        drain(upstreams, drained, A)
    assert drained.value() == {}
    assert drain(upstreams, drained, B)["usable"] == 1, "of no use to anybody: nothing is lost by it"
    assert drain(upstreams, drained, A, force=True)["usable"] == 0
    with pytest.raises(asked.NotSo, match="the only backend"):
        drain({"api": static(A)}, Drains(), A)


@pytest.mark.parametrize("word", [asked.DRAIN, asked.ENABLE])
@pytest.mark.parametrize(
    ("name", "address", "said"),
    [
        ("aip", A, "there is no upstream 'aip': did you mean 'api'?"),
        ("zzzzzz", A, "there is no upstream 'zzzzzz': one of: api"),
        ("api", "10.0.0.1:88", "upstream 'api' has no backend '10.0.0.1:88': did you mean '10.0.0.1:80'?"),
        ("api", "x", "upstream 'api' has no backend 'x': one of: 10.0.0.1:80, 10.0.0.2:80"),
    ],
)
def test_what_is_not_there_is_said_with_what_may_be_meant(word: str, name: str, address: str, said: str) -> None:
    args = (name, address) if word == asked.ENABLE else (name, address, True)
    with pytest.raises(asked.NotSo) as refused:
        asked.answer(word, args, asked.Known({"api": static(A, B)}, Drains()))
    assert str(refused.value) == said


def test_a_name_is_not_drained_but_what_it_stands_for() -> None:
    with pytest.raises(asked.NotSo, match=f"app.test:80 stands for several backends, which are drained one by one: {A}, {B}"):
        drain({"api": named("app.test:80", A, B)}, Drains(), "app.test:80")


def test_without_upstreams_the_hint_says_so() -> None:
    with pytest.raises(asked.NotSo, match="there is no upstream 'api': the configuration has none"):
        drain({}, Drains(), A)
    with pytest.raises(asked.NotSo, match="it has none at the moment"):
        drain({"api": named("app.test:80")}, Drains(), A)


def test_the_rows_of_some_upstreams_are_those_of_these() -> None:
    upstreams = {"api": static(A), "web": static(B), "img": static(C)}
    assert [row["upstream"] for row in asked.answer(asked.UPSTREAMS, (), asked.Known(upstreams, Drains()))] == ["api", "web", "img"]
    assert [row["upstream"] for row in asked.answer(asked.UPSTREAMS, ("img", "api"), asked.Known(upstreams, Drains()))] == ["api", "img"]
    with pytest.raises(asked.NotSo, match="there is no upstream 'ip'"):
        asked.answer(asked.UPSTREAMS, ("api", "ip"), asked.Known(upstreams, Drains()))


def test_the_keys_of_a_row_stay() -> None:
    (row,) = asked.answer(asked.UPSTREAMS, (), asked.Known({"api": named("app.test:80", A)}, Drains({"api": [A]})))
    (backend,) = row.pop("backends")
    assert row == {"upstream": "api", "discovery": "dns", "usable": 0, "sources": [{"entry": "app.test:80", "synced": None, "error": None}]}
    assert backend == {
        "address": A,
        "entry": "app.test:80",
        "state": "drained",
        "health": "unchecked",
        "drained": True,
        "usable": False,
        "weight": 1,
        "circuit": "closed",
        "open_for": 0.0,
        "connections": 0,
        "in_flight": 0,
        "requests": 0,
        "failures": 0,
        "window": {"requests": 0, "failures": 0, "failure_rate": 0.0},
        "check": None,
    }


def test_the_addresses_that_upstream_goes_by_are_those_it_was_told() -> None:
    upstream = named("app.test:80", A, B, discovery="static")
    assert table.addresses_of(upstream) == (A, B)
    upstream.told = {}
    assert table.addresses_of(upstream) == ("app.test:80",), "it looks the name up by itself until then"
    assert table.addresses_of(named("app.test:80")) == ()
    assert table.addresses_of(static(A, B, A)) == (A, B)
