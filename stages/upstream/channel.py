"""What an exchange sees of that which carries it to a backend: a whole HTTP/1.1 connection, or one HTTP/2 stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pingap.stages.upstream.exchange import Exchange
    from pingap.stages.upstream.pool import BackendState


class Channel(Protocol):
    """Carries one request and its answer.

    It tells its exchange: interim_arrived, head_arrived, tunnel_opened, body_arrived, drained; attempt_failed or fail
    when no answer or no end of it will come. After a complete answer it takes itself away from `exchange.channel`.
    """

    @property
    def backend(self) -> BackendState: ...

    @property
    def opened(self) -> float:
        """Monotonic seconds since when the connection stands."""

    @property
    def choked(self) -> bool:
        """The backend takes less than it is sent; `drained` follows when it takes more."""

    def begin(self, exchange: Exchange, now: float) -> None:
        """The channel now belongs to an exchange, which asks at once."""

    def ask(self, method: bytes, target: bytes, headers: bytes, length: int, body: bytes, upgrade: bytes) -> None:
        """Sends the request's head and what there is of its body. length: bytes of the whole body, UNKNOWN or EMPTY."""

    def send_body(self, payload: bytes, ended: bool, trailers: bytes) -> None:
        """More of the request's body, or of a tunnel's bytes."""

    def watch(self) -> None:
        """Sets the deadline anew, by whose turn it is."""

    def pause(self) -> None:
        """The exchange has no room for more of the answer."""

    def resume(self) -> None: ...

    def finish(self) -> None:
        """Both halves of a tunnel have ended. What was written is still delivered; the exchange hears no more of it."""

    def close(self) -> None:
        """Nobody wants the rest; the exchange hears no more of it."""
