"""The states of a stream, as who owns it sees it (streams.py).

    WAITING ⇄ ASKED ⇄ RECALLING      before its answer; from each of these straight to ANSWERING, or to ENDED
    ANSWERING → WHOLE                the answer comes; all of it is here
    ANSWERING → TUNNEL → HALF_SHUT   the backend has switched protocols; it has ended its half
    ENDED                            from everywhere, once

That its request's body may still be on its way beside all this is `OwnedStream.upload_done`: a client that sends nothing of it, though
somebody wants it, has `downstream_read_timeout`.

None is for ever. Who ends a stream that stays in one, and when:

    WAITING            recovery.py, after WAIT
    ASKED              who serves it, by its own time-outs; behind all of those streams.py, by the owner's patience (accept/patience.py)
    RECALLING          recovery.py, after RECALL_WAIT
    ANSWERING          the sender, when no more comes: upstream by `read_timeout`, plugins by the time between two pieces;
                       its client's connection, when that takes nothing: `downstream_write_timeout`
    WHOLE              its client's connection, by the same
    TUNNEL, HALF_SHUT  upstream, when nothing has moved for `read_timeout`
"""

from __future__ import annotations

import enum
from typing import Final

from pingap.stages.states import Moves


class StreamState(enum.IntEnum):
    """In order: who has an answer is at ANSWERING or beyond."""

    WAITING = 0
    """No crew is complete; sent as soon as one is."""
    ASKED = 1
    """REQUEST is out, no response head yet."""
    RECALLING = 2
    """An actor of it died; the survivors were asked how far it had come."""
    ANSWERING = 3
    """The response head has come."""
    WHOLE = 4
    """All of the answer is here; the client has not taken it all yet (HTTP/2)."""
    TUNNEL = 5
    """The backend has switched protocols: bytes flow both ways until both sides have ended."""
    HALF_SHUT = 6
    """The backend's half of a tunnel has ended and the client's has not."""
    ENDED = 7
    """It is recorded, and nobody is asked for anything of it. Its client may still get the rest of what there is, and a status (gRPC)."""


# By these names they are one look-up where they are used.
WAITING: Final = StreamState.WAITING
ASKED: Final = StreamState.ASKED
RECALLING: Final = StreamState.RECALLING
ANSWERING: Final = StreamState.ANSWERING
WHOLE: Final = StreamState.WHOLE
TUNNEL: Final = StreamState.TUNNEL
HALF_SHUT: Final = StreamState.HALF_SHUT
ENDED: Final = StreamState.ENDED

MOVES: Final[Moves] = {
    WAITING: {ASKED, ANSWERING, ENDED},
    ASKED: {ASKED, WAITING, RECALLING, ANSWERING, ENDED},  # again when it is sent once more
    RECALLING: {RECALLING, WAITING, ASKED, ANSWERING, ENDED},  # again when another dies meanwhile
    ANSWERING: {ANSWERING, WHOLE, TUNNEL, ENDED},  # again when the answer has no valid head, and an error takes its place
    WHOLE: {ENDED},
    TUNNEL: {HALF_SHUT, ENDED},
    HALF_SHUT: {ENDED},
    ENDED: set(),
}
