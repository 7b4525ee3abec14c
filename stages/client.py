"""What an actor that owns streams (streams.py) asks of whoever each is for, and what is known of that one beforehand."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from pingap.stages.messages import Data, FileRef, Interim, Peer, Response


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


class Client(Protocol):
    """Who asked, as one stream sees it: a whole connection over HTTP/1.1, its own part of one over HTTP/2.

    It knows its stream, from `Streams.open` to `Streams.ended`, which it must call in every case: when the answer is complete,
    in `cut`, and when whoever it stands for has gone. Nothing is asked of it within `open` or after `ended`. It counts what it
    has dealt with of the answer in `OwnedStream.unacked`, and has that given back as credit.
    """

    @property
    def arrival(self) -> Arrival: ...

    @property
    def nth(self) -> int:
        """Place of its request among those of its connection, from 1."""

    def respond(self, response: Response, now: float) -> None:
        """Takes the response head and what came with it. Raises, with nothing done, when the head is no head."""

    def send_file(self, ref: FileRef) -> bool:
        """Called after `respond`, when the body of the answer is a file. True: it is seen to, and if the file cannot be had
        `Streams.ask_for_data` is called. False: that is to be called now."""

    def interim(self, interim: Interim) -> None:
        """Takes an interim answer."""

    def body(self, data: Data) -> None:
        """Takes response body bytes."""

    def credited(self) -> None:
        """More of the request body may be sent: `OwnedStream.credit` bytes."""

    def fail(self, kind: str) -> None:
        """Answers in place of the stages, which could not (kind as in stages/errors.py). There was no response head."""

    def cut(self) -> None:
        """Ends a half-sent answer in the only honest way: what is missing must not look complete."""
