"""What upstream decides without I/O: when a failed attempt may be made again (docs/design.md, docs of `max_retries`)."""

from __future__ import annotations

import enum
from typing import Final, Generic, NamedTuple, TypeVar

from pingap.stages.http1.methods import IDEMPOTENT
from pingap.stages.http1.rules import HeadLimits
from pingap.stages.http2.engine import HTTP_1_1_REQUIRED, REFUSED_STREAM

T = TypeVar("T")

LIMITS: Final = HeadLimits(head=128 * 1024, headers=256)
"""Caps on a backend's response head."""

SPELLED: Final = LIMITS._replace(keeps_case=True)
"""The same for a client that gets header names as its backend wrote them."""

DEFAULT_RETRIES: Final = 3
"""Further attempts after the first when the location does not say: enough to pass a few dead backends."""


MAX_INTERIM: Final = 100
"""Interim answers (1xx) before the final one."""


class Outcome(enum.Enum):
    """How an attempt ended. The value is what metrics and logs call it, `kind` the error in stages/errors.py that a client gets of it."""

    ANSWERED = "answered"
    """Its answer has come to the end, whatever that says."""

    # -- without an answer
    CONNECT = "connect"
    """No connection: the backend has seen nothing."""
    CONNECT_TIMEOUT = "connect_timeout"
    NO_LOOKUP = "no_lookup"
    """Its name could not be looked up, because too many others wait for answers: nothing is said of the backend."""
    NO_DESCRIPTOR = "no_descriptor"
    """This process may have no more sockets: nothing is said of the backend, and no other one is nearer."""
    DESTINATION = "destination"
    """A client has chosen it, and may not go there."""
    CLOSED_REUSED = "closed_reused"
    """A kept-alive connection closed before any byte of an answer came."""
    CLOSED_FRESH = "closed_fresh"
    """A fresh connection closed before any byte of an answer came."""
    TIMEOUT = "timeout"
    """The backend has the request, or takes no more of it, and has said nothing."""
    STALLED = "stalled"
    """The backend has begun the head of an answer, and does not go on."""
    INVALID = "invalid"
    """An answer that breaks the rules of HTTP, or that broke off within its head."""
    REFUSED = "refused"
    """The backend has said that it has not touched the request (RFC 9113 section 8.7)."""
    RESET = "reset"
    """The backend has ended this one stream without a word of an answer, or within its body, whatever it has done by then."""
    CANCELLED = "cancelled"
    """The backend has cancelled a call of gRPC."""
    DEADLINE = "deadline"
    """The same, because the call's own deadline has passed."""
    HEAD_TOO_LARGE = "head_too_large"
    """The backend has ended a connection of HTTP/2 over the size of this request's head."""
    HTTP1_REQUIRED = "http1_required"
    """The backend wants this request over HTTP/1.1, and may have it so."""

    # -- within the answer's body: TIMEOUT, INVALID, RESET, CANCELLED, DEADLINE, and
    CUT = "cut"
    """The connection closed within the body of an answer."""

    # -- by us, which says nothing of the backend
    NO_CONNECTION = "no_connection"
    """All its connections were in use: the line was full, or none came free in time."""
    MOVED = "moved"
    """It was no backend any more before a connection came free."""
    CALLED_OFF = "called_off"
    """Nobody wanted the answer any more."""
    GIVEN_UP = "given_up"
    """The request's own fault, or ours: a body that may not be, a stage that was lost."""

    @property
    def kind(self) -> str:
        return _KINDS[self]


_KINDS: Final = {
    Outcome.ANSWERED: "",
    Outcome.CONNECT: "connect_failed",
    Outcome.CONNECT_TIMEOUT: "gateway_timeout",
    Outcome.NO_LOOKUP: "overloaded",
    Outcome.NO_DESCRIPTOR: "overloaded",
    Outcome.DESTINATION: "destination_refused",
    Outcome.CLOSED_REUSED: "bad_gateway",
    Outcome.CLOSED_FRESH: "bad_gateway",
    Outcome.TIMEOUT: "gateway_timeout",
    Outcome.STALLED: "gateway_timeout",
    Outcome.INVALID: "bad_gateway",
    Outcome.REFUSED: "bad_gateway",
    Outcome.RESET: "bad_gateway",
    Outcome.CANCELLED: "call_cancelled",
    Outcome.DEADLINE: "deadline_exceeded",
    Outcome.HEAD_TOO_LARGE: "headers_too_large",
    Outcome.HTTP1_REQUIRED: "bad_gateway",
    Outcome.CUT: "bad_gateway",
    Outcome.NO_CONNECTION: "overloaded",
    Outcome.MOVED: "no_backend",
    Outcome.CALLED_OFF: "client_closed",
    Outcome.GIVEN_UP: "internal",
}

NO_ANSWER: Final = tuple(Outcome)[1 : tuple(Outcome).index(Outcome.CUT)]
"""Those after which there may be another attempt."""

EVERYDAY: Final = (Outcome.CANCELLED, Outcome.DEADLINE)
"""What says nothing bad about a backend."""


