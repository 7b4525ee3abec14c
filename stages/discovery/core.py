"""Decides which backends there are and which of them are healthy, from what sources find and the results of checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pingap.config.parts import Backend
from pingap.stages.discovery.plan import CheckTarget, Plan
from pingap.stages.discovery.table import KnownUpstream
from pingap.stages.discovery.words import (
    NO_CHECK,
    Checked,
    CheckNew,
    CheckState,
    Command,
    Configured,
    Event,
    PublishBackends,
    Resolved,
    SourceFailed,
    SourceTurned,
    StartChecks,
    StopChecks,
    Turned,
)

AGAIN: Final = 0.25
"""Seconds until a backend in doubt is checked again; doubled each time, up to check_frequency."""

Found = tuple[str, int, int]
"""Host, port and weight of a backend."""

Addresses = Mapping[str, Mapping[str, Sequence[Found]]]
"""Upstream → entry of `addrs` → the backends that it stands for: the value of topic `backends`."""


@dataclass(slots=True)
class _Backend:
    is_healthy: bool | None = None
    """None before the first verdict."""
    streak: int = 0
    """Results in a row that speak against the verdict; failures, before there is one."""
    last: CheckState = NO_CHECK

    @property
    def is_in_doubt(self) -> bool:
        """It gets requests though nobody has found it healthy, or though its last check failed."""
        return self.is_healthy is None or (self.is_healthy and self.streak > 0)


@dataclass(slots=True)
class _Upstream:
    plan: Plan
    backends: dict[str, _Backend] = field(default_factory=dict)
    """By address, those of `targets`, and of `told`."""
    found: dict[str, tuple[Backend, ...]] = field(default_factory=dict)
    """What entries stand for, by the entry, as it was found last."""
    told: dict[str, tuple[Backend, ...]] = field(default_factory=dict)
    """The same as upstream goes by."""
    synced: dict[str, float] = field(default_factory=dict)
    """When that was found, in Unix seconds."""
    failing: dict[str, str] = field(default_factory=dict)
    """Entries of which that could not be found out the last time, and why."""

    def of(self, entry: CheckTarget) -> list[CheckTarget]:
        """What an entry stands for; itself as long as the lookup of a static one has found nothing."""
        found = self.found.get(entry.address)
        if found:
            return [entry.found(backend) for backend in found]
        return [entry] if self.plan.is_static else []

    def targets(self) -> tuple[CheckTarget, ...]:
        """Everything to check, once each."""
        return tuple({target.address: target for entry in self.plan.entries for target in self.of(entry)}.values())

    def arrange(self, verdicts: Mapping[str, _Backend]) -> None:
        """Takes up the targets; what is known of them stays."""
        # Who is still told of has its verdict, though it is checked no longer: a dead one must not count as healthy again.
        told = {backend.address for backends in self.told.values() for backend in backends}
        left = {address: verdict for address, verdict in verdicts.items() if address in told}
        self.backends = left | {target.address: verdicts.get(target.address) or _Backend() for target in self.targets()}
        self.tell()

    def tell(self) -> None:
        """What left is gone at once; what is new counts from its first verdict on.

        But never does a set of which nothing is known take the place of one that serves: that waits for one healthy backend, or
        for the verdict on the last. A name that the system looks up is tried by upstream itself until then.
        """
        if not self.found:
            return  # all entries are addresses: there may be thousands, and this comes with each verdict
        for entry in self.plan.entries:
            found = self.found.get(entry.address)
            if found is None:
                continue
            before = {backend.address for backend in self.told.get(entry.address, ())}
            ready = tuple(backend for backend in found if backend.address in before or self.verdict(backend.address) is not None)
            if len(ready) == len(found) or any(backend.address in before or self.verdict(backend.address) for backend in ready):
                self.told[entry.address] = ready
        known = {target.address for target in self.targets()}
        known |= {backend.address for backends in self.told.values() for backend in backends}
        self.backends = {address: backend for address, backend in self.backends.items() if address in known}

    def verdict(self, address: str) -> bool | None:
        """Whether it is healthy; None before anybody has said so."""
        known = self.backends.get(address)
        return known.is_healthy if known else None

    def check(self, address: str) -> CheckState:
        """The last one."""
        known = self.backends.get(address)
        return known.last if known else NO_CHECK

    @property
    def is_down(self) -> bool:
        """It has no backend that may be healthy: all were found not to be, or it is known that there is none."""
        if self.backends:
            return all(backend.is_healthy is False for backend in self.backends.values())
        return bool(self.plan.entries) and all(entry.address in self.found for entry in self.plan.entries)


class Discovery:
    """What one life of the discovery actor knows. before, found: the verdicts and the backends that the life before has published."""

    def __init__(self, before: Mapping[str, Mapping[str, bool]] | None = None, found: Mapping[str, Any] | None = None) -> None:
        self._before = before or {}
        self._found: Mapping[str, Mapping[str, Sequence[Found]]] = found or {}
        self._upstreams: dict[str, _Upstream] = {}
        self._is_configured = False

    @property
    def unhealthy(self) -> int:
        """Backends judged unhealthy, counted once an upstream."""
        return sum(backend.is_healthy is False for upstream in self._upstreams.values() for backend in upstream.backends.values())

    @property
    def upstreams(self) -> Mapping[str, KnownUpstream]:
        """What is known of each, for who shows it."""
        return self._upstreams

    def value(self) -> dict[str, dict[str, bool]]:
        """The value of topic health. Backends without a verdict are not named."""
        named = {
            name: {address: backend.is_healthy for address, backend in upstream.backends.items() if backend.is_healthy is not None}
            for name, upstream in self._upstreams.items()
        }
        return {name: backends for name, backends in named.items() if backends}

    def addresses(self) -> Addresses:
        """The value of topic backends. An entry that cannot be found out, and never was, stands for nothing."""
        told: dict[str, dict[str, list[Found]]] = {}
        for name, upstream in self._upstreams.items():
            entries = {entry: [(each.host, each.port, each.weight) for each in backends] for entry, backends in upstream.told.items()}
            if not upstream.plan.is_static:
                entries |= {entry: [] for entry in upstream.failing if entry not in upstream.found}
            if entries:
                told[name] = entries
        return told

    def targets(self, upstream: str) -> tuple[CheckTarget, ...]:
        """What there is to check of an upstream; none if it has gone."""
        known = self._upstreams.get(upstream)
        return known.targets() if known else ()

    def lost(self, upstream: str) -> list[CheckTarget]:
        """Entries whose name had better be looked up again: no address that is known of it is healthy."""
        known = self._upstreams.get(upstream)
        if known is None or not known.plan.is_static:
            return []
        return [
            entry
            for entry in known.plan.entries
            if entry.address in known.found and all(known.backends[target.address].is_healthy is False for target in known.of(entry))
        ]

    def again(self, upstream: str, address: str, tries: int) -> float | None:
        """Seconds until a backend is checked again outside of the rounds; None if that has time until the next one.

        tries: checks in this quick succession, at least 1. Requests go to a backend in doubt, so that it is not left so for a
        whole check_frequency.
        """
        known = self._upstreams.get(upstream)
        backend = known.backends.get(address) if known else None
        if known is None or backend is None or not backend.is_in_doubt:
            return None
        return min(AGAIN * 2.0 ** min(tries - 1, 20), known.plan.check.check_frequency)

    def is_ill(self, upstream: str, address: str) -> bool:
        """It was found unhealthy."""
        known = self._upstreams.get(upstream)
        return known is not None and known.verdict(address) is False

    def suspect(self, upstream: str, address: str) -> CheckTarget | None:
        """What to check when requests do not reach a backend; None if that would be no news, or it is not there."""
        known = self._upstreams.get(upstream)
        if known is None or self.is_ill(upstream, address):
            return None
        return next((target for target in known.targets() if target.address == address), None)

    def down(self) -> list[str]:
        """Upstreams without a backend that may be healthy."""
        return [name for name, upstream in self._upstreams.items() if upstream.is_down]

    def handle(self, event: Event) -> list[Command]:
        """What is to be done, in this order."""
        match event:
            case Configured(plans):
                return self._configured(plans)
            case Checked():
                return self._checked(event)
            case Resolved():
                return self._resolved(event)
            case SourceFailed():
                return self._source_failed(event)

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
            self._upstreams[name] = self._taken_up(name, plan, known)
            commands += [StopChecks(name)] if known is not None else []
            commands += [StartChecks(name, plan)] if plan.entries else []
        self._before, self._found = {}, {}  # an upstream that goes and comes again later is a new one
        return commands if (self.value(), self.addresses()) == old else [*commands, PublishBackends()]

    def _taken_up(self, name: str, plan: Plan, known: _Upstream | None) -> _Upstream:
        """What stays keeps its verdict and its addresses, but is judged by the new rules from the start."""
        entries = {entry.address: entry for entry in plan.entries if entry.is_name or not plan.is_static}
        if known is None:
            found = {entry: tuple(Backend(*each) for each in backends) for entry, backends in self._found.get(name, {}).items()}
            verdicts = {address: _Backend(verdict) for address, verdict in self._before.get(name, {}).items()}
        else:
            is_same = (known.plan.ipv4_only, known.plan.discovery) == (plan.ipv4_only, plan.discovery)
            found = known.found if is_same else {}
            verdicts = {address: _Backend(backend.is_healthy, last=backend.last) for address, backend in known.backends.items()}
        if plan.is_static:
            found = {
                entry: tuple(Backend(each.host, each.port, entries[entry].weight) for each in backends)
                for entry, backends in found.items()
                if entry in entries
            }
        upstream = _Upstream(plan, found={entry: backends for entry, backends in found.items() if entry in entries})
        if known is not None:
            upstream.told = {entry: known.told[entry] for entry in upstream.found if entry in known.told}
            upstream.synced = {entry: at for entry, at in known.synced.items() if entry in upstream.found}
            upstream.failing = {entry: why for entry, why in known.failing.items() if entry in entries}
        upstream.arrange(verdicts)
        return upstream

    def _resolved(self, resolved: Resolved) -> list[Command]:
        upstream = self._upstreams.get(resolved.upstream)
        if upstream is None or all(entry.address != resolved.entry for entry in upstream.plan.entries):
            return []  # it left the configuration while it was looked up
        commands: list[Command] = []
        upstream.synced[resolved.entry] = resolved.at
        if upstream.failing.pop(resolved.entry, None) is not None:
            commands.append(SourceTurned(resolved.upstream, resolved.entry))
        found = tuple({backend.address: backend for backend in resolved.backends}.values())
        known = upstream.found.get(resolved.entry)
        if known is not None and set(known) == set(found):
            return commands  # in another order, perhaps: many servers turn them
        upstream.found[resolved.entry] = found
        upstream.arrange(upstream.backends)
        new = tuple(t for t in upstream.targets() if t.entry == resolved.entry and upstream.backends[t.address].is_healthy is None)
        return [*commands, *([CheckNew(resolved.upstream, new)] if new else []), PublishBackends()]

    def _source_failed(self, failed: SourceFailed) -> list[Command]:
        upstream = self._upstreams.get(failed.upstream)
        if upstream is None or all(entry.address != failed.entry for entry in upstream.plan.entries):
            return []
        is_new = failed.entry not in upstream.failing
        upstream.failing[failed.entry] = failed.reason
        return [SourceTurned(failed.upstream, failed.entry, failed.reason), PublishBackends()] if is_new else []

    def _checked(self, checked: Checked) -> list[Command]:
        upstream = self._upstreams.get(checked.upstream)
        backend = upstream.backends.get(checked.address) if upstream else None
        if upstream is None or backend is None:
            return []  # it left the configuration while the check was under way
        has_passed = checked.failure is None
        backend.last = CheckState(checked.at, checked.seconds, checked.failure or "")
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
