"""Decides when it is looked whether clients are shown what was got: once every accept process goes by it. Times are Unix seconds."""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import Final, NamedTuple

from pingap.stages.acme.words import HandshakeMade, HeldCertificate

TAKING: Final = 15.0
"""Seconds after which a handshake is made although some accept process has not said that it goes by the new certificate."""

LOOKS: Final = (30.0, 120.0, 600.0)
"""Seconds until it is looked again whether clients are shown it, after they were not."""


class _Way(NamedTuple):
    """Of a certificate that was got and is on its way to clients."""

    held: HeldCertificate
    until: float
    """When the handshake is made at the latest."""
    version: int = 0
    """That it is published with; 0 until it is known."""
    looks: int = 0
    """Handshakes that did not show it."""
    is_looked_at: bool = False
    """A handshake is under way."""


class Looked(NamedTuple):
    """What came of a handshake."""

    held: HeldCertificate
    looks: int
    """Those that did not show it, this one counted; 0 when it is shown."""
    is_last: bool
    """It is looked at no more."""


class WaysToClients:
    """By name of the section."""

    def __init__(self) -> None:
        self._ways: dict[str, _Way] = {}
        self._version = 0
        """Published last."""
        self._taken = 0
        """That every accept process goes by."""

    def __contains__(self, name: str) -> bool:
        """It is on its way."""
        return name in self._ways

    def is_new(self, name: str) -> bool:
        """It is on its way, and no handshake has failed to show it."""
        return name in self._ways and not self._ways[name].looks

    def begin(self, name: str, held: HeldCertificate, now: float) -> None:
        """It was got."""
        self._ways[name] = _Way(held, now + TAKING)

    def replace(self, name: str, held: HeldCertificate) -> None:
        """Another one has come in the place of one that is on its way."""
        self._ways[name] = self._ways[name]._replace(held=held, version=0, is_looked_at=False)

    def keep(self, names: Container[str]) -> None:
        """Forgets all others."""
        self._ways = {name: way for name, way in self._ways.items() if name in names}

    def published(self, version: int) -> None:
        self._version = version

    def taken(self, version: int) -> None:
        self._taken = version

    def number(self, now: float) -> None:
        """All that there is was published, so that each that has no version yet has the last one."""
        for name, way in self._ways.items():
            if not way.version:
                self._ways[name] = way._replace(version=self._version, until=now + TAKING)

    def look_again(self, name: str, now: float) -> None:
        """At one that was not shown: at once."""
        if name in self._ways and self._ways[name].looks:
            self._ways[name] = self._ways[name]._replace(until=now)

    def due(self, now: float) -> Iterator[tuple[str, HeldCertificate]]:
        """Those for which a handshake is to be made now; `looked` is to be called for each."""
        for name, way in self._ways.items():
            if way.is_looked_at:
                continue
            is_taken = way.version and self._taken >= way.version and not way.looks
            if is_taken or now >= way.until:
                self._ways[name] = way._replace(is_looked_at=True)
                yield name, way.held

    def looked(self, event: HandshakeMade, now: float) -> Looked | None:
        """None: it was not asked for, or for another certificate."""
        way = self._ways.get(event.name)
        if way is None or not way.is_looked_at or way.held.fingerprint != event.fingerprint:
            return None
        if not event.failure:
            del self._ways[event.name]
            return Looked(way.held, 0, True)
        looks = way.looks + 1
        is_last = looks > len(LOOKS)
        if is_last:
            del self._ways[event.name]
        else:
            self._ways[event.name] = way._replace(looks=looks, is_looked_at=False, until=now + LOOKS[looks - 1])
        return Looked(way.held, looks, is_last)

    def moments(self) -> list[float]:
        """When handshakes are due at the latest."""
        return [way.until for way in self._ways.values() if not way.is_looked_at]

    def clock_set_back(self, now: float) -> None:
        """No handshake is put off for longer than that."""
        self._ways = {name: way._replace(until=min(way.until, now + TAKING)) for name, way in self._ways.items()}
