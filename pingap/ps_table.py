"""The table of `pingap ps`, and what it says below that."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from pingap import tables
from pingap.rows import Row, cpus_text
from pingap.tables import Column

SINGLE: Final = ("supervisor", "spawner")
"""Rows that are no stage and have no replica."""


def _name(row: Row) -> str:
    return row["stage"] if row["stage"] in SINGLE else f"{row['stage']}.{row['replica']}"


COLUMNS: Final[tuple[Column[Row], ...]] = (
    Column("STAGE", _name, False, 0),
    Column("PID", lambda row: str(row["pid"] or "-"), True, 0),
    Column("STATE", lambda row: row["state"], False, 0),
    Column("UPTIME", lambda row: span(row["uptime"]) if row["pid"] else "-", True, 3),
    Column("RESTARTS", lambda row: str(row["restarts"]), True, 1),
    Column("CPUS", lambda row: cpus_text(row["cpus"]), False, 5, usual=cpus_text(())),
    Column("RSS", lambda row: f"{row['rss'] / 1048576:.1f} MB", True, 4),
    Column("IN-FLIGHT", lambda row: str(row["in_flight"]), True, 2),
    Column("REQUESTS", lambda row: str(row["requests"]), True, 2),
)


class Line(NamedTuple):
    """One line of the table, with the state of its process; "" for the head."""

    text: str
    state: str


def lines(rows: Sequence[Row], width: int = 0) -> list[Line]:
    """The table, at most `width` columns wide as far as that goes; 0 is any width."""
    texts = tables.fitted(COLUMNS, rows, width)
    return [Line(text, state) for text, state in zip(texts, ["", *(row["state"] for row in rows)], strict=True)]


def span(seconds: float) -> str:
    """`45s`, `12m`, `3h12m`, `5d4h`: a duration in at most six signs, for some years."""
    left = int(seconds)
    for unit, size, below, inner in (("d", 86400, "h", 3600), ("h", 3600, "m", 60)):
        if left >= size:
            count, rest = divmod(left, size)
            return f"{count}{unit}{rest // inner}{below}" if rest // inner and count < 100 else f"{count}{unit}"
    return f"{left // 60}m" if left >= 60 else f"{left}s"


def summary(rows: Sequence[Row], now: float) -> list[str]:
    """What the instance as a whole does, in one or two lines. now: unix time."""
    head = next((row for row in rows if row["stage"] == "supervisor"), None)
    if head is None or "version" not in head:
        return []
    form = f", {head['form']}" if head.get("form") else ""  # an older instance does not say
    found = [f"pingap {head['version']}{form}, {head['state']} for {span(head['uptime'])}"]
    if sick := ailing(rows):
        found[0] += f"; not ready: {', '.join(sick)}"
    for pid in head.get("predecessors", ()):
        found.append(f"the instance before (pid {pid}) finishes what it holds")
    if head["generation"]:
        hashed = f", configuration {head['config']}" if head.get("config") else ""
        found.append(f"generation {head['generation']}{hashed}")
    if (last := head["reload"]) is not None:
        ago = f"{span(max(0.0, now - last['time']))} ago, at {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(last['time']))}"
        if last["problems"]:
            found[-1] += f"; a configuration was refused {ago}:"
            found += [f"  {line}" for problem in last["problems"] for line in problem.split("\n")]
        else:
            found[-1] += f", taken {ago}" + (f": {last['changed']}" if last["changed"] else "")
    return found


def colour_of(state: str) -> str:
    """What stands out is what one looks for: "" for a process that serves."""
    return {"": "", "ready": "", "waiting": "red"}.get(state, "yellow")


def ailing(rows: Sequence[Row]) -> list[str]:
    """What is not as it should be: processes that do not serve, but for those that are meant to leave."""
    return [f"{_name(row)} ({row['state']})" for row in rows if row["state"] not in ("ready", "draining")]


def outcome_of(report: Mapping[str, Any], now: float) -> dict[str, Any]:
    """What `ps` remembers of a generation that was taken or refused. now: unix time."""
    return {"time": now, "problems": list(report.get("problems") or ()), "changed": report.get("changed") or ""}
