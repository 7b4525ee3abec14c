"""The attempts of one exchange: a backend, a connection to it or a place in line, and after a failure perhaps another.

It holds one of these at a time, and `_let_go` gives back whichever it is.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from pingap.stages.http1.methods import IDEMPOTENT
from pingap.stages.upstream.connecting import Connecting
from pingap.stages.upstream.core import Attempt, Failure, may_retry
from pingap.stages.upstream.http1 import SETTLED
from pingap.stages.upstream.pool import BackendState, Group

if TYPE_CHECKING:
    from pingap.stages.messages import Routed
    from pingap.stages.upstream.actor import UpstreamActor
    from pingap.stages.upstream.channel import Channel
    from pingap.stages.upstream.compiled import LocationRules
    from pingap.stages.upstream.grpc_web import Bridge
    from pingap.stages.upstream.upload import Upload


class Attempts:
    """An exchange as long as it has no answer. A base class and not a part of it: so there is no call more on the way of a request."""

    actor: UpstreamActor
    routed: Routed
    rules: LocationRules
    method: bytes
    began: float
    """Monotonic seconds at which the request reached this stage."""
    _group: Group

    # What usually stays at its default is a class attribute, which costs nothing until it is set.
    name = ""
    """Whom the backend has to prove to be, once a connection was looked for."""
    channel: Channel | None = None
    """What carries it; the channel takes itself away when the answer is complete."""
    _connecting: Connecting | None = None
    needs_http1 = False
    """HTTP/2 to its backend does not carry it."""
    is_apart = False
    """Over HTTP/2 it is to have nobody beside it."""
    _losses = 0
    """Connections of HTTP/2 that were lost with this one and others on them."""
    waits = False
    """In line for a connection."""
    waiting_since = 0.0
    connect_seconds: tuple[float, ...] = ()
    bridge: Bridge | None = None
    """Translates, when the client speaks gRPC-Web."""
    _upload: Upload | None = None
    """Passes on a request body that did not come whole, or a tunnel's bytes."""
    _backend: BackendState | None = None
    _tried: set[BackendState] | None = None
    _tries = 0
    _detail = ""

    # -- a backend, and a connection to it -----------------------------------------

    def begin(self) -> None:
        """Picks a backend and a connection to it, and sends the request."""
        if self.bridge is not None and self._tried is None and not self._translate(self.bridge):
            return
        backend = self._group.pick(self.routed, self._tried)
        if backend is None:
            self.fail("connect_failed" if self._tries else "no_backend", "no other backend" if self._tries else "no healthy backend")
            return
        self._backend = backend
        backend.active += 1
        if self._group.is_plain_pool:
            idle = backend.idle
            while idle:
                connection = idle.pop()
                # What came before this request did, but for moments, has been read (bus/sockets.py), and its connection is no
                # longer here. An end is worth a look where a second try is not allowed or time has passed; so are more bytes
                # where they are likely.
                must_live = self.method not in IDEMPOTENT or self.began - connection.idle_since > SETTLED
                if connection.is_stale() if must_live else connection.is_doubtful and connection.has_spoken():
                    connection.close()
                    continue
                self._tries += 1
                self._send(connection, self.began if self._tries == 1 else monotonic())
                return
            self._open_or_wait(backend)
        else:
            self._share_or_open(backend)

    def _share_or_open(self, backend: BackendState) -> None:
        """HTTP/2, or backends whose names are those of the requests."""
        name = self.name = self._group.name_for(self.routed, backend)
        if (self.routed.upgrade or backend.http1_until) and not self.needs_http1:
            self.needs_http1 = backend.is_for_http1(self.routed, monotonic())
        shared = None
        if not self.needs_http1:
            self.is_apart = self._losses > 1 or backend.is_at_risk(self.routed)
            if self.is_apart:
                shared = backend.with_room(name, True)
            if shared is None and (not self.is_apart or backend.is_full):
                shared = backend.with_room(name)
        if shared is not None:
            self._tries += 1
            self._send(shared.channel(), monotonic())
            return
        while (connection := backend.take_idle(name)) is not None:
            if connection.is_stale():
                connection.close()
                continue
            self._tries += 1
            self._send(connection, monotonic())
            return
        self._open_or_wait(backend)

    def _open_or_wait(self, backend: BackendState) -> None:
        group = self._group
        self.name = group.name_for(self.routed, backend)
        if not backend.is_full or backend.coming(self.name, self.needs_http1) is not None:
            self._open(backend)
        elif group.pending >= group.settings.max_pending:
            self.fail("overloaded", "max_pending")
        else:
            self.waits = True
            self.waiting_since = monotonic()
            group.pending += 1
            backend.pending.append(self)
            self.actor.has_line(group)
            if group.by_host or self.needs_http1 or backend.apart:
                backend.make_room()

    # -- what it waited for ---------------------------------------------------------

    def next_in_line(self, channel: Channel | None) -> None:
        """A connection came free (or room for one) for an exchange that waited."""
        self.waits = False
        assert self._backend is not None
        if channel is None:
            self._open(self._backend)
            return
        self._tries += 1
        try:
            self._send(channel, monotonic())
        except Exception as error:  # it is ours, and must not be taken for one of the exchange before
            self.crashed(error)

    def go_elsewhere(self) -> None:
        """The backend at which it waits is none any more."""
        self._let_go()
        assert self._backend is not None
        self._backend.active -= 1
        self._backend = None
        self._tried = self._tried or set()
        try:
            self.begin()
        except Exception as error:
            self.crashed(error)

    def waited_too_long(self) -> None:
        """No connection came free in time."""
        self.waits = False
        self.fail("overloaded", "no connection came free in time")

    def _open(self, backend: BackendState) -> None:
        """A connection of its own, or a share in one that is being opened already."""
        self._tries += 1
        is_apart = self.is_apart and not backend.is_full
        coming = None if is_apart else backend.coming(self.name, self.needs_http1)
        self._connecting = coming or Connecting(self.actor, backend, self.name, self.needs_http1, is_apart)
        self._connecting.waiting.append(self)

    def connected(self, channel: Channel, seconds: tuple[float, ...]) -> None:
        """seconds: TCP connect, TLS handshake; none when it is another exchange for which the connection was opened."""
        self._connecting = None
        self.connect_seconds = seconds
        try:
            self._send(channel, monotonic())
        except Exception as error:
            self.crashed(error)

    def connect_failed(self, failure: Failure, detail: str) -> None:
        self._connecting = None
        self._detail = detail
        self.attempt_failed(failure)

    def connect_once_more(self) -> None:
        """The connection came, but has no room for this one."""
        self._connecting = None
        self._tries -= 1
        assert self._backend is not None
        try:
            self._share_or_open(self._backend)
        except Exception as error:
            self.crashed(error)

    def go_over_http1(self) -> None:
        """The channel cannot carry this one, and has asked nothing yet."""
        self._let_go()
        self.needs_http1 = True
        self.connect_once_more()

    # -- failure ------------------------------------------------------------------

    def attempt_failed(self, failure: Failure) -> None:
        """No answer from this attempt: another one if the rules allow it, else an error."""
        channel, self.channel = self.channel, None
        if channel is not None:
            channel.close()
        group, backend = self._group, self._backend
        assert backend is not None
        backend.active -= 1
        self._backend = None
        tried = self._tried = self._tried or set()
        if failure is not Failure.CLOSED_REUSED:
            tried.add(backend)
        routed = self.routed
        attempt = Attempt(
            failure,
            self.method,
            routed.ended,
            self._upload is not None and self._upload.has_begun,
            self._tries,
            group.others(tried),
            monotonic() - self.began,
        )
        retry = may_retry(attempt, self.rules.retry)
        detail, self._detail = self._detail, ""
        self.actor.attempt_failed(group, backend, failure, detail, retry)
        if not retry:
            self.fail(failure.kind, detail or failure.name.lower().replace("_", " "))
            return
        try:
            if failure is Failure.CLOSED_REUSED:
                # The other idle connections are as old: a fresh one.
                self._backend = backend
                backend.active += 1
                self._share_or_open(backend) if group.may_share else self._open_or_wait(backend)
            elif failure is Failure.HTTP1_REQUIRED or (failure is Failure.REFUSED and not attempt.others):
                self._backend = backend
                backend.active += 1
                self._share_or_open(backend)
            else:
                self.begin()
        except Exception as error:
            self.crashed(error)

    def lost_with_others(self) -> None:
        """Its connection of HTTP/2 is gone, and with it other requests. Whose fault that was nobody knows: from the second time on
        it is asked alone, so that what ends connections takes no more of them with it."""
        self._losses += 1

    def note(self, detail: str) -> None:
        """What was wrong with the backend's answer, for the log."""
        self._detail = detail

    def _let_go(self) -> None:
        """Of what it holds: a channel, a part in a connect, or a place in line."""
        channel, self.channel = self.channel, None
        if channel is not None:
            channel.close()
        elif self._backend is not None:
            if self._connecting is not None:
                connecting, self._connecting = self._connecting, None
                connecting.leave(self)
            elif self.waits:
                self.waits = False
                self._backend.leave(self)

    # -- done by the exchange -----------------------------------------------------

    def _translate(self, bridge: Bridge) -> bool:
        """Makes the request one in gRPC; False when that was answered with an error."""
        raise NotImplementedError

    def _send(self, channel: Channel, now: float) -> None:
        """Sends the request, whose attempt this is."""
        raise NotImplementedError

    def fail(self, kind: str, reason: str = "") -> None:
        """Ends the exchange with an error. reason: more of it, for access logs."""
        raise NotImplementedError

    def crashed(self, error: Exception) -> None:
        """Ends it after a fault of ours."""
        raise NotImplementedError
