"""Decides which backends are taken out by hand, and for how long that is remembered."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

MOST: Final = 10_000
"""Backends that may be taken out: what a keepsake may bring, and a script that goes wild."""


class Drains:
    """The value of topic `drains`. It outlives this stage, and a reload, as long as the backend is there."""

    def __init__(self, before: Mapping[str, Any] | None = None) -> None:
        """before: what the life before this one has published; whatever is not of that shape is left out."""
        self._drained: dict[str, set[str]] = {}
        for upstream, addresses in (before or {}).items():
            if isinstance(addresses, list | tuple):
                for address in addresses:
                    if isinstance(upstream, str) and isinstance(address, str):
                        self.add(upstream, address)

    def value(self) -> dict[str, list[str]]:
        """Upstream → addresses, in order."""
        return {upstream: sorted(addresses) for upstream, addresses in sorted(self._drained.items())}

    def has(self, upstream: str, address: str) -> bool:
        return address in self._drained.get(upstream, ())

    def add(self, upstream: str, address: str) -> bool:
        """False when there are too many."""
        if sum(map(len, self._drained.values())) >= MOST:
            return False
        self._drained.setdefault(upstream, set()).add(address)
        return True

    def remove(self, upstream: str, address: str) -> None:
        addresses = self._drained.get(upstream, set())
        addresses.discard(address)
        if not addresses:
            self._drained.pop(upstream, None)

    def keep(self, there: Mapping[str, Collection[str] | None]) -> list[tuple[str, str]]:
        """Forgets those that have left, and says which these are.

        there: upstream → the addresses of its backends; None while it is not known which these are.
        """
        left = []
        for upstream, addresses in self.value().items():
            known = there.get(upstream, ())
            left += [(upstream, address) for address in addresses if known is not None and address not in known]
        for upstream, address in left:
            self.remove(upstream, address)
        return left
