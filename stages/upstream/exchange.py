"""One request to one upstream: its attempts, what is sent of it, its answer and the flow of that, its end."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any, Final, Protocol

from msgspec.structs import replace

from pingap.stages.answers import report_on
from pingap.stages.circuit_states import CLOSED
from pingap.stages.headers import value_of
from pingap.stages.http1.rules import AnswerHead, ProtocolError
from pingap.stages.http1.spelling import Spelled
from pingap.stages.itinerary import REQUEST_BODY, RESPONSE_CODING, RESPONSE_PLUGINS
from pingap.stages.messages import EMPTY, INLINE, UNKNOWN, WINDOW, Data, Interim, Report, Response, Routed, Taken, owner_of, window
from pingap.stages.upstream.attempt import Attempt
from pingap.stages.upstream.backend import BackendState
from pingap.stages.upstream.channel import Channel
from pingap.stages.upstream.coded import PIECE, CodedAnswer
from pingap.stages.upstream.compiled import LocationRules
from pingap.stages.upstream.core import LIMITS, SAME_BACKEND, SPELLED, UNTOUCHED, EndedAttempt, Outcome, may_retry, so_far
from pingap.stages.upstream.download import DownloadFromBackend
from pingap.stages.upstream.group import Group
from pingap.stages.upstream.grpc_web import Bridge, bridge_of
from pingap.stages.upstream.pools import Pools
from pingap.stages.upstream.request_id import told
from pingap.stages.upstream.states import ANSWERING, ASKING, HALF_SHUT, OVER, TUNNEL
from pingap.stages.upstream.transparent import NoDestination
from pingap.stages.upstream.troubles import Troubles
from pingap.stages.upstream.turns import Turns
from pingap.stages.upstream.upload import UploadToBackend
from pingap.stages.waits import Waits

ANSWERED: Final = Outcome.ANSWERED  # one look-up on the way of each request

WORKED_ON: Final = RESPONSE_PLUGINS | RESPONSE_CODING
"""Somebody works on the answer's body, and does best when it is all there. Who only passes it on need not wait for it."""


class ExchangeHost(Protocol):
    """What an exchange needs of its actor."""

    id: int
    send: Callable[[int, Any], None]
    pools: Pools
    troubles: Troubles
    pauses: Waits[int, UpstreamExchange]
    """Those that wait for the rest of a short answer."""
    turns: Turns

    def answer_error(self, to: int, routed: Routed, kind: str, report: Report) -> None:
        """Our own answer to a request that no backend answered."""

    def exchange_over(self, exchange: UpstreamExchange, has_responded: bool) -> None:
        """It is to be forgotten. has_responded: somebody got an answer, if only one of our own."""


