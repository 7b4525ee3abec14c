"""Every message between stages: the fields of bus/PROTOCOL.md section 8.

An envelope is a named tuple whose first field is its kind. In one process it is
handed over as it is; between processes MessagePack carries it as an array and
the receiver's table (`DECODE`) names its fields again. Order is part of the
protocol: append, never insert.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple

REQUEST: Final = 64
ROUTED: Final = 65
RESPONSE: Final = 66
DATA: Final = 67
CREDIT: Final = 68
CANCEL: Final = 69
CLAIM: Final = 70
DONE: Final = 71
CLAIMED: Final = 72
RECALL: Final = 73
RECALLED: Final = 74
INTERIM: Final = 75
STRANDED: Final = 76
CLOSING: Final = 77
GOES_ON: Final = 78
SCRAPE: Final = 80
SCRAPED: Final = 81
ACCEPTED: Final = 40
REFUSED: Final = 41
IN_USE: Final = 42

WINDOW: Final = 1024 * 1024
"""Body bytes that a response may send before the first CREDIT."""

STREAM_WINDOW: Final = WINDOW // 4
"""The same for a request that came over HTTP/2: one connection has many of them, and may leave all unread."""

INLINE: Final = 64 * 1024
"""A body that is complete and at most this long travels inside its head's envelope."""

UNKNOWN: Final = -1
"""A body length that only its end will tell (chunked, or until the connection closes)."""

EMPTY: Final = -2
"""Between an exchange and its channel: the length of a body of no bytes that its client had announced, where 0 is none."""


class Affinity(NamedTuple):
    """The one replica of each stage that a stream may visit (actor ids)."""

    routing: int
    plugins: int
    """0 while no replica is ready: only requests that need one wait for it (STRANDED)."""
    upstream: int


class Peer(NamedTuple):
    """The client's connection, the same for all its streams."""

    ip: str
    port: int
    local_ip: str
    local_port: int
    scheme: str
    connection: int
    """Number of the connection within its accept replica."""


class Request(NamedTuple):
    """accept → routing: one parsed request head, and its body when that is complete and small."""

    kind: int
    sid: int
    generation: int
    affinity: Affinity
    server: str
    peer: Peer
    method: bytes
    target: bytes
    """Origin form, as sent: path and query, or `*`."""
    version: int
    """10, 11 or 20."""
    host: bytes
    """The authority that the client named, lower case, with its port if it gave one; b"" in HTTP/1.0 without Host."""
    headers: bytes
    """Header block in normal form: `name: value\\r\\n` lines, names lower case, hop-by-hop lines gone, Host kept."""
    length: int
    """Bytes of the body; 0 for none, UNKNOWN for chunked."""
    body: bytes
    """The whole body if `ended`, else b""."""
    ended: bool
    started: float
    """Monotonic seconds at the first byte of the head."""
    upgrade: bytes
    """Protocol that the client asks to switch to (`websocket`), lower case, b"" for none. The switch comes after the body."""
    is_framed: bool = False
    """The client announced a body, perhaps of no bytes: then its backend is told of it too."""
    spelled: tuple[bytes, ...] = ()
    """Header names as the client wrote them, when a backend may get them so (`preserve_header_case`), at most one of each name."""


class Routed(NamedTuple):
    """routing → plugins → upstream: a request with its itinerary."""

    kind: int
    sid: int
    generation: int
    affinity: Affinity
    server: str
    peer: Peer
    method: bytes
    target: bytes
    """After the rewrite; with `normalize_path = "forward"` in normal form."""
    version: int
    host: bytes
    headers: bytes
    """As the client sent them and plugins left them: upstream applies the location's rules when they leave for a backend."""
    length: int
    body: bytes
    ended: bool
    started: float
    upgrade: bytes
    client_ip: str
    """The client as trusted_proxies let us believe it."""
    location: str
    upstream: str
    plan: int
    """The itinerary: flags of stages/itinerary.py."""
    variables: dict[str, str]
    """Captures of host and path, and context set by plugins."""
    stamps: tuple[float, ...]
    """Monotonic seconds: request reached routing, left routing, reached plugins, left plugins (as far as it got)."""
    original: bytes
    """The target as the client sent it; b"" where that is `target`."""
    watchers: tuple[int, ...]
    """Actors that want DONE when the stream ends; copied into the Response."""
    is_framed: bool = False
    """As in Request."""
    spelled: tuple[bytes, ...] = ()
    """As in Request."""


