"""Frames and pairs of engines for the tests of stages/http2."""

from __future__ import annotations

import hpack
import pytest

from pingap.stages.http2.engine import PREFACE, Event, Fields, Http2Engine, LocalSettings
from pingap.stages.http2.engines import NAMES, engine, is_installed

ENGINES = [pytest.param(name, marks=pytest.mark.skipif(not is_installed(name), reason=f"{name} is not installed")) for name in NAMES]

DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END, END_HEADERS, PADDED, HAS_PRIORITY, ACK = 0x1, 0x4, 0x8, 0x20, 0x1

GET: Fields = ((b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"example.com"), (b":path", b"/"))
POST: Fields = ((b":method", b"POST"), (b":scheme", b"http"), (b":authority", b"example.com"), (b":path", b"/"))
OK: Fields = ((b":status", b"200"),)


def frame(kind: int, flags: int = 0, stream_id: int = 0, body: bytes = b"") -> bytes:
    return len(body).to_bytes(3, "big") + bytes((kind, flags)) + stream_id.to_bytes(4, "big") + body


def block(fields: Fields) -> bytes:
    """Literals only, so that every block stands alone."""
    return b"".join(
        b"\x00" + hpack.hpack.encode_integer(len(name), 7) + name + hpack.hpack.encode_integer(len(value), 7) + value
        for name, value in fields
    )


def headers(stream_id: int, fields: Fields, ended: bool = False) -> bytes:
    return frame(HEADERS, END_HEADERS | (END if ended else 0), stream_id, block(fields))


def data(stream_id: int, payload: bytes, ended: bool = False) -> bytes:
    return frame(DATA, END if ended else 0, stream_id, payload)


def u32(value: int) -> bytes:
    return value.to_bytes(4, "big")


def frames(raw: bytes) -> list[tuple[int, int, int, bytes]]:
    """(kind, flags, stream id, payload) of each."""
    found = []
    while raw:
        size = int.from_bytes(raw[:3], "big")
        found.append((raw[3], raw[4], int.from_bytes(raw[5:9], "big"), raw[9 : 9 + size]))
        raw = raw[9 + size :]
    return found


def settled_server(name: str, settings: LocalSettings | None = None) -> Http2Engine:
    """A server that has seen the preface and the client's SETTINGS and whose own are acknowledged."""
    server = engine(name)(False, settings or LocalSettings())
    server.start()
    server.receive(PREFACE + frame(SETTINGS) + frame(SETTINGS, ACK))
    server.outgoing()
    return server


def settled_client(name: str, settings: LocalSettings | None = None, remote: bytes = b"") -> Http2Engine:
    client = engine(name)(True, settings or LocalSettings())
    client.start()
    client.receive(frame(SETTINGS, 0, 0, remote) + frame(SETTINGS, ACK))
    client.outgoing()
    return client


def pair(server_name: str, client_name: str, settings: LocalSettings | None = None) -> tuple[Http2Engine, Http2Engine]:
    server, client = engine(server_name)(False, settings or LocalSettings()), engine(client_name)(True, settings or LocalSettings())
    server.start()
    client.start()
    pump(server, client)
    return server, client


def pump(server: Http2Engine, client: Http2Engine) -> tuple[list[Event], list[Event]]:
    """Carries bytes until there are none: (the server's events, the client's events)."""
    at_server: list[Event] = []
    at_client: list[Event] = []
    while True:
        to_server, to_client = client.outgoing(), server.outgoing()
        if not to_server and not to_client:
            return at_server, at_client
        if to_server:
            at_server += server.receive(to_server)
        if to_client:
            at_client += client.receive(to_client)
