"""`stats`: figures of pingap and of the machine it runs on, as JSON at one path, whatever the method. Steps `request` (the default)
or `proxy_upstream`. `pingap:stats` is such a plugin at `/stats`, without a section.

The answer is 200, `application/json`, and is not to be cached. Its keys, in this order: `processing` and `accepted`, requests in
flight and so far; `location_processing` and `location_accepted`, the same of the location that the plugin is asked in;
`hostname`, `version`, `rustc_version`, `start_time` (Unix seconds), `uptime` (`"1h 2m 3s"`), `memory_mb`, `memory` (`"2.7 GiB"`),
`total_memory`, `used_memory`, `arch`, `cpus`, `physical_cpus`, `threads`, `fd_count`, `tcp_count`, `tcp6_count`. What is of the
system is up to a second old; the TCP counts are those of the whole network namespace. 503 when the system is too busy to be asked.

Anybody who may ask in this location learns all that: put an authentication or `ip_restriction` before it.

Unlike pingap 0.13.9: there are several processes, so numbers of requests are those of all replicas together, memory, threads and
descriptors the sums of all processes on this machine (memory that several share is counted once). `null` stands for a number of requests
that a process did not tell within half a second; a process that died has taken along what it had counted. `rustc_version` is
the version of Python. `value`, which its example file has, is taken for `path`; there it is not read, and nothing ever answers.
"""

from __future__ import annotations

import asyncio
import json
import platform
import time
from collections.abc import Awaitable
from importlib import metadata
from typing import Any, Final

from pydantic import Field

from pingap.plugin import CONTINUE, Exchange, Host, Overloaded, Plugin, Reply, RequestFigures, RequestPath, Result, Settings, is_path, reply
from pingap.stages.plugins.builtin.machine import MIB, MachineFigures, architecture, hostname, machine_figures, size_text, uptime_text

FRESH: Final = 1.0
"""Seconds for which what the system has said is told again: it has to be asked process by process."""

LONGEST: Final = 5.0
"""Seconds that this may take."""

_JSON: Final = (("content-type", "application/json; charset=utf-8"),)


class StatsSettings(Settings):
    path: RequestPath = Field(min_length=1)
    """The path at which it answers."""


class Stats(Plugin[StatsSettings]):
    category = "stats"
    model = StatsSettings
    steps = ("request", "proxy_upstream")
    counts_requests = True

    def __init__(self, settings: StatsSettings) -> None:
        super().__init__(settings)
        self._is_path = is_path(settings.path)
        self._host: Host | None = None
        self._asked: asyncio.Task[MachineFigures] | None = None
        """What the system says, or will say to all who wait."""
        self._asked_at = 0.0

    def start(self, host: Host) -> None:
        self._host = host

    def request(self, exchange: Exchange) -> Result | Awaitable[Result]:
        return self._answer(exchange.location) if self._is_path(exchange.raw_path) else CONTINUE

    async def _answer(self, location: str) -> Reply:
        assert self._host is not None
        try:
            async with asyncio.timeout(LONGEST):
                machine = await asyncio.shield(self._machine())
                figures = await self._host.figures(location)
        except TimeoutError:
            raise Overloaded(f"the system did not tell its figures within {LONGEST:g} s") from None
        return reply(200, json.dumps(as_told(figures, machine, time.time()), separators=(",", ":")).encode(), _JSON)

    def _machine(self) -> asyncio.Task[MachineFigures]:
        assert self._host is not None
        asked, now = self._asked, self._host.loop.time()
        if asked is None or (asked.done() and (asked.cancelled() or asked.exception() is not None or now - self._asked_at > FRESH)):
            asked = self._asked = self._host.loop.create_task(self._ask(self._host))
            self._asked_at = now
        return asked

    async def _ask(self, host: Host) -> MachineFigures:
        figures: MachineFigures = await host.in_thread(_figures, host)
        return figures


def _figures(host: Host) -> MachineFigures:
    return machine_figures(host.processes())


def as_told(figures: RequestFigures, machine: MachineFigures, now: float) -> dict[str, Any]:
    """What the answer says, in its order. now: Unix seconds."""
    return {
        "processing": figures.processing,
        "accepted": figures.accepted,
        "location_processing": figures.location_processing,
        "location_accepted": figures.location_accepted,
        "hostname": hostname(),
        "version": metadata.version("pingap"),
        "rustc_version": f"{platform.python_implementation()} {platform.python_version()}",
        "start_time": int(machine.started),
        "uptime": uptime_text(max(0, int(now) - int(machine.started))),
        "memory_mb": machine.memory // MIB,
        "memory": size_text(machine.memory),
        "total_memory": size_text(machine.total_memory),
        "used_memory": size_text(machine.used_memory),
        "arch": architecture(),
        "cpus": machine.cpus,
        "physical_cpus": machine.physical_cpus,
        "threads": machine.threads,
        "fd_count": machine.descriptors,
        "tcp_count": machine.tcp,
        "tcp6_count": machine.tcp6,
    }
