"""Decides which backends are healthy, from the results of their checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from config.model import HealthCheck, Snapshot


@dataclass(frozen=True, slots=True)
class Target:
    """A backend to check."""

    address: str
    """`host:port`, its name everywhere."""
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Plan:
    """How the backends of one upstream are checked."""

    check: HealthCheck
    targets: tuple[Target, ...]
    ipv4_only: bool = False


def plans_of(snapshot: Snapshot) -> dict[str, Plan]:
    """What there is to check, by the name of the upstream."""
    plans = {}
    for name, upstream in snapshot.upstreams.items():
        targets = {backend.address: Target(backend.address, backend.host, backend.port) for backend in upstream.addrs}
        plans[name] = Plan(upstream.health_check, tuple(targets.values()), upstream.ipv4_only)
    return plans


# -- events ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Configured:
    """A generation was committed."""

    plans: Mapping[str, Plan]


@dataclass(frozen=True, slots=True)
class Checked:
    """A check has ended; failure says why it failed, None that it passed."""

    upstream: str
    address: str
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class FirstRoundOver:
    """The time for the first round is up: what was not judged in it has failed for so long that it counts as dead."""


Event = Configured | Checked | FirstRoundOver


# -- commands ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Start:
    """Check this upstream from now on, every backend at once."""

    upstream: str
    plan: Plan


@dataclass(frozen=True, slots=True)
class Stop:
    """Check it no longer."""

    upstream: str


@dataclass(frozen=True, slots=True)
class Publish:
    """The value of topic health is this now."""

    value: dict[str, dict[str, bool]]


@dataclass(frozen=True, slots=True)
class Turned:
    """A backend was found healthy or unhealthy, unlike before."""

    upstream: str
    address: str
    is_healthy: bool
    reason: str = ""


Command = Start | Stop | Publish | Turned


@dataclass(slots=True)
class _Backend:
    is_healthy: bool | None = None
    """None before the first verdict."""
    streak: int = 0
    """Results in a row that speak against the verdict; failures, before there is one."""
    reason: str = ""
    """Why the last check failed."""


@dataclass(slots=True)
class _Upstream:
    plan: Plan
    backends: dict[str, _Backend] = field(default_factory=dict)


class Core:
    """The verdicts of one life of the discovery actor."""

    def __init__(self) -> None:
        self._upstreams: dict[str, _Upstream] = {}
        self._published: dict[str, dict[str, bool]] | None = None
        self._is_configured = False

    @property
    def has_published(self) -> bool:
        return self._published is not None

    @property
    def unhealthy(self) -> int:
        """Backends judged unhealthy, counted once an upstream."""
        return sum(backend.is_healthy is False for upstream in self._upstreams.values() for backend in upstream.backends.values())

    def is_judged(self, upstream: str, address: str) -> bool:
        """False as long as a backend that is to be checked has no verdict."""
        known = self._upstreams.get(upstream)
        backend = known.backends.get(address) if known else None
        return backend is None or backend.is_healthy is not None

    def handle(self, event: Event) -> list[Command]:
        """What is to be done, in this order."""
        match event:
            case Configured(plans):
                return [*self._configured(plans), *self._changed()]
            case Checked():
                return [*self._checked(event), *self._changed()]
            case FirstRoundOver():
                return [*self._first_round_over(), *self._changed(is_over=True)]

    def _configured(self, plans: Mapping[str, Plan]) -> list[Command]:
        self._is_configured = True
        commands: list[Command] = []
        for name in self._upstreams.keys() - plans.keys():
            del self._upstreams[name]
            commands.append(Stop(name))
        for name, plan in plans.items():
            known = self._upstreams.get(name)
            if known is not None and known.plan == plan:
                continue
            before = known.backends if known is not None else {}
            # What stays keeps its verdict, but is judged by the new rules from the start.
            backends = {t.address: _Backend(before[t.address].is_healthy if t.address in before else None) for t in plan.targets}
            self._upstreams[name] = _Upstream(plan, backends)
            commands += [Stop(name)] if known is not None else []
            commands += [Start(name, plan)] if plan.targets else []
        return commands

    def _checked(self, checked: Checked) -> list[Command]:
        upstream = self._upstreams.get(checked.upstream)
        backend = upstream.backends.get(checked.address) if upstream else None
        if upstream is None or backend is None:
            return []  # it left the configuration while the check was under way
        has_passed = checked.failure is None
        backend.reason = checked.failure or ""
        if backend.is_healthy is None and has_passed:
            backend.is_healthy, backend.streak = True, 0  # nothing is turned: it was taken for healthy anyway
            return []
        if backend.is_healthy is has_passed:
            backend.streak = 0
            return []
        backend.streak += 1
        if backend.streak < max(1, upstream.plan.check.success if has_passed else upstream.plan.check.failure):
            return []
        return [self._turn(checked.upstream, checked.address, backend, has_passed)]

    def _first_round_over(self) -> list[Command]:
        return [
            self._turn(name, address, backend, False)
            for name, upstream in self._upstreams.items()
            for address, backend in upstream.backends.items()
            if backend.is_healthy is None and backend.streak
        ]

    @staticmethod
    def _turn(upstream: str, address: str, backend: _Backend, is_healthy: bool) -> Turned:
        backend.is_healthy, backend.streak = is_healthy, 0
        return Turned(upstream, address, is_healthy, backend.reason)

    def _changed(self, is_over: bool = False) -> list[Command]:
        """Publishes if there is news, but not before the first round is over."""
        value = {
            name: {address: backend.is_healthy for address, backend in upstream.backends.items() if backend.is_healthy is not None}
            for name, upstream in self._upstreams.items()
        }
        value = {name: backends for name, backends in value.items() if backends}
        if self._published is None:
            judged = sum(map(len, value.values()))
            there_are = sum(len(upstream.backends) for upstream in self._upstreams.values())
            if not self._is_configured or (judged < there_are and not is_over):
                return []
        if value == self._published:
            return []
        self._published = value
        return [Publish(value)]
