"""The engine on python-hyper h2: the sending half, and the interface around h2_receiver.py."""

from __future__ import annotations

from typing import Final

from h2.connection import AllowedStreamIDs, ConnectionState
from h2.exceptions import ProtocolError
from h2.stream import StreamClosedBy, StreamInputs, StreamState
from h2.utilities import SizeLimitDict

from pingap.stages.http2.engine import (
    INTERNAL_ERROR,
    LAST_STREAM,
    NO_ERROR,
    Event,
    Fields,
    Http2Error,
    LocalSettings,
)
from pingap.stages.http2.h2_receiver import Receiver

_REMEMBERED_ENDS: Final = 1024
"""Streams of which a connection knows how they ended; frames for older ones break the connection."""


class H2Engine:
    __slots__ = ("_connection", "_settings", "_streams")

    def __init__(self, is_client: bool, settings: LocalSettings) -> None:
        self._connection = Receiver(is_client, settings)
        self._connection._closed_streams = SizeLimitDict(size_limit=_REMEMBERED_ENDS)
        self._settings = settings
        self._streams = self._connection.streams

    @property
    def remote_max_streams(self) -> int:
        return self._connection.remote_max_streams

    @property
    def remote_header_list(self) -> int:
        return self._connection.remote_header_list

    @property
    def connect_enabled(self) -> bool:
        return self._connection.connect_enabled

    @property
    def forced_resets(self) -> int:
        return self._connection.forced_resets

    def start(self) -> None:
        connection = self._connection
        connection.initiate_connection()
        more = self._settings.connection_window - 65535
        if more > 0:
            connection.increment_flow_control_window(more)
        connection.state_machine.state = ConnectionState.CLIENT_OPEN if connection.is_client else ConnectionState.SERVER_OPEN

    def upgrade(self, settings: bytes, is_head: bool) -> None:
        self.start()
        queued = len(self._connection._data_to_send)
        try:
            self._connection.take_upgrade(settings)
        except ProtocolError as error:
            raise self._broken(int(error.error_code), str(error)) from error
        del self._connection._data_to_send[queued:]

    def receive(self, data: bytes) -> list[Event]:
        try:
            return self._connection.receive(data)
        except Http2Error as error:
            raise self._broken(error.code, error.detail) from error
        except ProtocolError as error:
            raise self._broken(int(error.error_code), str(error)) from error

    def _broken(self, code: int, detail: str) -> Http2Error:
        self.goaway(code)
        return Http2Error(code, detail)

    def outgoing(self) -> bytes:
        connection = self._connection
        data = bytes(connection._data_to_send)
        connection._data_to_send = bytearray()
        return data

    def request(self, fields: Fields, ended: bool) -> int:
        connection = self._connection
        stream_id = connection.highest_outbound_stream_id + 2 if connection.highest_outbound_stream_id else 1
        if stream_id > LAST_STREAM:
            raise Http2Error(NO_ERROR, "no stream ids left")
        stream = connection._begin_new_stream(stream_id, AllowedStreamIDs.ODD)
        if fields[0][1] == b"HEAD":
            connection.bodiless.add(stream_id)
        stream.state_machine.process_input(StreamInputs.SEND_HEADERS)
        self._write_head(stream_id, fields, ended)
        if ended:
            stream.state_machine.process_input(StreamInputs.SEND_END_STREAM)
        return stream_id

    def send_head(self, stream_id: int, fields: Fields, ended: bool) -> None:
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        machine = stream.state_machine
        is_interim = fields[0][1][:1] == b"1"
        machine.process_input(StreamInputs.SEND_INFORMATIONAL_HEADERS if is_interim else StreamInputs.SEND_HEADERS)
        self._write_head(stream_id, fields, ended)
        if ended:
            self._end(stream_id)

    def send_trailers(self, stream_id: int, fields: Fields) -> None:
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        stream.state_machine.process_input(StreamInputs.SEND_HEADERS)
        self._write_head(stream_id, fields, True)
        self._end(stream_id)

    def send_data(self, stream_id: int, data: bytes, ended: bool) -> None:
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        connection = self._connection
        size = len(data)
        if size > min(stream.outbound_flow_control_window, connection.outbound_flow_control_window) and size:
            raise Http2Error(INTERNAL_ERROR, "more data than there is room for")
        out, frame = connection._data_to_send, connection.max_outbound_frame_size
        tail = stream_id.to_bytes(4, "big")
        if size <= frame:
            out += size.to_bytes(3, "big") + (b"\0\x01" if ended else b"\0\0") + tail
            out += data
        else:
            for at in range(0, size, frame):
                piece = data[at : at + frame]
                out += len(piece).to_bytes(3, "big") + (b"\0\x01" if ended and at + frame >= size else b"\0\0") + tail
                out += piece
        stream.outbound_flow_control_window -= size
        connection.outbound_flow_control_window -= size
        if ended:
            self._end(stream_id)

    def room(self, stream_id: int) -> int:
        stream = self._streams.get(stream_id)
        if stream is None:
            return 0
        return max(0, min(stream.outbound_flow_control_window, self._connection.outbound_flow_control_window))

    @property
    def connection_room(self) -> int:
        return max(0, self._connection.outbound_flow_control_window)

    def reset(self, stream_id: int, code: int) -> None:
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        machine = stream.state_machine
        machine.state = StreamState.CLOSED
        machine.stream_closed_by = StreamClosedBy.SEND_RST_STREAM
        self._connection._data_to_send += b"\0\0\x04\x03\0" + stream_id.to_bytes(4, "big") + code.to_bytes(4, "big")
        self._connection.forget(stream_id)

    def acknowledge(self, stream_id: int, count: int) -> None:
        connection = self._connection
        held = connection.held.get(stream_id, 0)
        count = min(count, held)
        if not count:
            return
        if count == held:
            del connection.held[stream_id]
        else:
            connection.held[stream_id] = held - count
        connection.give_back(count)
        stream = self._streams.get(stream_id)
        if stream is not None and stream.state_machine.state in (StreamState.OPEN, StreamState.HALF_CLOSED_LOCAL):
            increment = stream._inbound_window_manager.process_bytes(count)
            if increment:
                connection._data_to_send += b"\0\0\x04\x08\0" + stream_id.to_bytes(4, "big") + increment.to_bytes(4, "big")

    def let_in(self, stream_id: int, count: int) -> None:
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        connection = self._connection
        windows = (stream._inbound_window_manager, stream_id), (connection._inbound_flow_control_window_manager, 0)
        for window, at in windows:
            more = count - window.current_window_size
            if more > 0:
                window.window_opened(more)
                connection._data_to_send += b"\0\0\x04\x08\0" + at.to_bytes(4, "big") + more.to_bytes(4, "big")

    def goaway(self, code: int, last_stream_id: int = -1) -> None:
        connection = self._connection
        if last_stream_id < 0:
            last_stream_id = connection.highest_inbound_stream_id
        connection._data_to_send += b"\0\0\x08\x07\0\0\0\0\0" + last_stream_id.to_bytes(4, "big") + code.to_bytes(4, "big")

    def ping(self, payload: bytes) -> None:
        self._connection.ping(payload)

    def _end(self, stream_id: int) -> None:
        machine = self._streams[stream_id].state_machine
        machine.process_input(StreamInputs.SEND_END_STREAM)
        if machine.state is StreamState.CLOSED:
            self._connection.forget(stream_id)

    def _write_head(self, stream_id: int, fields: Fields, ended: bool) -> None:
        connection = self._connection
        block = connection.block_encoder.encode(fields)
        out, frame = connection._data_to_send, connection.max_outbound_frame_size
        tail = stream_id.to_bytes(4, "big")
        if len(block) <= frame:
            out += len(block).to_bytes(3, "big") + (b"\x01\x05" if ended else b"\x01\x04") + tail
            out += block
            return
        for at in range(0, len(block), frame):
            piece = block[at : at + frame]
            kind = b"\x09" if at else b"\x01"
            flags = (4 if at + frame >= len(block) else 0) | (1 if ended and not at else 0)
            out += len(piece).to_bytes(3, "big") + kind + bytes((flags,)) + tail
            out += piece
