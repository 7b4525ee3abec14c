"""Decides which backends there are and which of them are healthy, from lookups of names and the results of checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pingap.config.addresses import is_host_name
from pingap.config.model import Snapshot
from pingap.config.parts import Backend, HealthCheck


@dataclass(frozen=True, slots=True)
class CheckTarget:
    """A backend to check."""

    address: str
    """`host:port`, its name everywhere."""
    host: str
    port: int
    entry: str = ""
    """The entry of `addrs` with a host name of which this is an address; "" when it is the entry itself."""

    @property
    def is_name(self) -> bool:
        """It is a host name, and its addresses are the backends once they are known."""
        return is_host_name(self.host)


@dataclass(frozen=True, slots=True)
class Plan:
    """How the backends of one upstream are checked."""

    check: HealthCheck
    targets: tuple[CheckTarget, ...]
    ipv4_only: bool = False


def plans_of(snapshot: Snapshot) -> dict[str, Plan]:
    """What there is to check, by the name of the upstream."""
    plans = {}
    for name, upstream in snapshot.upstreams.items():
        targets = {backend.address: CheckTarget(backend.address, backend.host, backend.port) for backend in upstream.addrs}
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
class Resolved:
    """A host name was looked up. hosts: its addresses, at least one."""

    upstream: str
    entry: str
    """`host:port` as in `addrs`."""
    hosts: tuple[str, ...]


Event = Configured | Checked | Resolved


# -- commands ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StartChecks:
    """Check this upstream from now on, every backend at once."""

    upstream: str
    plan: Plan


@dataclass(frozen=True, slots=True)
class StopChecks:
    """Check it no longer."""

    upstream: str


@dataclass(frozen=True, slots=True)
class PublishBackends:
    """`Discovery.value`, or `Discovery.addresses`, may have changed."""


@dataclass(frozen=True, slots=True)
class Turned:
    """A backend was found healthy or unhealthy, unlike before."""

    upstream: str
    address: str
    is_healthy: bool
    reason: str = ""


Command = StartChecks | StopChecks | PublishBackends | Turned


@dataclass(slots=True)
class _Backend:
    is_healthy: bool | None = None
    """None before the first verdict."""
    streak: int = 0
    """Results in a row that speak against the verdict; failures, before there is one."""


Addresses = Mapping[str, Mapping[str, Sequence[str]]]
"""Upstream → entry of `addrs` with a host name → its IP addresses: the value of topic `backends`."""


@dataclass(slots=True)
class _Upstream:
    plan: Plan
    backends: dict[str, _Backend] = field(default_factory=dict)
    """By address, those of `targets`."""
    hosts: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """The addresses of names, by entry."""
    told: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Those that upstream goes by."""

    def of(self, entry: CheckTarget) -> list[CheckTarget]:
        """What an entry stands for: the addresses of its name if they are known, else itself."""
        hosts = self.hosts.get(entry.address)
        if not hosts:
            return [entry]
        return [CheckTarget(Backend(host, entry.port).address, host, entry.port, entry.address) for host in hosts]

    def targets(self) -> tuple[CheckTarget, ...]:
        """Everything to check, once each."""
        return tuple({target.address: target for entry in self.plan.targets for target in self.of(entry)}.values())

    def arrange(self, verdicts: Mapping[str, _Backend]) -> None:
        """Takes up the targets; what is known of them stays."""
        self.backends = {target.address: verdicts.get(target.address) or _Backend() for target in self.targets()}
        self.tell()

    def tell(self) -> None:
        """A name gives way to its addresses when all of them are judged: until then upstream tries one after the other by itself."""
        for entry in self.plan.targets:
            hosts = self.hosts.get(entry.address)
            if hosts and all(self.backends[target.address].is_healthy is not None for target in self.of(entry)):
                self.told[entry.address] = hosts


