"""The states of an exchange (exchange.py), and the moves between them.

    ASKING → ANSWERING → OVER        attempts are made; the answer comes
    ANSWERING → TUNNEL → HALF_SHUT   the backend has switched protocols; it has ended its half
    OVER                             from everywhere, once

That the request's body may still be on its way beside all this is `upload_done`; what an attempt holds, and waits for, is in
attempt.py.
"""

from __future__ import annotations

import enum
from typing import Final

from pingap.stages.states import Moves, check_moves


class ExchangeState(enum.IntEnum):
    """In order: who has an answer is at ANSWERING or beyond."""

    ASKING = 0
    """No answer has begun: there may be another attempt."""
    ANSWERING = 1
    """The head of its answer is on its way, or that of our own."""
    TUNNEL = 2
    """The backend has switched protocols: bytes flow both ways until both sides have ended."""
    HALF_SHUT = 3
    """The backend's half of a tunnel has ended; the client's has not, or has not been taken yet."""
    OVER = 4
    """It waits for nothing, and nobody hears of it any more."""


# By these names they are one look-up where they are used.
ASKING: Final = ExchangeState.ASKING
ANSWERING: Final = ExchangeState.ANSWERING
TUNNEL: Final = ExchangeState.TUNNEL
HALF_SHUT: Final = ExchangeState.HALF_SHUT
OVER: Final = ExchangeState.OVER

MOVES: Final[Moves] = {
    ASKING: {ANSWERING, OVER},
    ANSWERING: {TUNNEL, OVER},
    TUNNEL: {HALF_SHUT, OVER},
    HALF_SHUT: {OVER},
    OVER: set(),
}


def check_states(exchange: type) -> None:
    """Holds them against the table from now on: in tests, and under `python -X dev`."""
    check_moves(exchange, "state", MOVES)
