"""The body of one HTTP/1.1 request, on its way from the client to the actor that wants it.

First it may be collected, to travel inside REQUEST; else it streams as far as credit
goes; and what is left of it when the answer is complete is read and dropped. The
upward half of a tunnel is an intake too, of a body without framing.
"""

from __future__ import annotations

import asyncio
from math import inf
from time import monotonic
from typing import Final, Protocol

from pingap.stages.http1.body import BodyDecoder, ChunkedBody, CloseBody, LengthBody
from pingap.stages.http1.rules import RequestHead
from pingap.stages.messages import INLINE, INLINE_PAUSE, UNKNOWN
from pingap.stages.read_gate import CREDIT, ReadGate
from pingap.stages.stream import OwnedStream
from pingap.stages.streams import Streams

PAUSE = INLINE_PAUSE  # no Final: it is of real time, and tests put another in its place in both forms
"""As that: the client may wait for an answer to what it has sent. Longer than a client takes between head and body."""

DISCARD: Final = 30.0
"""Seconds that the rest of a request body may take to arrive after its answer, so that the connection can be kept."""


class Bringer(Protocol):
    """The connection that a body comes in on."""

    deadline: float
    """Monotonic seconds until which something more of the body must have come."""
    gate: ReadGate

    def open(self, head: RequestHead, started: float, length: int, body: bytes, ended: bool) -> OwnedStream:
        """The request is complete, or complete enough."""

    def is_taken_by(self, intake: Intake) -> bool:
        """What comes from the client goes to this intake."""

    def intake_over(self, rest: bytes) -> None:
        """It has taken all that there was. rest: what follows the body."""


