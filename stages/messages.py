"""Every message between stages: the fields of bus/PROTOCOL.md section 8.

In one process a message is handed over as it is; between processes MessagePack
carries it as an array whose first item is its kind, the number in the brackets of
its class, and the types of its fields are checked when it arrives. Order is part
of the protocol: append, never insert, and give what is appended a default.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from msgspec.structs import astuple, replace

from pingap.bus.envelope import Message, Part, Payload
from pingap.stages.caching.entry import CacheEntry
from pingap.stages.certificate_status import CertificateStatus
from pingap.stages.statuses import UpstreamStatus

WINDOW: Final = 1024 * 1024
"""Body bytes that a response may send before the first CREDIT."""

STREAM_WINDOW: Final = WINDOW // 4
"""The same for a request that came over HTTP/2: one connection has many of them, and may leave all unread."""

INLINE: Final = 64 * 1024
"""A body that is complete and at most this long travels inside its head's envelope."""

INLINE_PAUSE: Final = 0.02
"""Seconds without a byte after which the rest of such a body is not waited for any more, so that it goes on as it comes."""

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
    certificate: bytes = b""
    """By which the client has proved who it is, in DER, verified by the `client_ca` of the server; b"" without one."""


class Request(Message, frozen=True, tag=64):
    """accept → routing: one parsed request head, and its body when that is complete and small."""

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


class Closing(Request, frozen=True, tag=77):
    """accept → routing: the client of this request has closed before its answer has come. The body is left out."""


class Routed(Message, frozen=True, tag=65):
    """routing → plugins → upstream: a request with its itinerary."""

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
    variables: dict[str, Any]
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


class Report(Part, frozen=True):
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


class FileRef(Part, frozen=True):
    """A file as one actor saw it, for another on the same host to open: there it must still be the same one."""

    path: bytes
    """Absolute."""
    offset: int
    """Where the part begins that is meant; how long that is, `Response.length` says."""
    device: int
    inode: int
    size: int
    """Bytes of the whole file."""
    mtime_ns: int


class Response(Message, frozen=True, tag=66):
    """upstream, plugins or routing → accept (or upstream → plugins): a response head."""

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
    file: FileRef | None = None
    """plugins → accept: all of the body, `length` bytes of it; `body` is empty. TAKEN in return, or else CREDIT, before which no
    DATA comes."""


class Data(Payload, frozen=True, tag=67):
    """Body bytes, in either direction."""

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


class Credit(Message, frozen=True, tag=68):
    """Receiver of DATA → its sender."""

    sid: int
    bytes: int
    wanter: int
    """Actor that grants it and takes the DATA."""


class Interim(Message, frozen=True, tag=75):
    """An interim answer of the backend (103, say) to be passed on now, the way that RESPONSE will come: no two ways, and so no
    overtaking. Never 100 and 101."""

    sid: int
    status: int
    headers: bytes
    """Normal form, no hop-by-hop lines."""
    reason: bytes = b""
    """As in Response."""
    spelled: tuple[bytes, ...] = ()
    """As in Response."""


class Cancel(Message, frozen=True, tag=69):
    sid: int
    reason: str
    by_plugins: bool = False
    """Plugins says so, and not the client's connection: that alone ends what is planned with OUTLIVES."""


class Claim(Message, frozen=True, tag=70):
    """A replica → the replica of the same stage that owns a key: `stages/claims.py`."""

    sid: int
    asker: int
    key: str
    args: tuple[Any, ...]


class Claimed(Message, frozen=True, tag=72):
    """The owner's answer to CLAIM. Without one within a second the asker lets the request pass and counts it."""

    sid: int
    key: str
    allowed: bool
    value: float = 0.0
    """What the claim came to (requests in flight, requests a second), for what the client is told."""
    wait: float = 0.0
    remaining: int = -1
    reset: float = 0.0
    """These three: see `leases.Verdict`."""


class Done(Message, frozen=True, tag=71):
    """accept → each of `Response.watchers`: the stream has ended, in whatever way."""

    sid: int


