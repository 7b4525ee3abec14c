"""One request to one upstream: what is sent of it, its answer and the flow of that, its end. Who carries it is for attempts.py."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from pingap.stages.headers import value_of
from pingap.stages.http1.rules import AnswerHead, ProtocolError
from pingap.stages.http1.spelling import Spelled
from pingap.stages.itinerary import REQUEST_BODY, RESPONSE_PLUGINS
from pingap.stages.messages import EMPTY, WINDOW, Data, Interim, Report, Response, Routed, accept_of, window
from pingap.stages.upstream.attempts import Attempts
from pingap.stages.upstream.core import LIMITS, SPELLED, so_far
from pingap.stages.upstream.grpc_web import Bridge, bridge_of
from pingap.stages.upstream.request_id import told
from pingap.stages.upstream.upload import Upload

if TYPE_CHECKING:
    from pingap.stages.upstream.actor import UpstreamActor
    from pingap.stages.upstream.channel import Channel
    from pingap.stages.upstream.compiled import LocationRules
    from pingap.stages.upstream.pool import Group

BULK: Final = 1024 * 1024
"""A response body of which more than this has come is bulk: its reads are gathered."""

BULK_READ: Final = 16 * 1024
"""A read of fewer bytes is handed on at once: the sender is not going flat out."""

GATHER: Final = 8
GATHER_SECONDS: Final = 0.001
"""So many reads, or so long, are gathered at the most."""


class Exchange(Attempts):
    """Lives from ROUTED until the answer has been handed over."""

    # One is made per request: here too what usually stays at its default is a class attribute.
    _window = WINDOW
    _sent_at = 0.0
    _arrived = 0
    _held: list[bytes] | None = None
    """Reads of a long download, gathered for one batch."""
    interims = 0
    """Interim answers so far."""
    _kept_interims: list[Interim] | None = None
    """Those of a request that may become a tunnel: its final answer tells the way that all go."""
    uploaded = 0
    """Request body bytes handed to the connection."""
    upload_done = True
    """The whole request has been handed to the connection."""
    limits = LIMITS
    """Of the head of its answer."""
    responded = False
    is_over = False
    is_tunnel = False
    """The backend has switched protocols."""
    is_half_shut = False
    """The backend's half of a tunnel has ended; the client's has not, or has not been taken yet."""

    def __init__(self, actor: UpstreamActor, routed: Routed, group: Group, rules: LocationRules) -> None:
        self.actor = actor
        self.routed = routed
        self._group = group
        self.rules = rules
        self.sid = routed.sid
        self.method = routed.method
        self.began = monotonic()
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
        if rules.keeps_case and routed.version < 20 and routed.server in rules.keeps_case:
            self.limits = SPELLED

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

    # -- the request ------------------------------------------------------------

    def _translate(self, bridge: Bridge) -> bool:
        """Makes the request one in gRPC; False when that was answered with an error."""
        routed = self.routed
        try:
            headers, length, body = bridge.request(routed.headers, routed.length, routed.body, routed.ended)
        except ProtocolError as error:
            self.fail(error.kind, error.detail)
            return False
        self.routed = replace(routed, headers=headers, length=length, body=body)
        return True

    def _send(self, channel: Channel, now: float) -> None:
        routed, backend = self.routed, channel.backend
        self._sent_at = now
        self.channel = channel
        channel.begin(self, now)
        headers = routed.headers
        if self.rules.writes:
            headers = self.rules.leaving(headers, routed, backend.address)
        if not routed.host and value_of(headers, b"host") is None:
            # HTTP/1.0 may come without a Host; what we send is 1.1, which must have one (RFC 9112 section 3.2).
            headers = b"host: %b\r\n%b" % (backend.entry.encode(), headers)
        body = routed.body
        length = len(body) if routed.ended else routed.length
        if not length and routed.is_framed:
            length = EMPTY  # signatures cover it, and some servers insist
        channel.ask(self.method, routed.target, headers, length, body, routed.upgrade)
        if self._upload is not None and not self.is_over:
            self._upload.attempt_begun()

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

    def head_arrived(self, head: AnswerHead, body: bytes, ended: bool) -> float:
        """The answer's head, and what came with it. Returns the time."""
        routed, actor = self.routed, self.actor
        self.responded = True
        if self.bridge is not None:
            head, body = self.bridge.answer(head, body, ended)
        backend, channel = self._backend, self.channel
        assert backend is not None and channel is not None
        headers = head.headers
        if routed.variables and (request_id := routed.variables.get("request_id")):
            headers = told(headers, request_id)
        now, sent_at = monotonic(), self._sent_at
        stamps = routed.stamps
        if len(stamps) == 2:  # plugins was not visited
            stamps = (*stamps, 0.0, 0.0, self.began, sent_at, sent_at, now)
        else:
            stamps = (*so_far(stamps), self.began, sent_at, sent_at, now)
        if self.interims and self._kept_interims:
            for interim in self._kept_interims:
                actor.send(self.answers_to, interim)
        # fmt: off
        report = Report(
            routed.location, routed.upstream, backend.address, head.status, not self.connect_seconds, self._tries, stamps,
            self.connect_seconds, "", routed.variables, routed.client_ip, channel.opened, backend.open,
        )
        actor.send(self.answers_to, Response(
            self.sid, actor.id, head.status, headers, head.length, body, ended, report, routed.watchers, head.reason,
            head.spelled,
        ))
        # fmt: on
        if ended:
            self._over()
        else:
            self._window = window(routed.version) - len(body)
            if self._window <= 0:
                channel.pause()
        return now

    def interim_arrived(self, status: int, headers: bytes, reason: bytes = b"", spelled: Spelled = ()) -> None:
        """An interim answer, for the client to see now: it goes the way that the final one will."""
        interim = Interim(self.sid, status, headers, reason, spelled)
        if self.routed.upgrade and self.answers_to != accept_of(self.sid):
            self._kept_interims = [*(self._kept_interims or ()), interim]
        else:
            self.actor.send(self.answers_to, interim)

    def tunnel_opened(self, head: AnswerHead, rest: bytes) -> None:
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
            self.actor.send(self.answers_to, Data(self.sid, payload, ended, "", False, None, trailers))
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
                self.actor.send(self.answers_to, Data(self.sid, payload, is_last, "", False, None, trailers if is_last else b""))

    def credited(self, count: int) -> None:
        self._window += count
        if self._window > 0 and self.channel is not None:
            self.channel.resume()

    # -- the end ----------------------------------------------------------------------

    def backend_failed(self, kind: str, detail: str) -> None:
        """The answer had begun, and its backend does not end it as it should."""
        if self._backend is not None and not self.is_tunnel:  # those end as they like
            self.actor.answer_cut(self._group, self._backend, kind, detail)
        self.fail(kind, detail)

    def fail(self, kind: str, reason: str = "") -> None:
        """Ends it with an error: our answer, or when it is too late for that a body that must not look complete. reason: for the log."""
        if self.is_over:
            return
        self._let_go()
        if self.responded:
            self._release_held(False)
            last = b"" if self.bridge is None else self.bridge.cut(kind)
            self.actor.send(self.answers_to, Data(self.sid, last, False, kind))
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
                reason=reason,
            )
            self.actor.answer_error(self.answers_to, routed, kind, report)
        self._over()

    def head_too_large(self, limit: int) -> None:
        """The backend has said that it wants no field lists over `limit` bytes, and may end the connection over one."""
        assert self.channel is not None
        addr, size = self.channel.backend.address, len(self.routed.headers) + len(self.routed.target)
        self.actor.context.log("debug", "head too large for the backend", upstream=self._group.name, addr=addr, bytes=size, limit=limit)
        self.fail("headers_too_large", "for the backend")

    def crashed(self, error: Exception) -> None:
        """A fault of ours must not leave the client waiting."""
        self.actor.repeats.log("error", "request failed", error=repr(error))
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

    def _over(self) -> None:
        if not self.is_over:
            self.is_over = True
            if self._backend is not None:
                self._backend.active -= 1
            self.actor.exchange_over(self)
