"""How many streams one HTTP/2 connection may have, and whether those who look for room find it."""

from __future__ import annotations

from typing import Final, Protocol

from pingap.stages.http2.engine import Http2Engine
from pingap.stages.http2.guard import Bucket
from pingap.stages.upstream.backend import BackendState
from pingap.stages.upstream.channel import Shared

RESETS: Final = Bucket(200, 20)
"""Streams that we may reset on a connection before it takes no new ones. Backends end connections on which many are, because
of rapid reset (CVE-2023-44487), and with them the requests of others: clients that leave in crowds must not get that far."""


class Placed(Shared, Protocol):
    """The connection, as far as its places depend on it."""

    backend: BackendState
    engine: Http2Engine
    is_apart: bool
    """It is for one request at a time."""
    is_closed: bool

    @property
    def in_use(self) -> int:
        """Streams that are taken."""


class Places:
    """Of one connection, which tells what happens to it. A list of its backend has it while there is room."""

    __slots__ = ("_cap", "_connection", "_is_on_shelf", "_is_open", "_most", "_reset_at", "_resets", "is_shut", "limit")

    def __init__(self, connection: Placed) -> None:
        self._connection = connection
        self._cap = self._most = connection.backend.group.settings.max_h2_streams
        """Streams at a time by our own choice; fewer than configured after the backend has refused one."""
        self.limit = 0
        """The same by both sides' choice."""
        self.is_shut = False
        """No new streams: GOAWAY, or on its way out."""
        self._is_open = False
        self._is_on_shelf = False
        self._resets = 0.0
        self._reset_at = 0.0

    @property
    def free(self) -> int:
        """Streams that may be opened now."""
        connection = self._connection
        if self.is_shut or connection.is_closed or connection.transport.is_closing():
            return 0
        return self.limit - connection.in_use

    def put_on_shelf(self) -> None:
        """Puts the connection where those who look for room find it, or takes it away from there."""
        has_room = self._is_open and self.free > 0
        if has_room != self._is_on_shelf:
            self._is_on_shelf = has_room
            connection = self._connection
            backend = connection.backend
            if has_room:
                (backend.apart if connection.is_apart else backend.shared).append(connection)
            else:
                backend.forget(connection)

    def open(self) -> None:
        self._is_open = True
        if self._connection.is_apart:
            self._most = 1
            self._set_cap(1)
        self.put_on_shelf()

    def shut(self) -> None:
        self.is_shut = True
        self.put_on_shelf()

    def one_ended(self) -> None:
        """A stream has ended."""
        if not self._is_on_shelf:
            self.put_on_shelf()

    def learn(self) -> None:
        """The backend's settings have come, or changed."""
        self._set_cap(self._cap)

    def answered(self) -> None:
        """The backend has done one: after it has refused some, another may be tried."""
        if self._cap < self._most:
            self._set_cap(self._cap + 1)

    def refused(self, count: int) -> None:
        """The backend takes fewer streams than it has said: the `count` that it has now, until it has answered some."""
        self._set_cap(max(1, count))

    def _set_cap(self, cap: int) -> None:
        self._cap = cap
        self.limit = min(cap, self._connection.engine.remote_max_streams)
        self.put_on_shelf()

    def reset(self, now: float) -> None:
        """We have reset a stream."""
        self._resets = max(0.0, self._resets - (now - self._reset_at) * RESETS.rate) + 1
        self._reset_at = now
        if self._resets > RESETS.burst and not self.is_shut:
            backend = self._connection.backend
            if not backend.is_full:  # else nothing could take its place
                self.shut()
