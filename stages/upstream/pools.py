"""All pools of one process, and all connections to backends: what pools decide is done here, within what descriptors there are."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from time import monotonic
from typing import Final

from pingap.bus.actor import Context
from pingap.bus.descriptors import Exhausted
from pingap.stages.bulk import Bulk
from pingap.stages.lookups import Lookups
from pingap.stages.upstream.backend import BackendState
from pingap.stages.upstream.channel import Shared, Single
from pingap.stages.upstream.dial import Connection, dial
from pingap.stages.upstream.group import Circuit, Found, Group, Standing
from pingap.stages.upstream.http2 import SharedConnection
from pingap.stages.upstream.tally import Tallies
from pingap.stages.upstream.tracer import Traced, Tracer
from pingap.stages.upstream.waiting import LONGEST_WAIT, Waiter

MOST_OF_CLIENTS: Final = 32
"""Lookups under way at the same time of names that clients have chosen."""


class Pools:
    """The keeper of the connections that are opened through it."""

    def __init__(self, context: Context, tallies: Tallies) -> None:
        self.loop = context.loop
        self.groups: dict[str, Group] = {}
        """Those of the committed generation. Exchanges may still be with others, of older ones."""
        self.most = 0
        """Connections that may idle, over all pools."""
        self.lookups = Lookups(context.loop)
        """Of backends' names."""
        self.client_lookups = Lookups(context.loop, most=MOST_OF_CLIENTS)
        """Of names that clients have chosen: should these be slow, no other upstream's wait for them."""
        self.bulk = Bulk(context.loop, context.pipes)
        self.descriptors = context.descriptors
        self.descriptors.join()
        self._connections: set[Connection] = set()
        self._used: set[BackendState] = set()
        """Backends that have connections, and some that had: there may be thousands that have none."""
        self._tracer = Tracer(context)
        self._dialing = 0
        """Connections that are being opened."""
        self._lines: dict[Group, asyncio.TimerHandle] = {}
        """Groups in which somebody waits for a connection, perhaps of an older generation; when the first one has waited too long."""
        self._addresses: Mapping[str, Mapping[str, Sequence[Found]]] = {}
        self._health: Mapping[str, Mapping[str, bool]] = {}
        self._drains: Mapping[str, Sequence[str]] = {}
        self._circuits: Mapping[str, Mapping[str, Circuit]] = {}
        self._loads: Mapping[str, Mapping[str, Mapping[int, int]]] = {}
        self._replaced: list[Group] = []
        """Of older generations, in which somebody waits for the first backends."""
        self._actor = context.id
        self._tallies = tallies

    # -- what is configured and found out ----------------------------------------------

    def adopt(self, groups: Mapping[str, Group], most: int) -> None:
        """From now on these are the groups that get new requests, and `most` of their connections may idle.

        With thousands of groups a reload looks at those that changed.
        """
        known = self.groups
        for name, group in known.items():
            if groups.get(name) is not group:
                _close(group.keep_idle(False), "its upstream has changed")
                if group.unplaced:
                    self._replaced.append(group)
        fresh = [name for name, group in groups.items() if known.get(name) is not group]
        self.groups = dict(groups)
        may_idle = most > 0
        for name in fresh if may_idle == (self.most > 0) else groups:
            group = groups[name]
            _close(group.keep_idle(may_idle and group.settings.idle_timeout > 0), "nothing is to idle any more")
        self.most = most
        for name in fresh:
            groups[name].join(self._tallies)
            self._apply(name, True)
            if (before := known.get(name)) is not None:
                groups[name].take_over(before, monotonic())
        self._forget_others([*fresh, *(known.keys() - groups.keys())])

    def take_addresses(self, addresses: Mapping[str, Mapping[str, Sequence[Found]]]) -> None:
        """Upstream → entry → the backends that it stands for."""
        before, self._addresses = self._addresses, addresses
        changed = _changed(before, addresses)
        for name in changed:
            self._apply(name, True)
        self._forget_others(changed)

    def take_health(self, health: Mapping[str, Mapping[str, bool]]) -> None:
        """Upstream → address → whether it is healthy."""
        before, self._health = self._health, health
        for name in _changed(before, health):
            self._apply(name)

    def take_drains(self, drains: Mapping[str, Sequence[str]]) -> None:
        """Upstream → addresses that get no requests, by hand."""
        before, self._drains = self._drains, drains
        for name in _changed(before, drains):
            self._apply(name)

    def take_circuits(self, circuits: Mapping[str, Mapping[str, Circuit]]) -> None:
        """Upstream → address → its circuit, unless that is closed."""
        before, self._circuits = self._circuits, circuits
        for name in _changed(before, circuits):
            self._apply(name)

    def take_loads(self, loads: Mapping[str, Mapping[str, Mapping[int, int]]]) -> None:
        """Upstream → address → upstream replica → requests in flight."""
        before, self._loads = self._loads, loads
        for name in _changed(before, loads):
            self._apply(name)

    def _apply(self, name: str, with_addresses: bool = False) -> None:
        """What is known of an upstream, to its group. Who has to go elsewhere does so when all of it is known there."""
        self._replaced = [group for group in self._replaced if group.unplaced]
        groups = [group for group in self._replaced if group.name == name]
        if (current := self.groups.get(name)) is not None:
            groups.append(current)
        for group in groups:
            now = monotonic()
            waiters: list[Waiter] = []
            if with_addresses:
                displaced = group.set_addresses(self._addresses.get(name, {}), now)
                _close(displaced.connections, "its backend has left")
                waiters += displaced.waiters
            standing = Standing(self._health.get(name, {}), self._drains.get(name, ()), self._circuits.get(name, {}))
            displaced = group.set_standing(standing, self._actor, now)
            _close(displaced.connections, "its backend is drained")
            group.set_loads(self._loads.get(name, {}), self._actor)
            for waiter in (*waiters, *displaced.waiters):
                waiter.go_elsewhere()

    def _forget_others(self, names: Iterable[str]) -> None:
        """Nobody counts any more what these upstreams have no more."""
        for name in names:
            group = self.groups.get(name)
            self._tallies.keep(name, {backend.address: backend for backend in group.backends} if group is not None else {})

    # -- connections ---------------------------------------------------------------------

    def __len__(self) -> int:
        """Connections that stand."""
        return len(self._connections)

    async def open(self, backend: BackendState, name: str, only_http1: bool) -> Connection:
        """A fresh connection to a backend that has proved to be `name`. Raises OSError; TimeoutError when a time-out has passed."""
        self._make_room()
        self._dialing += 1
        try:
            lookups = self.lookups if backend.group.doorkeeper is None else self.client_lookups
            connection = await dial(self.loop, lookups, self, backend, name, only_http1)
        finally:
            self._dialing -= 1
        self._connections.add(connection)
        if backend.group.settings.enable_tracer:
            self._tracer.opened(backend, connection, "HTTP/2" if isinstance(connection, SharedConnection) else "HTTP/1.1")
        self._used.add(backend)
        return connection

    def _make_room(self) -> None:
        """Another connection must do without one that idles. Raises Exhausted when all are in use."""
        over = len(self._connections) + self._dialing - self.descriptors.most + 1
        if over <= 0:
            return
        idle = sorted(self._idle(), key=lambda each: each[1].idle_since)
        for backend, connection in idle[:over]:
            backend.forget(connection)
            connection.close("descriptors are short")
        if over > len(idle):
            raise Exhausted

    def _idle(self) -> list[tuple[BackendState, Single | Shared]]:
        """Those that carry nothing."""
        return [(backend, connection) for backend in self._used for connection in backend.idle_connections()]

    def lost(self, backend: BackendState, connection: Traced, error: Exception | None) -> None:
        """It is closed, and not to be used for anything new: whoever waits may open another. error: of the connection, if any."""
        if backend.group.settings.enable_tracer:
            self._tracer.closed(backend, connection, error)
        self._connections.discard(connection)
        if connection in backend.connections:
            backend.connections.remove(connection)
            self.serve_line(backend)

    # -- lines -----------------------------------------------------------------------------

    def watch_line(self, group: Group, since: float) -> None:
        """Somebody waits there for a connection, and not for ever. since: monotonic seconds."""
        due = self.loop.time() + max(0.0, since + group.settings.pending_timeout - monotonic())
        timer = self._lines.get(group)
        if timer is not None:
            if timer.when() <= due:
                return
            timer.cancel()  # who comes has waited before
        self._lines[group] = self.loop.call_at(due, self._line_due, group)

    def _line_due(self, group: Group) -> None:
        del self._lines[group]
        try:
            self.end_waits(group, monotonic())
        finally:  # who is told may fail: the others are told all the same
            first = group.first_wait
            if first is not None:
                self.watch_line(group, first)

    @staticmethod
    def end_waits(group: Group, now: float) -> None:
        """Tells those who have waited there for too long."""
        for waiter in group.waited_since(now - group.settings.pending_timeout):
            waiter.waited_too_long()

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
            unwanted.close("of no use to who waits at max_connections")

    # -- time ------------------------------------------------------------------------------

    def sweep(self, now: float) -> float:
        """Ends what has waited too long for an answer, or for a request. When the next one will have: its deadline."""
        nearest = now + LONGEST_WAIT
        late: list[Connection] = []
        for connection in self._connections:
            deadline = connection.deadline
            if deadline <= now:
                late.append(connection)
            elif deadline < nearest:
                nearest = deadline
        for connection in late:
            connection.expired(now)
        for group in self.groups.values():
            if group.is_starting:
                group.grow(now)
        self._trim(now)
        return nearest

    def _trim(self, now: float) -> None:
        """Closes idle connections that are too old or over the cap."""
        for backend in self._used:
            backend.look_at_load()
        self._used = {backend for backend in self._used if backend.connections or backend.connecting}
        idle: list[tuple[BackendState, Single | Shared]] = []
        for backend, connection in self._idle():
            timeout = backend.group.settings.idle_timeout
            if now - connection.idle_since >= timeout:
                backend.forget(connection)
                connection.close("idle_timeout")
            else:
                idle.append((backend, connection))
        if len(idle) > self.most:
            # Looked at here and not on every return: a burst would close what its next wave needs.
            idle.sort(key=lambda each: each[1].idle_since)
            for backend, connection in idle[: len(idle) - self.most]:
                backend.forget(connection)
                connection.close("upstream_keepalive_pool_size")

    def stop(self) -> None:
        for timer in self._lines.values():
            timer.cancel()
        self._lines.clear()
        _close(list(self._connections), "pingap stops")


def _changed(before: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    """Names of which the two do not say the same."""
    return [name for name in {**before, **now} if before.get(name) != now.get(name)]


def _close(connections: Iterable[Single | Shared | Connection], why: str) -> None:
    for connection in connections:
        connection.close(why)
