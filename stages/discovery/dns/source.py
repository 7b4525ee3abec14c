"""Looks up the entries of one upstream for ever."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from pingap.config.addresses import is_host_name
from pingap.config.parts import Backend
from pingap.stages.discovery.dns.client import DnsClient, DnsFailed
from pingap.stages.discovery.dns.lookup import DnsLookup, Known
from pingap.stages.discovery.dns.refresh import Refresh
from pingap.stages.discovery.watch import SourceEar

Say = Callable[[str, str], None]
"""(entry, why some of its backends are those of before or may be missing; "" when that is over)."""

NOTHING: Final[Mapping[str, Iterable[Backend]]] = {}


class DnsSource:
    """What it finds it tells `ear`, each time, and what fails. It never finds nothing: what was found before is good until then."""

    def __init__(
        self,
        entries: Iterable[Backend],
        ipv4_only: bool,
        frequency: float | None,
        client: DnsClient,
        ear: SourceEar,
        say: Say,
        before: DnsSource | None = None,
        in_use: Mapping[str, Iterable[Backend]] = NOTHING,
    ) -> None:
        """entries: of `addrs`. frequency: seconds between lookups, None for the time to live of what is found.

        before: the source of the upstream until now. What it knows stays known, if the same servers are asked: a reload at a
        moment when AAAA fails must not cost the IPv6 addresses. in_use: the backends of each entry now, for the same reason, when
        this life of the discovery stage has only begun.
        """
        self._entries = tuple(entries)
        self._frequency = frequency
        self._client = client
        known = before.known() if before is not None and before._client is client else {}
        self._lookups = {
            entry.address: DnsLookup(entry, ipv4_only, client, known.get(entry.host), in_use.get(entry.address, ()))
            for entry in self._entries
            if is_host_name(entry.host)
        }
        self._is_lost = {address: asyncio.Event() for address in self._lookups}
        self._ear = ear
        self._say = say

    def known(self) -> dict[str, Known]:
        """By the name that was looked up."""
        return {entry.host: self._lookups[entry.address].known for entry in self._entries if entry.address in self._lookups}

    def hurry(self, entry: str) -> None:
        if entry in self._is_lost:
            self._is_lost[entry].set()

    async def run(self) -> None:
        """Until it is cancelled. Every entry at once, then each by its own clock."""
        async with asyncio.TaskGroup() as group:
            for entry in self._entries:
                if (lookup := self._lookups.get(entry.address)) is not None:
                    group.create_task(self._follow(entry, lookup))
                else:
                    self._ear.found(entry.address, (entry,))
            await asyncio.Event().wait()  # also when there are only addresses

    async def _follow(self, entry: Backend, lookup: DnsLookup) -> None:
        refresh = Refresh(self._frequency)
        lacking = ""
        while True:
            try:
                found = await lookup.find()
            except DnsFailed as error:
                self._ear.failed(entry.address, str(error))
            except Exception as error:  # whatever it is: this entry and the others must be looked up again
                self._ear.failed(entry.address, f"{type(error).__name__}: {error}")
            else:
                self._ear.found(entry.address, found.backends)
                if found.lacking != lacking:
                    lacking = found.lacking
                    self._say(entry.address, lacking)
                await self._rest(entry.address, refresh, refresh.after_success(found.ttl, random.random()))
                continue
            await asyncio.sleep(refresh.after_failure(random.random()))

    async def _rest(self, entry: str, refresh: Refresh, pause: float) -> None:
        """So many seconds; less when none of the backends of an entry is healthy: they may have moved long before the time to live ends."""
        is_lost = self._is_lost[entry]
        is_lost.clear()
        end = asyncio.get_running_loop().time() + pause
        if not self._ear.is_lost(entry):
            try:
                async with asyncio.timeout_at(end):
                    await is_lost.wait()
            except TimeoutError:
                refresh.rested()
                return
        left = end - asyncio.get_running_loop().time()
        await asyncio.sleep(min(left, refresh.while_lost(random.random())))
