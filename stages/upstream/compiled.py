"""What upstream keeps of one configuration generation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from operator import attrgetter
from random import randrange
from typing import Any, Final

from pingap.config.model import Location, Snapshot
from pingap.stages import outside
from pingap.stages.coding.rules import CodingRules, coding_section
from pingap.stages.error_page import ErrorPages
from pingap.stages.forwarded import Trust, extend, overwrite
from pingap.stages.headers import Cut, cutter, loose_cutter
from pingap.stages.http1.spelling import Spelled
from pingap.stages.messages import Routed
from pingap.stages.steps import Steps
from pingap.stages.upstream.core import RetryRules
from pingap.stages.upstream.group import Group
from pingap.stages.variables import Edit, compile_rules, host_name, source_of
from pingap.stages.via import Via

DEFAULT_RULES: Final = RetryRules(None, None)
NOTHING_CUT: Final = cutter(())
NOBODY: Final = Trust(())


@dataclass(frozen=True, slots=True)
class LocationRules:
    """The keys of a location that take effect here."""

    retry: RetryRules = DEFAULT_RULES
    retried_statuses: frozenset[int] = frozenset()
    """Answers with one of these are dropped where another backend may be asked."""
    max_body: int = 0
    """Bytes of a body whose length the head did not tell; 0 is no limit."""
    edit: Edit | None = None
    """proxy_set_headers and proxy_add_headers."""
    forwards: bool = False
    """enable_reverse_proxy_headers."""
    trust: Trust = NOBODY
    vias: Mapping[str, Via] = field(default_factory=dict)
    """What servers are called in Via lines."""
    writes: bool = False
    """`leaving` has something to do."""
    grpc_web: frozenset[str] = frozenset()
    """Servers by which a request to this location may come in as gRPC-Web."""
    spelled: Spelled = ()
    """Names of headers as these rules have them."""
    keeps_case: frozenset[str] = frozenset()
    """Servers whose clients get header names as a backend wrote them."""
    cut_ruled: Cut = NOTHING_CUT
    """Takes out the lines that the location sets, adds or removes."""
    coding: CodingRules | None = None
    """Of its plugin for that: for answers of requests whose itinerary says that they are coded here."""

    def leaving(self, headers: bytes, routed: Routed, address: str) -> bytes:
        """The header block as it leaves for the backend at `address`: forwarded headers, Via, then the location's rules.

        Whoever works on a request before, plugins above all, sees what the client sent. A rule's variables mean the block as it
        came here, so that a plugin's change counts and a header that it took away is not there.
        """
        believed = not self.trust.nobody and self.trust.is_trusted(routed.peer.ip)
        block = headers
        if self.forwards:
            host = _remembered_name(routed.host) if len(routed.host) <= _LONGEST else host_name(routed.host)
            block = extend(headers, routed.peer, host, routed.client_ip) if believed else overwrite(headers, routed.peer, host)
        if self.vias and (via := self.vias.get(routed.server)) is not None:
            block += via.line(routed.version)
        if self.edit is not None:
            block = self.edit.apply(block, source_of(routed, address, believed))
        return block


@dataclass(frozen=True, slots=True)
class CompiledUpstreams:
    groups: dict[str, Group]
    rules: dict[str, LocationRules]
    pages: ErrorPages
    keepalive_pool: int
    """Idle connections that this process may keep."""
    ports: frozenset[int]
    """At which its servers listen."""


NO_RULES = LocationRules()


@dataclass(slots=True)
class UpstreamCompiler:
    """Compiles snapshots; a group whose section did not change keeps its pools and its place in the cycle."""

    groups: dict[str, Group] = field(default_factory=dict)
    """Those of the committed generation: a candidate may be withdrawn."""
    own_ports: set[int] = field(default_factory=set)
    """At which this proxy has listened in any generation that was committed: what a reload takes away listens until the restart."""
    _made: dict[tuple[Any, ...], LocationRules] = field(default_factory=dict)
    """Of the generation that was compiled last, by what of their locations they are made of: many have the same, and most stay."""
    _around: Any = None
    """And by what all of them are made of."""

    def compile(self, snapshot: Snapshot, plans: dict[str, int]) -> Steps[CompiledUpstreams]:
        groups: dict[str, Group] = {}
        for name, settings in outside.UPSTREAMS.items():
            groups[name] = self.groups.get(name) or Group(name, settings, randrange, is_open=True)
        for name, settings in snapshot.upstreams.items():
            known = self.groups.get(name)
            group = groups[name] = known if known is not None and known.settings == settings else Group(name, settings, randrange)
            if group.transparent is not None:
                group.transparent.own_ports = self.own_ports
            yield 1
        grpc_web = frozenset(name for name, server in snapshot.servers.items() if "grpc-web" in server.modules)
        trust = Trust(snapshot.basic.trusted_proxies)
        vias = {name: Via(server.via) for name, server in snapshot.servers.items() if server.via}
        keeps_case = frozenset(name for name, server in snapshot.servers.items() if server.preserve_header_case)
        plugins = snapshot.plugins
        around = (
            grpc_web,
            snapshot.basic.trusted_proxies,
            tuple((name, server.via) for name, server in snapshot.servers.items()),
            keeps_case,
        )
        before = self._made if around == self._around else {}
        rules: dict[str, LocationRules] = {}
        made: dict[tuple[Any, ...], LocationRules] = {}
        for name, location in snapshot.locations.items():
            section = coding_section(location.plugins, plugins) if location.plugins else None
            key = (*_PARTS(location), repr(section))
            same = made.get(key) or before.get(key)
            rules[name] = made[key] = same or _rules(location, grpc_web, trust, vias, keeps_case, section)
            yield 1
        self._made, self._around = made, around
        pages, most = ErrorPages(snapshot.basic.error_template), snapshot.basic.upstream_keepalive_pool_size
        ports = frozenset(listen.port for server in snapshot.servers.values() for listen in server.addr)
        return CompiledUpstreams(groups, rules, pages, most, ports)

    def committed(self, compiled: CompiledUpstreams) -> None:
        """This is what goes from now on."""
        self.groups = compiled.groups
        self.own_ports |= compiled.ports


_LONGEST: Final = 255
"""Longest host that is remembered: no DNS name is longer, and clients choose it."""
_remembered_name: Final = lru_cache(4096)(host_name)


_PARTS: Final = attrgetter(
    "max_retries",
    "max_retry_window",
    "retry_status_code",
    "client_max_body_size",
    "proxy_set_headers",
    "proxy_add_headers",
    "enable_reverse_proxy_headers",
    "grpc_web",
)
"""What `_rules` reads of a location."""


def _rules(
    location: Location,
    grpc_web: frozenset[str],
    trust: Trust,
    vias: Mapping[str, Via],
    keeps_case: frozenset[str],
    coding: Mapping[str, Any] | None,
) -> LocationRules:
    names = [name for name, _ in (*location.proxy_set_headers, *location.proxy_add_headers)]
    edit = compile_rules(location.proxy_set_headers, location.proxy_add_headers)
    return LocationRules(
        RetryRules(location.max_retries, location.max_retry_window),
        frozenset(location.retry_status_code),
        location.client_max_body_size,
        edit,
        location.enable_reverse_proxy_headers,
        trust,
        vias,
        edit is not None or location.enable_reverse_proxy_headers or bool(vias),
        grpc_web if location.grpc_web else frozenset(),
        tuple(name.encode() for name in names),
        keeps_case,
        loose_cutter(name.lower().encode() for name in names),
        None if coding is None else CodingRules(coding),
    )