class Intake:
    """Made by a connection for a head that announces a body; it ends with `intake_over`."""

    __slots__ = (
        "_connection",
        "_decoder",
        "_has_moved",
        "_head",
        "_parts",
        "_pending",
        "_started",
        "_stream",
        "_streams",
        "_timeout",
        "is_expected",
    )

    def __init__(self, connection: Bringer, streams: Streams, decoder: BodyDecoder, timeout: float) -> None:
        """timeout: seconds that the client may send nothing of it; inf where others watch."""
        self._connection = connection
        self._streams = streams
        self._decoder = decoder
        self._timeout = timeout
        self._pending = b""
        self._stream: OwnedStream | None = None
        self._head: RequestHead | None = None
        self._started = 0.0
        self._parts: list[bytes] | None = None
        self._has_moved = False
        """Some of the body that is being collected has come since that was last looked at."""
        self.is_expected = False
        """The client waits for 100 Continue."""

    @property
    def head(self) -> RequestHead | None:
        """The head of a request that is not a stream yet: its body is being collected."""
        return self._head

    @property
    def collected(self) -> int:
        """Bytes of that body so far."""
        return sum(map(len, self._parts or ()))

    # -- its beginning --------------------------------------------------------

    def begin(self, head: RequestHead, started: float, rest: bytes) -> None:
        """rest: what came behind the head. Raises ProtocolError."""
        connection = self._connection
        self._await_more()
        if head.expects_continue:
            # The body waits until somebody wants it: its CREDIT is what sends 100. Till then the client has nothing to send.
            self.is_expected = not rest
            if self.is_expected:
                connection.deadline = inf
        elif 0 < head.length <= INLINE or (head.length == UNKNOWN and rest):
            self._head, self._started = head, started
            self._parts = []
            if not self._collect(rest):
                self._has_moved = False
                asyncio.get_running_loop().call_later(PAUSE, self._pause_passed)
            return
        self._stream = connection.open(head, started, head.length, b"", False)
        if rest:
            self._upload(self._decoder.feed(rest))

    def tunnel(self, stream: OwnedStream, rest: bytes) -> None:
        """Takes what the client sends from now on, `rest` first, for a stream that has become a tunnel."""
        self._stream = stream
        if rest:
            self._upload(rest)

    # -- its course -------------------------------------------------------------

    def arrived(self, data: bytes) -> None:
        """Bytes from the client. Raises ProtocolError."""
        if self._parts is not None:
            self._collect(data)
        else:
            self._await_more()
            self._upload(self._decoder.feed(data))

    def ended(self) -> None:
        """The client has shut its side of a tunnel."""
        self._decoder.done = True
        self._upload(b"")

    def _await_more(self) -> None:
        self._connection.deadline = monotonic() + self._timeout

    def _collect(self, data: bytes) -> bool:
        """Small bodies travel inside REQUEST: one message instead of three, and the request can be sent again. True when it has left."""
        head, decoder, parts = self._head, self._decoder, self._parts
        assert head is not None and parts is not None
        if data:
            parts.append(decoder.feed(data))
            self._has_moved = True
            self._await_more()
        # A chunked body is taken along when its end came with the head, else it streams.
        if not decoder.done and head.length != UNKNOWN:
            return False
        self._end_collecting(head, parts)
        return True

    def _pause_passed(self) -> None:
        """If nothing of a small body has come in it, it is not waited for any more."""
        head, parts = self._head, self._parts
        if head is None or parts is None or not self._connection.is_taken_by(self):
            return  # all of it has come, or nobody wants it any more
        if self._has_moved:
            self._has_moved = False
            asyncio.get_running_loop().call_later(PAUSE, self._pause_passed)
        else:
            self._end_collecting(head, parts)

    def _end_collecting(self, head: RequestHead, parts: list[bytes]) -> None:
        """The request goes on its way, with its body or before it."""
        self._head = self._parts = None
        connection, decoder = self._connection, self._decoder
        body = b"".join(parts)
        if decoder.done and len(body) <= INLINE and not _trailers(decoder):
            connection.intake_over(decoder.rest)
            connection.open(head, self._started, len(body), body, True)
            return
        self._stream = connection.open(head, self._started, head.length, b"", False)
        self._upload(body)

    def _upload(self, payload: bytes) -> None:
        """Sends request body bytes as far as credit goes; the rest waits and reading pauses."""
        connection, decoder, stream = self._connection, self._decoder, self._stream
        assert stream is not None
        stream.received += len(payload)
        if self._pending:
            payload = self._pending + payload
        if not payload and not decoder.done:
            return  # a part of a chunk's size line
        if len(payload) <= stream.credit and stream.wanter:
            self._pending = b""
            stream.credit -= len(payload)
            if decoder.done:
                self._streams.send_body(stream, payload, True, _trailers(decoder))
                stream.upload_done = True
                connection.intake_over(decoder.rest)
            elif payload:
                self._streams.send_body(stream, payload, False)
        else:
            if stream.credit:
                self._streams.send_body(stream, payload[: stream.credit], False)
                payload = payload[stream.credit :]
                stream.credit = 0
            self._pending = payload
            connection.gate.shut(CREDIT)
            connection.deadline = inf  # the client is not the one to wait for

    def credited(self) -> None:
        """More of it may be sent."""
        if self._stream is None:
            return
        self._upload(b"")
        if not self._pending:
            if not self._stream.upload_done:
                self._await_more()
            self._connection.gate.open(CREDIT)

    # -- its end ------------------------------------------------------------------

    def begin_drop(self, now: float) -> None:
        """The answer was complete before the request: what is left of the body is read and dropped, then comes the next."""
        self._pending = b""
        self._connection.deadline = now + DISCARD
        self._connection.gate.open(CREDIT)
        self.drop(b"")

    def drop(self, data: bytes) -> None:
        """Bytes from the client after that. Raises ProtocolError."""
        if not self._decoder.done:  # it may be: all of the body was here and waited for credit
            self._decoder.feed(data)
        if self._decoder.done:
            self._connection.intake_over(self._decoder.rest)


def decoder_of(head: RequestHead) -> BodyDecoder:
    return ChunkedBody(head.named) if head.length == UNKNOWN else LengthBody(head.length)


def tunnel_of(connection: Bringer, streams: Streams) -> Intake:
    """The upward half of a tunnel. How long it may be silent is for upstream to say, which sees both halves."""
    return Intake(connection, streams, CloseBody(), inf)


def _trailers(decoder: BodyDecoder) -> bytes:
    return decoder.trailers if isinstance(decoder, ChunkedBody) else b""
