"""The body of one request, on its way from the stage that sends it to the backend: credit, checks, bytes between two attempts.

The upward half of a tunnel is an upload too, of a body without framing. Small bodies, which come inside ROUTED, need none of this.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from pingap.stages.headers import without_names_of
from pingap.stages.http1.rules import ProtocolError
from pingap.stages.itinerary import NO_TRAILERS, REQUEST_BODY
from pingap.stages.messages import UNKNOWN, WINDOW, Credit, Data, Routed, owner_of
from pingap.stages.upstream.attempt import Attempt
from pingap.stages.upstream.channel import Channel
from pingap.stages.upstream.compiled import LocationRules
from pingap.stages.upstream.grpc_web import Bridge
from pingap.stages.upstream.troubles import Troubles

TOP_UP: Final = WINDOW // 4
"""Bytes that have gone on before as much new credit is given."""


class Sender(Protocol):
    """The actor."""

    id: int
    send: Callable[[int, Any], None]
    troubles: Troubles


class Uploading(Protocol):
    """The exchange whose request it is."""

    sid: int
    routed: Routed
    rules: LocationRules
    bridge: Bridge | None
    attempt: Attempt
    uploaded: int

    @property
    def is_tunnel(self) -> bool: ...

    @property
    def is_over(self) -> bool: ...

    @property
    def actor(self) -> Sender: ...

    def upload_ended(self, channel: Channel) -> None:
        """The whole body has been handed to the channel."""

    def fail(self, kind: str, reason: str = "") -> None:
        """Ends the exchange with an error."""

    def cancel(self) -> None:
        """Nobody wants the answer any more."""


class UploadToBackend:
    __slots__ = ("_early", "_exchange", "_granted", "_unacked", "has_begun")

    def __init__(self, exchange: Uploading) -> None:
        self._exchange = exchange
        self._granted = 0
        """Bytes granted to the sender and not yet arrived."""
        self._unacked = 0
        """Bytes that have arrived, and for which no new credit was given."""
        self._early: list[Data] = []
        """What came between two attempts."""
        self.has_begun = False
        """Something of what did not come inside ROUTED has gone to a backend: bytes that are not kept, or the end."""

    def attempt_begun(self) -> None:
        """The head has been sent to a backend: the body is wanted."""
        if not self._granted:
            self.grant(WINDOW)
        if self._early:
            early, self._early = self._early, []
            for data in early:
                self.take(data)

    def grant(self, count: int) -> None:
        exchange = self._exchange
        self._granted += count
        through = exchange.routed.plan & REQUEST_BODY and not exchange.is_tunnel
        sender = exchange.routed.affinity.plugins if through else owner_of(exchange.sid)
        exchange.actor.send(sender, Credit(exchange.sid, count, exchange.actor.id))

    def take(self, data: Data) -> None:
        """More of it."""
        exchange = self._exchange
        if data.error:
            exchange.cancel()
            return
        channel = exchange.attempt.channel
        if channel is None:
            self._early.append(data)
            return
        payload = data.payload
        size = len(payload)
        self._granted -= size
        self.has_begun = self.has_begun or size > 0 or data.ended
        exchange.uploaded += size
        trailers = data.trailers
        if not exchange.is_tunnel:
            if not self._check(data.ended):
                return
            if exchange.bridge is not None:
                try:
                    payload = exchange.bridge.upload(payload, data.ended)
                except ProtocolError as error:
                    exchange.fail(error.kind, error.detail)
                    return
            if trailers:
                trailers = self._allowed(trailers)
        channel.send_body(payload, data.ended, trailers)
        if data.ended:
            exchange.upload_ended(channel)
        else:
            self._unacked += size
            if self._unacked >= TOP_UP and not channel.choked:
                self.drained()
        if not exchange.is_over and not channel.choked:
            channel.watch()

    def _check(self, ended: bool) -> bool:
        """Fails the exchange (False) when there is more of it than may be, or it is not as long as the head said."""
        exchange = self._exchange
        uploaded, length, cap = exchange.uploaded, exchange.routed.length, exchange.rules.max_body
        if cap and uploaded > cap:
            exchange.fail("body_too_large")
            return False
        if length not in (UNKNOWN, uploaded) and (uploaded > length or ended):
            # The backend would take what is too much for the next request, and wait for what is missing.
            exchange.actor.troubles.wrong_length(length, uploaded)
            exchange.fail("internal")
            return False
        return True

    def _allowed(self, trailers: bytes) -> bytes:
        """Some backends take trailers for header lines: they must not undo what the head says, nor what was taken out of it."""
        routed, rules = self._exchange.routed, self._exchange.rules
        return b"" if routed.plan & NO_TRAILERS else without_names_of(rules.cut_ruled(trailers), routed.headers)

    def drained(self) -> None:
        """The backend has taken what was written: room for more."""
        if self._unacked:
            count, self._unacked = self._unacked, 0
            self.grant(count)