class UpstreamExchange:
    """Lives from ROUTED until the answer has been handed over."""

    # One is made per request, and what usually stays at its default is a class attribute, which costs nothing until it is set.
    _sent_at = 0.0
    interims = 0
    """Interim answers so far."""
    _kept_interims: list[Interim] | None = None
    """Those of a request that may become a tunnel: its final answer tells the way that all go."""
    bridge: Bridge | None = None
    """Translates, when the client speaks gRPC-Web."""
    _unsent: AnswerHead | None = None
    """The head of a short answer, while the rest of it is waited for: both go on in one piece."""
    _waited_for: list[bytes] | None = None
    """What has come of that rest; None for a head that never waited."""
    _heard_at = 0.0
    """Monotonic seconds at which that head came."""
    _download: DownloadFromBackend | None = None
    """Passes on the body of an answer that did not come whole, or a tunnel's bytes; its head has gone before."""
    _upload: UploadToBackend | None = None
    """Passes on a request body that did not come whole, or a tunnel's bytes."""
    uploaded = 0
    """Request body bytes handed to the channel."""
    upload_done = True
    """The whole request has been handed to the channel."""
    limits = LIMITS
    """Of the head of its answer."""
    _status = 0
    """Of the backend's answer, once it has begun."""
    state = ASKING

    def __init__(self, actor: ExchangeHost, routed: Routed, group: Group, rules: LocationRules) -> None:
        self.actor = actor
        self.routed = routed
        self._group = group
        self.rules = rules
        self.sid = routed.sid
        self.method = routed.method
        self.began = monotonic()
        """At which the request reached this stage."""
        self.attempt = Attempt()
        self.answers_to = routed.affinity.plugins if routed.plan & RESPONSE_PLUGINS else routed.sid >> 32
        """The actor that gets the answer: accept, or plugins."""
        self.read_timeout = group.read_timeout
        if routed.length:
            self.uploaded = len(routed.body)
            if not routed.ended:
                self.upload_done = False
                self._upload = UploadToBackend(self)
        if rules.grpc_web and routed.server in rules.grpc_web:
            self.bridge = bridge_of(routed.method, routed.headers)
        if rules.keeps_case and routed.version < 20 and routed.server in rules.keeps_case:
            self.limits = SPELLED

    @property
    def write_timeout(self) -> float:
        return self._group.write_timeout

    @property
    def spelled(self) -> Spelled:
        """Names of its headers as the client wrote them, and as the location's rules have them, which come after."""
        return self.routed.spelled + self.rules.spelled

    @property
    def has_responded(self) -> bool:
        """An answer has begun, if only one of our own."""
        return self.state >= ANSWERING

    @property
    def is_tunnel(self) -> bool:
        """The backend has switched protocols."""
        return self.state is TUNNEL or self.state is HALF_SHUT

    @property
    def is_over(self) -> bool:
        return self.state is OVER

    @property
    def needed_plugins(self) -> int:
        """The plugins replica without which this one cannot end as it should; 0 when there is none."""
        routed = self.routed
        if self.is_tunnel:
            return 0
        through = routed.plan & RESPONSE_PLUGINS or (routed.plan & REQUEST_BODY and not self.upload_done)
        return routed.affinity.plugins if through else 0

    @property
    def watchers(self) -> tuple[int, ...]:
        return self.routed.watchers

    # -- attempts ---------------------------------------------------------------

    def translate(self, bridge: Bridge) -> bool:
        """Makes the request one in gRPC; False when that was answered with an error."""
        routed = self.routed
        try:
            headers, length, body = bridge.request(routed.headers, routed.length, routed.body, routed.ended)
        except ProtocolError as error:
            self.fail(error.kind, error.detail)
            return False
        self.routed = replace(routed, headers=headers, length=length, body=body)
        return True

    def begin(self) -> None:
        """Picks a backend and a connection to it, and sends the request; or waits for one."""
        attempt, group = self.attempt, self._group
        backend = group.pick(self.routed, attempt.tried)
        if backend is None:
            backend = self._find_destination(group)
            if backend is None:
                return
        channel = attempt.begin(group, backend, self.routed, self.began)
        if channel is not None:
            self._send(channel, self.began if attempt.tries == 1 else monotonic())
        elif not attempt.wait(self, group, self.actor.pools):
            self._find_no_connection("max_pending")

    def _find_destination(self, group: Group) -> BackendState | None:
        """Where none of its upstream's backends is to be had: what the client has chosen, if it may. None: it waits, or is answered."""
        attempt, transparent = self.attempt, group.transparent
        if transparent is None:
            if attempt.wait_for_backends(self, group, self.actor.pools):
                return None
            if not group.is_known:
                self.fail("overloaded", "max_pending")
            elif attempt.tries:
                self.fail("connect_failed", "no other backend")
            else:
                self.fail("no_backend", "no healthy backend")
            return None
        found = transparent.find(self.routed.host)
        if isinstance(found, NoDestination):
            self.actor.troubles.destination_refused(group, self.routed.host.decode("latin-1"), found.reason)
            self.fail(found.kind, found.reason)
            return None
        return found

    def _go_on(self) -> None:
        """With an attempt that has begun."""
        attempt, group = self.attempt, self._group
        channel = None if group.is_plain_pool else attempt.find_by_name(group, self.routed)
        if channel is not None:
            self._send(channel, monotonic())
        elif not attempt.wait(self, group, self.actor.pools):
            self._find_no_connection("max_pending")

    def _find_no_connection(self, reason: str) -> None:
        self.attempt.settle(Outcome.NO_CONNECTION, 0)
        self.fail("overloaded", reason)

    # What an attempt waited for comes in somebody else's turn: a fault of ours here must not be taken for one of theirs.

    def served(self, channel: Channel | None) -> None:
        """A connection came free (or room for one) for one that was in line."""
        attempt = self.attempt
        attempt.place = None
        if channel is None:
            attempt.open(self, self.actor.pools)
            return
        attempt.tries += 1
        try:
            self._send(channel, monotonic())
        except Exception as error:
            self.crashed(error)

    def connected(self, channel: Channel, seconds: tuple[float, ...]) -> None:
        """seconds: TCP connect, TLS handshake; none when it is another exchange for which the connection was opened."""
        self.attempt.connecting = None
        self.attempt.connect_seconds = seconds
        try:
            self._send(channel, monotonic())
        except Exception as error:
            self.crashed(error)

    def connect_failed(self, outcome: Outcome, detail: str) -> None:
        self.attempt.connecting = None
        self.attempt_failed(outcome, detail)

    def connect_once_more(self) -> None:
        """The connection came, but has no room for this one."""
        self.attempt.connecting = None
        self.attempt.tries -= 1
        try:
            self._go_on()
        except Exception as error:
            self.crashed(error)

    def go_over_http1(self) -> None:
        """The channel cannot carry this one, and has asked nothing yet."""
        self.attempt.let_go(self)
        self.attempt.needs_http1 = True
        self.connect_once_more()

    def go_elsewhere(self) -> None:
        """The backend at which it was in line is none any more."""
        attempt = self.attempt
        attempt.place = None
        attempt.settle(Outcome.MOVED, 0)
        try:
            self.begin()
        except Exception as error:
            self.crashed(error)

    def waited_too_long(self) -> None:
        """No connection came free in time."""
        attempt = self.attempt
        attempt.place = None
        if attempt.backend is None:
            self.fail("no_backend", "no backend was found in time")
        else:
            self._find_no_connection("no connection came free in time")

    def attempt_failed(self, outcome: Outcome, detail: str = "") -> None:
        """No answer from this attempt: another one if the rules allow it, else an error. detail: what was wrong, for the log."""
        attempt, group = self.attempt, self._group
        backend = attempt.backend
        assert backend is not None
        attempt.let_go(self)
        attempt.settle(outcome, 0)
        tried = attempt.tried = attempt.tried or set()
        if outcome is not Outcome.CLOSED_REUSED:
            tried.add(backend)
        others = group.others(tried)
        # What its backend has begun it may end, where it gets nothing new, too; but nothing goes past a circuit.
        may_stay = backend.is_usable or (outcome in SAME_BACKEND and backend.circuit == CLOSED)
        retry = (others > 0 or may_stay) and self._may_retry(outcome, others)
        self.actor.troubles.attempt_failed(group, backend, outcome, detail, retry)
        if not retry:
            self.fail(outcome.kind, detail or outcome.value.replace("_", " "))
            return
        attempt.connect_seconds = ()
        attempt.waits_since = 0.0
        try:
            # After CLOSED_REUSED the other idle connections are as old: a fresh one.
            if not others or (outcome in SAME_BACKEND and backend.is_usable):
                attempt.begin_again(backend)
                self._go_on()
            else:
                self.begin()
        except Exception as error:
            self.crashed(error)

    def _may_retry(self, outcome: Outcome, others: int) -> bool:
        """By the rules, and within the upstream's budget. others: usable backends that were not tried."""
        group = self._group
        has_begun = self._upload is not None and self._upload.has_begun
        now = monotonic()
        ended = EndedAttempt(outcome, self.method, self.routed.ended, has_begun, self.attempt.tries, others, now - self.began)
        if not may_retry(ended, self.rules.retry):
            return False
        if outcome is Outcome.CLOSED_REUSED and self.attempt.pardon():
            return True
        if outcome not in UNTOUCHED and not group.budget.take(now):
            self.actor.troubles.retry_refused(group)
            return False
        return True

    def _asks_elsewhere(self, status: int, ended: bool) -> bool:
        """An answer with one of the location's `retry_status_code` has come. True: it is dropped, and another backend is asked.

        ended: it is all here, and its channel is rid of the exchange.
        """
        attempt, group = self.attempt, self._group
        backend = attempt.backend
        assert backend is not None
        tried = attempt.tried = attempt.tried or set()
        tried.add(backend)
        # Of an answer of which the client has seen something that is the end.
        if self.interims or not self._may_retry(ANSWERED, group.others(tried)):
            return False
        if ended:
            attempt.channel = None
        else:
            attempt.let_go(self)
        attempt.settle(ANSWERED, status)
        attempt.connect_seconds = ()
        attempt.waits_since = 0.0
        self.actor.troubles.answer_dropped(group, backend, status)
        try:
            self.begin()
        except Exception as error:
            self.crashed(error)
        return True

    def lost_with_others(self, is_new: bool) -> None:
        """Its connection of HTTP/2 is gone, and with it other requests. Whose fault that was nobody knows: from the second time on
        it is asked alone, so that what ends connections takes no more of them with it. is_new: no answer had come on it yet."""
        self.attempt.losses += 1
        if is_new:
            self.attempt.is_pardoned = True  # who accepts connections and closes them is to blame: that is a matter of the budget

    # -- the request ------------------------------------------------------------

    def _send(self, channel: Channel, now: float) -> None:
        routed, attempt = self.routed, self.attempt
        backend = attempt.backend
        assert backend is not None
        self._sent_at = now
        attempt.channel = channel
        headers = routed.headers
        if self.rules.writes:
            headers = self.rules.leaving(headers, routed, backend.address)
        if not routed.host and value_of(headers, b"host") is None:
            # HTTP/1.0 may come without a Host; what we send is 1.1, which must have one (RFC 9112 section 3.2).
            headers = b"host: %b\r\n%b" % (backend.authority, headers)
        length = len(routed.body) if routed.ended else routed.length
        if not length and routed.is_framed:
            length = EMPTY  # signatures cover it, and some servers insist
        channel.ask(self, now, headers, length)
        if self._upload is not None and self.state is not OVER:
            self._upload.attempt_begun()

    def upload(self, data: Data) -> None:
        """Request body bytes, for the backend."""
        if self._upload is not None and not self.upload_done:
            self._upload.take(data)

    def upload_ended(self, channel: Channel) -> None:
        """The whole body has been handed to the channel."""
        self.upload_done = True
        if self.state is HALF_SHUT:
            self._end_tunnel(channel)

    def drained(self) -> None:
        """The backend has taken what was written: room for more."""
        if not self.upload_done:
            if self._upload is not None:
                self._upload.drained()
        elif self.state is HALF_SHUT and self.attempt.channel is not None:
            self._end_tunnel(self.attempt.channel)

    # -- the answer ---------------------------------------------------------------

    def head_arrived(self, head: AnswerHead, body: bytes, ended: bool) -> float:
        """The answer's head, and what came with it; or a second time, when it has waited for that. Returns the time."""
        routed, actor, attempt = self.routed, self.actor, self.attempt
        heard = now = monotonic()
        if self._waited_for is not None:
            heard = self._heard_at
        else:
            statuses = self.rules.retried_statuses
            if statuses and head.status in statuses and self._asks_elsewhere(head.status, ended):
                return now
            self.state = ANSWERING
            if self.bridge is not None:
                head, body = self.bridge.answer(head, body, ended)
            if not ended and 0 < head.length <= INLINE and routed.plan & WORKED_ON and head.status != 101:
                self._unsent, self._waited_for, self._heard_at = head, [body], now
                actor.pauses.add(self.sid, self)
                return 0.0  # nobody asks before the end
        backend, channel = attempt.backend, attempt.channel
        assert backend is not None and channel is not None
        headers, length, variables = head.headers, head.length, routed.variables
        coded: CodedAnswer | None = None
        later = b""
        if variables and (request_id := variables.get("request_id")):
            headers = told(headers, request_id)
        if routed.plan & RESPONSE_CODING and (rules := self.rules.coding) is not None:
            block = headers
            headers, coding, _ = rules.decide(self.method == b"HEAD", routed.headers, head.status, block, length)
            if coding:
                coded = CodedAnswer(coding, rules.levels[coding], block, headers)
                if ended and len(body) <= INLINE:
                    body = coded.download(body, True)
                    length, variables = len(body), {**variables, **coded.figures}
                elif len(body) > PIECE:
                    length, later, body = UNKNOWN, body, b""
                else:
                    length, body = UNKNOWN, coded.download(body, False)
        stamps, sent_at = routed.stamps, self._sent_at
        if len(stamps) == 2:  # plugins was not visited
            reached, left = stamps
            stamps = (reached, left, 0.0, 0.0, self.began, sent_at, sent_at, heard)
        else:
            stamps = (*so_far(stamps), self.began, sent_at, sent_at, heard)
        if self.interims and self._kept_interims:
            for interim in self._kept_interims:
                actor.send(self.answers_to, interim)
        status = self._status = head.status
        seconds = attempt.connect_seconds
        # fmt: off
        report = Report(
            routed.location, routed.upstream, backend.address, status, not seconds, attempt.tries, stamps, seconds, "",
            variables, routed.client_ip, channel.opened, len(backend.connections) + len(backend.connecting),
        )
        actor.send(self.answers_to, Response(
            self.sid, actor.id, status, headers, length, body, ended and not later, report, routed.watchers, head.reason,
            head.spelled,
        ))
        # fmt: on
        if ended and not later:
            attempt.channel = None
            self._over(ANSWERED)
        else:
            attempt.is_counted = True
            backend.answered(status, attempt.probe)
            self._download = DownloadFromBackend(self, window(routed.version) - len(body), coded)
            if later:
                self._download.take(later, ended, b"")
        return now

    def interim_arrived(self, status: int, headers: bytes, reason: bytes = b"", spelled: Spelled = ()) -> None:
        """An interim answer, for the client to see now: it goes the way that the final one will."""
        interim = Interim(self.sid, status, headers, reason, spelled)
        if self.routed.upgrade and self.answers_to != owner_of(self.sid):
            self._kept_interims = [*(self._kept_interims or ()), interim]
        else:
            self.actor.send(self.answers_to, interim)

    def tunnel_opened(self, head: AnswerHead, rest: bytes) -> None:
        """The backend has switched protocols. Plugins have no part in what follows, so it goes on without them."""
        self.upload_done = False
        owner = owner_of(self.sid)
        if self.answers_to != owner:
            self.actor.send(self.answers_to, Taken(self.sid))  # they wait for an answer
            self.answers_to = owner
        self.head_arrived(head, rest, False)
        self.state = TUNNEL
        self._upload = UploadToBackend(self)
        self._upload.grant(WINDOW)

    def _rest_arrived(self, payload: bytes, ended: bool, trailers: bytes) -> None:
        """Of a short answer, whose head waits for it."""
        parts = self._waited_for
        assert parts is not None
        parts.append(payload)
        if not ended:
            self.actor.pauses.add(self.sid, self)
            return
        self.actor.pauses.take(self.sid)
        self._send_unsent(not trailers)
        if trailers:
            self.body_arrived(b"", True, trailers)

    def backend_paused(self) -> None:
        """A short answer is short in coming: what there is goes on without the rest."""
        if self._unsent is not None:
            try:
                self._send_unsent(False)
            except Exception as error:
                self.crashed(error)

    def _send_unsent(self, ended: bool) -> None:
        head, parts = self._unsent, self._waited_for
        assert head is not None and parts is not None
        self._unsent = None
        self.head_arrived(head, b"".join(parts), ended)
        parts.clear()

    def body_arrived(self, payload: bytes, ended: bool, trailers: bytes = b"") -> None:
        """Response body bytes."""
        if self.bridge is not None:
            payload, trailers = self.bridge.download(payload, ended, trailers), b""
            if not payload and not ended:
                return
        if self._download is not None:
            self._download.take(payload, ended, trailers)
        else:
            self._rest_arrived(payload, ended, trailers)

    def download_ended(self) -> None:
        """All of the answer's body has been sent on."""
        attempt = self.attempt
        if self.state is ANSWERING:
            attempt.channel = None
            self._over(ANSWERED)
            return
        self.state = HALF_SHUT
        if self.upload_done and attempt.channel is not None:
            self._end_tunnel(attempt.channel)

    def _end_tunnel(self, channel: Channel) -> None:
        """Both halves have ended: over as soon as the backend has room for what came of the client's."""
        if not channel.choked:
            self.attempt.channel = None
            channel.finish()
            self._over(ANSWERED)

    def credited(self, count: int) -> None:
        if self._download is not None:
            self._download.grant(count)

    # -- the end ----------------------------------------------------------------------

    def answer_cut(self, outcome: Outcome, detail: str) -> None:
        """The answer had begun, and its backend does not end it as it should."""
        backend = self.attempt.backend
        if backend is not None and not self.is_tunnel:  # those end as they like
            self.actor.troubles.answer_cut(self._group, backend, outcome, detail)
        self.fail(outcome.kind, detail, Outcome.CALLED_OFF if self.is_tunnel else outcome)

    def fail(self, kind: str, reason: str = "", outcome: Outcome = Outcome.GIVEN_UP) -> None:
        """Ends it with an error: our answer, or when it is too late for that a body that must not look complete.

        kind: in stages/errors.py. reason: for the log. outcome: of the attempt, if one is being made.
        """
        if self.state is OVER:
            return
        attempt = self.attempt
        attempt.let_go(self)
        if self._download is not None:
            self._download.cut(kind, b"" if self.bridge is None else self.bridge.cut(kind))
        else:
            if self.state is ASKING:
                self.state = ANSWERING
            self._unsent = None
            routed = self.routed
            stamps = (*so_far(routed.stamps), self.began, self._sent_at, self._sent_at, 0.0)
            about = (routed.location, routed.upstream, kind, reason, routed.variables)
            report = report_on(routed.client_ip, stamps, *about, attempt.tries, attempt.connect_seconds)
            self.actor.answer_error(self.answers_to, routed, kind, report)
        self._over(outcome)

    def head_too_large(self, limit: int) -> None:
        """The backend has said that it wants no field lists over `limit` bytes, and may end the connection over one."""
        backend = self.attempt.backend
        assert backend is not None
        self.actor.troubles.head_too_large(self._group, backend, len(self.routed.headers) + len(self.routed.target), limit)
        self.fail("headers_too_large", "for the backend")

    def crashed(self, error: Exception) -> None:
        """A fault of ours must not leave the client waiting."""
        self.actor.troubles.crashed(error)
        self.fail("internal")

    def give_up(self, kind: str) -> None:
        """The replica that was to get the answer is gone: accept gets an error."""
        self.answers_to = owner_of(self.sid)
        self.fail(kind)

    def cancel(self) -> None:
        """Nobody wants the answer any more: the backend hears of it by the closed connection."""
        if self.state is not OVER:
            self._unsent = None
            if self._download is not None:
                self._download.drop()
            self.attempt.let_go(self)
            self._over(Outcome.CALLED_OFF)

    def _over(self, outcome: Outcome) -> None:
        """outcome: of the attempt, if one is being made."""
        before = self.state
        if before is not OVER:
            self.state = OVER
            attempt = self.attempt
            backend = attempt.backend
            if backend is not None:  # as Attempt.settle, without that call
                attempt.backend = None
                backend.settled(outcome, self._status, attempt.probe, attempt.is_counted)
            self.actor.exchange_over(self, before is not ASKING)
