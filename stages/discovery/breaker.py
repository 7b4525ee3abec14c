"""The circuits of all backends, acting: reports of replicas come in, topics `circuits` and `loads` go out (circuits.py decides)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any, Final

from pingap.bus.actor import Context
from pingap.bus.members import DRAINING, READY, STARTING, Members
from pingap.observability.notices import BACKEND_STATUS
from pingap.stages.circuit_states import CLOSED, OPEN
from pingap.stages.discovery.circuits import (
    Arranged,
    BackendFigures,
    CheckNow,
    CircuitEvent,
    CircuitMoved,
    CircuitPlan,
    Circuits,
    Passed,
    Populated,
    PublishCircuits,
    PublishLoads,
    Recovered,
    Reported,
)
from pingap.stages.discovery.topic import KeptTopic
from pingap.stages.messages import BackendReport

CIRCUITS: Final = "circuits.last"
"""The keepsake."""

LOADS_AFTER: Final = 0.1
"""Seconds between two values of topic `loads`."""


class Breaker:
    """Of one discovery actor."""

    def __init__(self, context: Context, check_now: Callable[[str, str], None]) -> None:
        """check_now(upstream, address): whether that backend is healthy should be known at once."""
        self._context = context
        self._check_now = check_now
        self._core = Circuits()
        self._circuits: KeptTopic | None = None
        self._publish_loads: Callable[[Any], None] | None = None
        self._loads: Any = {}
        """As published last."""
        self._loads_timer: asyncio.TimerHandle | None = None
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, before: Mapping[str, Any] | None) -> None:
        """before: what the life before this one has kept."""
        now = monotonic()
        # The clock goes on over restarts, and so do the numbers of rounds.
        self._core = Circuits(before, int(now * 1e6))
        if self._context.members.seq:
            self.members_changed(self._context.members)

    def arrange(self, plans: Mapping[str, CircuitPlan]) -> None:
        """These backends there are from now on. From the first time on the topics are published."""
        self._feed(Arranged(plans))
        if self._circuits is None:
            self._circuits = KeptTopic(self._context, "circuits", CIRCUITS, self._core.value, self._core.kept)
            self._publish_loads = self._context.publish("loads", {})

    def members_changed(self, members: Members) -> None:
        ids: dict[str, list[int]] = {STARTING: [], READY: [], DRAINING: []}
        for member in sorted(members.of_stage("upstream"), key=lambda member: member.replica):
            ids.setdefault(member.state, []).append(member.id)
        self._feed(Populated(tuple(ids[STARTING]), tuple(ids[READY]), tuple(ids[DRAINING]), members.newest))

    def report(self, report: BackendReport) -> None:
        self._feed(Reported(report.sender, report.rows, report.is_whole))

    def recovered(self, upstream: str, address: str) -> None:
        """Its health checks pass again."""
        self._feed(Recovered(upstream, address))

    def figures(self) -> dict[tuple[str, str], BackendFigures]:
        """Of every backend, by upstream and address."""
        return self._core.figures(monotonic())

    def keep(self) -> None:
        """As KeptTopic has it."""
        if self._circuits is not None:
            self._circuits.keep()

    def stop(self) -> None:
        for timer in (self._timer, self._loads_timer):
            if timer is not None:
                timer.cancel()

    def _feed(self, event: CircuitEvent) -> None:
        now = monotonic()
        for command in self._core.handle(event, now):
            match command:
                case PublishCircuits():
                    if self._circuits is not None:
                        self._circuits.publish()  # at once: requests go there until it is known
                case PublishLoads():
                    if self._loads_timer is None:
                        self._loads_timer = self._context.loop.call_later(LOADS_AFTER, self._loads_due)
                case CircuitMoved():
                    self._moved(command)
                case CheckNow(upstream, address):
                    self._check_now(upstream, address)
        if self._timer is not None:
            self._timer.cancel()
        due = self._core.due
        self._timer = None if due is None else self._context.loop.call_later(max(0.0, due - now), self._feed, Passed())

    def _loads_due(self) -> None:
        self._loads_timer = None
        loads = self._core.loads()
        if loads != self._loads and self._publish_loads is not None:
            self._loads = loads
            self._publish_loads(loads)

    def _moved(self, moved: CircuitMoved) -> None:
        fields = {"upstream": moved.upstream, "addr": moved.address}
        if moved.state is OPEN and not moved.was_closed:
            # Every `open_duration` perhaps, for as long as the backend is ill: that is known already.
            self._context.log("info", "circuit is open again", **fields, reason=moved.reason)
            return
        if moved.state is OPEN:
            self._context.log("warn", "circuit is open: the backend gets no requests", **fields, reason=moved.reason)
        elif moved.state is CLOSED:
            self._context.log("info", "circuit is closed again", **fields)
        else:
            self._context.log("info", "circuit is half-open: the backend is tried", **fields)
            return
        state = "open" if moved.state is OPEN else "closed"
        text = f"upstream {moved.upstream}({moved.address}): the circuit is {state}" + (f": {moved.reason}" if moved.reason else "")
        self._context.notice("error" if moved.state is OPEN else "info", BACKEND_STATUS, text, **fields, circuit=state, reason=moved.reason)
