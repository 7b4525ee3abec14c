"""The body of one answer, on its way from the backend to who gets it: credit, reads that are gathered, and a content coding if it is
to have one.

The downward half of a tunnel is a download too. An answer that is all there with its head needs none of this.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from pingap.stages.messages import Data
from pingap.stages.upstream.attempt import Attempt
from pingap.stages.upstream.coded import PIECE, CodedAnswer
from pingap.stages.upstream.pools import Pools
from pingap.stages.upstream.turns import Turns

BULK: Final = 1024 * 1024
"""A body of which more than this has come is bulk: its reads are gathered."""

BULK_READ: Final = 16 * 1024
"""A read of fewer bytes is handed on at once: the sender is not going flat out."""

GATHER: Final = 8
GATHER_SECONDS: Final = 0.001
"""So many reads, or so long, are gathered at the most."""


class Passer(Protocol):
    """The actor."""

    send: Callable[[int, Any], None]
    pools: Pools
    turns: Turns
    """Those that have more to do than can be done at once."""


class Downloaded(Protocol):
    """The exchange whose answer it is."""

    sid: int
    attempt: Attempt
    answers_to: int
    """The actor that gets it."""

    @property
    def actor(self) -> Passer: ...

    @property
    def is_over(self) -> bool: ...

    def download_ended(self) -> None:
        """All of it has been sent on."""

    def crashed(self, error: Exception) -> None:
        """A fault of ours must not leave the client waiting."""


class DownloadFromBackend:
    __slots__ = ("_arrived", "_coded", "_exchange", "_held", "_window")

    def __init__(self, exchange: Downloaded, credit: int, coded: CodedAnswer | None) -> None:
        """credit: bytes that may be sent before the receiver grants more. coded: if it is to get a coding."""
        self._exchange = exchange
        self._window = credit
        self._coded = coded
        self._arrived = 0
        self._held: list[bytes] | None = None
        """Reads of a long download, gathered for one batch."""
        if credit <= 0:
            self._pause()

    def take(self, payload: bytes, ended: bool, trailers: bytes) -> None:
        """More of it. Credit may be overdrawn by one read, then reading pauses."""
        if self._coded is not None:
            self._code(self._coded, payload, ended, trailers)
        else:
            self._pass_on(payload, ended, trailers, None)

    def _code(self, coded: CodedAnswer, payload: bytes, ended: bool, trailers: bytes) -> None:
        """What is short now; what is long when it is its turn, and until then nothing more is read."""
        exchange = self._exchange
        turns = exchange.actor.turns
        if len(payload) <= PIECE and turns.left > 0 and not coded.is_behind:
            turns.took(len(payload))
            out = coded.download(payload, ended)
            if out or ended:
                self._pass_on(out, ended, coded.trailers(trailers) if trailers else b"", coded.figures if ended else None)
            return
        is_first = not coded.is_behind
        coded.put(payload, ended, trailers)
        if ended:
            self._let_channel_go()
        else:
            self._pause()
        if is_first:
            turns.put(self)

    def work(self) -> bool:
        """It is the turn of this body. True: there is more."""
        exchange, coded = self._exchange, self._coded
        if coded is None or exchange.is_over:
            return False
        try:
            payload, ended, trailers = coded.next_piece()
            if payload or ended:
                self._pass_on(payload, ended, trailers, coded.figures if ended else None)
        except Exception as error:
            self._coded = None  # what is left of it is of no use
            exchange.crashed(error)
            return False
        if coded.is_behind:
            return True
        if not ended:
            self._resume()
        return False

    def _pass_on(self, payload: bytes, ended: bool, trailers: bytes, late: dict[str, Any] | None) -> None:
        """DATA. late: what is only known now of the context."""
        exchange = self._exchange
        self._window -= len(payload)
        self._arrived += len(payload)
        if self._held is not None:
            self._held.append(payload)
            if ended or self._window <= 0 or len(self._held) >= GATHER:
                self._release(ended, trailers, late)
        elif self._arrived > BULK and len(payload) >= BULK_READ and not ended:
            # A long download is not in a hurry for one read: several in one batch cost a third of the wake-ups.
            self._held = [payload]
            exchange.actor.pools.loop.call_later(GATHER_SECONDS, self._release, False)
        else:
            exchange.actor.send(exchange.answers_to, Data(exchange.sid, payload, ended, "", False, late, trailers))
        if ended:
            exchange.download_ended()
        elif self._window <= 0:
            self._pause()

    def _release(self, ended: bool, trailers: bytes = b"", late: dict[str, Any] | None = None) -> None:
        held, self._held = self._held, None
        if held is not None:
            exchange = self._exchange
            sid, to, send = exchange.sid, exchange.answers_to, exchange.actor.send
            last = len(held) - 1
            for index, payload in enumerate(held):
                if ended and index == last:
                    send(to, Data(sid, payload, True, "", False, late, trailers))
                else:
                    send(to, Data(sid, payload, False, ""))

    # -- flow -------------------------------------------------------------------------

    def grant(self, count: int) -> None:
        """The receiver allows more."""
        self._window += count
        self._resume()

    def _pause(self) -> None:
        channel = self._exchange.attempt.channel
        if channel is not None:
            channel.pause()

    def _resume(self) -> None:
        """If there is room."""
        channel = self._exchange.attempt.channel
        if self._window > 0 and channel is not None and not (self._coded is not None and self._coded.is_behind):
            channel.resume()

    def _let_channel_go(self) -> None:
        """It has done its part, and is not to be stopped for the next one's."""
        attempt = self._exchange.attempt
        channel, attempt.channel = attempt.channel, None
        if channel is not None:
            channel.resume()

    # -- its end ------------------------------------------------------------------------

    def cut(self, kind: str, last: bytes) -> None:
        """Nothing more will come: what there is is sent on, and what makes it look incomplete. last: what is to be the end all the same."""
        exchange = self._exchange
        coded, self._coded = self._coded, None
        while coded is not None and coded.is_behind:
            payload, _, _ = coded.next_piece()
            self._pass_on(payload, False, b"", None)
        self._release(False)
        if last and coded is not None:
            last = coded.download(last, True)
        exchange.actor.send(exchange.answers_to, Data(exchange.sid, last, False, kind))

    def drop(self) -> None:
        """Nobody wants it any more."""
        self._held = self._coded = None
