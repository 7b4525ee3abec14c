"""All pools of one process, and all connections to backends: what pools decide is done here, within what descriptors there are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from pingap.bus.actor import Context
from pingap.bus.descriptors import Exhausted
from pingap.stages.bulk import Bulk
from pingap.stages.lookups import Lookups
from pingap.stages.upstream.channel import Shared, Single
from pingap.stages.upstream.dial import Connection, dial
from pingap.stages.upstream.pool import BackendState, Group, Waiter
from pingap.stages.upstream.secure import TlsClient

MAX_WAIT: Final = 10.0
"""Seconds that an exchange waits for a connection to a backend whose max_connections is reached."""


class Pools:
    """The keeper of the connections that are opened through it."""

    def __init__(self, context: Context) -> None:
        self.loop = context.loop
        self.groups: dict[str, Group] = {}
        """Those of the committed generation. Exchanges may still be with others, of older ones."""
        self.most = 0
        """Connections that may idle, over all pools."""
        self.lookups = Lookups(context.loop)
        """Of backends' names."""
        self.bulk = Bulk(context.loop, context.pipes)
        self.descriptors = context.descriptors
        self.descriptors.join()
        self._tls = TlsClient()
        self._connections: set[Connection] = set()
        self._dialing = 0
        """Connections that are being opened."""
        self._lines: set[Group] = set()
        """Groups in which somebody waits for a connection, perhaps of an older generation."""
        self._addresses: Mapping[str, Mapping[str, Sequence[str]]] = {}
        self._health: Mapping[str, Mapping[str, bool]] = {}

    # -- what is configured and found out ----------------------------------------------

    def adopt(self, groups: Mapping[str, Group], most: int) -> None:
        """From now on these are the groups that get new requests, and `most` of their connections may idle."""
        for name, group in self.groups.items():
            if groups.get(name) is not group:
                _close(group.keep_idle(False))
        for group in groups.values():
            _close(group.keep_idle(most > 0 and group.settings.idle_timeout > 0))
        self.groups = dict(groups)
        self.most = most
        self._apply_discovery()

    def take_addresses(self, addresses: Mapping[str, Mapping[str, Sequence[str]]]) -> None:
        """Upstream → entry with a host name → its IP addresses."""
        self._addresses = addresses
        self._apply_discovery()

    def take_health(self, health: Mapping[str, Mapping[str, bool]]) -> None:
        """Upstream → address → whether it is healthy."""
        self._health = health
        self._apply_discovery()

    def _apply_discovery(self) -> None:
        for name, group in self.groups.items():
            unwanted, waiters = group.set_addresses(self._addresses.get(name, {}))
            group.set_health(self._health.get(name, {}))
            _close(unwanted)
            for waiter in waiters:
                waiter.go_elsewhere()

    # -- connections ---------------------------------------------------------------------

    def __len__(self) -> int:
        """Connections that stand."""
        return len(self._connections)

    async def open(self, backend: BackendState, name: str, only_http1: bool) -> Connection:
        """A fresh connection to a backend that has proved to be `name`. Raises OSError; TimeoutError when a time-out has passed."""
        self._make_room()
        self._dialing += 1
        try:
            connection = await dial(self.loop, self.lookups, self._tls, self, backend, name, only_http1)
        finally:
            self._dialing -= 1
        self._connections.add(connection)
        return connection

    def _make_room(self) -> None:
        """Another connection must do without one that idles. Raises Exhausted when all are in use."""
        over = len(self._connections) + self._dialing - self.descriptors.most + 1
        if over <= 0:
            return
        idle = [each for group in self.groups.values() for each in group.idle_connections()]
        idle.sort(key=lambda each: each[1].idle_since)
        for backend, connection in idle[:over]:
            backend.forget(connection)
            connection.close()
        if over > len(idle):
            raise Exhausted

    def lost(self, backend: BackendState, connection: object) -> None:
        """It is closed, and not to be used for anything new: whoever waits may open another."""
        self._connections.discard(connection)
        if connection in backend.connections:
            backend.connections.remove(connection)
            self.serve_line(backend)

    # -- lines -----------------------------------------------------------------------------

    def watch_line(self, group: Group) -> None:
        """Somebody waits there for a connection, and not for ever."""
        self._lines.add(group)

    def serve_line(self, backend: BackendState) -> None:
        """There may be room: those who wait are let in as far as it goes."""
        if backend.pending:
            for waiter, channel in backend.assign():
                waiter.served(channel)

    @staticmethod
    def give_way(backend: BackendState) -> None:
        """Its cap is reached: if a connection idles that is of no use to who waits, that is closed."""
        unwanted = backend.give_way()
        if unwanted is not None:
            unwanted.close()

    # -- time ------------------------------------------------------------------------------

    def sweep(self, now: float) -> None:
        """Ends what has waited too long: for an answer, for a connection, for a request."""
        for connection in [connection for connection in self._connections if connection.deadline <= now]:
            connection.expired(now)
        for group in list(self._lines):
            late: list[Waiter] = []
            for backend in group.backends:
                late += backend.waited_since(now - MAX_WAIT)
            for waiter in late:
                waiter.waited_too_long()
            if not group.pending:
                self._lines.discard(group)
        self._trim(now)

    def _trim(self, now: float) -> None:
        """Closes idle connections that are too old or over the cap."""
        idle: list[tuple[BackendState, Single | Shared]] = []
        old: list[tuple[BackendState, Single | Shared]] = []
        for group in self.groups.values():
            timeout = group.settings.idle_timeout
            for each in group.idle_connections():
                (old if now - each[1].idle_since >= timeout else idle).append(each)
        if len(idle) > self.most:
            # Looked at here and not on every return: a burst would close what its next wave needs.
            idle.sort(key=lambda each: each[1].idle_since)
            old += idle[: len(idle) - self.most]
        for backend, connection in old:
            backend.forget(connection)
            connection.close()

    def stop(self) -> None:
        _close(list(self._connections))


def _close(connections: Iterable[Single | Shared | Connection]) -> None:
    for connection in connections:
        connection.close()
