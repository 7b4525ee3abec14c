"""Decides which backends there are and which of them are healthy, from what sources find and the results of checks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from pingap.config.parts import Backend
from pingap.stages.discovery.plan import DNS, CheckTarget, Plan
from pingap.stages.discovery.table import KnownUpstream
from pingap.stages.discovery.upstream_state import BackendVerdict, UpstreamState
from pingap.stages.discovery.words import (
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


class Discovery:
    """What one life of the discovery actor knows."""

    def __init__(self, before: Any = None, kept: Any = None) -> None:
        """before: the value of topic health in the life before. kept: what `kept` told in it."""
        self._before = dict(_verdicts(before))
        self._kept = dict(_kept(kept))
        self._upstreams: dict[str, UpstreamState] = {}
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
            entries = {entry: [*map(_found, backends)] for entry, backends in upstream.told.items()}
            if not upstream.plan.is_static:
                entries |= {entry: [] for entry in upstream.failing if entry not in upstream.found}
            if entries:
                told[name] = entries
        return told

    def kept(self) -> dict[str, dict[str, list[Any]]]:
        """What the next life is to know of sources: upstream → entry → [when it was found, why it cannot be now or "", backends]."""
        return {
            name: {
                entry: [upstream.synced.get(entry, 0.0), upstream.failing.get(entry, ""), [list(each) for each in map(_found, told)]]
                for entry, told in upstream.told.items()
            }
            for name, upstream in self._upstreams.items()
            if upstream.told
        }

    def targets(self, upstream: str) -> tuple[CheckTarget, ...]:
        """What there is to check of an upstream; none if it has gone."""
        known = self._upstreams.get(upstream)
        return known.in_order() if known else ()

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
        return None if known is None or self.is_ill(upstream, address) else known.targets.get(address)

    def down(self) -> list[str]:
        """Upstreams without a backend that may be healthy."""
        return [name for name, upstream in self._upstreams.items() if upstream.is_down]

    def settle(self) -> None:
        """Decides anew which backends upstream goes by: to be called before that is told. Verdicts come by the thousand."""
        for upstream in self._upstreams.values():
            upstream.tell()

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
        self._before, self._kept = {}, {}  # an upstream that goes and comes again later is a new one
        return commands if (self.value(), self.addresses()) == old else [*commands, PublishBackends()]

    def _taken_up(self, name: str, plan: Plan, known: UpstreamState | None) -> UpstreamState:
        """What stays keeps its verdict and its addresses, but is judged by the new rules from the start."""
        if known is None:
            kept = self._kept.get(name, {})
            found = {entry: each.backends for entry, each in kept.items()}
            verdicts = {address: BackendVerdict(verdict) for address, verdict in self._before.get(name, {}).items()}
        else:
            found = known.found if known.plan.discovery == plan.discovery else {}
            verdicts = {address: BackendVerdict(each.is_healthy, last=each.last) for address, each in known.backends.items()}
        upstream = UpstreamState(plan, dict(_still_found(plan, found)), known)
        if known is None:
            upstream.synced = {entry: kept[entry].synced for entry in upstream.found}
            upstream.failing = {entry: kept[entry].failing for entry in upstream.found if kept[entry].failing}
        upstream.begin(verdicts)
        upstream.tell()
        return upstream

    def _resolved(self, resolved: Resolved) -> list[Command]:
        upstream = self._upstreams.get(resolved.upstream)
        if upstream is None or resolved.entry not in upstream.entries:
            return []  # it left the configuration while it was looked up
        commands: list[Command] = []
        upstream.synced[resolved.entry] = resolved.at
        if upstream.failing.pop(resolved.entry, None) is not None:
            commands.append(SourceTurned(resolved.upstream, resolved.entry))
        found = tuple({backend.address: backend for backend in resolved.backends}.values())
        known = upstream.found.get(resolved.entry)
        if known is not None and set(known) == set(found):
            return commands  # in another order, perhaps: many servers turn them
        new = upstream.find(resolved.entry, found)
        return [*commands, *([CheckNew(resolved.upstream, new)] if new else []), PublishBackends()]

    def _source_failed(self, failed: SourceFailed) -> list[Command]:
        upstream = self._upstreams.get(failed.upstream)
        if upstream is None or failed.entry not in upstream.entries:
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
            upstream.judged(checked.address)
            return [PublishBackends()]  # nothing has turned: it was taken for healthy anyway
        if backend.is_healthy is has_passed:
            backend.streak = 0
            return []
        backend.streak += 1
        if backend.streak < max(1, upstream.plan.check.success if has_passed else upstream.plan.check.failure):
            return []
        backend.is_healthy, backend.streak = has_passed, 0
        upstream.judged(checked.address)
        return [Turned(checked.upstream, checked.address, has_passed, checked.failure or ""), PublishBackends()]


class _Kept(NamedTuple):
    """What the life before knew of an entry."""

    synced: float
    failing: str
    backends: tuple[Backend, ...]


def _found(backend: Backend) -> Found:
    return backend.host, backend.port, backend.weight


def _still_found(plan: Plan, found: Mapping[str, tuple[Backend, ...]]) -> Iterator[tuple[str, tuple[Backend, ...]]]:
    """What of that holds under a plan, until its source says more: with the weights of its entries, where those decide."""
    for entry in plan.entries:
        backends = found.get(entry.address)
        if backends is None or (plan.is_static and not entry.is_name):
            continue
        if plan.ipv4_only:
            backends = tuple(each for each in backends if ":" not in each.host) or backends
        if plan.is_static or (plan.discovery == DNS and not entry.host.startswith("_")):
            backends = tuple(Backend(each.host, each.port, entry.weight) for each in backends)
        yield entry.address, backends


def _verdicts(before: Any) -> Iterator[tuple[str, dict[str, bool]]]:
    """Of a keepsake, which may be of another version: what does not fit is left out."""
    for upstream, verdicts in before.items() if isinstance(before, dict) else ():
        if isinstance(verdicts, dict):
            yield upstream, {address: verdict for address, verdict in verdicts.items() if isinstance(verdict, bool)}


def _kept(kept: Any) -> Iterator[tuple[str, dict[str, _Kept]]]:
    for upstream, entries in kept.items() if isinstance(kept, dict) else ():
        if isinstance(entries, dict):
            yield upstream, {entry: known for entry, each in entries.items() if (known := _kept_entry(each)) is not None}


def _kept_entry(kept: Any) -> _Kept | None:
    """None when it is none, or says that there were no backends: that is asked again."""
    match kept:
        case [float(synced), str(failing), [_, *_] as backends]:
            try:
                return _Kept(synced, failing, tuple(Backend(str(host), int(port), int(weight)) for host, port, weight in backends))
            except (TypeError, ValueError):
                return None
    return None
