"""The sources of all upstreams that have Docker: those of the same host share its watch."""

from __future__ import annotations

from typing import Final

from pingap.bus.actor import Context
from pingap.config.parts import Backend
from pingap.stages.discovery.containers.listing import Labelled
from pingap.stages.discovery.containers.source import ContainerSource
from pingap.stages.discovery.containers.watch import EngineWatches
from pingap.stages.discovery.plan import Plan
from pingap.stages.discovery.watch import SourceEar

FREQUENCY: Final = 60.0
"""Seconds after which there is a new list though there was no event, where `update_frequency` says nothing else."""


class ContainerSources:
    """Makes them."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._watches = EngineWatches(context.loop)

    def source(self, upstream: str, plan: Plan, ear: SourceEar) -> ContainerSource:
        """What it finds and what fails it tells `ear`."""

        def remark(entry: str, text: str) -> None:
            self._context.log("warn", "a container with the label is no backend", upstream=upstream, entry=entry, reason=text)

        entries = [(entry.address, Labelled.of(Backend(entry.host, entry.port, entry.weight))) for entry in plan.entries]
        return ContainerSource(
            ear,
            self._watches,
            plan.docker_host,
            entries,
            frequency=plan.frequency or FREQUENCY,
            ipv4_only=plan.ipv4_only,
            remark=remark,
        )
