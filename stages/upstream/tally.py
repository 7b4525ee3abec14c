"""What this replica has seen of one backend, for discovery, which decides on circuits for all replicas.

Figures only grow, from the tally's beginning on: of two reports the later one says all, and none is missed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, Protocol

from pingap.stages.messages import BackendRow
from pingap.stages.upstream.core import Outcome

FAULTS: Final = (
    Outcome.CONNECT,
    Outcome.CONNECT_TIMEOUT,
    Outcome.CLOSED_FRESH,
    Outcome.TIMEOUT,
    Outcome.STALLED,
    Outcome.INVALID,
    Outcome.RESET,
    Outcome.CUT,
)
"""What the backend is to blame for. A kept connection that closes is everyday, and what was refused untouched is good manners."""

UNREACHABLE: Final = (Outcome.CONNECT, Outcome.CONNECT_TIMEOUT, Outcome.CLOSED_FRESH, Outcome.TIMEOUT, Outcome.STALLED)
"""Of these, those after which it is worth a look whether it lives."""

ANY_5XX: Final = frozenset(range(500, 600))
"""Statuses that are failures where the configuration names none."""


class TallyKeeper(Protocol):
    """Who reports."""

    def touched(self, tally: Tally) -> None:
        """It has changed, for the first time since it was reported."""

    def hurry(self) -> None:
        """What has changed is to be known at once."""


class Counted(Protocol):
    """A backend as one generation of the configuration has it."""

    active: int

    @property
    def open(self) -> int:
        """Connections."""


class Tally:
    """Of one backend of one upstream, over generations of the configuration."""

    __slots__ = (
        "_keeper",
        "address",
        "begun",
        "failed",
        "failures",
        "is_gone",
        "is_touched",
        "passed",
        "requests",
        "round",
        "states",
        "streak",
        "unreachable",
        "upstream",
    )

    def __init__(self, keeper: TallyKeeper, upstream: str, address: str) -> None:
        self._keeper = keeper
        self.upstream = upstream
        self.address = address
        self.states: list[Counted] = []
        """One of each generation that still has something there."""
        self.requests = 0
        self.failures = 0
        self.streak = 0
        self.unreachable = 0
        self.round = 0
        """The newest in which a probe was settled."""
        self.passed = 0
        self.failed = 0
        self.begun = 0
        self.is_touched = False
        self.is_gone = False
        """Its backend has left, and nobody is told any more. Should that come again, another tally counts."""

    def went_well(self) -> None:
        """One request more, and its answer was no failure."""
        self.requests += 1
        self.streak = 0
        if not self.is_touched:
            self.touch()

    def has_begun(self) -> None:
        """One request more, and its answer begins as one that is no failure. Whether it will be cut is to be seen."""
        self.requests += 1
        self.begun += 1
        self.touch()

    def has_ended(self) -> None:
        """One that has begun so was not cut."""
        self.begun -= 1
        self.streak = 0
        self.touch()

    def went_wrong(self, is_unreachable: bool, has_begun: bool = False) -> None:
        """One request more that failed. has_begun: no more requests, one that had begun well."""
        if has_begun:
            self.begun -= 1
        else:
            self.requests += 1
        self.failures += 1
        self.streak += 1
        if is_unreachable:
            self.unreachable += 1
        self.touch()
        self._keeper.hurry()

    def probe_settled(self, number: int, has_passed: bool) -> None:
        """number: of its round."""
        if number > self.round:
            self.round, self.passed, self.failed = number, 0, 0
        if number == self.round:
            if has_passed:
                self.passed += 1
            else:
                self.failed += 1
        self.touch()
        self._keeper.hurry()

    def touch(self) -> None:
        """It is to be reported."""
        if not (self.is_touched or self.is_gone):
            self.is_touched = True
            self._keeper.touched(self)

    def row(self) -> BackendRow:
        """What there is to report."""
        in_flight = sum(state.active for state in self.states)
        connections = sum(state.open for state in self.states)
        # fmt: off
        return BackendRow(
            self.upstream, self.address, self.requests, self.failures, self.streak, self.unreachable, in_flight, connections,
            self.round, self.passed, self.failed, self.begun,
        )
        # fmt: on

    def prune(self, current: Counted) -> None:
        """Of older generations only those stay that still have something there."""
        self.states = [state for state in self.states if state is current or state.active or state.open]


class Tallies:
    """Of one replica."""

    def __init__(self, keeper: TallyKeeper) -> None:
        self._keeper = keeper
        self._known: dict[str, dict[str, Tally]] = {}

    def of(self, upstream: str, address: str) -> Tally:
        """The one of a backend, whatever generation asks."""
        known = self._known.setdefault(upstream, {})
        tally = known.get(address)
        if tally is None:
            tally = known[address] = Tally(self._keeper, upstream, address)
        return tally

    def all(self) -> Iterator[Tally]:
        for known in self._known.values():
            yield from known.values()

    def keep(self, upstream: str, current: Mapping[str, Counted]) -> None:
        """Forgets backends of this upstream but the current ones, by address: should one come again, it begins anew."""
        known = self._known.pop(upstream, {})
        kept = {address: tally for address, tally in known.items() if address in current}
        for address, tally in known.items():
            if address in kept:
                tally.prune(current[address])
            else:
                tally.is_gone = True
        if kept:
            self._known[upstream] = kept
