"""The engine on libnghttp2, through ngh2: an option (`http2_engine = "ngh2"`), at about a tenth of the default's cost.

libnghttp2 checks messages itself (RFC 9113 section 8) and resets a stream that
breaks them, often before there was a Head.
"""

from __future__ import annotations

import contextlib
from typing import Any, Final

import ngh2

from pingap.stages.http1.rules import new
from pingap.stages.http2.engine import (
    ANY_SIZE,
    BODY,
    ENHANCE_YOUR_CALM,
    GOAWAY,
    HEAD,
    INTERIM,
    LARGEST_WINDOW,
    LAST_STREAM,
    NO_ERROR,
    PONG,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    RESET,
    ROOM,
    SETTINGS,
    TRAILERS,
    UNREAD,
    Body,
    Event,
    Fields,
    GoAway,
    Head,
    Http2Error,
    InterimHead,
    LocalSettings,
    Pong,
    Reset,
    Room,
    SettingsChanged,
    Trailers,
    Unread,
)

_UNLIMITED: Final = (2**62, 2**62)
"""Floods are counted in guard.py, the same for every engine."""

_UNCOUNTED: Final = 2**31 - 1
"""Streams that libnghttp2 lets clients have: it ends the connection of one that opens a stream too many, where RFC 9113 section
5.1.2 has a stream error, and others lose their answers. So it is told this, clients are told ours, and we refuse the stream."""

_MAX_STREAMS, _INITIAL_WINDOW, _HEADER_LIST, _ENABLE_PUSH, _ENABLE_CONNECT = 3, 4, 6, 2, 8


