"""Statistics and circuits of all backends: one of each for all replicas of upstream, from what these report.

A row tells what a replica has counted since its start, so that one that is lost or repeated changes nothing: what is new is
the difference to the last one heard. Of replicas that lived before this discovery the first word only says where they stand.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from pingap.config.model import Snapshot, Upstream
from pingap.stages.circuit_states import CLOSED, HALF_OPEN, OPEN, CircuitState
from pingap.stages.discovery.circuit import Circuit, CircuitRules
from pingap.stages.discovery.dues import Dues
from pingap.stages.discovery.window import NOTHING, Totals, Window
from pingap.stages.messages import BackendRow

CHECK_AGAIN: Final = 1.0
"""Seconds between two checks of a backend that replicas call for."""

MOST_UNKNOWN: Final = 10_000
"""Backends of which a replica tells before they are known here, and that are remembered."""

SHARES_LOADS: Final = ("least_conn", "p2c")
"""Algorithms for which replicas know of each other's requests in flight."""


@dataclass(frozen=True, slots=True)
class CircuitPlan:
    """What is kept of one upstream."""

    rules: CircuitRules
    addresses: tuple[str, ...]
    """Of its backends."""
    shares_loads: bool = False
    """Its replicas want to know of each other's requests in flight."""


def circuits_of(snapshot: Snapshot) -> dict[str, CircuitPlan]:
    """What the configuration asks for, by the name of the upstream; which backends there are is not known to it."""
    return {name: CircuitPlan(_rules(one), (), one.algo.kind in SHARES_LOADS) for name, one in snapshot.upstreams.items()}


def _rules(upstream: Upstream) -> CircuitRules:
    return CircuitRules(
        upstream.circuit_break_max_consecutive_failures,
        upstream.circuit_break_max_failure_percent,
        upstream.circuit_break_min_requests_threshold,
        upstream.circuit_break_half_open_consecutive_success_threshold,
        upstream.circuit_break_open_duration,
        upstream.backend_stats_interval,
    )


# -- events ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Arranged:
    """These upstreams with these backends there are from now on."""

    upstreams: Mapping[str, CircuitPlan]


@dataclass(frozen=True, slots=True)
class Populated:
    """These replicas of upstream there are from now on."""

    starting: tuple[int, ...]
    ready: tuple[int, ...]
    """These take requests."""
    draining: tuple[int, ...]
    newest: int
    """The highest id there ever was: an actor that is no newer and not named here is dead."""