class Report(NamedTuple):
    """What accept needs to know of the stream's way, for the access log, metrics and `pingap tap`."""

    location: str
    upstream: str
    addr: str
    """Backend that answered, `host:port`; "" when none did."""
    upstream_status: int
    reused: bool
    """The backend connection was a kept-alive one."""
    tries: int
    """Backends asked; 0 when none was."""
    stamps: tuple[float, ...]
    """As in Routed, then: reached upstream, connection ready, request sent, response head received. 0.0 = not visited."""
    connect: tuple[float, ...]
    """Seconds: tcp connect, tls handshake of the backend connection if it was opened for this stream; else ()."""
    error: str
    """Why the answer is ours (errors.py kinds); "" for a proxied answer."""
    context: dict[str, Any]
    """Context keys set by plugins (compression_ratio, cache_status, …) and by rules."""
    client_ip: str
    opened: float = 0.0
    """Monotonic seconds at which the backend connection was opened; 0.0 = none, or not said."""
    connections: int = 0
    """Connections that this upstream process has open to that upstream; 0 = not said."""
    reason: str = ""
    """What `error` comes of, in words."""


class Response(NamedTuple):
    """upstream, plugins or routing → accept (or upstream → plugins): a response head."""

    kind: int
    sid: int
    source: int
    """Actor that sends this and the DATA that follows; credit goes there."""
    status: int
    """200 to 999; or 101 from upstream to accept, past plugins: then what follows in both directions is a tunnel."""
    headers: bytes
    """Normal form, no hop-by-hop lines, no Content-Length."""
    length: int
    """Bytes of the body, or UNKNOWN. For HEAD and 304: what Content-Length would say, or UNKNOWN for no such line."""
    body: bytes
    """Its first bytes; all of it if `ended`."""
    ended: bool
    report: Report | None
    watchers: tuple[int, ...]
    """Actors that want DONE when the stream ends."""
    reason: bytes = b""
    """The backend's phrase for that status, if it is not the usual one: for a client of HTTP/1.x. Visible text, bounded."""
    spelled: tuple[bytes, ...] = ()
    """Header names as the backend wrote them, when the client gets them so (`preserve_header_case`), at most one of each name."""


class Data(NamedTuple):
    """Body bytes, in either direction."""

    kind: int
    sid: int
    payload: bytes
    ended: bool
    error: str
    """Not "": the sender failed and no more will come; the receiver must not let the body look complete. But with a payload that
    is the end of the body all the same, and says itself that it was cut off (gRPC-Web)."""
    is_upload: bool = False
    """Bytes of a request body: plugins may be on the way of both bodies of one stream."""
    context: dict[str, Any] | None = None
    """With the end of a response body: context keys that became known only now, for `Report.context`."""
    trailers: bytes = b""
    """With the end of a body: its trailer lines in normal form, those allowed there only (`stages/http1/rules.py`)."""


class Credit(NamedTuple):
    """Receiver of DATA → its sender."""

    kind: int
    sid: int
    bytes: int
    wanter: int
    """Actor that grants it and takes the DATA."""


class Interim(NamedTuple):
    """An interim answer of the backend (103, say) to be passed on now, the way that RESPONSE will come: no two ways, and so no
    overtaking. Never 100 and 101."""

    kind: int
    sid: int
    status: int
    headers: bytes
    """Normal form, no hop-by-hop lines."""
    reason: bytes = b""
    """As in Response."""
    spelled: tuple[bytes, ...] = ()
    """As in Response."""


class Cancel(NamedTuple):
    kind: int
    sid: int
    reason: str


class Claim(NamedTuple):
    """A replica → the replica of the same stage that owns a key, so that a limit is the limit however many replicas there are."""

    kind: int
    sid: int
    asker: int
    key: str
    args: tuple[Any, ...]


