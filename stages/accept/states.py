"""The states of a connection.

Over HTTP/1.x (http1.py), which has one request at a time:

    IDLE → HEAD → COLLECTING → BUSY → IDLE      one request after the other; without a body straight to BUSY
    BUSY → DROPPING → IDLE                      the answer was complete before the request
    BUSY or DROPPING → CHOKED → IDLE            the client asks, and does not read
    LINGERING → CLOSED                          from everywhere

Over HTTP/2 (http2.py), beside the states of its streams:

    OPEN → LEAVING → LEFT → OVER                OVER also from each of the others

What has become of a request is in stages/stream_states.py.
"""

from __future__ import annotations

import enum
from typing import Final

from pingap.stages.states import Moves


class Http1State(enum.Enum):
    IDLE = "idle"
    """Nothing of the next request is here, or all of it, and its turn comes in this turn of the loop."""
    HEAD = "head"
    """A part of its head is here."""
    COLLECTING = "collecting"
    """Its head is here, and its body comes; it is no stream yet."""
    BUSY = "busy"
    """It is a stream. Its body may still come."""
    DROPPING = "dropping"
    """It is answered; the rest of its body is read and dropped, so that the connection can be kept."""
    CHOKED = "choked"
    """It is answered, and the client does not take what is written: so nothing more is read."""
    LINGERING = "lingering"
    """Nothing more is written. What comes is read and dropped for a moment: closing now would reset the answer away."""
    CLOSED = "closed"
    """As soon as the client has taken what waits for it; or lost; or it speaks HTTP/2 now."""


# By these names they are one look-up where they are used.
IDLE: Final = Http1State.IDLE
HEAD: Final = Http1State.HEAD
COLLECTING: Final = Http1State.COLLECTING
BUSY: Final = Http1State.BUSY
DROPPING: Final = Http1State.DROPPING
CHOKED: Final = Http1State.CHOKED
LINGERING: Final = Http1State.LINGERING
CLOSED: Final = Http1State.CLOSED

HTTP1_MOVES: Final[Moves] = {
    IDLE: {HEAD, COLLECTING, BUSY, LINGERING, CLOSED},
    HEAD: {COLLECTING, BUSY, LINGERING, CLOSED},
    COLLECTING: {BUSY, LINGERING, CLOSED},
    BUSY: {IDLE, CHOKED, DROPPING, LINGERING, CLOSED},
    DROPPING: {IDLE, CHOKED, LINGERING, CLOSED},
    CHOKED: {IDLE, CLOSED},
    LINGERING: {CLOSED},
    CLOSED: {CLOSED},  # closed, and then lost
}


class Http2State(enum.Enum):
    OPEN = "open"
    LEAVING = "leaving"
    """On draining: the GOAWAY is out that lets through what is on its way (RFC 9113 section 6.8)."""
    LEFT = "left"
    """The last GOAWAY is out: no stream that comes from now on is looked at."""
    OVER = "over"
    """Nothing more is wanted of the client, and nothing more is said to it."""


OPEN: Final = Http2State.OPEN
LEAVING: Final = Http2State.LEAVING
LEFT: Final = Http2State.LEFT
OVER: Final = Http2State.OVER

HTTP2_MOVES: Final[Moves] = {
    OPEN: {LEAVING, OVER},
    LEAVING: {LEFT, OVER},
    LEFT: {OVER},
    OVER: {OVER},  # and then lost
}
