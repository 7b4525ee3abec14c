"""Scripts for circuits: `play.at(3) >> event << lines`, each line a command of discovery in short words.

The replicas of upstream are here: what they count goes into rows as they would send them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pingap.stages.circuit_states import CircuitState
from pingap.stages.discovery.circuit import MOVES, Circuit, CircuitRules
from pingap.stages.discovery.circuits import (
    Arranged,
    BackendFigures,
    CheckNow,
    CircuitCommand,
    CircuitEvent,
    CircuitMoved,
    CircuitPlan,
    Circuits,
    Passed,
    Populated,
    PublishCircuits,
    Recovered,
    Reported,
)
from pingap.stages.messages import BackendRow
from pingap.stages.states import check_moves

check_moves(Circuit, "state", MOVES)

A = "a:1"


@dataclass
class Counted:
    """A replica's own counts of one backend."""

    requests: int = 0
    failures: int = 0
    streak: int = 0
    unreachable: int = 0
    in_flight: int = 0
    connections: int = 0
    round: int = 0
    passed: int = 0
    failed: int = 0
    begun: int = 0

    def good(self, count: int = 1) -> None:
        if count:
            self.requests, self.streak = self.requests + count, 0

    def bad(self, count: int = 1) -> None:
        self.requests, self.failures, self.streak = self.requests + count, self.failures + count, self.streak + count

    def begins(self, count: int = 1) -> None:
        """The heads of answers have come."""
        self.requests, self.begun = self.requests + count, self.begun + count

    def ends(self, count: int = 1) -> None:
        """The rest of these, too."""
        self.begun, self.streak = self.begun - count, 0

    def cut(self, count: int = 1) -> None:
        self.begun, self.failures, self.streak = self.begun - count, self.failures + count, self.streak + count

    def probed(self, number: int, passed: int, failed: int = 0) -> None:
        """Probes of a round settled, which count as requests besides."""
        if number != self.round:
            self.round, self.passed, self.failed = number, 0, 0
        self.passed, self.failed = self.passed + passed, self.failed + failed
        self.good(passed)
        self.bad(failed)

    def row(self, upstream: str = "api", address: str = A) -> BackendRow:
        return BackendRow(upstream, address, **vars(self))


class Play:
    def __init__(self, rules: CircuitRules, replicas: Sequence[int] = (11, 12), core: Circuits | None = None) -> None:
        """All replicas have just been started. core: one with a past."""
        self.core = core or Circuits()
        self.now = 1000.0
        self.lines: list[str] = []
        self.of = {replica: Counted() for replica in replicas}
        newest = max(replicas)
        self >> Populated(tuple(replicas), (), (), newest) >> Populated((), tuple(replicas), (), newest)
        self >> Arranged({"api": CircuitPlan(rules, (A,), True)})

    def at(self, seconds: float) -> Play:
        """Moves the clock to so many seconds after the beginning."""
        self.now = 1000.0 + seconds
        return self

    def __rshift__(self, event: CircuitEvent) -> Play:
        self.lines = [text for command in self.core.handle(event, self.now) if (text := self._line(command))]
        return self

    def __lshift__(self, wanted: list[str]) -> Play:
        assert self.lines == wanted
        return self

    def report(self, replica: int) -> Play:
        return self >> Reported(replica, [self.of[replica].row()])

    def good(self, replica: int, count: int = 1) -> Play:
        """Requests have passed, and the replica says so."""
        self.of[replica].good(count)
        return self.report(replica)

    def bad(self, replica: int, count: int = 1) -> Play:
        self.of[replica].bad(count)
        return self.report(replica)

    def probed(self, replica: int, passed: int, failed: int = 0, number: int = 0) -> Play:
        """Probes of the newest round, or of another."""
        self.of[replica].probed(number or self.round, passed, failed)
        return self.report(replica)

    def flying(self, replica: int, in_flight: int) -> Play:
        self.of[replica].in_flight = in_flight
        return self.report(replica)

    def recovers(self) -> Play:
        return self >> Recovered("api", A)

    def passes(self) -> Play:
        return self >> Passed()

    @property
    def told(self) -> list[Any] | None:
        """What replicas obey, of the backend; None when it is not named."""
        return self.core.value().get("api", {}).get(A)

    @property
    def round(self) -> int:
        told = self.told
        assert told, "it is closed"
        number: int = told[1]
        return number

    @property
    def figures(self) -> BackendFigures:
        return self.core.figures(self.now)["api", A]

    def _line(self, command: CircuitCommand) -> str:
        match command:
            case PublishCircuits():
                state, _, shares = self.told or [0, 0, {}]
                return " ".join(["tell", _WORDS[state], *(f"{replica}:{share}" for replica, share in shares.items())])
            case CircuitMoved(state=state, reason=reason):
                return _WORDS[state] + (f": {reason}" if reason else "")
            case CheckNow(address=address):
                return f"check {address}"
            case _:
                return ""


_WORDS = {CircuitState.CLOSED: "closed", CircuitState.OPEN: "open", CircuitState.HALF_OPEN: "half-open"}
