"""Replicas that come, go, hear late and lose reports: what holds of circuits all the same."""

from __future__ import annotations

from collections import Counter
from math import ceil
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pingap.stages.circuit_states import CLOSED, HALF_OPEN
from pingap.stages.discovery.circuit import CircuitRules
from pingap.stages.discovery.circuits import Arranged, CircuitEvent, CircuitPlan, Circuits, Passed, Populated, Reported
from pingap.stages.discovery.half_open import RAREST
from tests.discovery.circuit_play import A, Counted


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 4), st.integers(0, 4), st.booleans(), st.integers(1, 3)), max_size=60))
def test_any_interleaving_of_reports_gives_the_same_sums(steps: list[tuple[int, int, int, bool, int]]) -> None:
    core = Circuits()
    core.handle(Populated((), (1, 2, 3), (), 3), 0.0)
    core.handle(Arranged({"api": CircuitPlan(CircuitRules(interval=1e6), (A,))}), 0.0)
    counted = {replica: Counted() for replica in (1, 2, 3)}
    core.handle(Populated((), (1, 2, 3), (), 3), 0.0)
    for replica, its in counted.items():
        core.handle(Reported(replica, [its.row()]), 0.0)
    for now, (replica, good, bad, is_lost, repeated) in enumerate(steps):
        counted[replica].good(good)
        counted[replica].bad(bad)
        for _ in range(0 if is_lost else repeated):
            core.handle(Reported(replica, [counted[replica].row()]), float(now))
    for replica in (2, 3, 1):
        core.handle(Reported(replica, [counted[replica].row()]), float(len(steps)))
    figures = core.figures(float(len(steps)))["api", A]
    assert figures.requests == sum(good + bad for _, good, bad, _, _ in steps)
    assert figures.failures == sum(bad for _, _, bad, _, _ in steps)


class Replica:
    """One of upstream, as it obeys."""

    def __init__(self) -> None:
        self.counted = Counted()
        self.told: list[Any] | None = None
        self.round = 0
        self.left = 0
        self.under_way: list[int] = []
        """Requests that have begun: the round of which each is a probe, or 0."""

    def hear(self, told: list[Any] | None, me: int) -> None:
        self.told = told
        if told and told[0] == HALF_OPEN and told[1] > self.round:
            self.round, self.left = told[1], told[2].get(me, 0)
        elif told and told[0] == HALF_OPEN:
            self.left = min(self.left, told[2].get(me, 0))

    def begin(self) -> int | None:
        """The round of which it is a probe, 0 for a usual request; None when it may not."""
        if self.told is None:
            number = 0
        elif self.told[0] == HALF_OPEN and self.left:
            number, self.left = self.round, self.left - 1
        else:
            return None
        self.under_way.append(number)
        return number

    def settle(self, is_good: bool) -> None:
        number = self.under_way.pop(0)
        if number and number >= self.counted.round:
            self.counted.probed(number, is_good, not is_good)
        elif is_good:
            self.counted.good()
        else:
            self.counted.bad()


