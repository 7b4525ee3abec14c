"""The receiving half of the h2 engine: h2's state machines under a frame reader of ours.

h2 as it comes costs 66 µs a request here, most of it in frame objects, events and
log calls, and it treats as broken connections what a proxy must treat as one broken
stream: too many streams, a body unlike its Content-Length, GOAWAY with answers
still to come. So HEADERS, DATA and CONTINUATION are read here; streams, settings,
windows and every rarer frame are h2's. `Connection` leans on h2's private methods:
tests/http2 run the same scripts through ngh2, and an h2 that changes them fails there.
"""

from __future__ import annotations

from types import MethodType
from typing import Any, Final
from weakref import proxy

from h2.config import H2Configuration
from h2.connection import AllowedStreamIDs, ConnectionState, H2Connection
from h2.errors import ErrorCodes
from h2.events import PingAckReceived, RemoteSettingsChanged, WindowUpdated
from h2.events import StreamReset as H2StreamReset
from h2.exceptions import FrameDataMissingError, ProtocolError
from h2.settings import SettingCodes
from h2.settings import Settings as H2Settings
from h2.stream import H2Stream, StreamClosedBy, StreamInputs, StreamState
from hyperframe.exceptions import HyperframeError, InvalidDataError, InvalidPaddingError
from hyperframe.frame import FRAMES, Frame, SettingsFrame

from stages.http2.engine import (
    BODY,
    FRAME,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HEAD,
    INTERIM,
    LAST_STREAM,
    PONG,
    PREFACE,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    RESET,
    ROOM,
    SETTINGS,
    STREAM_CLOSED,
    TRAILERS,
    Body,
    Event,
    Fields,
    GoAway,
    Head,
    Http2Error,
    Interim,
    Pong,
    Reset,
    Room,
    Settings,
    SettingsChanged,
    Trailers,
)
from stages.http2.hpack_tables import BlockDecoder, BlockEncoder
from stages.messages import new

_DATA, _HEADERS, _PRIORITY, _RST, _SETTINGS, _PUSH, _PING, _GOAWAY, _WINDOW, _CONTINUATION = range(10)
_END_STREAM, _END_HEADERS, _PADDED, _PRIORITY_FLAG = 0x1, 0x4, 0x8, 0x20
_ACK: Final = 0x1

MAX_BLOCK: Final = 256 * 1024
"""Bytes of one header block over all its frames. guard.py stops a peer long before that."""

MAX_CONTINUATIONS: Final = 64

_CLOSED: Final = StreamState.CLOSED


class _Quiet:
    """h2 formats a log line for nearly everything it does."""

    def debug(self, *_: Any) -> None: ...

    def trace(self, *_: Any) -> None: ...


_QUIET: Final = _Quiet()


