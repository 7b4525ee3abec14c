"""The receiving half of the h2 engine: a frame reader of ours over h2's state machines.

h2 as it comes costs 66 µs a request here, most of it in frame objects, events and
log calls. So the frames that a request and its answer consist of, HEADERS, DATA and
CONTINUATION, are read here, and all others are passed on to h2_connection.py.
"""

from __future__ import annotations

from typing import Final

from h2.connection import AllowedStreamIDs
from h2.errors import ErrorCodes
from h2.stream import H2Stream, StreamClosedBy, StreamInputs, StreamState

from pingap.stages.http1.rules import new
from pingap.stages.http2.engine import (
    BODY,
    FRAME,
    FRAME_SIZE_ERROR,
    HEAD,
    INTERIM,
    PREFACE,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    STREAM_CLOSED,
    TRAILERS,
    UNREAD,
    Body,
    Event,
    Fields,
    Head,
    Http2Error,
    InterimHead,
    LocalSettings,
    Trailers,
    Unread,
)
from pingap.stages.http2.h2_connection import ACK, CLOSED, CONTINUATION_FRAME, DATA_FRAME, HEADERS_FRAME, SETTINGS_FRAME, H2State

MAX_BLOCK: Final = 256 * 1024
"""Bytes of one header block over all its frames. guard.py stops a peer long before that."""

MAX_CONTINUATIONS: Final = 64

_END_STREAM, _END_HEADERS, _PADDED, _PRIORITY_FLAG = 0x1, 0x4, 0x8, 0x20


