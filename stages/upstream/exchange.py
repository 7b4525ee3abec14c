"""One request to one upstream: its attempts, the flow of both bodies, its answer."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final

from stages.headers import value_of
from stages.http1.methods import IDEMPOTENT
from stages.http1.rules import ProtocolError, ResponseHead
from stages.itinerary import REQUEST_BODY, RESPONSE_PLUGINS
from stages.messages import (
    DATA,
    INTERIM,
    RESPONSE,
    WINDOW,
    Data,
    Interim,
    Report,
    Response,
    Routed,
    accept_of,
    new,
    window,
)
from stages.upstream.connecting import Connecting
from stages.upstream.core import Attempt, Failure, may_retry, so_far
from stages.upstream.grpc_web import Bridge, bridge_of
from stages.upstream.http1 import SETTLED
from stages.upstream.pool import BackendState, Group
from stages.upstream.upload import Upload

if TYPE_CHECKING:
    from stages.upstream.actor import UpstreamActor
    from stages.upstream.channel import Channel
    from stages.upstream.compiled import LocationRules

BULK: Final = 1024 * 1024
"""A response body of which more than this has come is bulk: its reads are gathered."""

BULK_READ: Final = 16 * 1024
"""A read of fewer bytes is handed on at once: the sender is not going flat out."""

GATHER: Final = 8
GATHER_SECONDS: Final = 0.001
"""So many reads, or so long, are gathered at the most."""


class Exchange:
    """Lives from ROUTED until the answer has been handed over."""

    # One is made per request: what usually stays at its default is a class attribute, which costs nothing until it is set.
    name = ""
    """Whom the backend has to prove to be, once a connection was looked for."""
    channel: Channel | None = None
    """What carries it; the channel takes itself away when the answer is complete."""
    _connecting: Connecting | None = None
    needs_http1 = False
    """HTTP/2 to its backend does not carry it."""
    waits = False
    """In line for a connection."""
    _upload: Upload | None = None
    """Passes on a request body that did not come whole, or a tunnel's bytes."""
    _backend: BackendState | None = None
    _tried: set[int] | None = None
    _tries = 0
    _window = WINDOW
    _detail = ""
    _sent_at = 0.0
    _arrived = 0
    _held: list[bytes] | None = None
    """Reads of a long download, gathered for one batch."""
    waiting_since = 0.0
    interims = 0
    """Interim answers so far."""
    uploaded = 0
    """Request body bytes handed to the connection."""
    upload_done = True
    """The whole request has been handed to the connection."""
    responded = False
    is_over = False
    is_tunnel = False
    """The backend has switched protocols."""
    is_half_shut = False
    """The backend's half of a tunnel has ended; the client's has not, or has not been taken yet."""
    connect_seconds: tuple[float, ...] = ()
    bridge: Bridge | None = None
    """Translates, when the client speaks gRPC-Web."""

    def __init__(self, actor: UpstreamActor, routed: Routed, group: Group, rules: LocationRules) -> None:
        self.actor = actor
        self.routed = routed
        self._group = group
        self.rules = rules
        self.sid = routed.sid
        self.method = routed.method
        self.began = monotonic()
        """Monotonic seconds at which the request reached this stage."""
        self.answers_to = routed.affinity.plugins if routed.plan & RESPONSE_PLUGINS else routed.sid >> 32
        """The actor that gets the answer: accept, or plugins."""
        self.read_timeout = group.read_timeout
        if routed.length:
            self.uploaded = len(routed.body)
            if not routed.ended:
                self.upload_done = False
                self._upload = Upload(self)
        if rules.grpc_web and routed.server in rules.grpc_web:
            self.bridge = bridge_of(routed.method, routed.headers)

    @property
    def write_timeout(self) -> float:
        return self._group.write_timeout

    @property
    def needs(self) -> int:
        """The plugins replica without which this one cannot end as it should; 0 when there is none."""
        routed = self.routed
        if self.is_tunnel:
            return 0
        through = routed.plan & RESPONSE_PLUGINS or (routed.plan & REQUEST_BODY and not self.upload_done)
        return routed.affinity.plugins if through else 0

    @property
    def watchers(self) -> tuple[int, ...]:
        return self.routed.watchers

    # -- attempts -----------------------------------------------------------

    def begin(self) -> None:
        """Picks a backend and a connection to it, and sends the request."""
        if self.bridge is not None and not self._tries and not self._translate(self.bridge):
            return
        backend = self._group.pick(self.routed, self._tried)
        if backend is None:
            self.fail("connect_failed" if self._tries else "no_backend")
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

    def _translate(self, bridge: Bridge) -> bool:
        """Makes the request one in gRPC; False when that was answered with an error."""
        routed = self.routed
        try:
            headers, length, body = bridge.request(routed.headers, routed.length, routed.body, routed.ended)
        except ProtocolError as error:
            self.fail(error.kind)
            return False
        self.routed = routed._replace(headers=headers, length=length, body=body)
        return True

    def _share_or_open(self, backend: BackendState) -> None:
        """HTTP/2, or backends whose names are those of the requests."""
        name = self.name = self._group.name_for(self.routed, backend)
        if (self.routed.upgrade or backend.http1_until) and not self.needs_http1:
            self.needs_http1 = backend.is_for_http1(self.routed, monotonic())
        shared = None if self.needs_http1 else backend.with_room(name)
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
        limit = group.settings.max_connections
        if not limit or backend.open < limit or backend.coming(self.name, self.needs_http1) is not None:
            self._open(backend)
        elif group.pending >= group.settings.max_pending:
            self.fail("overloaded")
        else:
            self.waits = True
            self.waiting_since = monotonic()
            group.pending += 1
            backend.pending.append(self)
            self.actor.has_line(group)
            if group.by_host or self.needs_http1:
                backend.make_room()

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

    def waited_too_long(self) -> None:
        """No connection came free in time."""
        self.waits = False
        self.fail("overloaded")

    def _open(self, backend: BackendState) -> None:
        """A connection of its own, or a share in one that is being opened already."""
        self._tries += 1
        coming = backend.coming(self.name, self.needs_http1)
        self._connecting = coming or Connecting(self.actor, backend, self.name, self.needs_http1)
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

    def _send(self, channel: Channel, now: float) -> None:
        routed, backend = self.routed, channel.backend
        self._sent_at = now
        self.channel = channel
        channel.begin(self, now)
        headers = routed.headers
        if self.rules.late:
            headers = self.rules.apply_late(headers, routed, backend.address)
        if not routed.host and value_of(headers, b"host") is None:
            # HTTP/1.0 may come without a Host; what we send is 1.1, which must have one (RFC 9112 section 3.2).
            headers = b"host: %b\r\n%b" % (backend.address.encode(), headers)
        body = routed.body
        channel.ask(self.method, routed.target, headers, len(body) if routed.ended else routed.length, body, routed.upgrade)
        if self._upload is not None and not self.is_over:
            self._upload.attempt_begun()

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
            tried.add(group.backends.index(backend))
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
        self.actor.attempt_failed(group, backend, failure, self._detail, retry)
        self._detail = ""
        if not retry:
            self.fail(failure.kind)
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

    def note(self, detail: str) -> None:
        """What was wrong with the backend's answer, for the log."""
        self._detail = detail

    # -- the request body ------------------------------------------------------

    def upload(self, data: Data) -> None:
        """Request body bytes, for the backend."""
        if self._upload is not None and not self.upload_done:
            self._upload.take(data)

    def upload_ended(self, channel: Channel) -> None:
        """The whole body has been handed to the channel."""
        self.upload_done = True
        if self.is_half_shut:
            self._end_tunnel(channel)

    def drained(self) -> None:
        """The backend has taken what was written: room for more."""
        if not self.upload_done:
            if self._upload is not None:
                self._upload.drained()
        elif self.is_half_shut and self.channel is not None:
            self._end_tunnel(self.channel)

    # -- the answer ---------------------------------------------------------------

    def head_arrived(self, head: ResponseHead, body: bytes, ended: bool) -> float:
        """The answer's head, and what came with it. Returns the time."""
        routed, actor = self.routed, self.actor
        self.responded = True
        if self.bridge is not None:
            head, body = self.bridge.answer(head, body, ended)
        backend, channel = self._backend, self.channel
        assert backend is not None and channel is not None
        now, sent_at = monotonic(), self._sent_at
        stamps = routed.stamps
        if len(stamps) == 2:  # plugins was not visited
            stamps = (*stamps, 0.0, 0.0, self.began, sent_at, sent_at, now)
        else:
            stamps = (*so_far(stamps), self.began, sent_at, sent_at, now)
        # fmt: off
        report = new(Report, (
            routed.location, routed.upstream, backend.address, head.status, not self.connect_seconds, self._tries, stamps,
            self.connect_seconds, "", routed.variables, routed.client_ip, channel.opened, backend.open,
        ))
        actor.send(self.answers_to, new(Response, (
            RESPONSE, self.sid, actor.id, head.status, head.headers, head.length, body, ended, report, routed.watchers,
        )))
        # fmt: on
        if ended:
            self._over()
        else:
            self._window = window(routed.version) - len(body)
            if self._window <= 0:
                channel.pause()
        return now

    def interim_arrived(self, status: int, headers: bytes) -> None:
        """An interim answer, for the client to see now."""
        self.actor.send(accept_of(self.sid), Interim(INTERIM, self.sid, status, headers))

    def tunnel_opened(self, head: ResponseHead, rest: bytes) -> None:
        """The backend has switched protocols. Plugins have no part in what follows, so it goes on without them."""
        self.is_tunnel = True
        self.upload_done = False
        self.answers_to = accept_of(self.sid)
        self.head_arrived(head, rest, False)
        self._upload = Upload(self)
        self._upload.grant(WINDOW)

    def body_arrived(self, payload: bytes, ended: bool, trailers: bytes = b"") -> None:
        """Response body bytes. Credit may be overdrawn by one read, then reading pauses."""
        if self.bridge is not None:
            payload, trailers = self.bridge.download(payload, ended, trailers), b""
            if not payload and not ended:
                return
        self._window -= len(payload)
        self._arrived += len(payload)
        if self._held is not None:
            self._held.append(payload)
            if ended or self._window <= 0 or len(self._held) >= GATHER:
                self._release_held(ended, trailers)
        elif self._arrived > BULK and len(payload) >= BULK_READ and not ended:
            # A long download is not in a hurry for one read: several in one batch cost a third of the wake-ups.
            self._held = [payload]
            self.actor.context.loop.call_later(GATHER_SECONDS, self._release_held, False)
        else:
            self.actor.send(self.answers_to, Data(DATA, self.sid, payload, ended, "", False, None, trailers))
        if ended:
            if not self.is_tunnel:
                self._over()
                return
            self.is_half_shut = True
            if self.upload_done and self.channel is not None:
                self._end_tunnel(self.channel)
        elif self._window <= 0 and self.channel is not None:
            self.channel.pause()

    def _end_tunnel(self, channel: Channel) -> None:
        """Both halves have ended: over as soon as the backend has room for what came of the client's."""
        if not channel.choked:
            self.channel = None
            channel.finish()
            self._over()

    def _release_held(self, ended: bool, trailers: bytes = b"") -> None:
        held, self._held = self._held, None
        if held is not None:
            last = len(held) - 1
            for index, payload in enumerate(held):
                is_last = ended and index == last
                self.actor.send(self.answers_to, Data(DATA, self.sid, payload, is_last, "", False, None, trailers if is_last else b""))

    def credited(self, count: int) -> None:
        self._window += count
        if self._window > 0 and self.channel is not None:
            self.channel.resume()

    # -- the end ----------------------------------------------------------------------

    def backend_failed(self, kind: str, detail: str) -> None:
        """The answer had begun, and its backend does not end it as it should."""
        if self._backend is not None and not self.is_tunnel:  # those end as they like
            self.actor.answer_cut(self._group, self._backend, kind, detail)
        self.fail(kind)

    def fail(self, kind: str) -> None:
        """Ends it with an error: our answer, or when it is too late for that a body that must not look complete."""
        if self.is_over:
            return
        self._let_go()
        if self.responded:
            self._release_held(False)
            self.actor.send(self.answers_to, Data(DATA, self.sid, b"", False, kind))
        else:
            self.responded = True
            routed = self.routed
            report = Report(
                routed.location,
                routed.upstream,
                "",
                0,
                False,
                self._tries,
                (*so_far(routed.stamps), self.began, self._sent_at, self._sent_at, 0.0),
                self.connect_seconds,
                kind,
                routed.variables,
                routed.client_ip,
            )
            self.actor.answer_error(self.answers_to, routed, kind, report)
        self._over()

    def crashed(self, error: Exception) -> None:
        """A fault of ours must not leave the client waiting."""
        self.actor.context.log("error", "request failed", error=repr(error))
        self.fail("internal")

    def give_up(self, kind: str) -> None:
        """The replica that was to get the answer is gone: accept gets an error."""
        self.answers_to = accept_of(self.sid)
        self.fail(kind)

    def cancel(self) -> None:
        """Nobody wants the answer any more: the backend hears of it by the closed connection."""
        if not self.is_over:
            self._held = None
            self._let_go()
            self._over()

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

    def _over(self) -> None:
        if not self.is_over:
            self.is_over = True
            if self._backend is not None:
                self._backend.active -= 1
            self.actor.exchange_over(self)