class Connection(H2Connection):
    """h2's connection, returning events of ours."""

    def __init__(self, is_client: bool, settings: Settings) -> None:
        super().__init__(
            H2Configuration(
                client_side=is_client,
                header_encoding=False,
                validate_inbound_headers=False,
                validate_outbound_headers=False,
                normalize_inbound_headers=False,
                normalize_outbound_headers=False,
                logger=_QUIET,  # type: ignore[arg-type]
            )
        )
        values = {
            SettingCodes.MAX_CONCURRENT_STREAMS: settings.max_streams,
            SettingCodes.MAX_HEADER_LIST_SIZE: settings.header_list,
            SettingCodes.INITIAL_WINDOW_SIZE: settings.window,
            SettingCodes.ENABLE_PUSH: 0,
        }
        if settings.enable_connect and not is_client:
            values[SettingCodes.ENABLE_CONNECT_PROTOCOL] = 1
        self.local_settings = H2Settings(client=is_client, initial_values=values)
        # h2 names its own methods here, and a connection that is over would wait for the garbage collector, which comes seldom.
        here = proxy(self)
        table = self._frame_dispatch_table
        self._frame_dispatch_table = {kind: MethodType(method.__func__, here) for kind, method in table.items()}  # type: ignore[attr-defined]
        self.is_client = is_client
        self.max_streams = 0 if is_client else settings.max_streams
        self.block_decoder = BlockDecoder(2 * settings.header_list)
        self.block_encoder = BlockEncoder()
        self.forced_resets = 0
        self.remote_max_streams = 100  # until the peer says otherwise (RFC 9113 section 5.1.2 suggests at least that)
        self.connect_enabled = False
        self.held: dict[int, int] = {}
        """Stream → flow-controlled bytes that the application has not acknowledged."""
        self.expected: dict[int, int] = {}
        """Stream → body bytes still to come by its Content-Length."""
        self.bodiless: set[int] = set()
        """Client: streams whose request was HEAD."""
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
            if kind == _HEADERS:
                self._take_headers(stream_id, flags, body, events)
            elif kind == _DATA:
                self._take_data(stream_id, flags, body, events)
            elif kind == _CONTINUATION:
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
            if kind != _SETTINGS or flags & _ACK:
                raise Http2Error(PROTOCOL_ERROR, "the first frame is not SETTINGS")
            self._is_settled = True
        elif kind != _CONTINUATION or stream_id != self._block_of:
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
                events.append(new(Interim, (INTERIM, stream_id, fields)))
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
                return
            events.append(new(Head, (HEAD, stream_id, fields, ended)))
        if ended:
            machine.process_input(StreamInputs.RECV_END_STREAM)
            if machine.state is _CLOSED:
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
            if machine.state is _CLOSED:
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

    def _take_control(self, kind: int, stream_id: int, flags: int, body: bytes, events: list[Event]) -> None:
        if kind not in FRAMES or kind > _CONTINUATION:
            return  # RFC 9113 section 5.5
        if kind == _WINDOW and body[:1] >= b"\x80":
            # Reserved, and to be ignored; hyperframe takes it for a part of the increment.
            body = bytes((body[0] & 0x7F,)) + body[1:]
        try:
            frame: Frame = FRAMES[kind](stream_id)
            frame.parse_flags(flags)
            frame.parse_body(memoryview(body))
        except InvalidPaddingError as error:
            raise ProtocolError(str(error)) from error
        except InvalidDataError as error:
            # hyperframe says "invalid data" of an acknowledgement with a payload too, which is a matter of size.
            is_size = kind == _SETTINGS and stream_id == 0 and flags & _ACK
            raise (FrameDataMissingError if is_size else ProtocolError)(str(error)) from error
        except HyperframeError as error:
            raise FrameDataMissingError(str(error)) from error
        if kind == _GOAWAY:
            # h2 would take the whole connection for closed; streams up to last_stream_id go on (RFC 9113 section 6.8).
            events.append(new(GoAway, (GOAWAY, frame.last_stream_id & LAST_STREAM, frame.error_code)))  # type: ignore[attr-defined]
            return
        if kind == _RST and stream_id > max(self.highest_inbound_stream_id, self.highest_outbound_stream_id):
            raise Http2Error(PROTOCOL_ERROR, "RST_STREAM on an idle stream")
        for event in self._receive_frame(frame):
            seen = event.__class__
            if seen is WindowUpdated:
                events.append(new(Room, (ROOM, event.stream_id)))  # type: ignore[attr-defined]
            elif seen is H2StreamReset:
                self.forget(stream_id)
                is_ours = not event.remote_reset  # type: ignore[attr-defined]
                self.forced_resets += is_ours
                events.append(new(Reset, (RESET, stream_id, int(event.error_code), is_ours)))  # type: ignore[attr-defined]
            elif seen is RemoteSettingsChanged:
                self._apply(frame)
                events.append(new(SettingsChanged, (SETTINGS,)))
                events.append(new(Room, (ROOM, 0)))
            elif seen is PingAckReceived:
                events.append(new(Pong, (PONG, event.ping_data)))  # type: ignore[attr-defined]

    def _apply(self, frame: Frame) -> None:
        assert isinstance(frame, SettingsFrame)
        settings = frame.settings
        if SettingCodes.HEADER_TABLE_SIZE in settings:
            self.block_encoder.resize(settings[SettingCodes.HEADER_TABLE_SIZE])
        self.remote_max_streams = settings.get(SettingCodes.MAX_CONCURRENT_STREAMS, self.remote_max_streams)
        if SettingCodes.ENABLE_CONNECT_PROTOCOL in settings:
            self.connect_enabled = settings[SettingCodes.ENABLE_CONNECT_PROTOCOL] == 1

    def take_upgrade(self, payload: bytes) -> None:
        """Settings from HTTP2-Settings, which are not acknowledged; then stream 1, half closed (RFC 7540 section 3.2)."""
        frame = SettingsFrame(0)
        try:
            frame.parse_body(memoryview(payload))
        except HyperframeError as error:
            raise ProtocolError(str(error)) from error
        self._receive_settings_frame(frame)
        self._apply(frame)
        self.state_machine.state = ConnectionState.SERVER_OPEN
        self._begin_new_stream(1, AllowedStreamIDs.ODD).upgrade(client_side=False)

    def _reset_by_force(self, stream_id: int, code: int, events: list[Event] | None = None) -> None:
        """events: None for a stream that the application has not heard of."""
        self._queue_reset(stream_id, code)
        stream = self.streams[stream_id]
        stream.state_machine.state = _CLOSED
        stream.state_machine.stream_closed_by = StreamClosedBy.SEND_RST_STREAM
        self.forget(stream_id)
        if events is not None:
            events.append(new(Reset, (RESET, stream_id, code, True)))

    def _queue_reset(self, stream_id: int, code: int) -> None:
        self.forced_resets += 1
        self._data_to_send += b"\0\0\x04\x03\0" + stream_id.to_bytes(4, "big") + code.to_bytes(4, "big")

    def forget(self, stream_id: int) -> None:
        """A stream is closed. What was not acknowledged of a reset one goes back to the connection's window."""
        stream = self.streams.pop(stream_id)
        closed_by = self._closed_streams[stream_id] = stream.closed_by
        self.expected.pop(stream_id, None)
        self.bodiless.discard(stream_id)
        if closed_by in (StreamClosedBy.SEND_RST_STREAM, StreamClosedBy.RECV_RST_STREAM):
            self.give_back(self.held.pop(stream_id, 0))

    def give_back(self, count: int) -> None:
        """Opens the connection's window by `count` bytes, in steps of half of it."""
        increment = self._inbound_flow_control_window_manager.process_bytes(count)
        if increment:
            self._data_to_send += b"\0\0\x04\x08\0\0\0\0\0" + increment.to_bytes(4, "big")


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
