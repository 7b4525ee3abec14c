"""The writing half of an HTTP/2 connection: answers take turns, and never outgrow the socket's buffer.

What is written is collected and leaves once a turn of the loop: a batch of answers from
the bus is one write.
"""

from __future__ import annotations

from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Final

from pingap.stages.accept.connection import WRITE_BUFFER, Connection
from pingap.stages.http2.engine import Fields, Http2Engine
from pingap.stages.http2.guard import FloodGuard
from pingap.stages.read_gate import BACKLOG

if TYPE_CHECKING:
    from pingap.stages.accept.actor import AcceptActor
    from pingap.stages.accept.doors import Door
    from pingap.stages.accept.http2_stream import Http2Stream

UNREAD: Final = 4 * WRITE_BUFFER
"""Bytes that may wait for the socket before nothing more is read. Bodies stop at a quarter of it; heads have no windows."""


class Http2Output(Connection):
    """The streams of one connection share what goes out. `engine` and `guard` are set by who reads."""

    __slots__ = ("_is_over", "_is_scheduled", "_moved", "blocked", "choked", "engine", "guard")

    engine: Http2Engine
    guard: FloodGuard

    def __init__(self, actor: AcceptActor, door: Door) -> None:
        super().__init__(actor, door)
        self.blocked: dict[Http2Stream, None] = {}
        """Streams whose answer waits for room, in turn."""
        self.choked = False
        self._moved = -inf
        """Monotonic seconds at which one of them last had its turn."""
        self._is_scheduled = False
        self._is_over = False
        """Nothing more is wanted of the client, and nothing more is said to it."""

    def pause_writing(self) -> None:
        self.choked = True
        self.watch_writing()

    def resume_writing(self) -> None:
        self.choked = False
        self.gate.open(BACKLOG)

    def _mind_backlog(self) -> None:
        """Who does not read shall not ask for more: answers without a body would fill the memory."""
        if self.transport.get_write_buffer_size() > UNREAD:
            self.gate.shut(BACKLOG)

    # -- for the streams ------------------------------------------------------------------

    def send_head(self, stream_id: int, fields: Fields, ended: bool) -> None:
        self.engine.send_head(stream_id, fields, ended)
        self.schedule()

    def send_data(self, stream_id: int, payload: bytes, ended: bool) -> None:
        self.engine.send_data(stream_id, payload, ended)
        self.guard.sent(len(payload))
        self.schedule()

    def send_trailers(self, stream_id: int, fields: Fields) -> None:
        self.engine.send_trailers(stream_id, fields)
        self.schedule()

    def acknowledge(self, stream_id: int, count: int) -> None:
        self.engine.acknowledge(stream_id, count)
        self.schedule()

    # -- at the end of a turn -------------------------------------------------------------

    def schedule(self) -> None:
        """Something waits for the end of the turn."""
        if not self._is_scheduled:
            self._is_scheduled = True
            self.actor.context.loop.call_soon(self._end_turn)

    def _end_turn(self) -> None:
        self._is_scheduled = False
        if self.blocked and not self.choked:
            self._pump()
        self._flush()

    def _flush(self) -> None:
        if not self._is_over:
            data = self.engine.outgoing()
            if data:
                self.write(data)

    def _pump(self) -> None:
        """Goes on with the answers that wait, a portion each in turn, as far as windows and socket have room."""
        moved = True
        while moved and self.blocked and not self.choked:
            moved = False
            for stream in list(self.blocked):
                if not stream.pump():
                    continue
                moved = True
                if stream in self.blocked:  # behind those that room was not enough for: the next begins with them
                    del self.blocked[stream]
                    self.blocked[stream] = None
                self._flush()
                if self.choked:
                    break
            if moved:
                self._moved = monotonic()

    def has_others_before(self, now: float) -> bool:
        """Whether a stream that waits for room may only wait for its turn: what all share is full, and the client takes of it."""
        if self.choked:
            return True  # that it takes something is watched: see `is_stuck`
        return not self.engine.connection_room and now < self._moved + self.door.settings.downstream_write_timeout
