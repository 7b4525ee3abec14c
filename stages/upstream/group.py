"""One upstream section: its backends, which of them gets a request, and what all of them have in common. It does no I/O."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple

from pingap.config.model import Upstream
from pingap.config.parts import Backend
from pingap.stages.circuit_states import CLOSED
from pingap.stages.http2 import engines
from pingap.stages.http2.engine import Http2Engine, LocalSettings
from pingap.stages.messages import Routed
from pingap.stages.upstream.backend import STEPS, BackendState, Doorkeeper
from pingap.stages.upstream.balance import MAX_CYCLE, Balancer, HashRing, LeastConnections, PowerOfTwo, RoundRobin
from pingap.stages.upstream.budget import RetryBudget
from pingap.stages.upstream.channel import Shared, Single
from pingap.stages.upstream.hash_key import key_of
from pingap.stages.upstream.tally import ANY_5XX, Tallies, Tally
from pingap.stages.upstream.transparent import NOBODY, TRANSPARENT, Transparent
from pingap.stages.upstream.waiting import LONGEST_WAIT, Moved, Place, Waiter, late_in

Found = tuple[str, int, int]
"""Host, port and weight of a backend, as discovery has found it."""

Circuit = tuple[int, int, Mapping[int, int]]
"""State, round, and the probes of that round for each upstream replica: of a circuit that is not closed."""

NO_CIRCUIT: Final[Circuit] = (CLOSED, 0, {})

PACE: Final = 0.2
"""Seconds between two looks at how far those are that start slowly: a new cycle of round_robin may cost some milliseconds."""

_KEEP_WEIGHTS: Final = frozenset(("round_robin", "p2c"))
"""Algorithms whose balancers have to be made anew for other weights; least_conn looks at them each time, and hash goes by full ones."""


class Standing(NamedTuple):
    """What discovery says of the backends of one upstream, by their address."""

    health: Mapping[str, bool] = {}
    """One that is not named is healthy."""
    drains: Sequence[str] = ()
    circuits: Mapping[str, Circuit] = {}


class Displaced(NamedTuple):
    """What is to be done when backends get no requests any more."""

    connections: list[Single | Shared]
    """To be closed."""
    waiters: list[Waiter]
    """To go elsewhere."""


class Group:
    """One upstream section with its backends and balancer."""

    def __init__(self, name: str, settings: Upstream, below: Callable[[int], int], is_open: bool = False) -> None:
        """below(n): a random integer from 0 to n - 1. is_open: where each request says where it goes, it may say anything."""
        self.name = name
        self.settings = settings
        self._below = below
        self._tallies: Tallies | None = None
        """Of this replica, once this is a group of the committed generation: a candidate may be withdrawn, and counts for itself."""
        self.failures = frozenset(settings.backend_failure_status_code) or ANY_5XX
        """Statuses of answers that are failures."""
        self.is_tls = bool(settings.sni)
        self.tls_contexts: dict[bool, Any] = {}
        """What secure.py keeps of it, by whether HTTP/1.1 alone is offered."""
        self.may_share = settings.alpn == "h2" or (settings.alpn == "h2h1" and self.is_tls)
        """HTTP/2: connections may be for many exchanges at a time."""
        self.by_host = settings.sni == "$host"
        """A connection is for requests of one name only."""
        self.is_plain_pool = not self.may_share and not self.by_host
        """Any idle connection will do for any request, and there are no others."""
        self.read_timeout = settings.read_timeout or LONGEST_WAIT
        self.write_timeout = settings.write_timeout or LONGEST_WAIT
        self.keeps_idle = True
        self.needs_key = settings.algo.kind == "hash"
        self.budget = RetryBudget(settings.retry_budget)
        self.backends: list[BackendState] = []
        self.leaving: list[BackendState] = []
        """No longer backends, but not yet without requests."""
        self.is_known = False
        """Of each entry it is known what it stands for, if only that there is nothing."""
        self.unplaced: dict[Place, None] = {}
        """Who came before it was."""
        self.moved = Moved()
        self.is_starting = False
        """One of its backends starts slowly."""
        self._starts_slowly = bool(settings.slow_start) and settings.algo.kind != "hash"
        self._weighed = 0.0
        """Monotonic seconds at which their weights were looked at last."""
        self.all_usable = True
        self.none_usable = False
        self._only: BackendState | None = None
        self._ring: HashRing | None = None
        self.transparent: Transparent | None = None
        """Knows where a request goes, where none of the backends is picked, as there are none."""
        if settings.discovery == TRANSPARENT:
            self.transparent = Transparent(settings, self._destination, is_open)
        self._balance()
        self.set_addresses({}, 0.0)

    @property
    def doorkeeper(self) -> Doorkeeper | None:
        """As a BackendGroup has it."""
        return self.transparent

    def _destination(self, backend: Backend) -> BackendState:
        """Of a request. Of what happens there nobody is told."""
        return BackendState(self, backend, backend, self._own_tally(backend.address))

    def _own_tally(self, address: str) -> Tally:
        """One that nobody is told of."""
        return Tally(NOBODY, self.name, address)

    def join(self, tallies: Tallies) -> None:
        """What its backends do is counted with what they did before, and told."""
        self._tallies = tallies
        for backend in self.backends:
            backend.count_by(tallies.of(self.name, backend.address))

    def serving(self) -> Collection[BackendState]:
        """Those that may get requests, or would if they were usable."""
        return self.backends if self.transparent is None else self.transparent.backends.values()

    def everywhere(self) -> list[BackendState]:
        """All that may have connections."""
        return [*self.serving(), *self.leaving]

    @property
    def pending(self) -> int:
        """Places in all its lines."""
        return sum(len(backend.pending) for backend in self.everywhere()) + len(self.unplaced)

    def waited_since(self, limit: float) -> list[Waiter]:
        """Takes those out of all lines that have been there since `limit`, in monotonic seconds, or longer."""
        late = self.moved.waited_since(limit) + late_in(self.unplaced, limit)
        for backend in self.everywhere():
            late += backend.waited_since(limit)
        return late

    @property
    def first_wait(self) -> float | None:
        """Monotonic seconds since which the first of those in its lines has waited; None when nobody is there."""
        lines = (self.unplaced, *(backend.pending for backend in self.everywhere()))
        first = min((next(iter(line)).since for line in lines if line), default=None)
        moved = self.moved.first
        return moved if first is None or (moved is not None and moved < first) else first

    # -- backends ---------------------------------------------------------------------

    def set_addresses(self, addresses: Mapping[str, Sequence[Found]], now: float) -> Displaced:
        """Takes discovery's word: entry → the backends that it stands for. A static entry of which nothing is known is itself a backend.

        Who stays keeps everything; who leaves ends what it has begun, and gets nothing new. now: monotonic seconds.
        """
        backends = self._arranged(addresses)
        if backends is None:
            return Displaced([], [])
        gone = [backend for backend in self.backends if backend not in backends]
        if self._starts_slowly and self.backends:
            for backend in backends:
                if backend not in self.backends:
                    backend.since = now
        self.backends = backends
        self.look_at_backends()
        self._only = backends[0] if len(backends) == 1 and backends[0].full_weight else None
        self._weigh(now)
        self._balance()
        unwanted: list[Single | Shared] = []
        waiters: list[Waiter] = []
        for backend in gone:
            unwanted += backend.keep_idle(False)
            waiters += [place.waiter for place in backend.pending]
            backend.pending.clear()
        self.leaving = [backend for backend in (*self.leaving, *gone) if backend.open]
        return Displaced(unwanted, waiters)

    def _arranged(self, addresses: Mapping[str, Sequence[Found]]) -> list[BackendState] | None:
        """The backends from now on; None when nothing changes."""
        known = {(backend.address, backend.entry): backend for backend in self.backends}
        is_static = self.settings.discovery == "static"
        places: dict[str, tuple[BackendState, int]] = {}
        told: set[str] = set()
        self.is_known = True
        for entry in self.settings.addrs:
            found = addresses.get(entry.address)
            if found is None:
                if not is_static:
                    self.is_known = False
                    continue
                found = [(entry.host, entry.port, entry.weight)]
            elif entry.address in told:
                continue  # written twice: its backends have the weight of both already
            told.add(entry.address)
            for host, port, weight in found:
                one = Backend(host, port, weight)
                address = one.address
                if address in places:  # by two names: one backend with the weight of both
                    first, before = places[address]
                    places[address] = first, before + weight
                else:
                    places[address] = known.get((address, entry.address)) or self._new(one, entry), weight
        backends = [backend for backend, _ in places.values()]
        if backends == self.backends and all(backend.full_weight == weight for backend, weight in places.values()):
            return None
        for backend, weight in places.values():
            backend.full_weight = weight
        return backends

    def _new(self, backend: Backend, entry: Backend) -> BackendState:
        tally = self._own_tally(backend.address) if self._tallies is None else self._tallies.of(self.name, backend.address)
        return BackendState(self, backend, entry, tally)

    def set_standing(self, standing: Standing, actor: int, now: float) -> Displaced:
        """Takes discovery's word on who gets requests. actor: this replica. now: monotonic seconds."""
        was_usable = [backend for backend in self.backends if backend.is_usable]
        somebody_starts = False
        unwanted: list[Single | Shared] = []
        for backend in self.backends:
            state, number, probes = standing.circuits.get(backend.address, NO_CIRCUIT)
            is_drained = backend.address in standing.drains
            if is_drained != backend.is_drained:
                unwanted += backend.keep_idle(self.keeps_idle and not is_drained)
            is_healthy = standing.health.get(backend.address, True)
            if backend.judge(is_healthy, is_drained, state, number, probes.get(actor, 0)) and self._starts_slowly:
                backend.since = now
                somebody_starts = True
        self.look_at_backends()
        if somebody_starts:
            self._reweigh(now)
        waiters: list[Waiter] = []
        serves = any(backend.is_usable and backend.full_weight for backend in self.backends)
        if self.is_known or serves:
            waiters += [place.waiter for place in self.unplaced]
            self.unplaced.clear()
        if serves:
            for backend in was_usable:
                if not backend.is_usable:
                    waiters += [place.waiter for place in backend.pending]
                    backend.pending.clear()
        return Displaced(unwanted, waiters)

    def set_loads(self, loads: Mapping[str, Mapping[int, int]], actor: int) -> None:
        """Takes discovery's word on the requests that are in flight elsewhere: by address and replica. actor: this one."""
        for backend in self.backends:
            backend.elsewhere = sum(count for replica, count in loads.get(backend.address, {}).items() if replica != actor)

    def look_at_backends(self) -> None:
        """Whether one of them gets requests has changed."""
        self.all_usable = all(backend.is_usable for backend in self.backends)
        self.none_usable = not any(backend.is_usable for backend in self.backends)

    # -- slow start ---------------------------------------------------------------------

    def take_over(self, before: Group, now: float) -> None:
        """It takes the place of `before`: who starts slowly there goes on with that, who is not there begins now.

        now: monotonic seconds.
        """
        since = {backend.address: backend.since for backend in before.backends}
        if self._starts_slowly and since:
            for backend in self.backends:
                backend.since = since.get(backend.address, now)
            self._reweigh(now)

    def grow(self, now: float) -> None:
        """The weight of those that start slowly goes on to their full one. now: monotonic seconds."""
        if now - self._weighed >= PACE:
            self._reweigh(now)

    def _reweigh(self, now: float) -> None:
        if self._weigh(now) and self.settings.algo.kind in _KEEP_WEIGHTS:
            self._balance()

    def _weigh(self, now: float) -> bool:
        """Whether a weight has changed."""
        self._weighed = now
        span = self.settings.slow_start
        starting = False
        for backend in self.backends:
            if backend.since and now - backend.since < span:
                starting = True
            else:
                backend.since = 0.0
        self.is_starting = starting
        has_changed = False
        for backend in self.backends:
            share = STEPS if starting else 1
            if backend.since:
                share = max(1, int(STEPS * (now - backend.since) / span))
            weight = backend.full_weight * share
            if weight != backend.weight:
                backend.weight = weight
                has_changed = True
        return has_changed

    # -- balance ------------------------------------------------------------------------

    def _balance(self) -> None:
        backends, algo = self.backends, self.settings.algo
        self._balancer: Balancer
        if algo.kind == "hash":
            full = [backend.full_weight for backend in backends]
            self._balancer = self._ring = HashRing([backend.address for backend in backends], full, self._ring)
        elif algo.kind == "least_conn":
            self._balancer = LeastConnections(backends)
        elif algo.kind == "p2c":
            self._balancer = PowerOfTwo(backends, self._below)
        else:
            # Processes start at different places, or N of them would march in step.
            weights = [backend.weight for backend in backends]
            # While shares grow a cycle is made often: with many unlike weights half the length costs a third.
            most = MAX_CYCLE // 2 if self.is_starting and len(set(weights)) > 2 * STEPS else MAX_CYCLE
            self._balancer = RoundRobin(weights, self._below(MAX_CYCLE), most)

    def pick(self, routed: Routed, tried: set[BackendState] | None) -> BackendState | None:
        """The backend for a request, or None when none that is usable is left untried."""
        if self._only is not None and self._only.is_usable and not tried:
            return self._only
        if self.none_usable:
            return None  # a balancer would look at each of its turns
        key = key_of(self.settings.algo, routed) if self.needs_key else ""
        if self.all_usable and not tried:
            index = self._balancer.pick(key, None)
        else:
            backends = self.backends
            index = self._balancer.pick(key, lambda i: backends[i].is_usable and not (tried and backends[i] in tried))
        return self.backends[index] if index >= 0 else None

    def others(self, tried: set[BackendState]) -> int:
        """Usable backends that were not tried."""
        return sum(1 for backend in self.backends if backend.is_usable and backend.full_weight and backend not in tried)

    # -- connections ----------------------------------------------------------------------

    def new_engine(self, settings: LocalSettings) -> Http2Engine:
        """For one connection over HTTP/2."""
        make = engines.engine(self.settings.http2_engine)
        return make(True, settings)

    def name_for(self, routed: Routed, backend: BackendState) -> str:
        """Whom a backend has to prove to be for this request; "" without TLS."""
        if not self.by_host:
            return self.settings.sni
        host = routed.host.decode("latin-1").lower()
        if host.startswith("["):
            return host[1:].partition("]")[0]
        return host.partition(":")[0].rstrip(".") or backend.name  # certificates and SNI are without the dot of the root (RFC 6066)

    def keep_idle(self, keeps: bool) -> list[Single | Shared]:
        """Whether connections are kept for the next request from now on. Returns those to be closed."""
        self.keeps_idle = keeps
        return [connection for backend in self.serving() for connection in backend.keep_idle(keeps and not backend.is_drained)]
