"""Rows: what is known of each process, for `pingap ps`; and the table of the start."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pingap import instance_dir, limits, tables
from pingap.bus.members import READY, STARTING
from pingap.plan import Fleet
from pingap.plan_state import WAITING

PAGE: Final = os.sysconf("SC_PAGE_SIZE")
TICKS: Final = os.sysconf("SC_CLK_TCK")

Row = dict[str, Any]


def actor_rows(fleet: Fleet, figures: Mapping[int, Mapping[str, float]], endpoint_of: Any) -> list[Row]:
    """One row an actor, and one for each replica that waits for its restart."""
    rows: list[Row] = []
    for process in fleet.processes.values():
        resident, proportional = memory(process.pid) if process.pid else (0, 0)
        opened, most = limits.use_of(process.pid) if process.pid else (0, 0)
        for actor, stage in zip(process.ids, process.role.stages, strict=True):
            state = process.state if process.state != STARTING or actor not in process.ready else READY
            known = figures.get(actor, {})
            rows.append(
                {
                    "stage": stage,
                    "replica": process.replica,
                    "pid": process.pid or None,
                    "state": state,
                    "restarts": process.restarts,
                    "cpus": list(process.role.cpus),
                    "uptime": uptime(process.pid),
                    "rss": resident,
                    "pss": proportional,
                    "open_files": opened,
                    "most_files": most,
                    "in_flight": int(known.get("in_flight", 0)),
                    "requests": int(known.get("requests", 0)),
                    "id": actor,
                    "process": process.name,
                    "endpoint": endpoint_of(stage, process.replica, actor),
                }
            )
    for slot in fleet.slots.values():
        if not slot.process:
            for stage in slot.role.stages:
                rows.append(
                    plain_row(stage, slot.replica, None, WAITING, slot.restarts)
                    | {"cpus": list(slot.role.cpus), "process": f"{slot.role.name}.{slot.replica}"}
                )
    order = {stage: index for index, stage in enumerate(stage for role in fleet.roles.values() for stage in role.stages)}
    rows.sort(key=lambda row: (order[row["stage"]], row["replica"], row["id"]))
    return rows


def plain_row(stage: str, replica: int, pid: int | None, state: str, restarts: int = 0) -> Row:
    """A row for what is no actor: the supervisor, the spawner, a replica without a process."""
    resident, proportional = memory(pid) if pid else (0, 0)
    opened, most = limits.use_of(pid) if pid else (0, 0)
    return {
        "stage": stage,
        "replica": replica,
        "pid": pid,
        "state": state,
        "restarts": restarts,
        "cpus": [],
        "uptime": uptime(pid) if pid else 0.0,
        "rss": resident,
        "pss": proportional,
        "open_files": opened,
        "most_files": most,
        "in_flight": 0,
        "requests": 0,
        "id": 0,
        "process": stage,
        "endpoint": "",
    }


def memory(pid: int) -> tuple[int, int]:
    """Resident and proportional bytes of a process; the second shares out what several have in common. 0 if unknown."""
    resident = proportional = 0
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            for line in file:
                if line.startswith("Rss:"):
                    resident = int(line.split()[1]) * 1024
                elif line.startswith("Pss:"):
                    proportional = int(line.split()[1]) * 1024
    except OSError:
        try:
            with open(f"/proc/{pid}/statm", encoding="ascii") as file:
                resident = int(file.read().split()[1]) * PAGE
        except OSError:
            pass
    return resident, proportional


def uptime(pid: int) -> float:
    """Seconds since a process began; 0 when it is gone."""
    started = instance_dir.start_time(pid)
    return round(max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started / TICKS), 2) if started else 0.0


def cpus_text(cpus: Sequence[int]) -> str:
    """`0,2`, or `any`."""
    return ",".join(map(str, cpus)) or "any"


def start_table(rows: Sequence[Row]) -> list[str]:
    """The table that `pingap up` prints."""
    cells = [(row["stage"], str(row["replica"]), str(row["pid"] or "-"), cpus_text(row["cpus"]), row["endpoint"]) for row in rows]
    return tables.plain(("STAGE", "REPLICA", "PID", "CPU", "ENDPOINT"), cells, right=(1, 2))
