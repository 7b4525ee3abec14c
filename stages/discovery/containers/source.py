"""The source of one upstream with `discovery = "docker"`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

from pingap.config.parts import Backend
from pingap.stages.discovery.containers.listing import FoundContainers, Labelled, Listing, backends_of
from pingap.stages.discovery.containers.watch import EngineWatches

AT_ONCE: Final = 200
"""Containers, times entries, that are gone through on the loop, in a few milliseconds; more are in a thread."""


class ContainerEar(Protocol):
    """Whom it tells what it finds: stages/discovery/watch.py."""

    def found(self, entry: str, backends: Iterable[Backend]) -> None: ...

    def failed(self, entry: str, reason: str) -> None: ...


class ContainerSource:
    """Which containers the entries of an upstream stand for.

    remark: told why a container with such a label is no backend, once until that changes.
    """

    def __init__(
        self,
        ear: ContainerEar,
        watches: EngineWatches,
        docker_host: str,
        entries: Sequence[tuple[str, Labelled]],
        *,
        frequency: float,
        ipv4_only: bool,
        remark: Callable[[str, str], None],
    ) -> None:
        """entries: by their addresses. frequency: seconds."""
        self._ear = ear
        self._watches = watches
        self._docker_host = docker_host
        self._entries = entries
        self._ipv4_only = ipv4_only
        self._remark = remark
        self._remarks: set[tuple[str, str]] = set()
        self._news: Listing | str = ""
        self._has_news = asyncio.Event()
        self.frequency = frequency

    async def run(self) -> None:
        """Until it is cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watches.hear(self._docker_host, self))
            group.create_task(self._keep_telling())

    def hurry(self, entry: str) -> None:
        self._watches.hurry(self._docker_host)

    def listed(self, listing: Listing) -> None:
        self._say(listing)

    def unlisted(self, reason: str) -> None:
        self._say(reason)

    def _say(self, news: Listing | str) -> None:
        self._news = news
        self._has_news.set()

    async def _keep_telling(self) -> None:
        """The last word counts: what has not been told when there is another is history."""
        while True:
            await self._has_news.wait()
            self._has_news.clear()
            news = self._news
            if isinstance(news, str):
                for address, _ in self._entries:
                    self._ear.failed(address, news)
                continue
            if len(news.containers) * len(self._entries) > AT_ONCE:
                found = await asyncio.to_thread(self._found_in, news)
            else:
                found = self._found_in(news)
            self._tell(found)

    def _found_in(self, listing: Listing) -> list[tuple[str, FoundContainers]]:
        """By the entry."""
        return [(address, backends_of(listing.containers, label, listing.host, self._ipv4_only)) for address, label in self._entries]

    def _tell(self, found: list[tuple[str, FoundContainers]]) -> None:
        remarks = set()
        for address, one in found:
            self._ear.found(address, one.backends)
            remarks |= {(address, remark) for remark in one.remarks}
        for address, remark in sorted(remarks - self._remarks):
            self._remark(address, remark)
        self._remarks = remarks