class AnyOrder(RuleBasedStateMachine):
    """Discovery, a backend that is ill at times, and replicas that hear and report when they like."""

    @initialize(probes=st.integers(1, 6), failures=st.integers(1, 4), percent=st.sampled_from([0, 50]), replicas=st.integers(1, 4))
    def begin(self, probes: int, failures: int, percent: int, replicas: int) -> None:
        self.keys = CircuitRules(failures, percent, 10, probes, 10.0, 60.0)
        self.core = Circuits()
        self.now = 1000.0
        self.newest = replicas
        self.replicas = {number: Replica() for number in range(1, replicas + 1)}
        self.begun: Counter[int] = Counter()
        self.handle(Populated(tuple(self.replicas), (), (), self.newest))
        self.handle(Arranged({"api": CircuitPlan(self.keys, (A,), True)}))
        self.populate()

    def handle(self, event: CircuitEvent) -> None:
        self.core.handle(event, self.now)

    def populate(self) -> None:
        self.handle(Populated((), tuple(self.replicas), (), self.newest))

    def some(self, data: st.DataObject) -> int:
        return data.draw(st.sampled_from(sorted(self.replicas)))

    @rule(seconds=st.sampled_from([0.1, 0.5, 1.0, 3.0, 11.0]))
    def passes(self, seconds: float) -> None:
        self.now += seconds
        self.handle(Passed())

    @precondition(lambda self: self.replicas)
    @rule(data=st.data())
    def hears(self, data: st.DataObject) -> None:
        number = self.some(data)
        self.replicas[number].hear(self.core.value().get("api", {}).get(A), number)

    @precondition(lambda self: self.replicas)
    @rule(data=st.data(), count=st.integers(1, 8))
    def begins(self, data: st.DataObject, count: int) -> None:
        replica = self.replicas[self.some(data)]
        for _ in range(count):
            number = replica.begin()
            if number:
                self.begun[number] += 1

    @precondition(lambda self: self.replicas)
    @rule(data=st.data(), count=st.integers(1, 8), is_good=st.booleans())
    def settles(self, data: st.DataObject, count: int, is_good: bool) -> None:
        replica = self.replicas[self.some(data)]
        for _ in range(min(count, len(replica.under_way))):
            replica.settle(is_good)

    @precondition(lambda self: self.replicas)
    @rule(data=st.data())
    def reports(self, data: st.DataObject) -> None:
        self.report(self.some(data))

    def report(self, number: int) -> None:
        replica = self.replicas[number]
        replica.counted.in_flight = len(replica.under_way)
        self.handle(Reported(number, [replica.counted.row()]))

    @precondition(lambda self: self.replicas)
    @rule(data=st.data(), hear=st.booleans())
    def is_struck(self, data: st.DataObject, hear: bool) -> None:
        """Everything there fails, for as long as it takes to open, and to be tried again."""
        number = self.some(data)
        self.replicas[number].counted.bad(10)
        self.report(number)
        self.passes(self.keys.open_duration)
        for each, replica in self.replicas.items() if hear else ():
            replica.hear(self.core.value().get("api", {}).get(A), each)

    @precondition(lambda self: len(self.replicas) < 5)
    @rule()
    def is_born(self) -> None:
        self.newest += 1
        self.replicas[self.newest] = Replica()
        self.populate()

    @precondition(lambda self: self.replicas)
    @rule(data=st.data())
    def dies(self, data: st.DataObject) -> None:
        del self.replicas[self.some(data)]
        self.populate()

    @rule()
    def is_restarted(self) -> None:
        self.core = Circuits(self.core.kept(), int(self.now * 1000))
        self.populate()
        self.handle(Arranged({"api": CircuitPlan(self.keys, (A,), True)}))

    @invariant()
    def no_round_has_more_probes_than_are_wanted(self) -> None:
        assert all(count <= self.keys.probes for count in self.begun.values())

    @invariant()
    def what_is_told_may_be_told(self) -> None:
        told = self.core.value().get("api", {}).get(A)
        if told and told[0] == HALF_OPEN:
            assert sum(told[2].values()) <= self.keys.probes
            assert told[2].keys() <= self.replicas.keys()

    def teardown(self) -> None:
        """Wherever that has led: once the backend is well and one replica has requests for it, it closes soon."""
        if not hasattr(self, "core"):
            return
        if not self.replicas:
            self.is_born()
        for replica in self.replicas.values():
            while replica.under_way:
                replica.settle(True)
        busy = max(self.replicas)
        rounds = ceil(len(self.replicas) / self.keys.probes) + 2
        until = self.now + self.keys.open_duration + rounds * RAREST + 0.5
        while self.now < until and self.core.value():
            self.now += 0.1
            self.handle(Passed())
            for number, replica in self.replicas.items():
                replica.hear(self.core.value().get("api", {}).get(A), number)
            if self.replicas[busy].begin() is not None:
                self.replicas[busy].settle(True)
            for number in self.replicas:
                self.report(number)
        assert self.core.figures(self.now)["api", A].circuit is CLOSED


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
