"""Ports for tests."""

from __future__ import annotations

import contextlib
import random
import socket

_given: set[int] = set()


def free_port() -> int:
    """A port that nobody has now. Not one of those from which the kernel takes the client's end of a connection at any moment."""
    for _ in range(1000):
        port = random.SystemRandom().randrange(12_000, 32_000)
        if port in _given:
            continue
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("127.0.0.1", port))
            _given.add(port)
            return port
    raise AssertionError("no free port")
