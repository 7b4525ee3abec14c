"""Clients that close before their answer is complete, and requests that go on all the same (`ignore_client_close`).

Accept knows no locations, so it asks: CLOSING to routing, which says GOES_ON (bus/PROTOCOL.md section 8). Only for servers with
such a location; everybody else's requests are given up at once.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

from pingap.stages.accept.client import Client
from pingap.stages.accept.core import State
from pingap.stages.accept.outlet import TOP_UP
from pingap.stages.accept.stream import Stream
from pingap.stages.messages import Data, GoesOn, Interim, Response, closing

if TYPE_CHECKING:
    from pingap.stages.accept.actor import AcceptActor


class Departures:
    def __init__(self, actor: AcceptActor) -> None:
        self._actor = actor
        self._send: Callable[[int, Any], None] = actor.context.send
        self.servers: frozenset[str] = frozenset()
        """Those with a location that ignores a client's close, in the committed generation."""

    def may_go_on(self, stream: Stream) -> bool:
        """The request is all here, and its location, which is not known yet, may be one of those."""
        if not self.servers or stream.goes_on is False or stream.is_tunnel or not stream.upload_done or stream.state is State.WAITING:
            return False
        return stream.request.server in self.servers

    def half_closed(self, stream: Stream, give_up: Callable[[], None]) -> None:
        """The client has shut its side of a request that may go on. give_up: called if it does not."""
        if not stream.goes_on:
            stream.give_up = give_up
            self._ask(stream)

    def left(self, stream: Stream) -> bool:
        """The client is gone. False when the request is to be given up now; else it goes on, at least until routing says no."""
        if type(stream.connection) is Gone or not self.may_go_on(stream):
            return False
        stream.connection = Gone(self._actor, stream.connection)
        if stream.unacked:
            self._actor.give_credit(stream)
        if not stream.goes_on:
            stream.give_up = lambda: self._actor.client_left(stream)
            self._ask(stream)
        return True

    def _ask(self, stream: Stream) -> None:
        request = stream.request
        self._send(request.affinity.routing, closing(request))

    def told(self, answer: GoesOn) -> None:
        """What routing says. Should it die before, the request goes on: it ends by itself."""
        stream = self._actor.streams.get(answer.sid)
        if stream is None:
            return
        give_up, stream.give_up = stream.give_up, None
        stream.goes_on = answer.is_so
        if not answer.is_so and give_up is not None:
            give_up()

    def held(self) -> int:
        """Requests that go on without a client."""
        return sum(type(stream.connection) is Gone for stream in self._actor.streams.values()) if self.servers else 0


class Gone:
    """In place of a client that has left: the answer is taken, and nobody gets it. The log has its status, and `client_closed`."""

    def __init__(self, actor: AcceptActor, before: Client) -> None:
        self._actor = actor
        self.arrival = before.arrival
        self.served = before.served

    def respond(self, stream: Stream, response: Response, now: float) -> None:
        if response.status == 101:
            self._actor.ended(stream, now, "client")  # a tunnel to nobody
        elif response.ended:
            self._finish(stream)
        else:
            self._take(stream, len(response.body))

    def interim(self, stream: Stream, interim: Interim) -> None:
        pass

    def body(self, stream: Stream, data: Data) -> None:
        if data.error:
            stream.failed = data.error
            self.cut(stream)
        elif data.ended:
            self._finish(stream)
        else:
            self._take(stream, len(data.payload))

    def _take(self, stream: Stream, size: int) -> None:
        stream.unacked += size
        if stream.unacked >= TOP_UP:
            self._actor.give_credit(stream)

    def _finish(self, stream: Stream) -> None:
        stream.failed = "client_closed"
        self._actor.ended(stream, monotonic())

    def credited(self, stream: Stream) -> None:
        pass

    def fail(self, stream: Stream, kind: str) -> None:
        stream.failed = kind
        self._actor.ended(stream, monotonic(), kind)

    def cut(self, stream: Stream) -> None:
        self._actor.ended(stream, monotonic(), stream.failed or "cut")
