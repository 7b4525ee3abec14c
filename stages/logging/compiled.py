"""What logging needs of a configuration generation."""

from __future__ import annotations

from dataclasses import dataclass

from config.model import Snapshot
from observability.access_format import Render, compile_format


@dataclass(frozen=True, slots=True)
class Compiled:
    """Access logs by server, and the application log."""

    access: dict[str, tuple[Render, str] | None]
    """Server → its format and the path of its file ("" is stderr); None: it writes none."""
    has_metrics: bool
    level: str
    is_json: bool
    error_log: str
    """Path of the application log, "" for stderr."""

    @property
    def has_access_log(self) -> bool:
        return any(self.access.values())


def compile_generation(snapshot: Snapshot, plans: dict[str, int]) -> Compiled:
    """Raises ValueError for an access log format with a mistake in it."""
    access: dict[str, tuple[Render, str] | None] = {}
    for name, server in snapshot.servers.items():
        log = server.access_log
        try:
            access[name] = (compile_format(log.format), log.path) if log is not None else None
        except ValueError as error:
            raise ValueError(f"servers.{name}.access_log: {error}") from error
    basic = snapshot.basic
    has_metrics = any(server.prometheus_metrics for server in snapshot.servers.values())
    return Compiled(access, has_metrics, basic.log_level, basic.log_format_json, basic.error_log or "")
