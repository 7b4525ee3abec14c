"""What logging needs of a configuration generation."""

from __future__ import annotations

from dataclasses import dataclass

from pingap.config.model import Snapshot


@dataclass(frozen=True, slots=True)
class Compiled:
    """Access logs by server, and the application log."""

    access: dict[str, str | None]
    """Server → the path of its access log ("" is stderr); None: it writes none. The lines come finished from accept."""
    has_metrics: bool
    level: str
    is_json: bool
    error_log: str
    """Path of the application log, "" for stderr."""


def compile_generation(snapshot: Snapshot, plans: dict[str, int]) -> Compiled:
    access = {name: server.access_log.path if server.access_log is not None else None for name, server in snapshot.servers.items()}
    basic = snapshot.basic
    has_metrics = any(server.prometheus_metrics for server in snapshot.servers.values())
    return Compiled(access, has_metrics, basic.log_level, basic.log_format_json, basic.error_log or "")