@dataclass(frozen=True, slots=True)
class Reported:
    """A replica has sent rows."""

    replica: int
    rows: Sequence[BackendRow]
    is_whole: bool = False
    """It is new to the replica that this discovery lives: these are rows of all that it knows."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """The health checks of a backend pass again, after they had failed."""

    upstream: str
    address: str


@dataclass(frozen=True, slots=True)
class Passed:
    """Time has passed."""


CircuitEvent = Arranged | Populated | Reported | Recovered | Passed


# -- commands ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PublishCircuits:
    """`Circuits.value` has changed."""


@dataclass(frozen=True, slots=True)
class PublishLoads:
    """`Circuits.loads` may have changed."""


@dataclass(frozen=True, slots=True)
class CircuitMoved:
    """One has come into another state."""

    upstream: str
    address: str
    state: CircuitState
    reason: str = ""
    """Why it has opened."""
    was_closed: bool = True
    """Before that; else it has opened again, since a probe has failed."""


@dataclass(frozen=True, slots=True)
class CheckNow:
    """A replica could not reach this backend: whether it is healthy should be known at once."""

    upstream: str
    address: str


CircuitCommand = PublishCircuits | PublishLoads | CircuitMoved | CheckNow


class BackendFigures(NamedTuple):
    """What an operator may want to know of one backend, over all replicas."""

    requests: int = 0
    """Since the replicas began."""
    failures: int = 0
    """Of these."""
    window: Totals = NOTHING
    """Of the last `backend_stats_interval`."""
    in_flight: int = 0
    connections: int = 0
    """That stand, idle ones included."""
    circuit: CircuitState = CLOSED
    since: float = 0.0
    """Monotonic seconds at which the circuit came into that state."""
    open_for: float = 0.0
    """Seconds that it stays open yet."""


_Key = tuple[str, str]
"""Upstream and address."""


@dataclass(slots=True)
class _BackendCircuit:
    circuit: Circuit
    window: Window
    """Of what operators see. The circuit has its own, since it is judged by what came after it closed."""
    sums: Totals = NOTHING
    """Since the replicas began."""
    in_flight: dict[int, int] = field(default_factory=dict)
    """Of the replicas that live; those with none are not named."""
    connections: dict[int, int] = field(default_factory=dict)
    checked: float = -CHECK_AGAIN
    """When a check was called for."""


class Circuits:
    """Times are monotonic seconds. It opens nothing and waits for nothing: `due` says when it wants to hear that time has passed."""

    def __init__(self, before: Mapping[str, Any] | None = None, last_round: int = 0) -> None:
        """before: what `kept` told in the life before. last_round: no round has had a number above it."""
        self._before = dict(_read(before or {}))
        self._round = last_round
        self._plans: Mapping[str, CircuitPlan] = {}
        self._backends: dict[_Key, _BackendCircuit] = {}
        self._moving: dict[_Key, _BackendCircuit] = {}
        """Those whose circuit is not closed."""
        self._stirred: set[_Key] = set()
        """Of these, and of those that were: where something has happened."""
        self._dues: Dues[_Key] = Dues()
        """When time alone moves one, or calls for another round."""
        self._unchecked: Dues[_Key] = Dues()
        """Backends that could not be reached, by when they may be checked."""
        self._has_changed = False
        """`value`, since somebody was told."""
        self._heard: dict[int, dict[_Key, BackendRow]] = {}
        """The last rows, by replica."""
        self._ready: tuple[int, ...] = ()
        self._alive: frozenset[int] = frozenset()
        self._newest = -1
        """Before the first table of replicas."""
        self._early: list[Reported] = []
        """What came before that."""
        self._older: frozenset[int] = frozenset()
        """Replicas that lived before this did: what they tell at first is not new."""
        self._introduced: set[int] = set()
        """Those that have told all of it."""

    # -- what there is to tell ------------------------------------------------------------

    def value(self) -> dict[str, dict[str, list[Any]]]:
        """The value of topic `circuits`: [state, round, {replica: probes}] of those that are not closed."""
        value: dict[str, dict[str, list[Any]]] = {}
        for (upstream, address), backend in sorted(self._moving.items()):
            circuit = backend.circuit
            value.setdefault(upstream, {})[address] = [int(circuit.state), circuit.round, circuit.granted]
        return value

    def kept(self) -> dict[str, dict[str, list[Any]]]:
        """What the next life is to know: [state, since when] of the same."""
        kept: dict[str, dict[str, list[Any]]] = {}
        for (upstream, address), backend in sorted(self._moving.items()):
            kept.setdefault(upstream, {})[address] = [int(backend.circuit.state), backend.circuit.since]
        return kept

    def loads(self) -> dict[str, dict[str, dict[int, int]]]:
        """The value of topic `loads`. Replicas, backends and upstreams with nothing in flight are not named."""
        if len(self._alive) < 2:
            return {}
        loads: dict[str, dict[str, dict[int, int]]] = {}
        for upstream, plan in self._plans.items():
            for address in plan.addresses if plan.shares_loads else ():
                in_flight = self._backends[upstream, address].in_flight
                if in_flight:
                    loads.setdefault(upstream, {})[address] = dict(in_flight)
        return loads

    def figures(self, now: float) -> dict[tuple[str, str], BackendFigures]:
        """Of every backend, by upstream and address."""
        return {key: self._figures(backend, now) for key, backend in self._backends.items()}

    def _figures(self, backend: _BackendCircuit, now: float) -> BackendFigures:
        circuit = backend.circuit
        in_flight, connections = sum(backend.in_flight.values()), sum(backend.connections.values())
        open_for = max(0.0, (circuit.due(now) or now) - now) if circuit.state is OPEN else 0.0
        window = backend.window.totals(now)
        return BackendFigures(*backend.sums, window, in_flight, connections, circuit.state, circuit.since, open_for)

    @property
    def due(self) -> float | None:
        """When it wants to hear that time has passed; None when never."""
        return min((due for due in (self._dues.first, self._unchecked.first) if due is not None), default=None)

    def _due(self, backend: _BackendCircuit, now: float) -> float | None:
        if backend.circuit.state is HALF_OPEN and not self._ready:
            return None  # nobody is there to try it
        return backend.circuit.due(now)

    # -- what happens -----------------------------------------------------------------------

    def handle(self, event: CircuitEvent, now: float) -> list[CircuitCommand]:
        """What is to be done, in this order."""
        commands: list[CircuitCommand] = []
        match event:
            case Arranged(upstreams):
                commands += self._arranged(upstreams, now)
            case Populated():
                commands += self._populated(event, now)
            case Reported():
                if self._newest < 0:
                    self._early.append(event)  # whether its replica lived before this is not known yet
                else:
                    commands += self._reported(event, now)
            case Recovered(upstream, address):
                commands += self._recovered((upstream, address), now)
            case Passed():
                pass
        commands += self._time_passed(now)
        if not self._has_changed:
            return commands
        self._has_changed = False
        return [PublishCircuits(), *commands]

    def _seen(self) -> dict[_Key, tuple[CircuitState, int, tuple[int, ...]]]:
        """What a change of `value` would show in."""
        return {
            key: (backend.circuit.state, backend.circuit.round, tuple(backend.circuit.granted)) for key, backend in self._moving.items()
        }

    def _arranged(self, upstreams: Mapping[str, CircuitPlan], now: float) -> Iterator[CircuitCommand]:
        before = self._seen()
        self._stirred |= self._moving.keys()
        old, self._plans = self._plans, upstreams
        backends: dict[_Key, _BackendCircuit] = {}
        for upstream, plan in upstreams.items():
            has_changed = upstream not in old or old[upstream].rules != plan.rules
            for address in plan.addresses:
                key = upstream, address
                known = self._backends.get(key)
                if known is None:
                    known = _BackendCircuit(self._restored(key, plan.rules, now), Window(plan.rules.interval))
                    self._take_up(key, known)
                elif has_changed:
                    known.window.resize(plan.rules.interval, now)
                    if known.circuit.judge_by(plan.rules, now):
                        yield CircuitMoved(upstream, address, CLOSED)
                backends[key] = known
        for key in self._backends.keys() - backends.keys():
            self._unchecked.set(key, None)
            for rows in self._heard.values():
                rows.pop(key, None)  # if it comes again, replicas begin to count anew
        for rows in self._heard.values():
            for key in [key for key in rows if key[0] not in upstreams]:
                del rows[key]
        self._before = {key: kept for key, kept in self._before.items() if key[0] in upstreams and key not in backends}
        self._backends = backends
        self._moving = {key: backend for key, backend in backends.items() if backend.circuit.state is not CLOSED}
        self._stirred |= self._moving.keys()
        self._has_changed = self._has_changed or self._seen() != before
        yield PublishLoads()

    def _take_up(self, key: _Key, backend: _BackendCircuit) -> None:
        """What replicas have said of it before it was known here."""
        for replica, rows in self._heard.items():
            if (row := rows.get(key)) is not None:
                backend.sums = Totals(backend.sums.requests + row.requests, backend.sums.failures + row.failures)
                _put(backend.in_flight, replica, row.in_flight)
                _put(backend.connections, replica, row.connections)

    def _restored(self, key: _Key, rules: CircuitRules, now: float) -> Circuit:
        """As the life before has left it. Replicas have begun their probes under it, or lost them: all are granted anew."""
        state, since = self._before.get(key, (CLOSED, now))
        if not rules.is_breaker:
            return Circuit(rules, now)
        return Circuit(rules, min(since, now), state)

    def _populated(self, event: Populated, now: float) -> Iterator[CircuitCommand]:
        alive = frozenset((*event.starting, *event.ready, *event.draining))
        self._older = self._older & alive if self._newest >= 0 else frozenset((*event.ready, *event.draining))
        self._ready, self._alive, self._newest = event.ready, alive, event.newest
        self._introduced &= alive
        for gone in self._heard.keys() - alive:
            for key in self._heard.pop(gone):
                backend = self._backends.get(key)
                if backend is not None:
                    backend.in_flight.pop(gone, None)
                    backend.connections.pop(gone, None)
        before = self._seen()
        for backend in self._moving.values():
            backend.circuit.grant_only_to(event.ready)
        self._stirred |= self._moving.keys()
        self._has_changed = self._has_changed or self._seen() != before
        yield PublishLoads()
        early, self._early = self._early, []
        for report in early:
            yield from self._reported(report, now)

    def _reported(self, report: Reported, now: float) -> Iterator[CircuitCommand]:
        replica = report.replica
        if replica <= self._newest and replica not in self._alive:
            return  # the last word of a dead one; nobody would take back what it has in flight
        is_old = replica in self._older and (report.is_whole or replica not in self._introduced)
        if report.is_whole:
            self._introduced.add(replica)
        heard = self._heard.setdefault(replica, {})
        loads = False
        for row in report.rows:
            key = row.upstream, row.address
            last, backend = heard.get(key), self._backends.get(key)
            is_remembered = is_old and len(heard) < len(self._backends) + MOST_UNKNOWN
            if backend is not None or last is not None or is_remembered:
                heard[key] = row  # of one that has left nothing is to be known; of one that is not known yet, where it stands
            if backend is None:
                continue
            if row.in_flight != backend.in_flight.get(replica, 0):
                _put(backend.in_flight, replica, row.in_flight)
                loads = loads or self._plans[row.upstream].shares_loads
            _put(backend.connections, replica, row.connections)
            new = _new(row, last)
            backend.sums = Totals(backend.sums.requests + new.requests, backend.sums.failures + new.failures)
            yield from self._taken(key, backend, replica, row, _New(0, 0, 0, 0) if is_old and last is None else new, now)
        if loads:
            yield PublishLoads()

    def _taken(self, key: _Key, backend: _BackendCircuit, replica: int, row: BackendRow, new: _New, now: float) -> Iterator[CircuitCommand]:
        circuit = backend.circuit
        if new.requests > 0 or new.failures > 0 or new.passed > 0:
            backend.window.add(new.requests, new.failures, now)
            reason = circuit.counted(new.requests, new.failures, new.passed, row.streak, now)
            if reason:
                self._moving[key] = backend
                self._has_changed = True
                yield CircuitMoved(*key, OPEN, reason)
        if circuit.probed(replica, row.round, row.passed, row.failed, now):
            if circuit.state is CLOSED:
                del self._moving[key]
                self._stirred.add(key)
            self._has_changed = True
            yield CircuitMoved(*key, circuit.state, "" if circuit.state is CLOSED else "a probe failed", False)
        if new.unreachable > 0:
            self._unchecked.set(key, backend.checked + CHECK_AGAIN)
        if key in self._moving:
            self._stirred.add(key)

    def _recovered(self, key: _Key, now: float) -> Iterator[CircuitCommand]:
        backend = self._moving.get(key)
        if backend is not None and backend.circuit.recovered(now):
            self._has_changed = True
            self._stirred.add(key)
            yield CircuitMoved(*key, HALF_OPEN)

    def _time_passed(self, now: float) -> Iterator[CircuitCommand]:
        for key in self._unchecked.take(now):
            self._backends[key].checked = now
            yield CheckNow(*key)
        stirred, self._stirred = self._stirred.union(self._dues.take(now)), set()
        for key in sorted(stirred):
            backend = self._moving.get(key)
            if backend is None:
                self._dues.set(key, None)
                continue
            circuit = backend.circuit
            if circuit.try_again(now):
                self._has_changed = True
                yield CircuitMoved(*key, HALF_OPEN)
            if self._ready and circuit.is_grant_due(self._ready, backend.in_flight, now):
                self._has_changed = True
                self._round += 1
                circuit.grant(self._round, self._ready, now)
            self._dues.set(key, self._due(backend, now))


def _read(kept: Mapping[str, Any]) -> Iterator[tuple[_Key, tuple[CircuitState, float]]]:
    """What `Circuits.kept` told; whatever is not of that shape is left out."""
    for upstream, backends in kept.items():
        for address, one in backends.items() if isinstance(backends, dict) else ():
            match one:
                case [1 | 2 as state, float(since)]:
                    yield (upstream, address), (CircuitState(state), since)


class _New(NamedTuple):
    """What a row tells that the one before did not."""

    requests: int
    failures: int
    passed: int
    """Requests of which the answer has come whole, and was no failure."""
    unreachable: int


def _new(row: BackendRow, last: BackendRow | None) -> _New:
    if last is None or row.requests < last.requests or row.failures < last.failures:
        # The first one; or its backend had left and came again, and the replica has begun anew.
        return _New(row.requests, row.failures, _passed(row), row.unreachable)
    requests, failures = row.requests - last.requests, row.failures - last.failures
    return _New(requests, failures, _passed(row) - _passed(last), row.unreachable - last.unreachable)


def _passed(row: BackendRow) -> int:
    return row.requests - row.failures - row.begun


def _put(counts: dict[int, int], replica: int, count: int) -> None:
    if count:
        counts[replica] = count
    else:
        counts.pop(replica, None)
