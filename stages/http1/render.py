"""Heads and chunks, written anew from parsed fields: nothing of a peer's framing is ever passed through."""

from __future__ import annotations

from typing import Final

from pingap.stages.http1.reasons import REASONS, UNKNOWN_STATUS
from pingap.stages.http1.rules import reads_trailers
from pingap.stages.messages import EMPTY, UNKNOWN

STATUS_LINES: Final[dict[int, bytes]] = {
    status: b"HTTP/1.1 %d %b\r\n" % (status, REASONS.get(status, UNKNOWN_STATUS)) for status in range(100, 1000)
}

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK: Final = b"0\r\n\r\n"


def status_line(status: int, reason: bytes) -> bytes:
    """The first line of an answer. reason: as in `Response`, b"" for the usual one."""
    return b"HTTP/1.1 %d %b\r\n" % (status, reason) if reason else STATUS_LINES[status]


def request_head(method: bytes, target: bytes, headers: bytes, length: int, upgrade: bytes = b"") -> bytes:
    """A request to a backend. length: body bytes, UNKNOWN for chunked, 0 for none, EMPTY for none that is to be said.

    A method that usually has a body says `content-length: 0` when it has none (RFC 9110 section 8.6).
    """
    if length == 0:
        framing = b"content-length: 0\r\n" if method in (b"POST", b"PUT", b"PATCH") else b""
    elif length == EMPTY:
        framing = b"content-length: 0\r\n"
    elif length == UNKNOWN:
        framing = b"transfer-encoding: chunked\r\n"
    else:
        framing = b"content-length: %d\r\n" % length
    if reads_trailers(headers):
        framing += b"connection: te, upgrade\r\nupgrade: %b\r\n" % upgrade if upgrade else b"connection: te\r\n"
    elif upgrade:
        framing += b"connection: upgrade\r\nupgrade: " + upgrade + b"\r\n"
    return b"%b %b HTTP/1.1\r\n%b%b\r\n" % (method, target, headers, framing)


def chunk(payload: bytes) -> bytes:
    """One chunk; b"" for an empty payload, which would end the body."""
    return b"%x\r\n%b\r\n" % (len(payload), payload) if payload else b""
