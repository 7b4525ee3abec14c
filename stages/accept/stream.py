"""One request and its answer, as accept sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stages.accept.core import IDEMPOTENT, State
from stages.messages import Request, Response

if TYPE_CHECKING:
    from stages.accept.connection import ClientConnection


class Stream:
    """Mutable record; who changes what is said at each field. One is made per request, hence slots."""

    __slots__ = (
        "answers",
        "connection",
        "credit",
        "deadline",
        "failed",
        "keep_alive",
        "received",
        "request",
        "resent",
        "responded",
        "response",
        "sent",
        "sid",
        "state",
        "unacked",
        "upload_done",
        "wanter",
    )

    def __init__(self, sid: int, connection: ClientConnection, request: Request, keep_alive: bool) -> None:
        self.sid = sid
        self.connection = connection
        self.request = request
        self.keep_alive = keep_alive
        self.state = State.ASKED
        self.response: Response | None = None
        self.responded = 0.0
        self.sent = 0
        self.unacked = 0
        """Response body bytes written but not yet given back as credit."""
        self.received = len(request.body)
        self.credit = 0
        """Request body bytes that may still be sent to `wanter`."""
        self.wanter = 0
        self.upload_done = request.ended
        self.resent = False
        self.failed = ""
        """Name of the error (stages/errors.py) when the answer is accept's own."""
        self.deadline = 0.0
        """Monotonic seconds; used while WAITING and RECALLING only."""
        self.answers: dict[int, int | None] | None = None
        """Answers to RECALL so far."""

    @property
    def replayable(self) -> bool:
        """May be sent a second time without harm: idempotent, and its body is still here."""
        return self.request.ended and self.request.method in IDEMPOTENT
