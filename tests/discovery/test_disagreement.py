"""How far replicas of upstream lag behind the circuit: the classes that run, on a clock that stands still between events.

Each replica is a `Group` with its `Reports`, discovery is `Circuits`; between them lies a bus that takes its time. Requests begin at an
even rate, and fail from one moment on.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pingap.bus.members import Members
from pingap.config.model import Upstream
from pingap.config.parts import Backend
from pingap.stages.discovery.circuit import CircuitRules
from pingap.stages.discovery.circuits import Arranged, CircuitEvent, CircuitPlan, Circuits, Passed, Populated, PublishCircuits, Reported
from pingap.stages.messages import BackendReport
from pingap.stages.upstream.core import Outcome
from pingap.stages.upstream.group import Group, Standing
from pingap.stages.upstream.reports import INTERVAL, LEAST, Reports

ADDRESS = "10.0.0.1:80"
FAILS_FROM = 0.3
"""Seconds of good answers at first."""


class Timeline:
    """What happens when. `call_at` and `time` are those of a loop."""

    def __init__(self) -> None:
        self.now = 0.0
        self._number = count()
        self._events: list[tuple[float, int, Event]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, function: Callable[..., None], *args: Any) -> Event:
        event = Event(function, args)
        heapq.heappush(self._events, (when, next(self._number), event))
        return event

    def run(self, until: float) -> None:
        while self._events and self._events[0][0] <= until:
            self.now, _, event = heapq.heappop(self._events)
            if not event.is_cancelled:
                event.function(*event.args)
        self.now = until


@dataclass
class Event:
    function: Callable[..., None]
    args: tuple[Any, ...]
    is_cancelled: bool = False

    def cancel(self) -> None:
        self.is_cancelled = True


@dataclass
class Bus:
    """A replica's context."""

    id: int
    loop: Timeline
    trip: float
    """Seconds from one process to another."""
    deliver: Callable[[BackendReport], None]

    def can_send(self, to: int) -> bool:
        return True

    def send(self, to: int, report: BackendReport) -> None:
        self.loop.call_at(self.loop.now + self.trip, self.deliver, report)


@dataclass
class World:
    replicas: int
    rate: float
    """Requests a second at each replica."""
    trip: float
    answer: float
    """Seconds until an answer."""
    rules: CircuitRules
    loop: Timeline = field(default_factory=Timeline)
    begun: list[tuple[float, int]] = field(default_factory=list)
    """When, and by which replica, while the circuit was closed to it."""
    settled: list[tuple[float, bool]] = field(default_factory=list)
    opened: float = 0.0
    probes: dict[int, int] = field(default_factory=dict)
    """Begun, by round."""

    def __post_init__(self) -> None:
        self.core = Circuits()
        ids = tuple(range(11, 11 + self.replicas))
        self.groups: dict[int, Group] = {}
        self.handle(Populated(ids, (), (), max(ids)))
        self.handle(Populated((), ids, (), max(ids)))
        self.handle(Arranged({"api": CircuitPlan(self.rules, (ADDRESS,))}))
        table = Members.of(1, max(ids), [(5, "discovery", 0, "", "ready")])
        for place, number in enumerate(ids):
            context: Any = Bus(number, self.loop, self.trip, self.reported)
            reports = Reports(context)
            self.groups[number] = Group("api", Upstream(addrs=(Backend("10.0.0.1", 80),)), lambda n: 0)
            self.groups[number].join(reports.tallies)
            reports.members_changed(table)
            self.loop.call_at(place / (self.rate * self.replicas), self.begins, number)
        for tick in range(1, 250):
            self.loop.call_at(tick / 20, self.handle, Passed())

    def handle(self, event: CircuitEvent) -> None:
        for command in self.core.handle(event, self.loop.now):
            if isinstance(command, PublishCircuits):
                for number in self.groups:
                    self.loop.call_at(self.loop.now + self.trip, self.told, number, self.core.value())

    def reported(self, report: BackendReport) -> None:
        self.handle(Reported(report.sender, report.rows, report.is_whole))

    def told(self, number: int, value: dict[str, Any]) -> None:
        self.groups[number].set_standing(Standing(circuits=value.get("api", {})), number, self.loop.now)

    def begins(self, number: int) -> None:
        self.loop.call_at(self.loop.now + 1 / self.rate, self.begins, number)
        (backend,) = self.groups[number].backends
        if not backend.is_usable:
            return
        probe = 0
        if backend.circuit:
            probe = backend.take_probe()
            self.probes[probe] = self.probes.get(probe, 0) + 1
        else:
            self.begun.append((self.loop.now, number))
        backend.active += 1
        self.loop.call_at(self.loop.now + self.answer, self.settles, number, probe)

    def settles(self, number: int, probe: int) -> None:
        (backend,) = self.groups[number].backends
        fails = self.loop.now >= FAILS_FROM
        self.settled.append((self.loop.now, fails))
        backend.settled(Outcome.ANSWERED, 500 if fails else 200, probe, False)

    def run_until_open(self) -> None:
        """And a little longer."""
        while not self.core.value():
            assert self.loop.now < FAILS_FROM + 10, "it never opens"
            self.loop.run(self.loop.now + 0.1)
        self.loop.run(self.loop.now + 0.3)

    @property
    def tripped(self) -> float:
        """When so many in a row had failed, as somebody would know it who sees all replicas at once."""
        row = 0
        for when, fails in self.settled:
            row = row + 1 if fails else 0
            if row == self.rules.max_failures:
                return when
        raise AssertionError("it never did")

    @property
    def late(self) -> list[tuple[float, int]]:
        """Begun after that."""
        return [(when, number) for when, number in self.begun if when > self.tripped]


@settings(max_examples=80, deadline=None)
@given(
    replicas=st.integers(1, 6),
    rate=st.sampled_from([20.0, 100.0, 333.0, 1000.0]),
    trip=st.sampled_from([0.0005, 0.005]),
    answer=st.sampled_from([0.001, 0.03, 0.2]),
    failures=st.integers(1, 60),
)
@pytest.mark.slow
def test_after_the_failure_that_opens_it_no_replica_begins_more_than_in_one_report_interval(
    replicas: int, rate: float, trip: float, answer: float, failures: int
) -> None:
    world = World(replicas, rate, trip, answer, CircuitRules(max_failures=failures, open_duration=100))
    world.run_until_open()
    last_good = max(when for when, fails in world.settled if not fails)
    # What has failed beside a success that was not told yet is not added up over replicas: that takes one interval at the most.
    interval = LEAST if world.tripped - last_good > INTERVAL + trip else INTERVAL + LEAST
    lag = interval + 2 * trip
    assert max((when for when, _ in world.late), default=0) <= world.tripped + lag + 1 / rate
    for number in world.groups:
        assert sum(which == number for _, which in world.late) <= rate * lag + 2


@settings(max_examples=30, deadline=None)
@given(
    replicas=st.integers(1, 6),
    rate=st.sampled_from([20.0, 100.0]),
    trip=st.sampled_from([0.0005, 0.005]),
    answer=st.sampled_from([0.001, 0.4, 1.7]),
    probes=st.integers(1, 7),
)
def test_probes_are_never_too_many(replicas: int, rate: float, trip: float, answer: float, probes: int) -> None:
    world = World(replicas, rate, trip, answer, CircuitRules(max_failures=3, open_duration=1, probes=probes))
    world.loop.run(FAILS_FROM + 8)
    assert world.probes
    assert max(world.probes.values()) <= probes