def meaning_of_reset(code: int, is_ours: bool, heard: bool, may_fall_back: bool) -> tuple[Outcome, str]:
    """What a stream that was reset is for its request, and what the log says of it.

    is_ours: because of what the backend did to it. heard: something of an answer had come. may_fall_back: the request may go over
    HTTP/1.1 as well.
    """
    if is_ours:
        return Outcome.INVALID, f"the backend's answer breaks the rules of HTTP/2 (error {code})"
    if code == REFUSED_STREAM and not heard:
        return Outcome.REFUSED, "stream refused"
    if code == HTTP_1_1_REQUIRED and not heard:
        # Nothing was done with it: the backend wants all of it again in another form.
        why = "the backend wants HTTP/1.1 (HTTP_1_1_REQUIRED)"
        return (Outcome.HTTP1_REQUIRED, why) if may_fall_back else (Outcome.RESET, f"{why}, which alpn, or gRPC, rules out")
    return Outcome.RESET, f"stream reset (error {code})"


def meaning_of_cancel(timeout: float | None, elapsed: float) -> tuple[Outcome, str]:
    """What a server of gRPC means that resets a stream with CANCEL: as a rule that the call's deadline has passed.

    timeout: of the call, in seconds; None when it has none. elapsed: seconds since it came here.
    """
    if timeout is not None and elapsed >= timeout:
        return Outcome.DEADLINE, "the call's deadline has passed"
    return Outcome.CANCELLED, "the backend cancelled the call"


class RetryRules(NamedTuple):
    """A location's retry keys."""

    max_retries: int | None
    """None: the default; 0: never."""
    window: float | None
    """Seconds from the first attempt on."""


class EndedAttempt(NamedTuple):
    """The state in which an attempt ended without an answer, or with one that is not wanted."""

    outcome: Outcome
    """ANSWERED: with a status that another attempt may better."""
    method: bytes
    body_whole: bool
    """The whole body (or none) is here, so it can be sent again."""
    body_begun: bool
    """Something of a streamed body has been taken from the client: bytes that are not kept, or its end."""
    tries: int
    """Attempts made so far, this one included."""
    others: int
    """Usable backends not tried yet."""
    elapsed: float
    """Seconds since the first attempt began."""


UNREACHED: Final = (Outcome.CONNECT, Outcome.CONNECT_TIMEOUT, Outcome.NO_LOOKUP)
"""No backend has seen anything of the request."""

UNTOUCHED: Final = (*UNREACHED, Outcome.REFUSED, Outcome.HTTP1_REQUIRED)
"""No backend has worked on it: another attempt doubles nobody's work, and asks no budget. A backend that is restarted, and says so
by a GOAWAY, may give back hundreds of requests at once."""

SAME_BACKEND: Final = (Outcome.CLOSED_REUSED, Outcome.HTTP1_REQUIRED)
"""What is a matter of the connection alone: its backend is asked again as long as that gets requests, whoever else there is."""

ELSEWHERE: Final = (Outcome.CLOSED_FRESH, Outcome.RESET, Outcome.TIMEOUT, Outcome.ANSWERED)
"""What may have been done already, and is worth an attempt at another backend."""


def may_retry(attempt: EndedAttempt, rules: RetryRules) -> bool:
    """Failed connects always, on another backend; what a backend may have done, only if that may be done twice.

    A kept connection that closed under us is no fault of its backend: that one is asked again. What a backend has refused untouched
    may be sent again whatever the method, to the same one if there is no other. That it goes on over HTTP/1.1 is agreed with its
    backend, and is no retry: only what is gone of the body rules it out.
    """
    outcome = attempt.outcome
    if outcome is Outcome.HTTP1_REQUIRED:
        return not attempt.body_begun
    limit = DEFAULT_RETRIES if rules.max_retries is None else rules.max_retries
    if attempt.tries > limit or (rules.window is not None and attempt.elapsed >= rules.window):
        return False
    if outcome in UNREACHED:
        return attempt.others > 0 and not attempt.body_begun
    if outcome is Outcome.REFUSED:
        return not attempt.body_begun
    if outcome is not Outcome.CLOSED_REUSED and not (outcome in ELSEWHERE and attempt.others > 0):
        return False
    return attempt.method in IDEMPOTENT and attempt.body_whole


_PLUGINS: Final = 4
"""Stamps of routing and plugins, before those of upstream."""


def so_far(stamps: tuple[float, ...]) -> tuple[float, ...]:
    """The stamps of the stages before this one, 0.0 for those that were not visited: ours come at fixed places after them."""
    return stamps if len(stamps) >= _PLUGINS else (*stamps, 0.0, 0.0, 0.0, 0.0)[:_PLUGINS]


class Memory(Generic[T]):
    """Something about each of the last `size` streams at least, and of twice as many at most."""

    __slots__ = ("_new", "_old", "_size", "is_used")

    def __init__(self, size: int) -> None:
        self._size = size
        self._new: dict[int, T] = {}
        self._old: dict[int, T] = {}
        self.is_used = False
        """False until there is anything to ask for."""

    def put(self, sid: int, value: T) -> None:
        self.is_used = True
        self._new[sid] = value
        if len(self._new) >= self._size:
            self._old, self._new = self._new, {}

    def get(self, sid: int) -> T | None:
        known = self._new.get(sid)
        return self._old.get(sid) if known is None else known
