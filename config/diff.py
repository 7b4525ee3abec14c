"""What a new snapshot changes, key by key, and which of it only a restart applies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from pingap.config.model import Snapshot
from pingap.config.problems import path_of

_NAMED = ("servers", "locations", "upstreams", "certificates", "plugins", "stages")
SINGLE_SECTIONS = ("basic", "bus")

# A server is a socket that the supervisor binds, a stage is processes that it starts, [bus] is its sockets' keys.
_RESTARTED_AS_A_WHOLE = ("servers", "stages")

MOST_NAMED = 20
"""Of a list in a line for the log."""


def shortened(texts: Sequence[str], separator: str = ", ") -> str:
    """The first of them, and how many there are besides: an edit may concern thousands."""
    more = len(texts) - MOST_NAMED
    return separator.join((*texts[:MOST_NAMED], f"{more} more") if more > 0 else texts)


@dataclass(frozen=True, slots=True)
class Changes:
    """The difference of two snapshots; false when there is none. Remarks do not count."""

    added: tuple[str, ...] = ()
    """Paths of items, as `locations.demo`."""
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    """Paths of keys, as `servers.web.addr`; of plugins, whose keys are their own, the item."""
    restart: tuple[str, ...] = ()
    """Those of the three above that only a restart applies."""
    modified: tuple[tuple[str, ...], ...] = ()
    """Section and name of the items that `changed` is of; of [basic] and [bus] the section alone."""

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)

    @property
    def hot(self) -> tuple[str, ...]:
        """Those that running stages take over."""
        restart = frozenset(self.restart)
        return tuple(path for path in (*self.added, *self.removed, *self.changed) if path not in restart)

    def describe(self) -> str:
        """One line for the log: `added locations.x; changed upstreams.y.addrs; needs a restart: servers.z.addr`."""
        restart = frozenset(self.restart)
        parts = [
            f"{word} {shortened([path for path in paths if path not in restart])}"
            for word, paths in (("added", self.added), ("removed", self.removed), ("changed", self.changed))
            if set(paths) - restart
        ]
        if self.restart:
            parts.append(f"needs a restart: {shortened(self.restart)}")
        return "; ".join(parts) or "nothing changed"


def restarted_only(snapshot: Snapshot) -> Snapshot:
    """A snapshot without the sections all of which running stages take over."""
    return Snapshot(basic=snapshot.basic, servers=snapshot.servers, stages=snapshot.stages, bus=snapshot.bus)


def diff(old: Snapshot, new: Snapshot) -> Changes:
    """What `new` has that `old` has not, and the other way round."""
    added: list[str] = []
    removed: list[str] = []
    changed: list[str] = []
    restart: list[str] = []
    modified: dict[tuple[str, ...], None] = {}
    for section in SINGLE_SECTIONS:
        for path, restarts in _keys((section,), getattr(old, section), getattr(new, section)):
            changed.append(path)
            modified[section,] = None
            restart += [path] * restarts
    for section in _NAMED:
        before: Mapping[str, Any] = getattr(old, section)
        after: Mapping[str, Any] = getattr(new, section)
        for paths, names in ((added, after.keys() - before.keys()), (removed, before.keys() - after.keys())):
            found = [path_of(section, name) for name in sorted(names)]
            paths += found
            restart += found if section in _RESTARTED_AS_A_WHOLE else []
        for name in sorted(before.keys() & after.keys()):
            for path, restarts in _keys((section, name), before[name], after[name]):
                changed.append(path)
                modified[section, name] = None
                restart += [path] * restarts
    return Changes(tuple(added), tuple(removed), tuple(changed), tuple(restart), tuple(modified))


def _keys(place: tuple[str, ...], old: Any, new: Any) -> Iterator[tuple[str, bool]]:
    """The paths of the keys in which two items differ, and whether each needs a restart."""
    if old == new:
        return
    if isinstance(old, dict):
        if {**old, "remark": None} != {**new, "remark": None}:
            yield path_of(*place), False
        return
    for spec in fields(old):
        if spec.name != "remark" and getattr(old, spec.name) != getattr(new, spec.name):
            yield path_of(*place, spec.name), bool(spec.metadata.get("restart"))