class Recall(Message, frozen=True, tag=73):
    """accept → plugins, upstream: an actor that this stream may have been in is dead. Have you begun it?"""

    sid: int
    asker: int


class Recalled(Message, frozen=True, tag=74):
    """The answer to RECALL. After NOT_BEGUN the answerer refuses the stream for ever, should it still arrive."""

    sid: int
    actor: int
    state: int


class GoesOn(Message, frozen=True, tag=78):
    """routing → accept, in answer to CLOSING: is the client's close of no matter to it?"""

    sid: int
    is_so: bool


class Broken(Message, frozen=True, tag=79):
    """any → its owner: a message of this stream could not be sent, or not be read. It gets an answer all the same."""

    sid: int
    source: int
    """Actor that tells it."""
    reason: str


class Stranded(Message, frozen=True, tag=76):
    """routing → accept: the stream needs plugins and its affinity names none. Nothing of it is done or kept."""

    sid: int


NOT_BEGUN: Final = 0
WILL_ANSWER: Final = 1
ANSWER_LOST: Final = 2
"""Begun, perhaps done, but the answer cannot reach accept any more."""


class Answered(Message, frozen=True, tag=80):
    """An internal destination → the routing actor that sent it ROUTED: the answer is on its way to accept."""

    sid: int


class Taken(Message, frozen=True, tag=81):
    """The file that RESPONSE names is open in accept, and no DATA is wanted; or, of upstream, it is a tunnel. Forget the stream."""

    sid: int


class CertificatesTaken(Message, frozen=True, tag=92):
    """accept → acme: what this topic's value says is what handshakes go by from now on."""

    actor: int
    version: int
    """Of the topic `certificates`."""


class FlightAsk(Message, frozen=True, tag=84):
    """plugins → the replica that owns a key of the cache: may this stream fetch it? FLIGHT_TOLD at once."""

    ticket: int
    """The asker's, of this question."""
    asker: int
    sid: int
    name: str
    """Digest of the store and the key."""
    since: int
    """A fetch that began with an older change of the key is of no use to who asks."""
    lock: float
    """Seconds that it waits at most."""
    has_stale: bool = False
    """It need not wait for the end of a back-off."""
    seq: int = 0
    """The table of actors by which the receiver owns the key: who has an older one waits for it, who has a newer one sends it on."""


class FlightTold(Message, frozen=True, tag=85):
    """The owner → who asked: its turn, or that it is to wait, and then its turn."""

    ticket: int
    teller: int
    name: str
    verdict: int
    """`stages/plugins/cache/flights/verdicts.py`"""
    since: int = 0
    """With which the fetch counts as begun."""
    reason: str = ""
    """What the last fetch failed with."""
    seconds: float = 0.0
    """Until the next is tried; or for which the key is known as not to be stored."""
    fetcher: int = 0
    flight: int = 0
    """Who fetches, and the ticket with which it was let."""


class FlightNews(Message, frozen=True, tag=86):
    """Who fetches → the owner of the key: what has become of it."""

    flight: int
    fetcher: int
    name: str
    state: int
    """`stages/plugins/cache/flights/states.py`"""
    since: int = 0
    seconds: float = 0.0
    reason: str = ""
    seq: int = 0
    """As in FLIGHT_ASK."""


class FlightLeft(Message, frozen=True, tag=87):
    """Who asked → the owner: it waits no more, or does not fetch, should it have been told so meanwhile."""

    ticket: int
    asker: int
    name: str
    seq: int = 0
    """As in FLIGHT_ASK."""


class FlightJoin(Message, frozen=True, tag=88):
    """plugins → who fetches: FLIGHT_GREW at once with the head, and from then on as the body grows. Again as long as it is read."""

    flight: int
    asker: int


class FlightGrew(Message, frozen=True, tag=89):
    """Who fetches → all who have joined."""

    flight: int
    fetcher: int
    state: int
    """As in FLIGHT_NEWS."""
    size: int = 0
    """Bytes of the body in the file."""
    reason: str = ""
    path: str = ""
    """Of the file that grows; only the first time, as the next."""
    entry: CacheEntry | None = None


