"""The source of one upstream with `discovery = "docker"`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from pingap.config.parts import Backend
from pingap.stages.discovery.containers.listing import Labelled, Listing, backends_of
from pingap.stages.discovery.containers.watch import EngineWatches


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
        self.frequency = frequency

    async def run(self) -> None:
        """Until it is cancelled."""
        await self._watches.hear(self._docker_host, self)

    def listed(self, listing: Listing) -> None:
        remarks = set()
        for address, label in self._entries:
            found = backends_of(listing.containers, label, listing.host, self._ipv4_only)
            self._ear.found(address, found.backends)
            remarks |= {(address, remark) for remark in found.remarks}
        for address, remark in sorted(remarks - self._remarks):
            self._remark(address, remark)
        self._remarks = remarks

    def unlisted(self, reason: str) -> None:
        for address, _ in self._entries:
            self._ear.failed(address, reason)
