"""The listeners of this replica."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping, Set
from typing import Any, Final

from pingap.bus.descriptors import Descriptors
from pingap.config.model import Server
from pingap.stages.accept.certificates.choice import Choice
from pingap.stages.accept.certificates.chooser import Chooser
from pingap.stages.accept.certificates.proofs import proofs_of
from pingap.stages.accept.certificates.staples import staples
from pingap.stages.accept.certificates.topic import CertificatesValue
from pingap.stages.accept.connections import Connections
from pingap.stages.accept.door import Door, limits_of
from pingap.stages.accept.entry import ConnectionEntry
from pingap.stages.accept.http1 import Http1ClientConnection
from pingap.stages.forwarded import Trust
from pingap.stages.http1.engine import ENGINES

AT_ONCE: Final = 16
"""Connections that asyncio's own loop accepts before anybody can count them; libuv accepts one."""

BACKLOG: Final = 4096

NONE: Final[Set[str]] = frozenset()

COPIES: Final = 3
"""Further descriptors of each listening socket. libuv accepts one connection a descriptor and turn of the loop, and a turn for
every connection costs a third of what short connections cost (measured: 72 µs a request, 47 with three copies, 43 with seven)."""


class Doors:
    """All servers of this replica."""

    def __init__(self) -> None:
        self._doors: dict[str, Door] = {}
        self._listeners: list[asyncio.Server] = []
        self._open: list[tuple[socket.socket, Door]] = []
        """What the supervisor has bound."""
        self._copies = COPIES
        self._connections: Connections | None = None
        """Who registers those that come; None until there are listeners."""
        self.is_paused = False

    def update(self, servers: Mapping[str, Server], choices: Mapping[str, Choice], trust: Trust, spelled: Set[str] = NONE) -> None:
        """Takes over the settings of a new generation; a server that it does not name keeps those it had. As in `Compiled`."""
        for name, door in self._doors.items():
            door.trust = trust
            if name in servers:
                door.settings = servers[name]
                door.limits = limits_of(door.settings, name in spelled)
                door.allow_http2()
                if door.chooser is not None and name in choices:
                    door.chooser.update(door.settings, choices[name])

    def use_rest(self, value: CertificatesValue) -> str:
        """What of it is not about the choice of a certificate. Raises ssl.SSLError, OSError for what the TLS library does not take.

        Why secrets of tickets and staples are of no use here, for the log; else "".
        """
        proofs = proofs_of(value.challenges)
        reason = staples.use(value.staples)
        for door in self._doors.values():
            if door.chooser is not None:
                door.chooser.proofs = proofs
                reason = door.chooser.use_secrets(value.tickets) or reason
        return reason

    def open(
        self,
        descriptors: Descriptors,
        listeners: list[dict[str, Any]],
        servers: Mapping[str, Server],
        choices: Mapping[str, Choice],
        trust: Trust,
        spelled: Set[str] = NONE,
    ) -> None:
        """Takes the sockets that the supervisor has bound, `{fd, server, addr}` each; nobody comes in before `listen`."""
        places = {name: place for place, name in enumerate(sorted({listener["server"] for listener in listeners}))}
        if listeners:  # hundreds of addresses do without copies
            self._copies = min(COPIES, descriptors.limit // 8 // len(listeners))
        descriptors.hold(len(listeners) * (1 + self._copies))
        for listener in listeners:
            name = listener["server"]
            settings = servers.get(name) or Server(addr=())
            door = self._doors.get(name)
            if door is None:
                chooser = Chooser(settings, choices[name], places[name], name) if name in choices else None
                limits = limits_of(settings, name in spelled)
                door = self._doors[name] = Door(name, ENGINES[settings.http1_engine], settings, limits, chooser, trust)
            self._open.append((socket.socket(fileno=listener["fd"]), door))

    async def listen(self, connections: Connections) -> None:
        """Accepts connections."""
        self._connections = connections
        await self._serve(connections)

    async def _serve(self, connections: Connections) -> None:
        loop = connections.loop
        for sock, door in self._open:
            # The descriptor itself and its copies, and all are closed on draining: while one is open, the port takes connections.
            for one in (sock, *(sock.dup() for _ in range(self._copies))):
                self._listeners.append(await loop.create_server(_factory(connections, door), sock=one, backlog=AT_ONCE))
            sock.listen(BACKLOG)

    def pause(self) -> None:
        """No new connections for the time being: they wait in the kernel's queue, or another replica takes them."""
        kept = [(sock.dup(), door) for sock, door in self._open]  # the loop closes those that it was given
        self.close()
        self._open = kept
        self.is_paused = True

    async def resume(self) -> None:
        """After `pause`."""
        self.is_paused = False
        if self._connections is not None:
            await self._serve(self._connections)
            if self._connections.draining:
                self.close()

    def close(self) -> None:
        """No new connections from now on."""
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        for sock, _ in self._open:
            sock.close()
        self._open.clear()


def _factory(connections: Connections, door: Door) -> Callable[[], asyncio.Protocol]:
    if door.chooser is not None:
        return lambda: ConnectionEntry(connections, door)
    return lambda: ConnectionEntry(connections, door) if door.settings.proxy_protocol else Http1ClientConnection(connections, door)