class Receiver(H2State):
    """A connection that is given bytes, and returns events of ours."""

    def __init__(self, is_client: bool, settings: LocalSettings) -> None:
        super().__init__(is_client, settings)
        self._rest = b""
        self._preface = b"" if is_client else PREFACE
        self._is_settled = False
        self._block: list[bytes] = []
        self._block_of = 0
        self._block_flags = 0

    def receive(self, data: bytes) -> list[Event]:
        """Raises Http2Error or h2's ProtocolError."""
        if self._preface:
            data = self._take_preface(data)
        if self._rest:
            data = self._rest + data
        at, size = 0, len(data)
        events: list[Event] = []
        while size - at >= 9:
            length = data[at] << 16 | data[at + 1] << 8 | data[at + 2]
            if length > FRAME:
                raise Http2Error(FRAME_SIZE_ERROR, "frame too large")
            end = at + 9 + length
            if end > size:
                break
            kind, flags = data[at + 3], data[at + 4]
            stream_id = int.from_bytes(data[at + 5 : at + 9], "big") & 0x7FFFFFFF
            body = data[at + 9 : end]
            at = end
            if self._block_of or not self._is_settled:
                self._check_order(kind, stream_id, flags)
            if kind == HEADERS_FRAME:
                self._take_headers(stream_id, flags, body, events)
            elif kind == DATA_FRAME:
                self._take_data(stream_id, flags, body, events)
            elif kind == CONTINUATION_FRAME:
                self._take_continuation(stream_id, flags, body, events)
            else:
                self._take_control(kind, stream_id, flags, body, events)
        self._rest = data[at:]
        return events

    def _take_preface(self, data: bytes) -> bytes:
        count = min(len(data), len(self._preface))
        if data[:count] != self._preface[:count]:
            raise Http2Error(PROTOCOL_ERROR, "no HTTP/2 preface")
        self._preface = self._preface[count:]
        return data[count:]

    def _check_order(self, kind: int, stream_id: int, flags: int) -> None:
        if not self._is_settled:
            if kind != SETTINGS_FRAME or flags & ACK:
                raise Http2Error(PROTOCOL_ERROR, "the first frame is not SETTINGS")
            self._is_settled = True
        elif kind != CONTINUATION_FRAME or stream_id != self._block_of:
            raise Http2Error(PROTOCOL_ERROR, "another frame inside a header block")

    def _take_headers(self, stream_id: int, flags: int, body: bytes, events: list[Event]) -> None:
        if not stream_id:
            raise Http2Error(PROTOCOL_ERROR, "HEADERS on stream 0")
        if flags & (_PADDED | _PRIORITY_FLAG):
            body = _strip(stream_id, flags, body)
        if flags & _END_HEADERS:
            self._take_block(stream_id, flags, body, events)
        else:
            self._block_of, self._block_flags, self._block = stream_id, flags, [body]

    def _take_continuation(self, stream_id: int, flags: int, body: bytes, events: list[Event]) -> None:
        if not self._block_of:
            raise Http2Error(PROTOCOL_ERROR, "CONTINUATION outside a header block")
        block = self._block
        block.append(body)
        if len(block) > MAX_CONTINUATIONS or sum(map(len, block)) > MAX_BLOCK:
            raise Http2Error(ErrorCodes.ENHANCE_YOUR_CALM, "header block too large")
        if flags & _END_HEADERS:
            self._block_of, self._block = 0, []
            self._take_block(stream_id, self._block_flags, b"".join(block), events)

    def _take_block(self, stream_id: int, flags: int, block: bytes, events: list[Event]) -> None:
        fields = self.block_decoder.decode(block)  # always, or the tables of the two ends part
        stream = self.streams.get(stream_id)
        if stream is None:
            stream = self._open(stream_id)
            if stream is None:
                return
            if len(self.streams) > self.max_streams:
                self._reset_by_force(stream_id, REFUSED_STREAM)
                return
        ended = flags & _END_STREAM != 0
        machine = stream.state_machine
        if machine.state == StreamState.HALF_CLOSED_REMOTE:
            self._reset_by_force(stream_id, STREAM_CLOSED, events)
            return
        if self.is_client and fields and fields[0][0] == b":status" and fields[0][1][:1] == b"1":
            machine.process_input(StreamInputs.RECV_INFORMATIONAL_HEADERS)
            if ended:
                self._reset_by_force(stream_id, PROTOCOL_ERROR, events)
            else:
                events.append(new(InterimHead, (INTERIM, stream_id, fields)))
            return
        is_first = not machine.headers_received
        machine.process_input(StreamInputs.RECV_HEADERS)
        if not is_first:
            if not ended or self.expected.pop(stream_id, 0):
                self._reset_by_force(stream_id, PROTOCOL_ERROR, events)
                return
            events.append(new(Trailers, (TRAILERS, stream_id, fields)))
        else:
            if not self._expect(stream_id, fields, ended):
                self._reset_by_force(stream_id, PROTOCOL_ERROR, events if self.is_client else None)
                if not self.is_client:
                    events.append(new(Unread, (UNREAD, stream_id)))
                return
            events.append(new(Head, (HEAD, stream_id, fields, ended)))
        if ended:
            machine.process_input(StreamInputs.RECV_END_STREAM)
            if machine.state is CLOSED:
                self.forget(stream_id)

    def _expect(self, stream_id: int, fields: Fields, ended: bool) -> bool:
        """Notes the Content-Length; False for one that contradicts the end of the stream (RFC 9113 section 8.1.1)."""
        if self.is_client and (stream_id in self.bodiless or (fields and fields[0][1] in (b"204", b"304"))):
            self.expected[stream_id] = 0
            return True
        for name, value in fields:
            if name == b"content-length":
                if not value.isdigit() or len(value) > 18:
                    return False
                length = int(value)
                if ended:
                    return length == 0
                self.expected[stream_id] = length
        return True

    def _take_data(self, stream_id: int, flags: int, body: bytes, events: list[Event]) -> None:
        if not stream_id:
            raise Http2Error(PROTOCOL_ERROR, "DATA on stream 0")
        length = len(body)
        self._inbound_flow_control_window_manager.window_consumed(length)
        if flags & _PADDED:
            body = _strip(stream_id, flags & _PADDED, body)
        stream = self.streams.get(stream_id)
        if stream is None:
            self._after_end(stream_id)
            self.give_back(length)
            return
        machine = stream.state_machine
        state = machine.state
        if state == StreamState.HALF_CLOSED_REMOTE:
            self.give_back(length)
            self._reset_by_force(stream_id, STREAM_CLOSED, events)
            return
        if not machine.headers_received:
            raise Http2Error(PROTOCOL_ERROR, "DATA before HEADERS")
        stream._inbound_window_manager.window_consumed(length)
        ended = flags & _END_STREAM != 0
        if stream_id in self.expected:
            left = self.expected[stream_id] - len(body)
            if left < 0 or (ended and left):
                self.give_back(length)
                self._reset_by_force(stream_id, PROTOCOL_ERROR, events)
                return
            self.expected[stream_id] = left
        if length:
            self.held[stream_id] = self.held.get(stream_id, 0) + length
        events.append(new(Body, (BODY, stream_id, body, length, ended)))
        if ended:
            machine.process_input(StreamInputs.RECV_END_STREAM)
            if machine.state is CLOSED:
                self.forget(stream_id)

    def _after_end(self, stream_id: int) -> None:
        """HEADERS or DATA on a stream that is not there. Returns when it was reset by one side, so that it may be ignored."""
        outbound = stream_id % 2 == int(self.is_client)
        if stream_id > (self.highest_outbound_stream_id if outbound else self.highest_inbound_stream_id):
            raise Http2Error(PROTOCOL_ERROR, "frame on an idle stream")
        if self.is_client and stream_id not in self._closed_streams:
            return  # too long ago to know; perhaps we have reset it, and the backend had much on its way
        if stream_id in self._closed_streams:
            closed_by = self._closed_streams[stream_id]
            if closed_by is StreamClosedBy.SEND_RST_STREAM:
                return
            if closed_by is StreamClosedBy.RECV_RST_STREAM:
                self._queue_reset(stream_id, STREAM_CLOSED)
                return
        raise Http2Error(STREAM_CLOSED, "frame on a closed stream")

    def _open(self, stream_id: int) -> H2Stream | None:
        """A new stream of the peer's; None for one that was reset."""
        if self.is_client or stream_id <= self.highest_inbound_stream_id or not stream_id % 2:
            if not self.is_client and not stream_id % 2:
                raise Http2Error(PROTOCOL_ERROR, "even stream id from a client")
            if not self.is_client and stream_id not in self._closed_streams:
                raise Http2Error(PROTOCOL_ERROR, "a stream id that goes back")
            self._after_end(stream_id)
            return None
        return self._begin_new_stream(stream_id, AllowedStreamIDs.ODD)


def _strip(stream_id: int, flags: int, body: bytes) -> bytes:
    """Without padding and priority (RFC 9113 sections 6.1 and 6.2)."""
    start, end = 0, len(body)
    if flags & _PADDED:
        if not body:
            raise Http2Error(FRAME_SIZE_ERROR, "padded frame without pad length")
        start, end = 1, end - body[0]
    if flags & _PRIORITY_FLAG:
        if end - start < 5:
            raise Http2Error(PROTOCOL_ERROR if flags & _PADDED else FRAME_SIZE_ERROR, "HEADERS frame too short")
        if int.from_bytes(body[start : start + 4], "big") & 0x7FFFFFFF == stream_id:
            raise Http2Error(PROTOCOL_ERROR, "a stream that depends on itself")
        start += 5
    if start > end:
        raise Http2Error(PROTOCOL_ERROR, "padding longer than the frame")
    return body[start:end]
