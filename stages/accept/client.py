"""What the actor asks of a client's connection, whatever it speaks; and what is known of it before its first request."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from pingap.stages.messages import Data, Interim, Peer, Response

if TYPE_CHECKING:
    from pingap.stages.accept.stream import Stream


MAPPED: Final = "::ffff:"
"""What the kernel writes before an IPv4 address in a socket for both families."""


class Secured(NamedTuple):
    """What TLS came to, for log and metrics."""

    version: str
    """`TLSv1.3`."""
    cipher: str
    seconds: float
    """From the first byte of the handshake to its last."""


class Arrival(NamedTuple):
    """A connection at its beginning."""

    peer: Peer
    at: float
    """Monotonic seconds at which it was accepted."""
    secured: Secured | None
    """None for a plain one."""


class Held(Protocol):
    """One connection, be it only at its beginning. The actor looks at its deadlines twice a second."""

    transport: asyncio.Transport
    deadline: float
    """Monotonic seconds until which the client may take to send what is expected of it; inf for none."""

    @property
    def write_deadline(self) -> float:
        """The same for taking some of what waits for it."""

    def close_if_idle(self) -> None:
        """On draining: closes it when nothing of a request has come."""

    def expired(self, now: float) -> None:
        """A deadline has passed."""


class Client(Protocol):
    """Who asked, as one stream sees it: a whole connection over HTTP/1.1, its own part of one over HTTP/2."""

    served: int
    """Requests so far on the connection, the present ones included."""

    @property
    def arrival(self) -> Arrival: ...

    def respond(self, stream: Stream, response: Response, now: float) -> None:
        """Writes the response head and what came with it. Raises before it writes when the head is no head."""

    def interim(self, stream: Stream, interim: Interim) -> None:
        """Writes an interim answer."""

    def body(self, stream: Stream, data: Data) -> None:
        """Writes response body bytes."""

    def credited(self, stream: Stream) -> None:
        """More of the request body may be sent."""

    def fail(self, stream: Stream, kind: str) -> None:
        """Answers a stream that the stages could not (kind as in stages/errors.py): the connection stays open."""

    def cut(self, stream: Stream) -> None:
        """Ends a half-sent answer in the only honest way: what is missing must not look complete."""


def origin_of(transport: asyncio.BaseTransport) -> tuple[str, int, str, int]:
    """(ip, port, local ip, local port) of a connection as the kernel knows it.

    On a listener for both families an IPv4 client's connection has two mapped addresses (RFC 4291 section 2.5.5.2).
    """
    ip, port = (transport.get_extra_info("peername") or ("", 0))[:2]
    local_ip, local_port = (transport.get_extra_info("sockname") or ("", 0))[:2]
    return ip.removeprefix(MAPPED), port, local_ip.removeprefix(MAPPED), local_port
