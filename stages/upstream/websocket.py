"""The key of a WebSocket handshake (RFC 6455 sections 1.3 and 4), which HTTP/2 does without (RFC 8441 section 5).

One that begins in HTTP/1.1 and goes on in HTTP/2, or the other way round, has a key on one side only: what the
other side would have made of it is made here.
"""

from __future__ import annotations

import base64
import hashlib
import os
from typing import Final

from pingap.stages.headers import cutter, value_of

WEBSOCKET: Final = b"websocket"
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_without_accept: Final = cutter((b"sec-websocket-accept",))


def accept_of_key(key: bytes) -> bytes:
    """What the server's `Sec-WebSocket-Accept` has to be."""
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


def fresh_key() -> bytes:
    return base64.b64encode(os.urandom(16))


def lacks_key(asked: bytes, version: int) -> bool:
    """A handshake needs a key of ours: its client spoke HTTP/2 and sent none. Over HTTP/1.1 whoever sends none means none
    (HTTPUpgrade tunnels), or is to be refused by the server."""
    return version >= 20 and value_of(asked, b"sec-websocket-key") is None


def with_key(asked: bytes, version: int) -> bytes:
    """The header block of a handshake, with a key of ours when that lacks one. version: of the client's HTTP, 11 or 20."""
    return b"%bsec-websocket-key: %b\r\n" % (asked, fresh_key()) if lacks_key(asked, version) else asked


def answered_over_http2(asked: bytes, answer: bytes) -> bytes:
    """The header block of an HTTP/2 backend's answer, for the client whose request block is `asked`."""
    answer = _without_accept(answer)
    key = value_of(asked, b"sec-websocket-key")
    return answer if key is None else b"%bsec-websocket-accept: %b\r\n" % (answer, accept_of_key(key))


def answered_our_key(key: bytes, answer: bytes) -> bytes | None:
    """The header block of an HTTP/1.1 backend's answer to a key of ours, for the client that sent none; None if it is wrong."""
    return _without_accept(answer) if value_of(answer, b"sec-websocket-accept") == accept_of_key(key) else None
