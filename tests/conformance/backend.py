"""The origin behind pingap: a path for each thing that an answer can be."""

from __future__ import annotations

import base64
import hashlib

from tests.e2e.origins import Exchange, Origin

BIG = 8 * 1024 * 1024
PORTION = bytes(range(256)) * 256


def hello(exchange: Exchange) -> None:
    exchange.read_body()
    exchange.reply(b"hello\n")


def seen(exchange: Exchange) -> None:
    """All that was read of the request."""
    exchange.read_body()
    exchange.reply(bytes(exchange.raw))


def trailers(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n4\r\nsome\r\n0\r\nx-sum: 4\r\n\r\n")


def big(exchange: Exchange) -> None:
    """8 MiB, in which every portion is the same."""
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BIG)
    for _ in range(BIG // len(PORTION)):
        exchange.send(PORTION)


def drip(exchange: Exchange) -> None:
    """The head and a byte; the rest once the client has sent its whole body."""
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n1")
    exchange.read_body()
    exchange.send(b"234")


def early(exchange: Exchange) -> None:
    """An answer that does not wait for the body."""
    exchange.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
    exchange.close()


def nothing(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 204 No Content\r\n\r\n")


def size(exchange: Exchange) -> None:
    """The length of the body and its hash."""
    body = exchange.read_body()
    exchange.reply(b"%d %s" % (len(body), hashlib.sha256(body).hexdigest().encode()))


def socket(exchange: Exchange) -> None:
    """A tunnel that answers in capitals."""
    key = (exchange.get("sec-websocket-key") or "") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    accept = base64.b64encode(hashlib.sha1(key.encode(), usedforsecurity=False).digest()).decode()
    exchange.send(
        f"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n".encode()
    )
    exchange.close()
    while part := exchange.receive():
        exchange.send(part.upper())


def backend() -> Origin:
    origin = Origin(hello)
    origin.on.update(
        {
            "/seen": seen,
            "/trailers": trailers,
            "/big": big,
            "/drip": drip,
            "/early": early,
            "/nothing": nothing,
            "/size": size,
            "/socket": socket,
        }
    )
    return origin
