"""An answer that gets a content coding on its way through upstream: where that is all that plugins would do with it
(RESPONSE_CODING in the itinerary).

What is short is coded at once. Of what is long a piece at a time is, when it is its turn (turns.py): a read of 256 KiB
would hold up all others for 3 ms.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from pingap.stages.coding.encoders import Encoder
from pingap.stages.coding.rules import ACCEPT_RANGES
from pingap.stages.headers import without_changed

PIECE: Final = 16 * 1024
"""Bytes that are coded at once, 0.2 ms; but of a whole answer it may be INLINE."""


class CodedAnswer:
    """One of them. What comes out is what credit counts; it is never more than a few bytes longer than what came in."""

    __slots__ = ("_after", "_backlog", "_before", "_encoder", "_ends", "_trailers")

    def __init__(self, coding: str, level: int, before: bytes, after: bytes) -> None:
        """before, after: the answer's header block as it came and as it goes on."""
        self._encoder = Encoder(coding, level)
        self._before = before
        self._after = after
        self._backlog: deque[memoryview] = deque()
        """What has come and waits for its turn: a read or so."""
        self._ends = False
        """Nothing comes after it."""
        self._trailers = b""

    @property
    def is_behind(self) -> bool:
        """Something waits; then all that comes has to."""
        return bool(self._backlog)

    def download(self, payload: bytes, ended: bool) -> bytes:
        """More of the body, at once. All of it can be read of what goes out, for nobody knows when the backend says more."""
        encoder = self._encoder
        if ended:
            return encoder.feed(payload, True)
        return encoder.feed(payload, False) + encoder.flush() if payload else b""

    def put(self, payload: bytes, ended: bool, trailers: bytes) -> None:
        """More of the body, for `next_piece`; not both empty and the first that waits."""
        if payload:
            self._backlog.append(memoryview(payload))
        self._ends = ended
        self._trailers = trailers

    def next_piece(self) -> tuple[bytes, bool, bytes]:
        """(payload, ended, trailers) of what comes of the next piece that waits."""
        backlog = self._backlog
        first = backlog[0]
        if len(first) > PIECE:
            backlog[0] = first[PIECE:]
            return self._encoder.feed(bytes(first[:PIECE]), False), False, b""
        backlog.popleft()
        payload = bytes(first)
        if backlog:
            return self._encoder.feed(payload, False), False, b""
        return self.download(payload, self._ends), self._ends, self.trailers(self._trailers) if self._trailers else b""

    def trailers(self, trailers: bytes) -> bytes:
        """Without those of names that were set or removed in the head: what that says stands."""
        return without_changed(trailers, self._before, self._after, (ACCEPT_RANGES,))

    @property
    def figures(self) -> dict[str, float]:
        """For the access log, when the body has ended."""
        return self._encoder.figures
