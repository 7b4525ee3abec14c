"""What upstream decides without I/O: when a failed attempt may be made again (design.md section 6, docs of `max_retries`)."""

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


class Failure(enum.Enum):
    """How an attempt ended without an answer. The value names the error in stages/errors.py."""

    CONNECT = "connect_failed"
    """No connection: the backend has seen nothing."""
    CONNECT_TIMEOUT = "gateway_timeout"
    NO_LOOKUP = "overloaded"
    """Its name could not be looked up, because too many others wait for answers: nothing is said of the backend."""
    NO_DESCRIPTOR = "overloaded "
    """This process may have no more sockets: nothing is said of the backend, and no other one is nearer."""
    CLOSED_REUSED = "bad_gateway"
    """A kept-alive connection closed before any byte of an answer came."""
    CLOSED_FRESH = "bad_gateway "
    """A fresh connection closed before any byte of an answer came."""
    TIMEOUT = "gateway_timeout "
    """The backend has the request and is silent."""
    INVALID = "bad_gateway  "
    """An answer that breaks the rules of HTTP."""
    REFUSED = "bad_gateway   "
    """The backend has said that it has not touched the request (RFC 9113 section 8.7)."""
    RESET = "bad_gateway    "
    """The backend has ended this one stream without an answer, whatever it has done by then."""
    CANCELLED = "call_cancelled"
    """The backend has cancelled a call of gRPC."""
    DEADLINE = "deadline_exceeded"
    """The same, because the call's own deadline has passed."""
    HEAD_TOO_LARGE = "headers_too_large"
    """The backend has ended a connection of HTTP/2 over the size of this request's head."""
    HTTP1_REQUIRED = "bad_gateway     "
    """The backend wants this request over HTTP/1.1, and may have it so."""

    @property
    def kind(self) -> str:
        return self.value.strip()


def meaning_of_reset(code: int, is_ours: bool, heard: bool, may_fall_back: bool) -> tuple[Failure, str]:
    """What a stream that was reset is for its request, and what the log says of it.

    is_ours: because of what the backend did to it. heard: something of an answer had come. may_fall_back: the request may go over
    HTTP/1.1 as well.
    """
    if is_ours:
        return Failure.INVALID, f"the backend's answer breaks the rules of HTTP/2 (error {code})"
    if code == REFUSED_STREAM and not heard:
        return Failure.REFUSED, "stream refused"
    if code == HTTP_1_1_REQUIRED and not heard:
        # Nothing was done with it: the backend wants all of it again in another form.
        why = "the backend wants HTTP/1.1 (HTTP_1_1_REQUIRED)"
        return (Failure.HTTP1_REQUIRED, why) if may_fall_back else (Failure.RESET, f"{why}, which alpn, or gRPC, rules out")
    return Failure.RESET, f"stream reset (error {code})"


def meaning_of_cancel(timeout: float | None, elapsed: float) -> tuple[Failure, str]:
    """What a server of gRPC means that resets a stream with CANCEL: as a rule that the call's deadline has passed.

    timeout: of the call, in seconds; None when it has none. elapsed: seconds since it came here.
    """
    if timeout is not None and elapsed >= timeout:
        return Failure.DEADLINE, "the call's deadline has passed"
    return Failure.CANCELLED, "the backend cancelled the call"


EVERYDAY: Final = (Failure.CANCELLED, Failure.DEADLINE)
"""What says nothing bad about a backend."""


class Rules(NamedTuple):
    """A location's retry keys."""

    max_retries: int | None
    """None: the default; 0: never."""
    window: float | None
    """Seconds from the first attempt on."""


class Attempt(NamedTuple):
    """The state in which an attempt failed."""

    failure: Failure
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


def may_retry(attempt: Attempt, rules: Rules) -> bool:
    """Failed connects always, on another backend; a connection that closed under us only for what may be sent twice.

    What a backend has refused untouched may be sent again whatever the method, to the same one if there is no other.
    That it goes on over HTTP/1.1 is agreed with its backend, and is no retry: only what is gone of the body rules it out.
    """
    if attempt.failure is Failure.HTTP1_REQUIRED:
        return not attempt.body_begun
    limit = DEFAULT_RETRIES if rules.max_retries is None else rules.max_retries
    if attempt.tries > limit or (rules.window is not None and attempt.elapsed >= rules.window):
        return False
    if attempt.failure in (Failure.CONNECT, Failure.CONNECT_TIMEOUT, Failure.NO_LOOKUP):
        return attempt.others > 0 and not attempt.body_begun
    if attempt.failure is Failure.CLOSED_REUSED:
        return attempt.method in IDEMPOTENT and attempt.body_whole
    return attempt.failure is Failure.REFUSED and not attempt.body_begun


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
