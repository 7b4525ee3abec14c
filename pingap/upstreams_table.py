"""The table of `pingap upstreams`, and what stands between its lines: what finds the backends, and why checks fail."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from pingap import tables
from pingap.ps_table import Line, span
from pingap.tables import Column

Upstream = Mapping[str, Any]
"""As `pingap upstreams --json` has it (stages/statuses.py)."""

NONE: Final = "-"

MOST: Final = 5
"""Entries of one upstream of which it is said that they fail, and why."""


class Row(NamedTuple):
    """A backend, or an upstream without one."""

    upstream: Upstream
    backend: Mapping[str, Any] | None
    now: float


def columns() -> tuple[Column[Row], ...]:
    """In order."""
    return (
        Column("UPSTREAM", lambda row: tables.safe(row.upstream["upstream"]), False, 0, least=8),
        Column("BACKEND", lambda row: tables.safe(row.backend["address"]) if row.backend else NONE, False, 0, least=10),
        Column("STATE", _state, False, 0),
        Column("CIRCUIT", _circuit, False, 1, usual="closed"),
        Column("WEIGHT", lambda row: _number(row, "weight"), True, 6, usual="1"),
        Column("CONNS", lambda row: _number(row, "connections"), True, 5),
        Column("IN-FLIGHT", lambda row: _number(row, "in_flight"), True, 2),
        Column("REQUESTS", lambda row: _number(row, "requests"), True, 3),
        Column("FAILED", _failed, True, 3),
        Column("CHECKED", _checked, True, 4),
    )


def lines(upstreams: Sequence[Upstream], now: float, width: int = 0) -> list[Line]:
    """The table, at most `width` columns wide as far as that goes; 0 is any width. now: Unix seconds."""
    rows = [Row(one, backend, now) for one in upstreams for backend in one["backends"] or (None,)]
    texts = tables.fitted(columns(), rows, width)
    found = [Line(texts[0], "")]
    for index, (row, text) in enumerate(zip(rows, texts[1:], strict=True)):
        found.append(Line(text, _seen(row)))
        if index + 1 == len(rows) or rows[index + 1].upstream is not row.upstream:
            found += [Line(f"  {tables.safe(text)}", state) for text, state in _details(row.upstream, now)]
    return found


def colour_of(state: str) -> str:
    """What stands out is what one looks for."""
    return {"unhealthy": "red", "none": "red", "failing": "yellow", "drained": "yellow", "open": "red", "half-open": "yellow"}.get(
        state, ""
    )


def unserved(upstreams: Sequence[Upstream]) -> list[str]:
    """Upstreams of which no backend can get a request, each with what its backends are."""
    found = []
    for one in upstreams:
        if one["usable"] or one["discovery"] == "transparent":
            continue
        states: dict[str, int] = {}
        for backend in one["backends"]:
            word = backend["state"] if backend["state"] in ("drained", "unhealthy") else _not_usable(backend)
            states[word] = states.get(word, 0) + 1
        found.append(f"{one['upstream']} ({', '.join(f'{count} {word}' for word, count in states.items()) or 'no backends'})")
    return found


def _not_usable(backend: Mapping[str, Any]) -> str:
    return "with an open circuit" if backend["circuit"] == "open" else "of weight 0"


def _seen(row: Row) -> str:
    """The worst of its states."""
    if row.backend is None:
        return "" if row.upstream["discovery"] == "transparent" else "none"
    state, circuit = row.backend["state"], row.backend["circuit"]
    return str(state if state in ("unhealthy", "drained") or circuit == "closed" else circuit)


def _state(row: Row) -> str:
    if row.backend is not None:
        return str(row.backend["state"])
    return "transparent" if row.upstream["discovery"] == "transparent" else "none"


def _circuit(row: Row) -> str:
    if row.backend is None:
        return "closed"
    circuit, left = str(row.backend["circuit"]), row.backend["open_for"]
    return f"{circuit} {span(left)}" if circuit == "open" else circuit


def _number(row: Row, key: str) -> str:
    if row.backend is None:
        return "1" if key == "weight" else NONE
    return str(row.backend[key])


def _failed(row: Row) -> str:
    window = row.backend["window"] if row.backend else {"requests": 0}
    return f"{window['failure_rate']:.1f}%" if window["requests"] else NONE


def _checked(row: Row) -> str:
    """Its age, and how long it took."""
    check = row.backend["check"] if row.backend else None
    if check is None:
        return NONE
    return f"{span(max(0.0, row.now - check['time']))} {_short(check['seconds'])}"


def _short(seconds: float) -> str:
    return f"{seconds * 1000:.0f}ms" if seconds < 1 else f"{seconds:.1f}s"


def _details(upstream: Upstream, now: float) -> Iterator[tuple[str, str]]:
    """(a line, its state): what finds the backends, and why a backend fails its checks."""
    sources, discovery = upstream["sources"], upstream["discovery"]
    failing = [one for one in sources if one["error"]]
    synced = [one["synced"] for one in sources if one["synced"] and not one["error"]]
    if synced:
        yield f"{discovery}: found {span(max(0.0, now - min(synced)))} ago", ""
    elif discovery not in ("static", "transparent") and not failing:
        yield f"{discovery}: nothing is found yet", ""
    for one in failing[:MOST]:
        since = f"; what was found {span(max(0.0, now - one['synced']))} ago stays" if one["synced"] else ""
        yield f"{discovery}: {one['entry']} cannot be found out: {one['error']}{since}", "failing"
    if failing[MOST:]:
        yield f"{discovery}: {len(failing) - MOST} more fail", "failing"
    for backend in upstream["backends"]:
        check = backend["check"]
        if check is not None and check["error"]:
            yield f"{backend['address']} failed its check {span(max(0.0, now - check['time']))} ago: {check['error']}", "failing"
