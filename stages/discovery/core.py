"""Decides which backends are healthy, from the results of their checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from config.model import Snapshot
from config.parts import HealthCheck


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


Event = Configured | Checked


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
    """`Core.value` has changed."""


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


@dataclass(slots=True)
class _Upstream:
    plan: Plan
    backends: dict[str, _Backend] = field(default_factory=dict)


class Core:
    """The verdicts of one life of the discovery actor. before: those of the life before, by upstream and address."""

    def __init__(self, before: Mapping[str, Mapping[str, bool]] | None = None) -> None:
        self._before = before or {}
        self._upstreams: dict[str, _Upstream] = {}
        self._is_configured = False

    @property
    def unhealthy(self) -> int:
        """Backends judged unhealthy, counted once an upstream."""
        return sum(backend.is_healthy is False for upstream in self._upstreams.values() for backend in upstream.backends.values())

    def value(self) -> dict[str, dict[str, bool]]:
        """The value of topic health. Backends without a verdict are not named."""
        named = {
            name: {address: backend.is_healthy for address, backend in upstream.backends.items() if backend.is_healthy is not None}
            for name, upstream in self._upstreams.items()
        }
        return {name: backends for name, backends in named.items() if backends}

    def is_judged(self, upstream: str, address: str) -> bool:
        """False as long as a backend that is to be checked has no verdict."""
        known = self._upstreams.get(upstream)
        backend = known.backends.get(address) if known else None
        return backend is None or backend.is_healthy is not None

    def handle(self, event: Event) -> list[Command]:
        """What is to be done, in this order."""
        match event:
            case Configured(plans):
                return self._configured(plans)
            case Checked():
                return self._checked(event)

    def _configured(self, plans: Mapping[str, Plan]) -> list[Command]:
        old = self.value() if self._is_configured else None
        self._is_configured = True
        commands: list[Command] = []
        for name in self._upstreams.keys() - plans.keys():
            del self._upstreams[name]
            commands.append(Stop(name))
        for name, plan in plans.items():
            known = self._upstreams.get(name)
            if known is not None and known.plan == plan:
                continue
            verdicts = self._before.get(name, {}) if known is None else {a: b.is_healthy for a, b in known.backends.items()}
            # What stays keeps its verdict, but is judged by the new rules from the start.
            self._upstreams[name] = _Upstream(plan, {t.address: _Backend(verdicts.get(t.address)) for t in plan.targets})
            commands += [Stop(name)] if known is not None else []
            commands += [Start(name, plan)] if plan.targets else []
        self._before = {}  # an upstream that goes and comes again later is a new one
        return commands if self.value() == old else [*commands, Publish()]

    def _checked(self, checked: Checked) -> list[Command]:
        upstream = self._upstreams.get(checked.upstream)
        backend = upstream.backends.get(checked.address) if upstream else None
        if upstream is None or backend is None:
            return []  # it left the configuration while the check was under way
        has_passed = checked.failure is None
        if backend.is_healthy is None and has_passed:
            backend.is_healthy, backend.streak = True, 0
            return [Publish()]  # nothing has turned: it was taken for healthy anyway
        if backend.is_healthy is has_passed:
            backend.streak = 0
            return []
        backend.streak += 1
        if backend.streak < max(1, upstream.plan.check.success if has_passed else upstream.plan.check.failure):
            return []
        backend.is_healthy, backend.streak = has_passed, 0
        return [Turned(checked.upstream, checked.address, has_passed, checked.failure or ""), Publish()]
