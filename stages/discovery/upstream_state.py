"""What the core knows of one upstream: what its entries stand for, and the verdicts on its backends. There may be thousands of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pingap.config.parts import Backend
from pingap.stages.discovery.plan import CheckTarget, Plan
from pingap.stages.discovery.words import NO_CHECK, CheckState


@dataclass(slots=True)
class BackendVerdict:
    """Of one backend."""

    is_healthy: bool | None = None
    """None before the first verdict."""
    streak: int = 0
    """Results in a row that speak against the verdict; failures, before there is one."""
    last: CheckState = NO_CHECK

    @property
    def is_in_doubt(self) -> bool:
        """It gets requests though nobody has found it healthy, or though its last check failed."""
        return self.is_healthy is None or (self.is_healthy and self.streak > 0)


class UpstreamState:
    """By one plan. Entries and backends go by their addresses."""

    __slots__ = ("_by_entry", "_entries", "_tells", "_uses", "backends", "failing", "found", "plan", "synced", "targets", "told")

    def __init__(self, plan: Plan, found: Mapping[str, tuple[Backend, ...]], before: UpstreamState | None) -> None:
        """found: what its entries stand for, as far as is known. before: the same upstream by an older plan."""
        self.plan = plan
        self._entries = {entry.address: entry for entry in plan.entries}
        self.found = {entry: backends for entry, backends in found.items() if entry in self._entries}
        """What entries stand for, as it was found last."""
        self.told: dict[str, tuple[Backend, ...]] = {}
        """The same as upstream goes by."""
        self.synced: dict[str, float] = {}
        """When that was found, in Unix seconds."""
        self.failing: dict[str, str] = {}
        """Entries of which that could not be found out the last time, and why."""
        if before is not None and before.plan.discovery == plan.discovery:
            self.told = {entry: before.told[entry] for entry in self.found if entry in before.told}
            self.synced = {entry: at for entry, at in before.synced.items() if entry in self.found}
            self.failing = {entry: why for entry, why in before.failing.items() if entry in self._entries}
        self.targets: dict[str, CheckTarget] = {}
        """Everything to check, once each."""
        self.backends: dict[str, BackendVerdict] = {}
        """Those of `targets`, and of `told`."""
        self._by_entry: dict[str, tuple[CheckTarget, ...]] = {}
        self._uses: Counter[str] = Counter()
        """In how many entries a backend is, found or told."""
        self._tells: dict[str, None] = {}
        """Entries of which something has changed since it was told."""

    @property
    def entries(self) -> Mapping[str, CheckTarget]:
        return self._entries

    def of(self, entry: CheckTarget) -> tuple[CheckTarget, ...]:
        """What an entry stands for; itself as long as the lookup of a static one has found nothing."""
        found = self.found.get(entry.address)
        if found:
            return tuple(entry.found(backend) for backend in found)
        return (entry,) if self.plan.is_static else ()

    def in_order(self) -> tuple[CheckTarget, ...]:
        """Everything to check, once each, as the configuration has it."""
        return tuple({target.address: target for targets in self._by_entry.values() for target in targets}.values())

    def begin(self, verdicts: Mapping[str, BackendVerdict]) -> None:
        """Takes up all targets. verdicts: what is known of backends; of others it is forgotten."""
        for backends in self.told.values():
            self._uses.update(backend.address for backend in backends)
        # Who is still told of has its verdict, though it is checked no longer: a dead one must not count as healthy again.
        self.backends = {address: verdicts[address] for address in self._uses if address in verdicts}
        for entry in self.plan.entries:
            self._arrange(entry, verdicts)

    def find(self, entry: str, backends: tuple[Backend, ...]) -> tuple[CheckTarget, ...]:
        """That is what an entry stands for from now on. Returns those of which nothing is known yet."""
        self.found[entry] = backends
        self._arrange(self._entries[entry], {})
        return tuple(target for target in self._by_entry[entry] if self.backends[target.address].is_healthy is None)

    def _arrange(self, entry: CheckTarget, verdicts: Mapping[str, BackendVerdict]) -> None:
        old, new = self._by_entry.get(entry.address, ()), self.of(entry)
        self._by_entry[entry.address] = new
        for target in new:
            self._uses[target.address] += 1
            self.targets[target.address] = target
            if target.address not in self.backends:
                self.backends[target.address] = verdicts.get(target.address) or BackendVerdict()
        kept = {target.address for target in new}
        self._drop(target.address for target in old)
        for target in old:
            if target.address not in kept and self.targets.get(target.address) == target:
                del self.targets[target.address]
                for other in self._by_entry.values() if self._uses[target.address] else ():
                    self.targets |= {one.address: one for one in other if one.address == target.address}
        if entry.address in self.found:
            self._tells[entry.address] = None

    def _drop(self, addresses: Iterable[str]) -> None:
        """These are in one entry less."""
        for address in addresses:
            self._uses[address] -= 1
            if not self._uses[address]:
                del self._uses[address]
                del self.backends[address]

    def judged(self, address: str) -> None:
        """It has another verdict."""
        if self._uses[address] == 1:  # its first one, as a rule: found, and not told yet
            entries: Iterable[str] = (self.targets[address].entry,)
        else:
            entries = [entry for entry, targets in self._by_entry.items() if any(target.address == address for target in targets)]
        self._tells |= {entry: None for entry in entries if entry in self.found}

    def tell(self) -> None:
        """What left is gone at once; what is new counts from its first verdict on.

        But never does a set of which nothing is known take the place of one that serves: that waits for one healthy backend, or
        for the verdict on the last. A name that the system looks up is tried by upstream itself until then.
        """
        for entry in self._tells:
            found, told = self.found[entry], self.told.get(entry, ())
            before = {backend.address for backend in told}
            ready = tuple(backend for backend in found if backend.address in before or self.verdict(backend.address) is not None)
            if len(ready) < len(found) and not any(backend.address in before or self.verdict(backend.address) for backend in ready):
                continue
            self._uses.update(backend.address for backend in ready)
            self.told[entry] = ready
            self._drop(before)
        self._tells.clear()

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
        return bool(self._entries) and all(entry in self.found for entry in self._entries)
