"""What boot.py hands to the supervisor: what was asked for, what was made ready, and who tells the operator."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from pingap import topology
from pingap.service.systemd import Service

if TYPE_CHECKING:  # imported while the spawner loads the configuration, which begins before
    import socket

    from pingap.config.model import Snapshot
    from pingap.listeners import Listeners
    from pingap.plan_words import Role
    from pingap.rows import Row
    from pingap.service.activation import Activation
    from pingap.service.daemon import Background
    from pingap.service.pid_file import PidFile
    from pingap.succession.takeover import Predecessor


class Face(Protocol):
    """What the operator sees of the start and of a failure."""

    def ready(self, rows: list[Row], urls: list[str]) -> None:
        """Every process serves."""

    def failed(self, reason: str) -> None:
        """It did not start, or it ended in failure."""

    def note(self, text: str) -> None:
        """Something that the operator should know."""


@dataclass(frozen=True, slots=True)
class Launch:
    """What `pingap up` was asked for; tests put their own actors and loader in."""

    options: topology.Options
    threads: int | None = None
    demo: tuple[socket.socket, ...] = ()
    """Listening sockets of the demo backends, bound."""
    rows: tuple[topology.StageRow, ...] = topology.ROWS
    loader: str = topology.LOADER
    predecessor: Predecessor | None = None
    """The instance from which this one takes over."""
    restarts_itself: bool = False
    """It upgrades when the configuration asks for what only a restart applies."""
    is_awaited: bool = True
    """Somebody waits for this process: when another instance takes over, it has to stay."""
    background: Background | None = None
    """For a daemon: what it has in common with the command that started it."""
    activation: Activation | None = None
    """Sockets of a service manager."""
    service: Service = field(default_factory=lambda: Service({}))
    """The service manager that started it, if one did."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """All that the supervisor needs to start processes."""

    launch: Launch
    snapshot: Snapshot
    roles: list[Role]
    listeners: Listeners
    pid_file: PidFile | None = None
    """Taken already, where root had to; None: the supervisor takes the one of the configuration."""
