"""The metrics actor: events in, the metrics page out."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any, ClassVar

from pingap.bus.actor import Actor, Context
from pingap.bus.kinds import ACCESS, COUNT
from pingap.bus.local import Receivers
from pingap.config.model import Snapshot
from pingap.stages.generations import Generations
from pingap.stages.messages import Scrape, Scraped
from pingap.stages.metrics.core import Scope, Sums


def compile_generation(snapshot: Snapshot, plans: dict[str, int]) -> Scope:
    """The servers that have metrics, and the names that may become labels."""
    servers = snapshot.servers
    locations = {name: server.locations for name, server in servers.items() if server.prometheus_metrics}
    return Scope(locations, frozenset(snapshot.upstreams), next(iter(servers)) if len(servers) == 1 else "")


class MetricsActor(Actor):
    """Counts from its start on; the sums live and die with the process."""

    stage: ClassVar[str] = "metrics"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._generations: Generations[Scope] = Generations(context, compile_generation, self._committed)
        self._sums = Sums()
        self._unsubscribe: Callable[[], None] | None = None
        self._is_ready = False
        self._events = 0

    def receivers(self) -> Receivers:
        return {Scrape: self._scraped}

    async def start(self) -> None:
        self._generations.start()

    async def stop(self) -> None:
        if self._unsubscribe is not None:
            self._unsubscribe()

    def figures(self) -> dict[str, float]:
        return {"events": self._events}

    def _committed(self, generation: int, scope: Scope) -> None:
        self._sums.configure(scope)
        if scope.locations and self._unsubscribe is None:
            self._unsubscribe = self.context.subscribe_events(("access", "count"), self._take)
        elif not scope.locations and self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        if not self._is_ready:
            self._is_ready = True
            self.context.ready()

    def _take(self, topic: str, envelopes: list[Any]) -> None:
        self._events += len(envelopes)
        take_access = self._sums.take_access
        for envelope in envelopes:
            kind = envelope[0]
            if kind == ACCESS:
                take_access(envelope)
            elif kind == COUNT:
                self._sums.take_count(envelope, monotonic())

    def _scraped(self, scrape: Scrape) -> None:
        # prometheus-client costs 4 MB, which an instance that nobody scrapes does not need.
        from pingap.stages.metrics.page import CONTENT_TYPE, page

        payload = page(self._sums, scrape.server, monotonic())
        self.context.send(scrape.asker, Scraped(scrape.sid, payload, CONTENT_TYPE))