class Ngh2Engine:
    __slots__ = (
        "_connection",
        "_held",
        "_is_broken",
        "_is_client",
        "_last",
        "_last_kept",
        "_open",
        "_out",
        "_settings",
        "_their_error",
        "_told",
        "connect_enabled",
        "forced_resets",
        "remote_header_list",
        "remote_max_streams",
    )

    def __init__(self, is_client: bool, settings: LocalSettings) -> None:
        self._is_client = is_client
        self._settings = settings
        self._connection = ngh2.Connection(
            ngh2.Role.CLIENT if is_client else ngh2.Role.SERVER,
            ngh2.Configuration(
                auto_window_update=False,
                stream_reset_rate_limit=_UNLIMITED,
                glitch_rate_limit=_UNLIMITED,
                max_continuations=64,
                max_inbound_header_list_size=2 * settings.header_list,
                max_send_header_block_length=1024 * 1024,
            ),
        )
        self.remote_max_streams = 100
        self.remote_header_list = ANY_SIZE
        self.connect_enabled = False
        self.forced_resets = 0
        self._held: dict[int, int] = {}
        self._open: set[int] = set()
        """Streams that the application knows and that are not closed."""
        self._told: set[int] = set()
        """Streams of whose reset the application knows, and libnghttp2 has not said yet that they are closed."""
        self._out = b""
        self._last = 0
        """The newest stream that became a Head."""
        self._last_kept = LAST_STREAM
        """Of a GOAWAY that came: libnghttp2 closes the streams above it, which that event has told already."""
        self._their_error = NO_ERROR
        """The code of that GOAWAY: libnghttp2 repeats it when the last stream has ended, and nothing is broken then."""
        self._is_broken = False

    def _values(self) -> dict[int, int]:
        settings = self._settings
        values = {_INITIAL_WINDOW: settings.window, _HEADER_LIST: settings.header_list, _MAX_STREAMS: settings.max_streams}
        if self._is_client:
            values[_ENABLE_PUSH] = 0
            return values
        values[_MAX_STREAMS] = _UNCOUNTED
        if settings.enable_connect:
            values[_ENABLE_CONNECT] = 1
        return values

    def _tell_max_streams(self) -> None:
        """Puts our figure in the SETTINGS that libnghttp2 has made."""
        if not self._is_client:
            said, ours = (b"\0\x03" + count.to_bytes(4, "big") for count in (_UNCOUNTED, self._settings.max_streams))
            self._out += self._connection.data_to_send().replace(said, ours, 1)

    def start(self) -> None:
        self._connection.initiate_connection(self._values())
        self._tell_max_streams()
        self._connection.set_local_window_size(self._settings.connection_window)

    def upgrade(self, settings: bytes, is_head: bool) -> None:
        try:
            self._connection.initiate_upgrade(settings, local_settings=self._values(), head_request=is_head)
        except (ngh2.NGH2Error, ValueError) as error:
            raise Http2Error(PROTOCOL_ERROR, str(error)) from error
        self._connection.set_local_window_size(self._settings.connection_window)
        self._learn_settings()
        self._tell_max_streams()  # last: writing ends the connection, if the settings that came are wrong
        self._open.add(1)

    def receive(self, data: bytes) -> list[Event]:
        connection = self._connection
        events: list[Event] = []
        try:
            connection.receive_data(data)
        except ngh2.NGH2Error as error:
            # Without a GOAWAY of libnghttp2's, and nothing can be had from it any more.
            code = ENHANCE_YOUR_CALM if isinstance(error, ngh2.DenialOfServiceError) else PROTOCOL_ERROR
            self._is_broken = True
            self._out += b"\0\0\x08\x07\0\0\0\0\0" + self._last.to_bytes(4, "big") + code.to_bytes(4, "big")
            raise Http2Error(code, str(error)) from error
        self._translate(events)
        if connection.want_write:
            # What libnghttp2 ends by itself it tells when the frame leaves.
            self._out += connection.data_to_send()
            self._translate(events)
        return events

    def _translate(self, events: list[Event]) -> None:
        event: Any
        for event in self._connection.events():
            seen = type(event)
            if seen is ngh2.RequestReceived or seen is ngh2.ResponseReceived:
                stream_id = event.stream_id
                if len(self._open) >= self._settings.max_streams and not self._is_client:
                    self.forced_resets += 1
                    self._told.add(stream_id)
                    self._connection.reset_stream(stream_id, REFUSED_STREAM)
                    continue
                self._open.add(stream_id)
                self._last = stream_id
                events.append(new(Head, (HEAD, stream_id, event.headers, event.end_stream)))
            elif seen is ngh2.DataReceived:
                stream_id, data = event.stream_id, event.data
                size = len(data)
                if size:
                    self._held[stream_id] = self._held.get(stream_id, 0) + size
                events.append(new(Body, (BODY, stream_id, data, size, event.end_stream)))
            elif seen is ngh2.StreamClosed:
                self._closed(event.stream_id, event.error_code, events)
            elif seen is ngh2.WindowUpdated:
                events.append(new(Room, (ROOM, event.stream_id)))
            elif seen is ngh2.TrailersReceived:
                events.append(new(Trailers, (TRAILERS, event.stream_id, event.headers)))
            elif seen is ngh2.StreamReset:
                if event.stream_id in self._open:
                    self._gone(event.stream_id)
                    self._told.add(event.stream_id)
                    events.append(new(Reset, (RESET, event.stream_id, event.error_code, False)))
            elif seen is ngh2.InformationalResponseReceived:
                events.append(new(InterimHead, (INTERIM, event.stream_id, event.headers)))
            elif seen is ngh2.SettingsReceived:
                self._learn_settings()
                events.append(new(SettingsChanged, (SETTINGS,)))
                events.append(new(Room, (ROOM, 0)))
            elif seen is ngh2.GoAwayReceived:
                self._last_kept, self._their_error = event.last_stream_id, event.error_code
                events.append(new(GoAway, (GOAWAY, event.last_stream_id, event.error_code, event.debug_data)))
            elif seen is ngh2.PingAcknowledged:
                events.append(new(Pong, (PONG, event.opaque_data)))
            elif seen is ngh2.ConnectionClosed and event.error_code not in (NO_ERROR, self._their_error):
                raise Http2Error(event.error_code, event.debug_data.decode("latin-1") or "connection error")

    def _closed(self, stream_id: int, code: int, events: list[Event]) -> None:
        """A stream is closed, in whatever way. By us if the application has not been told and the code is an error's."""
        if stream_id in self._told:
            self._told.discard(stream_id)
        elif code == NO_ERROR:
            self._open.discard(stream_id)
        elif stream_id in self._open:
            self._gone(stream_id)
            if self._is_client and code == REFUSED_STREAM:
                # It was not written yet when a GOAWAY came, so libnghttp2 has not sent it at all: the backend knows nothing of it.
                if stream_id <= self._last_kept:
                    events.append(new(Reset, (RESET, stream_id, code, False)))
                return
            self.forced_resets += 1
            events.append(new(Reset, (RESET, stream_id, code, True)))
        elif code == PROTOCOL_ERROR and not self._is_client:
            self.forced_resets += 1
            events.append(new(Unread, (UNREAD, stream_id)))

    def _gone(self, stream_id: int) -> None:
        self._open.discard(stream_id)
        held = self._held.pop(stream_id, 0)
        if held:
            self._give_back(held, stream_id)

    def _give_back(self, count: int, stream_id: int) -> None:
        try:
            self._connection.acknowledge_received_data(count, stream_id)
        except ngh2.ConnectionStateError:
            return  # the last stream after a GOAWAY: nothing more will come

    def _learn_settings(self) -> None:
        values = self._connection.remote_settings
        self.remote_max_streams = values[_MAX_STREAMS]
        self.remote_header_list = values[_HEADER_LIST]
        self.connect_enabled = values[_ENABLE_CONNECT] == 1

    def outgoing(self) -> bytes:
        data = b"" if self._is_broken else self._connection.data_to_send()
        if self._out:
            data, self._out = self._out + data, b""
        return data

    def request(self, fields: Fields, ended: bool) -> int:
        try:
            stream_id = self._connection.send_request(fields, end_stream=ended)
        except ngh2.NGH2Error as error:
            raise Http2Error(NO_ERROR, str(error)) from error
        self._open.add(stream_id)
        return stream_id

    def send_head(self, stream_id: int, fields: Fields, ended: bool) -> None:
        if stream_id not in self._open:
            return
        if fields[0][1][:1] == b"1":
            self._connection.send_informational_response(stream_id, fields)
        else:
            self._connection.send_response(stream_id, fields, end_stream=ended)

    def send_data(self, stream_id: int, data: bytes, ended: bool) -> None:
        if stream_id not in self._open:
            return
        self._connection.send_data(stream_id, data, end_stream=ended)

    def send_trailers(self, stream_id: int, fields: Fields) -> None:
        if stream_id in self._open:
            self._connection.send_trailers(stream_id, fields)

    def room(self, stream_id: int) -> int:
        if stream_id not in self._open:
            return 0
        connection = self._connection
        try:
            own = connection.stream_remote_window_size(stream_id) - connection.queued_body_size(stream_id)
        except ngh2.NGH2Error:
            # A request that is still queued has no stream yet.
            own = connection.remote_settings[_INITIAL_WINDOW] - connection.queued_body_size(stream_id)
        return max(0, min(own, connection.remote_window_size - connection.queued_body_size()))

    @property
    def connection_room(self) -> int:
        return max(0, self._connection.remote_window_size - self._connection.queued_body_size())

    def reset(self, stream_id: int, code: int) -> None:
        if stream_id in self._open:
            self._gone(stream_id)
            self._told.add(stream_id)
            # libnghttp2 drops what it has not written of a stream that is reset: the head of an answer that breaks off, say.
            self._out += self._connection.data_to_send()
            self._connection.reset_stream(stream_id, code)

    def acknowledge(self, stream_id: int, count: int) -> None:
        held = self._held.get(stream_id, 0)
        count = min(count, held)
        if not count:
            return
        if count == held:
            del self._held[stream_id]
        else:
            self._held[stream_id] = held - count
        self._give_back(count, stream_id)

    def let_in(self, stream_id: int, count: int) -> None:
        connection = self._connection
        if stream_id in self._open:
            if connection.stream_local_window_size(stream_id) < count:
                # What is set is the whole window, of which a client may have used up all that it had; what was acknowledged of
                # that comes back by itself only when it is half of the whole.
                wider = self._settings.window + count
                connection.set_local_window_size(min(wider, LARGEST_WINDOW), stream_id=stream_id)
            # Of that of the connection as much as a half may be used up: libnghttp2 opens it anew only then.
            wider = min(2 * (count + sum(self._held.values())), LARGEST_WINDOW)
            if connection.local_window_size < wider:
                connection.set_local_window_size(wider)

    def goaway(self, code: int, last_stream_id: int = -1) -> None:
        with contextlib.suppress(ngh2.ConnectionStateError):  # both have said it and no stream is left: it is over
            if last_stream_id == LAST_STREAM and code == NO_ERROR:
                self._connection.send_shutdown_notice()
            else:
                self._connection.send_goaway(code, last_stream_id=None if last_stream_id < 0 else last_stream_id)

    def ping(self, payload: bytes) -> None:
        self._connection.ping(payload)
