"""The listeners of this replica, and what their connections need to know of the server they belong to."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pingap.config.model import Server
from pingap.stages.accept.certificates import Choice, Chooser
from pingap.stages.accept.entry import Entry
from pingap.stages.accept.http1 import Http1Connection
from pingap.stages.forwarded import Trust
from pingap.stages.http1.engine import ENGINES, HeadParser
from pingap.stages.http1.rules import HeadLimits
from pingap.stages.http2.engines import MakeEngine, engine

if TYPE_CHECKING:
    from pingap.stages.accept.actor import AcceptActor

AT_ONCE: Final = 16
"""Connections that asyncio's own loop accepts before anybody can count them; libuv accepts one."""

BACKLOG: Final = 4096

NONE: Final[Set[str]] = frozenset()

COPIES: Final = 3
"""Further descriptors of each listening socket. libuv accepts one connection a descriptor and turn of the loop, and a turn for
every connection costs a third of what short connections cost (measured: 72 µs a request, 47 with three copies, 43 with seven)."""


@dataclass(slots=True)
class Door:
    """One server section as the connections of its listeners see it; a reload changes it in place."""

    name: str
    engine: HeadParser
    settings: Server
    limits: HeadLimits
    chooser: Chooser | None
    """Of certificates; None where clients speak plainly."""
    trust: Trust = field(default_factory=lambda: Trust(()))
    """Who may say that a connection is another's (`proxy_protocol`)."""
    connections: int = 0
    make_http2: MakeEngine | None = None
    """Of engines for HTTP/2; None where it is not spoken."""
    told: dict[str, float] = field(default_factory=dict)
    """What was wrong with connections to it → monotonic seconds at which the log was last told so."""

    def __post_init__(self) -> None:
        self.allow_http2()

    def allow_http2(self) -> None:
        """Takes over `enabled_h2`. Its library is imported now and not when the first client waits for it."""
        self.make_http2 = engine(self.settings.http2_engine) if self.settings.enabled_h2 else None

    @property
    def scheme(self) -> str:
        return "http" if self.chooser is None else "https"


class Doors:
    """All servers of this replica."""

    def __init__(self) -> None:
        self._doors: dict[str, Door] = {}
        self._listeners: list[asyncio.Server] = []
        self._open: list[tuple[socket.socket, Door]] = []
        """What the supervisor has bound."""
        self._copies = COPIES
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

    async def listen(
        self,
        actor: AcceptActor,
        listeners: list[dict[str, Any]],
        servers: Mapping[str, Server],
        choices: Mapping[str, Choice],
        trust: Trust,
        spelled: Set[str] = NONE,
    ) -> None:
        """Accepts from the sockets that the supervisor has bound: `{fd, server, addr}` each."""
        places = {name: place for place, name in enumerate(sorted({listener["server"] for listener in listeners}))}
        descriptors = actor.context.descriptors
        if listeners:  # hundreds of addresses do without copies
            self._copies = min(COPIES, descriptors.limit // 8 // len(listeners))
        descriptors.hold(len(listeners) * (1 + self._copies))
        for listener in listeners:
            name = listener["server"]
            settings = servers.get(name) or Server(addr=())
            door = self._doors.get(name)
            if door is None:
                chooser = Chooser(settings, choices[name], places[name]) if name in choices else None
                limits = limits_of(settings, name in spelled)
                door = self._doors[name] = Door(name, ENGINES[settings.http1_engine], settings, limits, chooser, trust)
            self._open.append((socket.socket(fileno=listener["fd"]), door))
        await self._serve(actor)

    async def _serve(self, actor: AcceptActor) -> None:
        loop = actor.context.loop
        for sock, door in self._open:
            # The descriptor itself and its copies, and all are closed on draining: while one is open, the port takes connections.
            for one in (sock, *(sock.dup() for _ in range(self._copies))):
                self._listeners.append(await loop.create_server(_factory(actor, door), sock=one, backlog=AT_ONCE))
            sock.listen(BACKLOG)

    def pause(self) -> None:
        """No new connections for the time being: they wait in the kernel's queue, or another replica takes them."""
        kept = [(sock.dup(), door) for sock, door in self._open]  # the loop closes those that it was given
        self.close()
        self._open = kept
        self.is_paused = True

    async def resume(self, actor: AcceptActor) -> None:
        """After `pause`."""
        self.is_paused = False
        await self._serve(actor)
        if actor.draining:
            self.close()

    def close(self) -> None:
        """No new connections from now on."""
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        for sock, _ in self._open:
            sock.close()
        self._open.clear()


def limits_of(settings: Server, keeps_case: bool = False) -> HeadLimits:
    return HeadLimits(settings.max_header_bytes, settings.max_headers, settings.max_target_bytes, settings.escape_target, keeps_case)


def _factory(actor: AcceptActor, door: Door) -> Callable[[], asyncio.Protocol]:
    if door.chooser is not None:
        return lambda: Entry(actor, door)
    return lambda: Entry(actor, door) if door.settings.proxy_protocol else Http1Connection(actor, door)
