"""Where the demo origin listens: two sockets on loopback, and the configuration that leads to them."""

from __future__ import annotations

import socket
from collections.abc import Sequence


def bind() -> tuple[socket.socket, ...]:
    """Two listening sockets on ports that the system chooses."""
    socks = []
    for _ in range(2):
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        sock.listen(1024)
        sock.setblocking(False)
        socks.append(sock)
    return tuple(socks)


def configuration(socks: Sequence[socket.socket]) -> str:
    """The embedded configuration with these as its backends."""
    from pingap.config.default import embedded

    return embedded([f"127.0.0.1:{sock.getsockname()[1]}" for sock in socks])
