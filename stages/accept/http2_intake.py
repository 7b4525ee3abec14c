"""The body of one request on an HTTP/2 connection, on its way from the client to the actor that wants it.

What the bus has no credit for stays unacknowledged in the stream's window, so that a slow
side holds back its own stream and never the connection.
"""

from __future__ import annotations

from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Final

from pingap.stages.accept import intake
from pingap.stages.accept.stream import Stream
from pingap.stages.http1.rules import RequestHead
from pingap.stages.messages import INLINE, UNKNOWN

if TYPE_CHECKING:
    from pingap.stages.accept.http2 import Http2Connection

_CONTINUE: Final = ((b":status", b"100"),)


class Http2Intake:
    """The half of a stream that comes in. Its state is made by the whole of it."""

    __slots__ = (
        "_connection",
        "_has_moved",
        "_head",
        "_is_collecting",
        "_is_expected",
        "_is_watched",
        "_pending",
        "_pending_size",
        "_request_trailers",
        "client_ended",
        "read_by",
        "stream",
        "stream_id",
    )

    stream_id: int
    stream: Stream | None
    client_ended: bool
    read_by: float
    """Monotonic seconds until which the client may send nothing of its body."""
    _connection: Http2Connection
    _head: RequestHead
    _is_collecting: bool
    _is_expected: bool
    """The client waits for 100 Continue."""
    _is_watched: bool
    """Whether the body that is being collected pauses will be looked at soon."""
    _has_moved: bool
    """Some of it has come since that was last looked at."""
    _pending: list[bytes]
    """Request body bytes that nobody has taken yet."""
    _pending_size: int
    _request_trailers: bytes

    def begin(self, ended: bool) -> None:
        """The head is here. ended: there is no body."""
        head = self._head
        if ended or head.upgrade:
            self.client_ended = ended
            self._open(0, b"", True)
        elif head.expects_continue or head.length > INLINE:
            self._is_expected = head.expects_continue
            self._open(head.length, b"", False)
            self._await_more()
        else:
            # As over HTTP/1.1: small bodies travel inside REQUEST, one of unknown length if its end comes with its head.
            self._is_collecting = True
            self._connection.heard[self] = None

    def arrived(self, data: bytes, padding: int, ended: bool) -> None:
        """Bytes of the request's body, or of a tunnel."""
        self._is_expected = False
        self.client_ended = ended
        if padding:
            self._connection.engine.acknowledge(self.stream_id, padding)
        if data:
            self._pending.append(data)
            self._pending_size += len(data)
        if self.stream is not None:
            self.stream.received += len(data)
        self._connection.heard[self] = None

    def trailed(self, trailers: bytes) -> None:
        """The end of the request's body, with trailers, which a tunnel has none of (RFC 9113 section 8.5)."""
        self.client_ended = True
        self._request_trailers = b"" if self._head.upgrade else trailers
        self._connection.heard[self] = None

    def settle(self) -> None:
        """All that came in one read is here: a client's frames are short, and one envelope for many of them is cheaper."""
        if self._is_collecting:
            self._collect()
        elif self.stream is not None:
            self._upload()

    def _collect(self) -> None:
        streams = self._head.length == UNKNOWN and not self.client_ended
        if streams or self._pending_size > INLINE or self._request_trailers:
            self._stop_collecting()
        elif self.client_ended:
            body, size = b"".join(self._pending), self._pending_size
            self._pending, self._pending_size = [], 0
            self._is_collecting, self.read_by = False, inf
            self._connection.engine.acknowledge(self.stream_id, size)
            self._open(size, body, True)
        else:
            self._await_more()
            self._has_moved = self._is_watched
            if not self._is_watched:
                self._is_watched = True
                self._connection.actor.context.loop.call_later(intake.PAUSE, self._look)

    def _look(self) -> None:
        """As over HTTP/1.1: a client that pauses may wait for an answer to what it has sent."""
        if not self._is_collecting:
            return
        if self._has_moved:
            self._has_moved = False
            self._connection.actor.context.loop.call_later(intake.PAUSE, self._look)
        else:
            self._stop_collecting()

    def _stop_collecting(self) -> None:
        """The body is not here yet: it streams."""
        self._is_collecting = False
        self._open(self._head.length, b"", False)
        assert self.stream is not None
        self.stream.received = self._pending_size
        self._await_more()

    def _upload(self) -> None:
        """Sends request body bytes as far as credit goes; the rest stays in the client's window."""
        stream = self.stream
        if stream is None or stream.upload_done:
            return
        if not stream.wanter:
            self._await_more()
            return
        size, ended = self._pending_size, self.client_ended
        if size > stream.credit:
            size, ended = stream.credit, False
        whole = self._pending[0] if len(self._pending) == 1 else b"".join(self._pending)
        payload = whole[:size]
        self._pending = [whole[size:]] if len(whole) > size else []
        self._pending_size -= size
        if payload or ended:
            stream.credit -= size
            stream.upload_done = ended
            self._connection.actor.send_body(stream, payload, ended, self._request_trailers if ended else b"")
            self._connection.acknowledge(self.stream_id, size)
        if ended:
            self.read_by = inf
            if stream.is_half_shut:
                self._finish(monotonic())
        else:
            self._await_more()

    def _await_more(self) -> None:
        """The client is the one to wait for, unless it has done its part or the others have not."""
        stream = self.stream
        others_wait = bool(self._pending) and not self._is_collecting
        if self.client_ended or others_wait or self._is_expected or (stream is not None and stream.is_tunnel):
            self.read_by = inf
        else:
            self.read_by = monotonic() + self._connection.door.settings.downstream_read_timeout
            self._connection.look_at(self.read_by)

    def credited(self, stream: Stream) -> None:
        if self._is_expected:
            self._is_expected = False
            self._connection.send_head(self.stream_id, _CONTINUE, False)
            self._await_more()
        self._upload()

    @property
    def unread(self) -> int:
        """Bytes of the client's window that were not given back."""
        return self._pending_size

    # -- done by the whole stream ------------------------------------------------------

    def _open(self, length: int, body: bytes, ended: bool) -> None:
        """The request is complete, or complete enough."""
        raise NotImplementedError

    def _finish(self, now: float) -> None:
        """Both halves have ended."""
        raise NotImplementedError
