"""What an exchange has of its upstream: a backend, and there a part in a connect, a place in line, or a channel."""

from __future__ import annotations

from time import monotonic
from typing import Final

from pingap.stages.http1.methods import IDEMPOTENT
from pingap.stages.messages import Routed
from pingap.stages.upstream.backend import BackendState
from pingap.stages.upstream.channel import Channel
from pingap.stages.upstream.connecting import Connecting
from pingap.stages.upstream.core import Outcome
from pingap.stages.upstream.group import Group
from pingap.stages.upstream.pools import Pools
from pingap.stages.upstream.waiting import Opening, Place, Waiter

LOOK_AFTER: Final = 1.0
"""Seconds of idleness after which a connection is looked at before it is used again."""


class Attempt:
    """One at a time, each begun by `begin` or `begin_again` and ended by `settle`; what is known of those before stays here.

    Of the three it holds one at a time, and `let_go` gives back whichever it is.
    """

    # One is made per request, and what usually stays at its default is a class attribute: 0.1 µs less than to set them all.
    backend: BackendState | None = None
    channel: Channel | None
    connecting: Opening | None
    place: Place | None = None
    name = ""
    """Whom the backend has to prove to be, once a connection was looked for."""
    needs_http1 = False
    """HTTP/2 to its backend does not carry it."""
    is_apart = False
    """Over HTTP/2 it is to have nobody beside it."""
    losses = 0
    """Connections of HTTP/2 that were lost with this request and others on them."""
    is_pardoned = False
    """It was made again because a kept connection had closed, and no budget was asked for that."""
    waits_since = 0.0
    """Monotonic seconds at which it first had to wait in a line, wherever it has waited since; 0.0 = it had not to."""
    connect_seconds: tuple[float, ...] = ()
    """TCP connect, TLS handshake, if a connection was opened for it."""
    probe = 0
    """The round of half-open whose probe it is; 0 = it is none."""
    is_counted = False
    """Its answer is, which has begun and is long in coming."""
    tries = 0
    """How many there were; those that only waited do not count."""
    tried: set[BackendState] | None = None
    """Not to be asked again."""

    def __init__(self) -> None:
        self.channel = self.connecting = None  # as class attributes mypyc would lose them: their types are protocols

    def begin(self, group: Group, backend: BackendState, routed: Routed, began: float) -> Channel | None:
        """One at this backend. Returns the channel for it, if there is one already. began: monotonic seconds at which the request came."""
        self.backend = backend
        backend.active += 1
        if backend.circuit:
            self.probe = backend.take_probe()
        if not group.is_plain_pool:
            return self.find_by_name(group, routed)
        idle = backend.idle
        while idle:
            connection = idle.pop()
            # What came before this request did, but for moments, has been read (bus/sockets.py), and its connection is no
            # longer here. An end is worth a look where a second try is not allowed or time has passed; so are more bytes
            # where they are likely.
            must_live = routed.method not in IDEMPOTENT or began - connection.idle_since > LOOK_AFTER
            if connection.is_stale() if must_live else connection.is_doubtful and connection.has_spoken():
                connection.close("found closed, or with more to say")
                continue
            self.tries += 1
            return connection
        return None

    def begin_again(self, backend: BackendState) -> None:
        """Another one at a backend that has had one."""
        self.backend = backend
        backend.active += 1
        if backend.circuit and backend.is_usable:
            self.probe = backend.take_probe()

    def pardon(self) -> bool:
        """A kept connection has closed under it. True the first time: that asks no budget."""
        is_first = not self.is_pardoned
        self.is_pardoned = True
        return is_first

    def settle(self, outcome: Outcome, status: int) -> None:
        """It has ended, and what it held is given back already. status: of its answer; 0 if none has come."""
        backend = self.backend
        if backend is not None:
            self.backend = None
            backend.settled(outcome, status, self.probe, self.is_counted)
            self.probe = 0

    # -- a connection ---------------------------------------------------------------

    def find_by_name(self, group: Group, routed: Routed) -> Channel | None:
        """The same where connections are shared (HTTP/2), or are for requests of one name only."""
        backend = self.backend
        assert backend is not None
        name = self.name = group.name_for(routed, backend)
        if (routed.upgrade or backend.http1_until) and not self.needs_http1:
            self.needs_http1 = backend.is_for_http1(routed, monotonic())
        shared = None
        if not self.needs_http1:
            self.is_apart = self.losses > 1 or backend.is_at_risk(routed)
            if self.is_apart:
                shared = backend.with_room(name, True)
            if shared is None and (not self.is_apart or backend.is_full):
                shared = backend.with_room(name)
        if shared is not None:
            self.tries += 1
            return shared.channel()
        while (connection := backend.take_idle(name)) is not None:
            if connection.is_stale():
                connection.close("found closed, or with more to say")
                continue
            self.tries += 1
            return connection
        return None

    def wait(self, waiter: Waiter, group: Group, pools: Pools) -> bool:
        """For a connection to be opened, or for one to come free; False when too many wait for that."""
        backend = self.backend
        assert backend is not None
        self.name = group.name_for(waiter.routed, backend)
        if not backend.is_full or backend.coming(self.name, self.needs_http1) is not None:
            self.open(waiter, pools)
            return True
        if group.pending >= group.settings.max_pending:
            return False
        self._line_up(backend.pending, waiter, group, pools)
        if group.by_host or self.needs_http1 or backend.apart:
            pools.give_way(backend)
        return True

    def wait_for_backends(self, waiter: Waiter, group: Group, pools: Pools) -> bool:
        """Until it is known which there are; False when that is known, or too many wait."""
        if group.is_known or group.pending >= group.settings.max_pending:
            return False
        self._line_up(group.unplaced, waiter, group, pools)
        return True

    def _line_up(self, line: dict[Place, None], waiter: Waiter, group: Group, pools: Pools) -> None:
        since = self.waits_since
        place = self.place = Place(line, waiter, self.name, self.needs_http1, since or monotonic())
        if since:
            group.moved.add(place)
        else:
            self.waits_since = place.since
        pools.watch_line(group, place.since)

    def open(self, waiter: Waiter, pools: Pools) -> None:
        """A connection of its own, or a share in one that is being opened already."""
        backend = self.backend
        assert backend is not None
        self.tries += 1
        is_apart = self.is_apart and not backend.is_full
        coming: Opening | None = None if is_apart else backend.coming(self.name, self.needs_http1)
        connecting = coming or Connecting(pools, backend, self.name, self.needs_http1, is_apart)
        connecting.waiting.append(waiter)
        self.connecting = connecting

    def let_go(self, waiter: Waiter) -> None:
        """Of what it holds."""
        channel, self.channel = self.channel, None
        if channel is not None:
            channel.close("its request was given up")
        elif self.connecting is not None:
            connecting, self.connecting = self.connecting, None
            connecting.leave(waiter)
        elif self.place is not None:
            place, self.place = self.place, None
            place.leave()
