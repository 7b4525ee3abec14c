"""What the rules of a location make of a request's header lines when it leaves for a backend, for who has to know before: a cache,
whose answers may vary by them.

The upstream stage applies them (stages/upstream/compiled.py); here it is asked only what a backend will see in some lines. Which backend
that is nobody knows yet: `$upstream_addr` is empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from pingap.config.model import Location, Snapshot
from pingap.stages.forwarded import OVERWRITTEN, Trust, extend, overwrite
from pingap.stages.messages import Routed
from pingap.stages.variables import Edit, compile_rules, host_name, source_of


class _LinesOfLocation:
    """One location's."""

    __slots__ = ("_edit", "_forwards", "_trust", "names")

    def __init__(self, location: Location, trust: Trust) -> None:
        self._edit: Edit | None = compile_rules(location.proxy_set_headers, location.proxy_add_headers)
        self._forwards = location.enable_reverse_proxy_headers
        self._trust = trust
        ruled = [name.lower().encode() for name, _ in (*location.proxy_set_headers, *location.proxy_add_headers)]
        self.names = frozenset([*ruled, *([name.encode() for name in OVERWRITTEN] if self._forwards else ())])

    def apply(self, headers: bytes, routed: Routed, known: Mapping[str, Any]) -> bytes:
        believed = not self._trust.nobody and self._trust.is_trusted(routed.peer.ip)
        block = headers
        if self._forwards:
            host = host_name(routed.host)
            block = extend(headers, routed.peer, host, routed.client_ip) if believed else overwrite(headers, routed.peer, host)
        if self._edit is not None:
            block = self._edit.apply(block, source_of(replace(routed, headers=headers), "", believed, known))
        return block


class LeavingLines:
    """Those of all locations of one configuration that have such rules."""

    __slots__ = ("_locations", "_made", "_trust")

    def __init__(self, snapshot: Snapshot) -> None:
        self._locations = {name: location for name, location in snapshot.locations.items() if location.plugins and _writes(location)}
        self._trust = Trust(snapshot.basic.trusted_proxies)
        self._made: dict[str, _LinesOfLocation] = {}

    def seen(self, names: tuple[bytes, ...], headers: bytes, routed: Routed, known: Mapping[str, Any]) -> bytes:
        """The block in which these lines are as a backend will see them; others may be as they are. names: lower case. headers: as the
        location's plugins leave them. known: the request's context."""
        location = self._locations.get(routed.location)
        if location is None:
            return headers
        lines = self._made.get(routed.location)
        if lines is None:  # few locations have answers that vary
            lines = self._made[routed.location] = _LinesOfLocation(location, self._trust)
        return headers if lines.names.isdisjoint(names) else lines.apply(headers, routed, known)


def _writes(location: Location) -> bool:
    return bool(location.proxy_set_headers or location.proxy_add_headers or location.enable_reverse_proxy_headers)
