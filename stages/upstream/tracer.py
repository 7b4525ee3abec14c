"""With `enable_tracer` the application log tells of each connection to a backend: opened, and closed by whom and why."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any, Final, Protocol

from pingap.bus.repeats import Log, Repeats
from pingap.stages.upstream.backend import BackendState

MOST: Final = 50
"""Lines of each of the two kinds in a second, for one upstream; of the rest the log has the number."""


class Traced(Protocol):
    """A connection to a backend."""

    transport: asyncio.Transport
    opened: float
    """Monotonic seconds."""
    connect_seconds: tuple[float, ...]
    """TCP connect, TLS handshake."""
    served: int
    """Answers so far."""
    ending: str
    """Why it ends, if we end it; "" = we do not."""


class Tracer:
    """Of one actor. Where the key is not set nobody calls it."""

    def __init__(self, context: Log) -> None:
        self._repeats = Repeats(context, MOST)
        self._ports: dict[Traced, int] = {}
        """Local ports of those that stand, by which packets are found, and the two lines of one connection."""

    def opened(self, backend: BackendState, connection: Traced, protocol: str) -> None:
        # A UNIX socket's name is a text, or none.
        name = connection.transport.get_extra_info("sockname")
        port = self._ports[connection] = name[1] if isinstance(name, tuple) else 0
        seconds = connection.connect_seconds
        fields: dict[str, Any] = {"tcp_seconds": round(seconds[0], 6)} if seconds else {}
        if len(seconds) > 1:
            fields["tls_seconds"] = round(seconds[1], 6)
        self._tell("opened", backend, port, protocol=protocol, **fields)

    def closed(self, backend: BackendState, connection: Traced, error: Exception | None) -> None:
        """error: of the connection, if that has ended it."""
        port = self._ports.pop(connection, None)
        if port is None:
            return  # it never stood
        by, why = ("pingap", connection.ending) if connection.ending else ("backend", str(error or "closed"))
        age = round(monotonic() - connection.opened, 3)
        self._tell("closed", backend, port, by=by, why=why, seconds=age, requests=connection.served)

    def _tell(self, what: str, backend: BackendState, port: int, **fields: Any) -> None:
        upstream = backend.group.name
        about = (
            {"upstream": upstream, "addr": backend.address, "local_port": port} if port else {"upstream": upstream, "addr": backend.address}
        )
        self._repeats.log("info", f"backend connection {what}", f"{what} {upstream}", **about, **fields)
