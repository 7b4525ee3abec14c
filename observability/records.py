"""The event of one finished request, from which access log, metrics, traces and `pingap tap` are made."""

from __future__ import annotations

from typing import Any, NamedTuple


class Access(NamedTuple):
    """ACCESS (bus/PROTOCOL.md section 9). Sizes in bytes, times in seconds; monotonic unless said otherwise."""

    kind: int
    sid: int
    time: float
    """Unix time at which the request began."""
    server: str
    peer: tuple[Any, ...]
    """ip, port, local ip, local port, scheme, connection number (stages.messages.Peer)."""
    client_ip: str
    """As trusted_proxies let us believe it."""
    method: bytes
    target: bytes
    """As the client sent it."""
    host: bytes
    version: int
    """10, 11 or 20; of a refused request as its client wrote it, 0 when that could not be read."""
    request_headers: bytes
    """Normal form: `name: value\\r\\n` lines."""
    status: int
    """499 when the client left before the answer."""
    response_headers: bytes
    received: int
    """Bytes of request body taken from the client."""
    sent: int
    """Bytes of response body written to the client."""
    started: float
    """First byte of the head."""
    responded: float
    """Response head handed to the client's socket; 0.0 if there was none."""
    ended: float
    connection_reused: bool
    """Not the first request of its connection."""
    processing: int
    """Streams of this accept replica in flight when this one ended."""
    location: str
    upstream: str
    addr: str
    upstream_status: int
    upstream_reused: bool
    tries: int
    stamps: tuple[float, ...]
    """Reached routing, left routing, reached plugins, left plugins, reached upstream, connection ready, request sent,
    response head received; 0.0 where the stream did not go. May be shorter when it ended early."""
    connect: tuple[float, ...]
    """Tcp connect and tls handshake seconds of a backend connection opened for this stream, else ()."""
    error: str
    """Name in stages/errors.py when the answer is ours, else ""."""
    context: dict[str, Any]
    """Context keys that plugins and captures set."""
    connected: float = 0.0
    """The client's connection was accepted; 0.0 if accept did not say."""
    upstream_opened: float = 0.0
    """The backend connection was opened; 0.0 if upstream did not say."""
    upstream_connections: int = 0
    """Connections open to that upstream, in the upstream process that served this; 0 if it did not say."""
    reason: str = ""
    """What `error` comes of, in words; "" when it says all there is to say."""
