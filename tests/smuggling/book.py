"""What a stream of bytes says when it is read by the book: h11's opinion, which owes nothing to pingap."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import quote

import h11

import tests.kit.by_the_book  # noqa: F401 - mends h11

_BEYOND = re.compile(rb"([^ ]+ (?:[A-Za-z]+://[!-.0-~]*)?)(/[^ ]*)( [ -~]+)", re.DOTALL)
_ABSOLUTE = re.compile(rb"(?i)https?://([^/?]+)(.*)", re.DOTALL)


@dataclass(slots=True)
class Request:
    """One request as somebody understood it."""

    method: bytes
    target: bytes
    body: bytes
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    """Names in lower case."""

    def all(self, name: bytes) -> list[bytes]:
        return [value for known, value in self.headers if known == name]

    def said(self) -> tuple[bytes, bytes, bytes]:
        return self.method, self.target, self.body


@dataclass(slots=True)
class Reading:
    """The requests of a stream, in order."""

    requests: list[Request]
    closes: bool = False
    """The last of them says that no other follows: what comes behind it is for nobody."""
    error: str = ""
    """Why reading ended before the stream did."""
    rest: bytes = b""
    """What was not understood, or not complete."""


def read(wire: bytes) -> Reading:
    """One h11 connection for each request, so that nothing but framing goes from one to the next."""
    found: list[Request] = []
    while True:
        wire = re.sub(rb"\A(?:\r\n)+", b"", wire)  # RFC 9112 section 2.2: empty lines before a request are passed over
        if not wire:
            return Reading(found)
        try:
            request, closes, rest = _next(_escaped(wire))
        except h11.RemoteProtocolError as error:
            return Reading(found, error=str(error), rest=wire)
        if request is None:
            return Reading(found, error="incomplete", rest=wire)
        found.append(request)
        if closes:
            return Reading(found, closes=True, rest=rest)
        wire = rest


def _escaped(wire: bytes) -> bytes:
    """RFC 9112 has no byte beyond ASCII in a target. pingap takes those of a path and a query for their percent-encoding."""
    line, end, rest = wire.partition(b"\r\n")
    found = _BEYOND.fullmatch(line)
    if found is None or line.isascii():
        return wire
    return found[1] + escaped(found[2]) + found[3] + end + rest


def escaped(path: bytes) -> bytes:
    """A path, perhaps with a query, whose bytes beyond ASCII are percent-encoded."""
    return re.sub(rb"[^\x00-\x7f]+", lambda found: quote(found[0]).encode(), path)


def _next(wire: bytes) -> tuple[Request | None, bool, bytes]:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(wire)
    head = connection.next_event()
    if not isinstance(head, h11.Request):
        return None, False, b""
    body = b""
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            break
        else:
            return None, False, b""
    names = [token.strip().lower() for name, value in head.headers if name == b"connection" for token in value.split(b",")]
    closes = b"close" in names or (head.http_version != b"1.1" and b"keep-alive" not in names)
    headers = list(head.headers)
    target = head.target
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute:  # RFC 9112 section 3.2.2: the authority of the target replaces Host
        target = absolute[2] if absolute[2].startswith(b"/") else b"/" + absolute[2]
        headers = [(b"host", absolute[1].lower()), *((name, value) for name, value in headers if name != b"host")]
    return Request(head.method, target, body, headers), closes, connection.trailing_data[0]
