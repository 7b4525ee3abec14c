"""Answers everybody with a page while a file is there, but lets through who knows the password.

    pip install pingap
    pingap up -c examples/plugins/maintenance.toml     # its end says what to try
    pingap plugin test examples/plugins/maintenance.py

The file is looked for every second, in a thread: a request never waits for a disk.
"""

from __future__ import annotations

import asyncio
import hmac
import os
from collections.abc import Iterator

from pingap.plugin import CONTINUE, Duration, Exchange, HeaderName, Host, Overloaded, Plugin, Result, Settings, Trouble, reply

PAGE = "<!doctype html><title>Back soon</title><h1>We are back soon</h1><p>This site is being worked on.</p>"


class MaintenanceSettings(Settings):
    """The keys of its section."""

    file: str
    """While there is a file of this name, maintenance is on: `touch` it, `rm` it."""
    page: str = PAGE
    """HTML that is shown meanwhile."""
    retry_after: Duration = 300.0
    """After which programs and crawlers are asked to come again."""
    look_every: Duration = 1.0
    """How often it is looked for the file."""
    header: HeaderName = "x-maintenance-password"
    """The header with which an administrator comes through."""
    password: str = ""
    """What it has to say; without one nobody comes through."""


class Maintenance(Plugin[MaintenanceSettings]):
    """One object for each section that names this file."""

    model = MaintenanceSettings

    def check(self) -> Iterator[Trouble]:
        """What the model of the settings cannot say."""
        if not os.path.isabs(self.settings.file):
            yield "file", "is not an absolute path", 'file = "/run/maintenance"'
        if 0 < len(self.settings.password) < 12:
            yield "password", "is shorter than 12 characters", 'password = "$ENV:MAINTENANCE_PASSWORD"'
        if self.settings.look_every < 0.01:
            yield "look_every", "is less than 10 ms"

    async def start(self, host: Host) -> None:
        """Called once, before the first request."""
        self.host = host
        self.is_on = await host.in_thread(os.path.exists, self.settings.file)
        self.watch = asyncio.create_task(self.look())

    def stop(self) -> None:
        """Called once, when no request has this object any more."""
        self.watch.cancel()

    async def look(self) -> None:
        """Follows the file."""
        while True:
            await asyncio.sleep(self.settings.look_every)
            try:
                is_on = await self.host.in_thread(os.path.exists, self.settings.file)
            except Overloaded as error:  # an exception would end this task, and nobody would look any more
                self.host.log("warn", "the file of the maintenance could not be looked for", error=str(error))
                continue
            if is_on != self.is_on:
                self.is_on = is_on
                self.host.log("warn", "maintenance is on" if self.is_on else "maintenance is over")

    def request(self, exchange: Exchange) -> Result:
        """Runs for each request."""
        said = (exchange.headers.get(self.settings.header) or "").encode("latin-1")  # the bytes that were sent
        exchange.headers.remove(self.settings.header)  # no business of the backend's
        if not self.is_on or (self.settings.password and hmac.compare_digest(said, self.settings.password.encode())):
            return CONTINUE
        headers = {
            "content-type": "text/html; charset=utf-8",
            "cache-control": "no-store",
            "retry-after": f"{self.settings.retry_after:.0f}",
        }
        return reply(503, self.settings.page, headers)
