"""Whether the way of a request is alive: what the service manager's watchdog hears of.

Alive is a stage of which a replica is ready, or was not long ago: one that dies is started again and needs no help. One that
stays away for PATIENCE does, and so does a supervisor whose loop stands still, for that says nothing at all. Logging, metrics,
config and discovery are no part of it: without them requests are answered as ever.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol

from pingap.bus.members import READY
from pingap.config.model import SCALED_STAGES
from pingap.plan_words import Role

PATIENCE: Final = 15.0
"""Seconds without a ready replica: three of the longest pauses between two starts."""


class Running(Protocol):
    """What it looks at in a process."""

    @property
    def role(self) -> Role: ...

    @property
    def state(self) -> str: ...


class Vitals:
    """Remembers since when each role of the request path has been without a ready replica."""

    def __init__(self, roles: Iterable[Role]) -> None:
        self._missing: dict[str, float | None] = {role.name: None for role in roles if set(role.stages) & set(SCALED_STAGES)}

    def lost(self, processes: Iterable[Running], now: float) -> list[str]:
        """Names of the roles that have been away for too long; none when all is well."""
        ready = {process.role.name for process in processes if process.state == READY}
        for name, since in self._missing.items():
            self._missing[name] = None if name in ready else now if since is None else since
        return [name for name, since in self._missing.items() if since is not None and now - since >= PATIENCE]
