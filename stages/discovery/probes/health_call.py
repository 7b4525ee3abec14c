"""The call of grpc.health.v1.Health/Check: what is sent, and what the answer says. Without I/O.

https://github.com/grpc/grpc/blob/master/doc/health-checking.md and PROTOCOL-HTTP2.md beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote

from pingap.stages.discovery.probes.failed import ClosedEarly, ProbeFailed
from pingap.stages.http2.engine import BODY, HEAD, INTERIM, NO_ERROR, RESET, TRAILERS, Event, Fields

PATH: Final = b"/grpc.health.v1.Health/Check"

MOST_INTERIM: Final = 8
"""Interim answers (1xx) before the one that counts."""

MOST_MESSAGE: Final = 1024
"""Bytes of the answer's messages; two would do."""

_SERVING: Final = 1
_SERVING_STATUS: Final = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")
_OK, _NOT_FOUND, _UNIMPLEMENTED = 0, 5, 12
_CODES: Final = (
    ("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED")
    + ("RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE")
    + ("DATA_LOSS", "UNAUTHENTICATED")
)


def fields_of_request(authority: str, is_secure: bool, seconds: float) -> Fields:
    """seconds: that the call may take, at most 99,999 of which are said."""
    return (
        (b":method", b"POST"),
        (b":scheme", b"https" if is_secure else b"http"),
        (b":path", PATH),
        (b":authority", authority.encode()),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
        (b"user-agent", b"pingap-health-check"),
        (b"grpc-timeout", b"%dm" % min(99_999_999, max(1, round(seconds * 1000)))),
    )


def request_message(service: str) -> bytes:
    """HealthCheckRequest with its length before it."""
    name = service.encode()
    message = b"\x0a" + _varint(len(name)) + name if name else b""
    return b"\0" + len(message).to_bytes(4, "big") + message


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*out, number))


class HealthCall:
    """One call, from its events to its verdict. `take` raises ProbeFailed as soon as it cannot pass any more."""

    def __init__(self, stream_id: int, service: str) -> None:
        self.stream_id = stream_id
        self._service = service
        self._interim = 0
        self._body = b""
        self._status = b""
        """grpc-status, as it came."""
        self._message = b""
        """grpc-message, as it came."""
        self._has_head = False
        self.is_over = False

    def take(self, event: Event) -> None:
        """Events of other streams, and of the connection, are no business of this one."""
        if getattr(event, "stream_id", 0) != self.stream_id or self.is_over:
            return
        kind = event.kind
        if kind == INTERIM:
            self._interim += 1
            if self._interim > MOST_INTERIM:
                raise ProbeFailed("sends interim answers without end")
        elif kind == HEAD:
            self._head(event.fields, event.ended)  # type: ignore[union-attr]
        elif kind == BODY:
            self._body += event.data  # type: ignore[union-attr]
            if len(self._body) > MOST_MESSAGE:
                raise ProbeFailed("the answer is too long for one of a health check")
            if event.ended:  # type: ignore[union-attr]
                raise ProbeFailed("the answer ends without a status (grpc-status)")
        elif kind == TRAILERS:
            self._ended(event.fields)  # type: ignore[union-attr]
        elif kind == RESET:
            code = event.code  # type: ignore[union-attr]
            raise ClosedEarly(f"broke the call off (HTTP/2 error {code})" if code != NO_ERROR else "broke the call off")

    def _head(self, fields: Fields, ended: bool) -> None:
        found = dict(fields)
        if found.get(b":status") != b"200":
            raise ProbeFailed(f"answered with HTTP status {_text(found.get(b':status', b''))}, not in gRPC")
        if not found.get(b"content-type", b"").lower().startswith(b"application/grpc"):
            raise ProbeFailed(f"does not answer in gRPC, but in {_text(found.get(b'content-type', b'')) or 'nothing'}")
        if ended:
            self._ended(fields)

    def _ended(self, fields: Fields) -> None:
        """With the trailers, which an answer without messages has in its head."""
        found = dict(fields)
        self.is_over = True
        status, message = found.get(b"grpc-status", b""), found.get(b"grpc-message", b"")
        if not status.isdigit() or len(status) > 4:
            raise ProbeFailed("the answer ends without a status (grpc-status)")
        code = int(status)
        if code != _OK:
            raise ProbeFailed(self._refused(code, unquote(_text(message))))
        serving = serving_status(self._body)
        if serving != _SERVING:
            name = _SERVING_STATUS[serving] if serving < len(_SERVING_STATUS) else str(serving)
            raise ProbeFailed(f"{self._named()} is not serving ({name})")

    def _named(self) -> str:
        return f"service {self._service!r}" if self._service else "the server"

    def _refused(self, code: int, message: str) -> str:
        if code == _NOT_FOUND:
            return f"does not know {self._named()} (NOT_FOUND)"
        if code == _UNIMPLEMENTED:
            return "has no health service: grpc.health.v1.Health is not registered there (UNIMPLEMENTED)"
        name = _CODES[code] if code < len(_CODES) else str(code)
        return f"the call failed with status {name}{f': {message}' if message else ''}"


def serving_status(body: bytes) -> int:
    """`status` of the one HealthCheckResponse in a body (length and message). Raises ProbeFailed."""
    if len(body) < 5:
        raise ProbeFailed("the answer has no message")
    if body[0]:
        raise ProbeFailed("the answer is compressed, which was not asked for")
    if int.from_bytes(body[1:5], "big") != len(body) - 5:
        raise ProbeFailed("the answer is not one whole message")
    status = 0  # protobuf leaves out what is zero
    try:
        for number, value in _fields(body[5:]):
            if number == 1 and isinstance(value, int):
                status = value
    except (IndexError, ValueError) as error:
        raise ProbeFailed("the answer is no HealthCheckResponse") from error
    return status


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number, value) of each field of a message in protobuf. Raises IndexError, ValueError."""
    at = 0
    while at < len(message):
        key, at = _number(message, at)
        kind = key & 7
        if kind == 0:
            value, at = _number(message, at)
            yield key >> 3, value
            continue
        if kind == 2:
            length, at = _number(message, at)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError("a group, or no field at all")
        if at + length > len(message):
            raise ValueError("cut off")
        yield key >> 3, message[at : at + length]
        at += length


def _number(message: bytes, at: int) -> tuple[int, int]:
    """A varint at a place, and the place behind it."""
    number = shift = 0
    while True:
        byte = message[at]
        number |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return number, at
        shift += 7
        if shift > 63:
            raise ValueError("a number too long")


def _text(value: bytes) -> str:
    return value[:200].decode("latin-1")
