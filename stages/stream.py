"""One request and its answer, as the actor sees them that owns the stream."""

from __future__ import annotations

from collections.abc import Callable

from pingap.stages.client import Client
from pingap.stages.http1.methods import IDEMPOTENT
from pingap.stages.messages import Request, Response
from pingap.stages.stream_states import ASKED, StreamState


class OwnedStream:
    """Mutable record; who changes what is said at each field.

    One is made per request: what usually stays at its default is a class attribute,
    which costs nothing until it is set.
    """

    state: StreamState = ASKED
    """Moves as in stream_states.py."""
    response: Response | None = None
    responded = 0.0
    """Monotonic seconds at which the response head was written."""
    sent = 0
    """Response body bytes written."""
    unacked = 0
    """Response body bytes written but not yet given back as credit."""
    credit = 0
    """Request body bytes that may still be sent to `wanter`."""
    wanter = 0
    resent = False
    needs_plugins = False
    """While WAITING: a crew without plugins is of no use to it."""
    failed = ""
    """Name of the error (stages/errors.py) when it did not end as it should."""
    reason = ""
    """What `failed` comes of, in words."""
    deadline = 0.0
    """Monotonic seconds; used while WAITING and RECALLING only."""
    quiet_since = 0.0
    """Monotonic seconds since when, ASKED, nothing was heard of it: set by a sweep, and 0.0 again with each thing that is."""
    answers: dict[int, int | None] | None = None
    """Answers to RECALL so far."""
    received = 0
    """Request body bytes taken from the client."""
    goes_on: bool | None = None
    """Is its client's close of no matter (`ignore_client_close`)? None until routing was asked."""
    give_up: Callable[[], None] | None = None
    """Its client has closed, and routing was asked: called if it does not go on."""
    chunked = False
    """The response body is written in chunks."""
    bodiless = False
    """No response body may be written: HEAD, 204, 304."""
    upload_done = True
    """The whole request body has been taken from the client; of a tunnel: its half of it."""

    def __init__(self, sid: int, client: Client, request: Request, keep_alive: bool) -> None:
        self.sid = sid
        self.client = client
        self.request = request
        self.keep_alive = keep_alive
        self.nth = client.nth
        """Its place among the requests of its connection, from 1."""
        if request.length:
            self.received = len(request.body)
            self.upload_done = request.ended

    @property
    def replayable(self) -> bool:
        """May be sent a second time without harm: idempotent, and its body is still here."""
        return self.request.ended and self.request.method in IDEMPOTENT