class Claimed(NamedTuple):
    """The owner's answer to CLAIM. Without one within a second the asker lets the request pass and counts it."""

    kind: int
    sid: int
    key: str
    allowed: bool
    value: float = 0.0
    """What the claim came to (requests in flight, requests a second), for what the client is told."""


class Done(NamedTuple):
    """accept → each of `Response.watchers`: the stream has ended, in whatever way."""

    kind: int
    sid: int


class Recall(NamedTuple):
    """accept → plugins, upstream: an actor that this stream may have been in is dead. Have you begun it?"""

    kind: int
    sid: int
    asker: int


class Recalled(NamedTuple):
    """The answer to RECALL. After NOT_BEGUN the answerer refuses the stream for ever, should it still arrive."""

    kind: int
    sid: int
    actor: int
    state: int


class GoesOn(NamedTuple):
    """routing → accept, in answer to CLOSING, which has the fields of REQUEST: is the client's close of no matter to it?"""

    kind: int
    sid: int
    is_so: bool


class Stranded(NamedTuple):
    """routing → accept: the stream needs plugins and its affinity names none. Nothing of it is done or kept."""

    kind: int
    sid: int


NOT_BEGUN: Final = 0
WILL_ANSWER: Final = 1
ANSWER_LOST: Final = 2
"""Begun, perhaps done, but the answer cannot reach accept any more."""


class Scrape(NamedTuple):
    """routing → metrics: somebody asked for the metrics page."""

    kind: int
    sid: int
    asker: int
    server: str = ""
    """The server that was asked: its metrics are answered; "" for those of all."""


class Scraped(NamedTuple):
    kind: int
    sid: int
    payload: bytes
    content_type: str


class Accepted(NamedTuple):
    """stage → config: compiled, can serve that generation."""

    kind: int
    actor: int
    generation: int


class Refused(NamedTuple):
    """stage → config: cannot serve that generation; the reason is for the operator."""

    kind: int
    actor: int
    generation: int
    reason: str


class InUse(NamedTuple):
    """accept → config: the oldest generation that one of its streams without a response head still carries."""

    kind: int
    actor: int
    oldest: int


new: Final = tuple.__new__
"""Makes a named tuple from all its fields at half the price of calling it: `new(Request, (REQUEST, sid, …))`."""


def _request(fields: tuple[Any, ...]) -> Request:
    return new(Request, (*fields[:3], new(Affinity, fields[3]), fields[4], new(Peer, fields[5]), *fields[6:]))


def _routed(fields: tuple[Any, ...]) -> Routed:
    return new(Routed, (*fields[:3], new(Affinity, fields[3]), fields[4], new(Peer, fields[5]), *fields[6:]))


def _response(fields: tuple[Any, ...]) -> Response:
    report = fields[8]
    return new(Response, fields if report is None else (*fields[:8], new(Report, report), *fields[9:]))


DECODE: Final[dict[int, Callable[[Any], Any]]] = {
    REQUEST: _request,
    ROUTED: _routed,
    CLOSING: _request,
    RESPONSE: _response,
    **{
        kind: partial(new, cls)
        for kind, cls in (
            (DATA, Data),
            (CREDIT, Credit),
            (CANCEL, Cancel),
            (INTERIM, Interim),
            (CLAIM, Claim),
            (DONE, Done),
            (CLAIMED, Claimed),
            (RECALL, Recall),
            (RECALLED, Recalled),
            (STRANDED, Stranded),
            (GOES_ON, GoesOn),
            (SCRAPE, Scrape),
            (SCRAPED, Scraped),
            (ACCEPTED, Accepted),
            (REFUSED, Refused),
            (IN_USE, InUse),
        )
    },
}
"""Kind → function from the plain tuple that came over a socket to the named one."""


def window(version: int) -> int:
    """Body bytes that the response to a request of this version may send before the first CREDIT."""
    return STREAM_WINDOW if version >= 20 else WINDOW


def accept_of(sid: int) -> int:
    """Id of the accept actor that owns the stream."""
    return sid >> 32
