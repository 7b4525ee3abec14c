"""The circuit breaker of one backend: its states as a table, and what moves it.

    CLOSED → OPEN       so many failures in a row, or such a part of the requests of the window failed
    OPEN → HALF_OPEN    open_duration has passed, or the backend's health checks pass again, which had failed
    HALF_OPEN → CLOSED  as many probes as are wanted have passed, none has failed
    HALF_OPEN → OPEN    a probe has failed
    to CLOSED           from everywhere, when the configuration no longer asks for a breaker

It is judged by what was counted since it closed: failures that have opened it once do not open it again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pingap.stages.circuit_states import CLOSED, HALF_OPEN, OPEN, CircuitState
from pingap.stages.discovery.half_open import HalfOpen
from pingap.stages.discovery.window import Window
from pingap.stages.states import Moves

MOVES: Final[Moves] = {
    CLOSED: {OPEN},
    OPEN: {HALF_OPEN, CLOSED},
    HALF_OPEN: {OPEN, CLOSED},
}


@dataclass(frozen=True, slots=True)
class CircuitRules:
    """What a backend's circuit goes by."""

    max_failures: int = 0
    """Failures in a row that open it; 0: it does not go by them."""
    max_percent: int = 0
    """Per cent of the requests of the window that open it when they fail; 0: it does not go by them."""
    least_requests: int = 10
    """Requests of the window below which their percentage says nothing."""
    probes: int = 5
    """Requests that must pass, half-open, to close it."""
    open_duration: float = 10.0
    """Seconds."""
    interval: float = 60.0
    """Seconds of the window."""

    @property
    def is_breaker(self) -> bool:
        return self.max_failures > 0 or self.max_percent > 0


class Circuit:
    """Times are monotonic seconds."""

    __slots__ = ("_rules", "_window", "half_open", "since", "state", "streak")

    def __init__(self, rules: CircuitRules, now: float, state: CircuitState = CLOSED) -> None:
        """state: in which it was left. now: when it came into it."""
        self._rules = rules
        self._window = Window(rules.interval)
        """Of what it is judged by."""
        self.state = state
        self.since = now
        self.streak = 0
        """Failures in a row, of all replicas."""
        self.half_open = HalfOpen(rules.probes) if state is HALF_OPEN else None
        """How far it has come in that state."""

    @property
    def round(self) -> int:
        """Number of the last grant of probes; 0 while there are none."""
        return self.half_open.round if self.half_open is not None else 0

    @property
    def granted(self) -> dict[int, int]:
        """Probes of that round, by replica."""
        return dict(self.half_open.granted) if self.half_open is not None else {}

    def judge_by(self, rules: CircuitRules, now: float) -> bool:
        """Other rules, from the next failure on; what was counted stays. True if that has closed it."""
        self._rules = rules
        self._window.resize(rules.interval, now)
        is_over = False
        if self.half_open is not None:
            self.half_open.wanted = rules.probes
            is_over = self.half_open.is_over
        if self.state is CLOSED or (rules.is_breaker and not is_over):
            return False
        self._close(now)
        return True

    def counted(self, requests: int, failures: int, passed: int, streak: int, now: float) -> str:
        """So many more requests and failures at the backend, and whole answers that were none.

        An answer that is cut after its head is a failure later than it is a request. streak: failures in a row at the replica that
        had them, as of now. Returns why that has opened it, "" if it has not.
        """
        if self.state is not CLOSED:
            return ""  # requests from before, or probes, which are judged apart
        # A replica none of whose requests passed goes on with what the others had; else that has ended.
        self.streak = self.streak + failures if passed <= 0 else streak
        self._window.add(requests, failures, now)
        reason = self._reason(now) if failures else ""
        if reason:
            self._open(now)
        return reason

    def _reason(self, now: float) -> str:
        rules = self._rules
        if 0 < rules.max_failures <= self.streak:
            return f"{self.streak} failures in a row" if self.streak > 1 else "a request failed"
        if rules.max_percent:
            window = self._window.totals(now)
            if window.requests >= rules.least_requests and window.percent >= rules.max_percent:
                return f"{window.percent:.0f} % of {window.requests} requests failed"
        return ""

    # -- open, and half-open ------------------------------------------------------------

    def due(self, now: float) -> float | None:
        """When time alone may move it or call for another round; None when it does not."""
        if self.state is OPEN:
            return self.since + self._rules.open_duration
        return self.half_open.due(now) if self.half_open is not None else None

    def try_again(self, now: float) -> bool:
        """Half-open, if it has been open for long enough. True if it has come to that now."""
        if self.state is not OPEN or now < self.since + self._rules.open_duration:
            return False
        self._half_open(now)
        return True

    def recovered(self, now: float) -> bool:
        """Its checks, which had failed, pass again: no reason to leave it alone any longer. True if it is half-open for that."""
        if self.state is not OPEN:
            return False
        self._half_open(now)
        return True

    def is_grant_due(self, replicas: Collection[int], in_flight: Mapping[int, int], now: float) -> bool:
        """There should be a round of probes; see HalfOpen."""
        return self.half_open is not None and self.half_open.is_due(replicas, in_flight, now)

    def grant(self, number: int, replicas: Sequence[int], now: float) -> None:
        """That round; see HalfOpen."""
        if self.half_open is not None:
            self.half_open.grant(number, replicas, now)

    def grant_only_to(self, replicas: Collection[int]) -> None:
        """All others take no requests any more."""
        if self.half_open is not None:
            self.half_open.without(self.half_open.granted.keys() - set(replicas))

    def probed(self, replica: int, number: int, passed: int, failed: int, now: float) -> bool:
        """How many probes of a round have passed and failed at a replica, as of now. True if that has moved it."""
        if self.half_open is None or not self.half_open.knows(replica, number):
            return False
        if failed:
            self._open(now)
            return True
        self.half_open.heard(replica, number, passed)
        if self.half_open.is_over:
            self._close(now)
            return True
        return False

    def _half_open(self, now: float) -> None:
        self.state, self.since = HALF_OPEN, now
        self.half_open = HalfOpen(self._rules.probes)

    def _open(self, now: float) -> None:
        self.state, self.since, self.half_open = OPEN, now, None

    def _close(self, now: float) -> None:
        self.state, self.since, self.half_open, self.streak = CLOSED, now, None, 0
        self._window.clear()