class Discovery:
    """What one life of the discovery actor knows. before, names: the verdicts and the addresses that the life before has published."""

    def __init__(self, before: Mapping[str, Mapping[str, bool]] | None = None, names: Addresses | None = None) -> None:
        self._before = before or {}
        self._names = names or {}
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

    def addresses(self) -> Addresses:
        """The value of topic backends."""
        return {name: dict(upstream.told) for name, upstream in self._upstreams.items() if upstream.told}

    def targets(self, upstream: str) -> tuple[CheckTarget, ...]:
        """What there is to check of an upstream; none if it has gone."""
        known = self._upstreams.get(upstream)
        return known.targets() if known else ()

    def unjudged(self, upstream: str, entry: CheckTarget) -> list[CheckTarget]:
        """The addresses of an entry that have no verdict yet."""
        known = self._upstreams.get(upstream)
        return [t for t in known.of(entry) if not (t.is_name or self.is_judged(upstream, t.address))] if known else []

    def lost(self, upstream: str) -> list[CheckTarget]:
        """Entries whose name had better be looked up again: no address that is known of it is healthy."""
        known = self._upstreams.get(upstream)
        if known is None:
            return []
        return [
            entry
            for entry in known.plan.targets
            if entry.address in known.hosts and all(known.backends[target.address].is_healthy is False for target in known.of(entry))
        ]

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
            case Resolved():
                return self._resolved(event)

    def _configured(self, plans: Mapping[str, Plan]) -> list[Command]:
        old = (self.value(), self.addresses()) if self._is_configured else None
        self._is_configured = True
        commands: list[Command] = []
        for name in self._upstreams.keys() - plans.keys():
            del self._upstreams[name]
            commands.append(StopChecks(name))
        for name, plan in plans.items():
            known = self._upstreams.get(name)
            if known is not None and known.plan == plan:
                continue
            # What stays keeps its verdict and its addresses, but is judged by the new rules from the start.
            if known is None:
                hosts = {entry: tuple(found) for entry, found in self._names.get(name, {}).items()}
                verdicts: Mapping[str, bool | None] = self._before.get(name, {})
            else:
                hosts = known.hosts if known.plan.ipv4_only == plan.ipv4_only else {}
                verdicts = {address: backend.is_healthy for address, backend in known.backends.items()}
            entries = {target.address for target in plan.targets if target.is_name}
            self._upstreams[name] = _Upstream(plan, hosts={entry: found for entry, found in hosts.items() if entry in entries})
            self._upstreams[name].arrange({address: _Backend(verdict) for address, verdict in verdicts.items()})
            commands += [StopChecks(name)] if known is not None else []
            commands += [StartChecks(name, plan)] if plan.targets else []
        self._before, self._names = {}, {}  # an upstream that goes and comes again later is a new one
        return commands if (self.value(), self.addresses()) == old else [*commands, PublishBackends()]

    def _resolved(self, resolved: Resolved) -> list[Command]:
        upstream = self._upstreams.get(resolved.upstream)
        if upstream is None or all(entry.address != resolved.entry for entry in upstream.plan.targets):
            return []  # it left the configuration while it was looked up
        if set(upstream.hosts.get(resolved.entry, ())) == set(resolved.hosts):
            return []  # in another order, perhaps: many servers turn them
        upstream.hosts[resolved.entry] = tuple(dict.fromkeys(resolved.hosts))
        upstream.arrange(upstream.backends)
        return [PublishBackends()]

    def _checked(self, checked: Checked) -> list[Command]:
        upstream = self._upstreams.get(checked.upstream)
        backend = upstream.backends.get(checked.address) if upstream else None
        if upstream is None or backend is None:
            return []  # it left the configuration while the check was under way
        has_passed = checked.failure is None
        if backend.is_healthy is None and has_passed:
            backend.is_healthy, backend.streak = True, 0
            upstream.tell()
            return [PublishBackends()]  # nothing has turned: it was taken for healthy anyway
        if backend.is_healthy is has_passed:
            backend.streak = 0
            return []
        backend.streak += 1
        if backend.streak < max(1, upstream.plan.check.success if has_passed else upstream.plan.check.failure):
            return []
        backend.is_healthy, backend.streak = has_passed, 0
        upstream.tell()
        return [Turned(checked.upstream, checked.address, has_passed, checked.failure or ""), PublishBackends()]
