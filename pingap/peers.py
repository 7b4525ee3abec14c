"""Who is at the other end of a unix socket (SO_PEERCRED, unix(7))."""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple


class Credentials(NamedTuple):
    """Of who connected, or listened, as they were then."""

    pid: int
    """In this pid namespace; 0 when it is not in it."""
    uid: int


def peer_at(sock: socket.socket) -> Credentials:
    """The other end of a connected socket. Raises OSError."""
    pid, uid, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return Credentials(pid, uid)
