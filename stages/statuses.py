"""What discovery knows of upstreams and their backends, for who shows it: `pingap upstreams`, the page of metrics."""

from __future__ import annotations

from typing import Any, Final

from pingap.bus.envelope import Part

HEALTHY: Final = "healthy"
UNHEALTHY: Final = "unhealthy"
UNCHECKED: Final = "unchecked"
DRAINED: Final = "drained"

TRANSPARENT: Final = "transparent"
"""The discovery of an upstream that has no backends of its own."""

CLOSED: Final = "closed"
OPEN: Final = "open"
HALF_OPEN: Final = "half-open"


class BackendStatus(Part, frozen=True):
    """One backend. What is counted is the sum of all upstream processes, as of their last reports (at most 0.1 s old)."""

    address: str
    """Its name in topics, logs and metrics, unique within an upstream."""
    entry: str
    """The entry of `addrs` of which it was found; "" when it is the entry itself."""
    health: str
    """HEALTHY, UNHEALTHY or UNCHECKED, whatever is done by hand."""
    is_drained: bool
    """Taken out by hand."""
    weight: int
    circuit: str = CLOSED
    open_for: float = 0.0
    """Seconds that an open circuit stays so."""
    connections: int = 0
    in_flight: int = 0
    requests: int = 0
    """Since each upstream process began."""
    failures: int = 0
    """Of `requests`."""
    window_requests: int = 0
    """Of the last `backend_stats_interval`."""
    window_failures: int = 0
    checked: float = 0.0
    """When its last check ended, in Unix seconds; 0 = never."""
    check_seconds: float = 0.0
    """How long that took."""
    check_error: str = ""
    """Why that failed."""

    @property
    def state(self) -> str:
        """What to say of it in one word."""
        return DRAINED if self.is_drained else self.health

    @property
    def is_usable(self) -> bool:
        """It may get requests; of a half-open one those are few."""
        return self.weight > 0 and not self.is_drained and self.health != UNHEALTHY and self.circuit != OPEN

    @property
    def failure_rate(self) -> float:
        """Percent of the window's requests."""
        return 100 * self.window_failures / self.window_requests if self.window_requests else 0.0


class SourceStatus(Part, frozen=True):
    """What is known of one entry of `addrs`, which stands for backends that have to be found out."""

    entry: str
    synced: float
    """When that succeeded last, in Unix seconds; 0 = never."""
    error: str
    """Why it failed the last time; "" when it did not."""


class UpstreamStatus(Part, frozen=True):
    """One upstream of the configuration."""

    name: str
    discovery: str
    """static, dns, docker or transparent."""
    backends: tuple[BackendStatus, ...]
    sources: tuple[SourceStatus, ...] = ()

    @property
    def usable(self) -> int:
        """Backends that may get requests."""
        return sum(backend.is_usable for backend in self.backends)

    @property
    def is_serving(self) -> bool:
        """Requests have somewhere to go: one that is transparent has no backends of its own."""
        return self.discovery == TRANSPARENT or self.usable > 0


def plain(status: UpstreamStatus) -> dict[str, Any]:
    """For `pingap upstreams --json`; docs/running.md says what the keys are, and they stay."""
    return {
        "upstream": status.name,
        "discovery": status.discovery,
        "usable": status.usable,
        "sources": [{"entry": one.entry, "synced": one.synced or None, "error": one.error or None} for one in status.sources],
        "backends": [_plain_backend(backend) for backend in status.backends],
    }


def _plain_backend(backend: BackendStatus) -> dict[str, Any]:
    check = {"time": backend.checked, "seconds": backend.check_seconds, "error": backend.check_error or None} if backend.checked else None
    return {
        "address": backend.address,
        "entry": backend.entry or None,
        "state": backend.state,
        "health": backend.health,
        "drained": backend.is_drained,
        "usable": backend.is_usable,
        "weight": backend.weight,
        "circuit": backend.circuit,
        "open_for": backend.open_for,
        "connections": backend.connections,
        "in_flight": backend.in_flight,
        "requests": backend.requests,
        "failures": backend.failures,
        "window": {"requests": backend.window_requests, "failures": backend.window_failures, "failure_rate": backend.failure_rate},
        "check": check,
    }
