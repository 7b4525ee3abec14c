"""Holds the states of accept's objects against their tables: in tests, and under `python -X dev`."""

from __future__ import annotations

from pingap.stages import stream_states
from pingap.stages.accept import states
from pingap.stages.accept.http1 import Http1ClientConnection
from pingap.stages.accept.http2 import Http2ClientConnection
from pingap.stages.states import check_moves
from pingap.stages.stream import OwnedStream


def check_states() -> None:
    """From now on."""
    check_moves(OwnedStream, "state", stream_states.MOVES)
    check_moves(Http1ClientConnection, "_state", states.HTTP1_MOVES)
    check_moves(Http2ClientConnection, "_state", states.HTTP2_MOVES)
