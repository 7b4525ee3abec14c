"""The states of an HTTP/1.x connection (http1.py), which has one request at a time.

    IDLE → HEAD → COLLECTING → BUSY → IDLE      one request after the other; without a body straight to BUSY
    BUSY → DROPPING → IDLE                      the answer was complete before the request
    BUSY or DROPPING → CHOKED → IDLE            the client asks, and does not read
    LINGERING → CLOSED                          from everywhere

What the request that it is BUSY with has come to is in stages/stream_states.py.
"""

from __future__ import annotations

import enum
from typing import Final

from pingap.stages.states import Moves


class ConnectionState(enum.Enum):
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
IDLE: Final = ConnectionState.IDLE
HEAD: Final = ConnectionState.HEAD
COLLECTING: Final = ConnectionState.COLLECTING
BUSY: Final = ConnectionState.BUSY
DROPPING: Final = ConnectionState.DROPPING
CHOKED: Final = ConnectionState.CHOKED
LINGERING: Final = ConnectionState.LINGERING
CLOSED: Final = ConnectionState.CLOSED

MOVES: Final[Moves] = {
    IDLE: {HEAD, COLLECTING, BUSY, LINGERING, CLOSED},
    HEAD: {COLLECTING, BUSY, LINGERING, CLOSED},
    COLLECTING: {BUSY, LINGERING, CLOSED},
    BUSY: {IDLE, CHOKED, DROPPING, LINGERING, CLOSED},
    DROPPING: {IDLE, CHOKED, LINGERING, CLOSED},
    CHOKED: {IDLE, LINGERING, CLOSED},
    LINGERING: {CLOSED},
    CLOSED: {CLOSED},  # closed, and then lost
}
