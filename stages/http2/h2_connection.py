"""h2's connection as a proxy needs it: what is wrong with one stream resets that stream, and rare frames become events of ours.

h2 treats as broken connections what a proxy must treat as one broken stream: too many
streams, a body unlike its Content-Length, GOAWAY with answers still to come. Streams,
settings, windows and rare frames are left to h2; HEADERS, DATA and CONTINUATION are
not (h2_receiver.py). Both files lean on h2's private methods: tests/http2 run the
same scripts through ngh2, and an h2 that changes them fails there.
"""

from __future__ import annotations

from types import MethodType
from typing import Any, Final
from weakref import proxy

from h2.config import H2Configuration
from h2.connection import AllowedStreamIDs, ConnectionState, H2Connection
from h2.events import PingAckReceived, RemoteSettingsChanged, WindowUpdated
from h2.events import StreamReset as H2StreamReset
from h2.exceptions import FrameDataMissingError, ProtocolError
from h2.settings import SettingCodes
from h2.settings import Settings as H2Settings
from h2.stream import StreamClosedBy, StreamState
from hyperframe.exceptions import HyperframeError, InvalidDataError, InvalidPaddingError
from hyperframe.frame import FRAMES, Frame, SettingsFrame

from pingap.stages.http1.rules import new
from pingap.stages.http2.engine import (
    ANY_SIZE,
    GOAWAY,
    LAST_STREAM,
    PONG,
    PROTOCOL_ERROR,
    RESET,
    ROOM,
    SETTINGS,
    Event,
    GoAway,
    Http2Error,
    LocalSettings,
    Pong,
    Reset,
    Room,
    SettingsChanged,
)
from pingap.stages.http2.hpack_tables import BlockDecoder, BlockEncoder

DATA_FRAME, HEADERS_FRAME, _PRIORITY, _RST, SETTINGS_FRAME, _PUSH, _PING, _GOAWAY, _WINDOW, CONTINUATION_FRAME = range(10)
ACK: Final = 0x1

CLOSED: Final = StreamState.CLOSED


class _Quiet:
    """h2 formats a log line for nearly everything it does."""

    def debug(self, *_: Any) -> None: ...

    def trace(self, *_: Any) -> None: ...


_QUIET: Final = _Quiet()


class H2State(H2Connection):
    """Streams, settings and windows."""

    def __init__(self, is_client: bool, settings: LocalSettings) -> None:
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
        self.remote_header_list = ANY_SIZE
        self.connect_enabled = False
        self.held: dict[int, int] = {}
        """Stream → flow-controlled bytes that the application has not acknowledged."""
        self.expected: dict[int, int] = {}
        """Stream → body bytes still to come by its Content-Length."""
        self.bodiless: set[int] = set()
        """Client: streams whose request was HEAD."""

    def _take_control(self, kind: int, stream_id: int, flags: int, body: bytes, events: list[Event]) -> None:
        """A frame of any other kind than HEADERS, DATA and CONTINUATION."""
        if kind not in FRAMES or kind > CONTINUATION_FRAME:
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
            is_size = kind == SETTINGS_FRAME and stream_id == 0 and flags & ACK
            raise (FrameDataMissingError if is_size else ProtocolError)(str(error)) from error
        except HyperframeError as error:
            raise FrameDataMissingError(str(error)) from error
        if kind == _GOAWAY:
            # h2 would take the whole connection for closed; streams up to last_stream_id go on (RFC 9113 section 6.8).
            last, code, debug = frame.last_stream_id & LAST_STREAM, frame.error_code, bytes(frame.additional_data)  # type: ignore[attr-defined]
            events.append(new(GoAway, (GOAWAY, last, code, debug)))
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
        self.remote_header_list = settings.get(SettingCodes.MAX_HEADER_LIST_SIZE, self.remote_header_list)
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
        stream.state_machine.state = CLOSED
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