class FlightsAsk(Message, frozen=True, tag=90):
    """plugins → the others: this table of actors gives me keys. FLIGHTS_KNOWN when it has been seen."""

    seq: int
    asker: int


class FlightsKnown(Message, frozen=True, tag=91):
    """The answer to FLIGHTS_ASK: all that I fetch of what is yours has been told."""

    seq: int
    teller: int


class Accepted(Message, frozen=True, tag=40):
    """stage → config: compiled, can serve that generation."""

    actor: int
    generation: int


class Refused(Message, frozen=True, tag=41):
    """stage → config: cannot serve that generation; the reason is for the operator."""

    actor: int
    generation: int
    reason: str


class InUse(Message, frozen=True, tag=42):
    """accept → config: the oldest generation that one of its streams without a response head still carries."""

    actor: int
    oldest: int


def closing(request: Request) -> Closing:
    """CLOSING of a request."""
    return Closing(*astuple(replace(request, body=b"")))


def window(version: int) -> int:
    """Body bytes that the response to a request of this version may send before the first CREDIT."""
    return STREAM_WINDOW if version >= 20 else WINDOW


def owner_of(sid: int) -> int:
    """Id of the actor that owns the stream: accept, for all that clients ask, or plugins, for what plugins ask themselves."""
    return sid >> 32


class BackendRow(Part, frozen=True):
    """What one upstream replica has seen of one backend, from some time on.

    A figure that is less than before has begun anew at 0.
    """

    upstream: str
    address: str
    requests: int
    """Attempts that say something of it: answered, or not answered by its fault."""
    failures: int
    """Those that failed: by the status of the answer, without one, or cut off."""
    streak: int
    """Failures in a row, as of now."""
    unreachable: int
    """Attempts at which it did not answer at all."""
    in_flight: int
    connections: int
    round: int = 0
    """The newest half-open round of its circuit in which the replica has settled a probe; 0 = in none."""
    passed: int = 0
    """Probes of that round that went well, as far as is known: one of which the answer is cut later is in both."""
    failed: int = 0
    begun: int = 0
    """Of the requests: those whose answer has begun well and, as far as is known, was neither ended nor cut. It falls, too."""


class BackendReport(Message, frozen=True, tag=43):
    """upstream → discovery: what is new of backends. Numbers count from the replica's start on, so that none is lost or counted twice."""

    sender: int
    rows: tuple[BackendRow, ...]
    is_whole: bool = False
    """The receiver is new to the sender: what the rows say was before its time."""


class UpstreamsAsk(Message, frozen=True, tag=44):
    """any → discovery: what is known of all upstreams? UPSTREAMS_TOLD at once."""

    asker: int
    ticket: int
    """The asker's, of this question."""


class UpstreamsTold(Message, frozen=True, tag=45):
    """The answer to UPSTREAMS_ASK."""

    ticket: int
    rows: tuple[UpstreamStatus, ...]


class CertificatesAsk(Message, frozen=True, tag=47):
    """any → acme: what is known of all certificates? CERTIFICATES_TOLD at once."""

    asker: int
    ticket: int
    """The asker's, of this question."""


class CertificatesTold(Message, frozen=True, tag=48):
    """The answer to CERTIFICATES_ASK."""

    ticket: int
    rows: tuple[CertificateStatus, ...]


class FiguresAsk(Message, frozen=True, tag=82):
    """plugins → accept, plugins: how many requests have there been, and how many are in flight? FIGURES_TOLD at once."""

    asker: int
    ticket: int
    """The asker's, of this question."""
    location: str
    """Plugins tell of it alone, accept of all requests."""


class FiguresTold(Message, frozen=True, tag=83):
    """The answer to FIGURES_ASK."""

    teller: int
    ticket: int
    accepted: int
    """Since the actor began."""
    processing: int
