"""Looks up the entries of one upstream for ever."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable

from pingap.config.addresses import is_host_name
from pingap.config.parts import Backend
from pingap.stages.discovery.dns.client import DnsClient, DnsFailed
from pingap.stages.discovery.dns.lookup import DnsLookup
from pingap.stages.discovery.dns.refresh import Refresh
from pingap.stages.discovery.watch import SourceEar

Say = Callable[[str, str], None]
"""(entry, why some of its backends are those of before or may be missing; "" when that is over)."""


class DnsSource:
    """What it finds it tells `ear`, each time, and what fails. It never finds nothing: what was found before is good until then."""

    def __init__(
        self, entries: Iterable[Backend], ipv4_only: bool, frequency: float | None, client: DnsClient, ear: SourceEar, say: Say
    ) -> None:
        """entries: of `addrs`. frequency: seconds between lookups, None for the time to live of what is found."""
        self._entries = tuple(entries)
        self._ipv4_only = ipv4_only
        self._frequency = frequency
        self._client = client
        self._ear = ear
        self._say = say

    async def run(self) -> None:
        """Until it is cancelled. Every entry at once, then each by its own clock."""
        async with asyncio.TaskGroup() as group:
            for entry in self._entries:
                if is_host_name(entry.host):
                    group.create_task(self._follow(entry))
                else:
                    self._ear.found(entry.address, (entry,))
            await asyncio.Event().wait()  # also when there are only addresses

    async def _follow(self, entry: Backend) -> None:
        lookup = DnsLookup(entry, self._ipv4_only, self._client)
        refresh = Refresh(self._frequency)
        lacking = ""
        while True:
            try:
                found = await lookup.find()
            except DnsFailed as error:
                self._ear.failed(entry.address, str(error))
                pause = refresh.after_failure(random.random())
            except Exception as error:  # whatever it is: this entry and the others must be looked up again
                self._ear.failed(entry.address, f"{type(error).__name__}: {error}")
                pause = refresh.after_failure(random.random())
            else:
                self._ear.found(entry.address, found.backends)
                if found.lacking != lacking:
                    lacking = found.lacking
                    self._say(entry.address, lacking)
                pause = refresh.after_success(found.ttl, random.random())
            await asyncio.sleep(pause)
