"""What accept and upstream see of an HTTP/2 connection, whichever engine runs it."""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

NO_ERROR: Final = 0
PROTOCOL_ERROR: Final = 1
INTERNAL_ERROR: Final = 2
FLOW_CONTROL_ERROR: Final = 3
STREAM_CLOSED: Final = 5
FRAME_SIZE_ERROR: Final = 6
REFUSED_STREAM: Final = 7
CANCEL: Final = 8
COMPRESSION_ERROR: Final = 9
CONNECT_ERROR: Final = 10
ENHANCE_YOUR_CALM: Final = 11
INADEQUATE_SECURITY: Final = 12
HTTP_1_1_REQUIRED: Final = 13
"""Error codes, RFC 9113 section 7."""

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
LARGEST_WINDOW: Final = 2**31 - 1
LAST_STREAM: Final = 2**31 - 1
ANY_SIZE: Final = 2**32 - 1
"""SETTINGS_MAX_HEADER_LIST_SIZE of a peer that has not named one."""
FRAME: Final = 16384
"""Bytes of payload of the largest frame that we take: SETTINGS_MAX_FRAME_SIZE is left at its default."""

Fields = tuple[tuple[bytes, bytes], ...]
"""A field list as it was on the wire, pseudo fields first."""


class Http2Error(Exception):
    """The connection is broken; `code` is that of the GOAWAY."""

    def __init__(self, code: int, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class LocalSettings(NamedTuple):
    """What we tell the peer of ourselves, and the caps behind it."""

    max_streams: int = 128
    """Streams that the peer may have open. More are refused with REFUSED_STREAM."""
    window: int = 256 * 1024
    """Bytes that may come on one stream before `acknowledge`."""
    connection_window: int = 16 * 1024 * 1024
    """The same over all streams, so that slow streams leave room for the others."""
    header_list: int = 64 * 1024
    """Bytes of one field list (RFC 9113 section 6.5.2) that we announce. Twice that breaks the connection."""
    enable_connect: bool = False
    """Server: extended CONNECT (RFC 8441) is welcome."""


HEAD, INTERIM, BODY, TRAILERS, RESET, ROOM, GOAWAY, SETTINGS, PONG, UNREAD = range(10)


class Head(NamedTuple):
    """A request, or a final response, has begun."""

    kind: int
    stream_id: int
    fields: Fields
    ended: bool


class InterimHead(NamedTuple):
    """A 1xx answer."""

    kind: int
    stream_id: int
    fields: Fields


class Body(NamedTuple):
    kind: int
    stream_id: int
    data: bytes
    flow_length: int
    """Bytes to give to `acknowledge` once `data` is dealt with (padding counts)."""
    ended: bool


class Trailers(NamedTuple):
    """Trailer fields, and with them the end of the stream."""

    kind: int
    stream_id: int
    fields: Fields


class Reset(NamedTuple):
    """The stream is gone. Nothing needs to be acknowledged any more, nothing can be sent."""

    kind: int
    stream_id: int
    code: int
    is_ours: bool
    """The engine sent RST_STREAM because of what the peer did; else the peer sent it."""


class Unread(NamedTuple):
    """A request that the engine has reset because it was malformed, without telling of its Head."""

    kind: int
    stream_id: int


class Room(NamedTuple):
    """A window has opened: of one stream, or with stream_id 0 perhaps of all (also after a change of settings)."""

    kind: int
    stream_id: int


class GoAway(NamedTuple):
    """The peer takes no new streams; those above `last_stream_id` it has not touched and never will."""

    kind: int
    last_stream_id: int
    code: int
    debug: bytes = b""
    """What the peer says of it besides (RFC 9113 section 6.8)."""


class SettingsChanged(NamedTuple):
    """The peer's settings: look at `remote_max_streams`, `remote_header_list` and `connect_enabled` again."""

    kind: int


class Pong(NamedTuple):
    kind: int
    payload: bytes


Event = Head | InterimHead | Body | Trailers | Reset | Unread | Room | GoAway | SettingsChanged | Pong


class Http2Engine(Protocol):
    """One connection. What is sent on a stream that is gone is dropped: its Reset is on the way, or was an event already."""

    @property
    def remote_max_streams(self) -> int:
        """Streams that the peer lets us open."""

    @property
    def remote_header_list(self) -> int:
        """Bytes of the largest field list that the peer wants to get (RFC 9113 section 6.5.2)."""

    @property
    def connect_enabled(self) -> bool:
        """The peer has said that it takes extended CONNECT (RFC 8441 section 3)."""

    @property
    def forced_resets(self) -> int:
        """RST_STREAM frames sent because of the peer's errors (CVE-2025-8671)."""

    def start(self) -> None:
        """Queues the preface (client) and SETTINGS."""

    def upgrade(self, settings: bytes, is_head: bool) -> None:
        """Server, instead of `start`: the connection was HTTP/1.1, stream 1 is half closed (remote).

        settings: payload of HTTP2-Settings, decoded. is_head: the request is HEAD. Raises Http2Error for bad settings.
        """

    def receive(self, data: bytes) -> list[Event]:
        """What `data` means. Raises Http2Error, its GOAWAY queued, when the connection cannot go on; close it then."""

    def outgoing(self) -> bytes:
        """Bytes for the socket: all that was queued since the last call."""

    def request(self, fields: Fields, ended: bool) -> int:
        """Client: opens a stream. Raises Http2Error when stream ids are used up. Ask for fewer than `remote_max_streams`."""

    def send_head(self, stream_id: int, fields: Fields, ended: bool) -> None:
        """Server: a final answer, or an interim one (never `ended`)."""

    def send_data(self, stream_id: int, data: bytes, ended: bool) -> None:
        """At most `room(stream_id)` bytes; split into frames here."""

    def send_trailers(self, stream_id: int, fields: Fields) -> None: ...

    def room(self, stream_id: int) -> int:
        """Bytes that may be sent on the stream now: the smaller of its window and the connection's; 0 if it is gone."""

    @property
    def connection_room(self) -> int:
        """Bytes that may be sent now over all streams, whatever their own windows say."""

    def reset(self, stream_id: int, code: int) -> None:
        """RST_STREAM. No event follows. Body bytes not yet acknowledged go back to the connection's window by themselves."""

    def acknowledge(self, stream_id: int, count: int) -> None:
        """So many bytes of Body.flow_length are dealt with: the peer may send as many more."""

    def let_in(self, stream_id: int, count: int) -> None:
        """The peer may send `count` bytes of Body more on the stream, whatever is acknowledged. Goes out before what is sent next."""

    def goaway(self, code: int, last_stream_id: int = -1) -> None:
        """GOAWAY; streams that are open go on. last_stream_id: -1 for the last one that came, LAST_STREAM to announce."""

    def ping(self, payload: bytes) -> None:
        """payload: 8 bytes, which come back in Pong."""
