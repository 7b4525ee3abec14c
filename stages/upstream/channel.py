"""What stands between a request and its backend, in Protocols: who carries it, and what that carries.

An exchange knows its channel, which is a whole HTTP/1.1 connection or one HTTP/2 stream, and the channel its exchange;
pools know connections as far as they hand them out. None of these files imports the others.
"""

from __future__ import annotations

from typing import Protocol

from pingap.stages.http1.rules import AnswerHead, HeadLimits
from pingap.stages.http1.spelling import Spelled
from pingap.stages.messages import Routed
from pingap.stages.upstream.core import Outcome


class Carried(Protocol):
    """One request and its answer, as the channel sees it that carries them."""

    routed: Routed
    method: bytes
    limits: HeadLimits
    """Of the head of its answer."""
    began: float
    """Monotonic seconds at which the request reached this stage."""
    read_timeout: float
    answers_to: int
    """The actor that gets the answer."""
    uploaded: int
    """Request body bytes handed to the channel."""
    upload_done: bool
    """The whole request has been handed to the channel."""
    interims: int
    """Interim answers so far."""

    @property
    def is_tunnel(self) -> bool: ...

    @property
    def is_over(self) -> bool: ...

    @property
    def write_timeout(self) -> float: ...

    @property
    def spelled(self) -> Spelled:
        """Names of its headers as they were written, and as the location's rules have them, which come after."""

    # -- the answer, as it comes

    def interim_arrived(self, status: int, headers: bytes, reason: bytes = b"", spelled: Spelled = ()) -> None: ...

    def head_arrived(self, head: AnswerHead, body: bytes, ended: bool) -> float:
        """The answer's head, and what came with it. Returns the time, in monotonic seconds."""

    def tunnel_opened(self, head: AnswerHead, rest: bytes) -> None:
        """The backend has switched protocols; rest: what came behind its head."""

    def body_arrived(self, payload: bytes, ended: bool, trailers: bytes = b"") -> None: ...

    def drained(self) -> None:
        """The backend has taken what was written: room for more."""

    # -- no answer, or no end of it; the channel is out of it already, or gets closed

    def attempt_failed(self, outcome: Outcome, detail: str = "") -> None:
        """No answer will come. detail: what was wrong, for the log."""

    def answer_cut(self, outcome: Outcome, detail: str) -> None:
        """The answer had begun, and its backend does not end it as it should."""

    def head_too_large(self, limit: int) -> None:
        """The backend has said that it wants no field lists over `limit` bytes, and may end the connection over one."""

    def go_over_http1(self) -> None:
        """The channel cannot carry this one, and has asked nothing yet."""

    def lost_with_others(self, is_new: bool) -> None:
        """Its connection of HTTP/2 is gone, and other requests with it. is_new: no answer had come on it yet."""


class Channel(Protocol):
    """Carries one request and its answer.

    It says so when the answer has `ended`, and is rid of its exchange then, as the exchange is of it; but for a tunnel,
    whose other half goes on until the exchange has it finish.
    """

    @property
    def opened(self) -> float:
        """Monotonic seconds since when the connection stands."""

    @property
    def choked(self) -> bool:
        """The backend takes less than it is sent; `drained` follows when it takes more."""

    def ask(self, exchange: Carried, now: float, headers: bytes, length: int) -> None:
        """The channel now belongs to an exchange: sends the request's head and what there is of its body.

        headers: as they are to leave. length: bytes of the whole body, UNKNOWN or EMPTY.
        """

    def send_body(self, payload: bytes, ended: bool, trailers: bytes) -> None:
        """More of the request's body, or of a tunnel's bytes."""

    def watch(self) -> None:
        """Sets the deadline anew, by whose turn it is."""

    def pause(self) -> None:
        """The exchange has no room for more of the answer."""

    def resume(self) -> None: ...

    def finish(self) -> None:
        """Both halves of a tunnel have ended. What was written is still delivered; the exchange hears no more of it."""

    def close(self, why: str = "") -> None:
        """Nobody wants the rest; the exchange hears no more of it. why: for the log, of a connection that ends with it."""


class Single(Channel, Protocol):
    """An HTTP/1.1 connection, which is good for one exchange at a time."""

    name: str
    """Whom the backend has proved to be; "" without TLS."""
    idle_since: float
    is_doubtful: bool
    """Its last answer had no body by the rules; there are backends that send one all the same, a moment later."""

    def has_spoken(self) -> bool:
        """Bytes are here that nobody asked for."""

    def is_stale(self) -> bool:
        """Looks at the socket: an idle connection with anything to read (data or EOF) is of no use any more."""


class Closable(Protocol):
    """Of a transport."""

    def is_closing(self) -> bool: ...


class Shared(Protocol):
    """An HTTP/2 connection, which has channels for several exchanges at a time."""

    name: str
    idle_since: float

    @property
    def transport(self) -> Closable: ...

    @property
    def is_unused(self) -> bool:
        """It carries nothing now."""

    def channel(self) -> Channel:
        """For one exchange, which asks at once. Only while it has room."""

    def close(self, why: str = "") -> None: ...
