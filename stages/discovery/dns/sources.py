"""The sources of all upstreams that have DNS: those who ask the same servers share what they keep of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from weakref import WeakValueDictionary

from pingap.bus.actor import Context
from pingap.config.parts import Backend, DnsSetting
from pingap.stages.discovery.dns.client import AT_ONCE, DnsClient
from pingap.stages.discovery.dns.source import DnsSource
from pingap.stages.discovery.gate import CheckGate
from pingap.stages.discovery.plan import Plan
from pingap.stages.discovery.watch import SourceEar


class DnsSources:
    """Makes them."""

    def __init__(self, context: Context) -> None:
        context.descriptors.hold(AT_ONCE)
        self._context = context
        self._gate = CheckGate(context.loop, AT_ONCE)
        self._sources: WeakValueDictionary[str, DnsSource] = WeakValueDictionary()
        """The last of each upstream: at a reload the one before is still there."""
        self._clients: WeakValueDictionary[DnsSetting, DnsClient] = WeakValueDictionary()
        """Those that some source has."""

    def source(self, upstream: str, plan: Plan, in_use: Mapping[str, Iterable[Backend]], ear: SourceEar) -> DnsSource:
        """What it finds and what fails it tells `ear`. in_use: the backends of each entry now."""
        client = self._clients.get(plan.dns)
        if client is None:
            client = self._clients[plan.dns] = DnsClient(plan.dns, self._gate)
        entries = [Backend(entry.host, entry.port, entry.weight) for entry in plan.entries]

        def say(entry: str, lacking: str) -> None:
            if lacking:
                self._context.log("warn", "a part of the backends cannot be found out", upstream=upstream, entry=entry, reason=lacking)
            else:
                self._context.log("info", "all backends can be found out again", upstream=upstream, entry=entry)

        source = DnsSource(entries, plan.ipv4_only, plan.frequency, client, ear, say, self._sources.get(upstream), in_use)
        self._sources[upstream] = source
        return source
