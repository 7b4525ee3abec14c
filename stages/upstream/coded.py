"""An answer that gets a content coding on its way through upstream: where that is all that plugins would do with it
(RESPONSE_CODING in the itinerary)."""

from __future__ import annotations

from pingap.stages.coding.encoders import Encoder
from pingap.stages.coding.rules import ACCEPT_RANGES
from pingap.stages.headers import without_changed


class CodedAnswer:
    """One of them. What comes out is what credit counts; it is never more than a few bytes longer than what came in."""

    __slots__ = ("_after", "_before", "_encoder")

    def __init__(self, coding: str, level: int, before: bytes, after: bytes) -> None:
        """before, after: the answer's header block as it came and as it goes on."""
        self._encoder = Encoder(coding, level)
        self._before = before
        self._after = after

    def download(self, payload: bytes, ended: bool) -> bytes:
        """More of the body. All of it can be read of what goes out, for nobody knows when the backend says more."""
        encoder = self._encoder
        if ended:
            return encoder.feed(payload, True)
        return encoder.feed(payload, False) + encoder.flush() if payload else b""

    def trailers(self, trailers: bytes) -> bytes:
        """Without those of names that were set or removed in the head: what that says stands."""
        return without_changed(trailers, self._before, self._after, (ACCEPT_RANGES,))

    @property
    def figures(self) -> dict[str, float]:
        """For the access log, when the body has ended."""
        return self._encoder.figures
