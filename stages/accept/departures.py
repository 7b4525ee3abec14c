"""Clients that close before their answer is complete, and requests that go on all the same (`ignore_client_close`).

Accept knows no locations, so it asks: CLOSING to routing, which says GOES_ON (bus/PROTOCOL.md section 8). Only for servers with
such a location; everybody else's requests are given up at once.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

from pingap.stages.accept.outlet import TOP_UP
from pingap.stages.messages import Data, FileRef, GoesOn, Interim, Response, closing
from pingap.stages.stream import OwnedStream
from pingap.stages.stream_states import HALF_SHUT, TUNNEL, WAITING
from pingap.stages.streams import Streams


class Departures:
    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._send: Callable[[int, Any], None] = streams.context.send
        self.servers: frozenset[str] = frozenset()
        """Those with a location that ignores a client's close, in the committed generation."""

    def may_go_on(self, stream: OwnedStream) -> bool:
        """The request is all here, and its location, which is not known yet, may be one of those."""
        if not self.servers or stream.goes_on is False or not stream.upload_done or stream.state in (WAITING, TUNNEL, HALF_SHUT):
            return False
        return stream.request.server in self.servers

    def half_closed(self, stream: OwnedStream, give_up: Callable[[], None]) -> None:
        """The client has shut its side of a request that may go on. give_up: called if it does not."""
        if not stream.goes_on:
            stream.give_up = give_up
            self._ask(stream)

    def left(self, stream: OwnedStream) -> None:
        """The client is gone. Its request is given up now, or when routing says that it does not go on."""
        if not self.may_go_on(stream):
            self._streams.abandon(stream, "client_closed")
            return
        stream.client = Gone(self._streams, stream)
        if stream.unacked:
            self._streams.give_credit(stream)
        if not stream.goes_on:
            stream.give_up = lambda: self._streams.abandon(stream, "client_closed")
            self._ask(stream)

    def _ask(self, stream: OwnedStream) -> None:
        request = stream.request
        self._send(request.affinity.routing, closing(request))

    def told(self, answer: GoesOn) -> None:
        """What routing says. Should it die before, the request goes on: it ends by itself."""
        stream = self._streams.by_sid.get(answer.sid)
        if stream is None:
            return
        give_up, stream.give_up = stream.give_up, None
        stream.goes_on = answer.is_so
        if not answer.is_so and give_up is not None:
            give_up()

    def held(self) -> int:
        """Requests that go on without a client."""
        return sum(type(stream.client) is Gone for stream in self._streams.by_sid.values()) if self.servers else 0


class Gone:
    """In place of a client that has left: the answer is taken, and nobody gets it. The log has its status, and `client_closed`."""

    def __init__(self, streams: Streams, stream: OwnedStream) -> None:
        self._streams = streams
        self._stream = stream
        self.arrival = stream.client.arrival
        self.nth = stream.nth

    def respond(self, response: Response, now: float) -> None:
        if response.status == 101:
            self._streams.ended(self._stream, now, "client")  # a tunnel to nobody
        elif response.ended:
            self._finish()
        else:
            self._take(len(response.body))

    def send_file(self, ref: FileRef) -> bool:
        return False

    def interim(self, interim: Interim) -> None:
        pass

    def body(self, data: Data) -> None:
        if data.error:
            self._stream.failed = data.error
            self.cut()
        elif data.ended:
            self._finish()
        else:
            self._take(len(data.payload))

    def _take(self, size: int) -> None:
        self._stream.unacked += size
        if self._stream.unacked >= TOP_UP:
            self._streams.give_credit(self._stream)

    def _finish(self) -> None:
        self._stream.failed = "client_closed"
        self._streams.ended(self._stream, monotonic())

    def credited(self) -> None:
        pass

    def fail(self, kind: str) -> None:
        self._stream.failed = kind
        self._streams.ended(self._stream, monotonic(), kind)

    def cut(self) -> None:
        self._streams.ended(self._stream, monotonic(), self._stream.failed or "cut")
