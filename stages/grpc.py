"""Errors of ours as a gRPC client reads them (grpc/grpc: doc/PROTOCOL-HTTP2.md, doc/http-grpc-status-mapping.md)."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final

from pingap.stages.errors import KINDS
from pingap.stages.headers import cutter, value_of

GRPC: Final = re.compile(rb"application/grpc(\+[!#$&^_.+a-z0-9-]+)?(?=[ \t]*(?:;|$))", re.IGNORECASE)
"""Its first group is what the messages are, `+proto` say."""
GRPC_WEB: Final = re.compile(rb"application/grpc-web(-text)?(\+[!#$&^_.+a-z0-9-]+)?(?=[ \t]*(?:[;,]|$))", re.IGNORECASE)
"""Its first group is there for the text variant; its second is what the messages are."""

UNKNOWN: Final = 2
_CODES: Final = {400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 431: 13, 502: 14, 503: 14, 504: 14}
"""HTTP status → gRPC status, as a client has to guess it without us; every other is UNKNOWN."""
_BY_KIND: Final = {"call_cancelled": 1, "deadline_exceeded": 4}
"""Errors that only gRPC knows."""
_TIMEOUT: Final = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNITS: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}
_LONGEST: Final = 1024
"""Bytes of a text that is worth a grpc-message."""
_ESCAPED: Final = re.compile(rb"[^ -$&-~]")
_cut_what_replaces_it: Final = cutter((b"content-type",))


def error_for(asked: bytes, status: int, headers: bytes, body: bytes, kind: str) -> bytes | None:
    """The head of an error of ours for a client that speaks gRPC or gRPC-Web, to be sent with 200 and no body; None for any other.

    asked: the request's header block. status, headers, body: the error as others get it. kind: its name in
    stages/errors.py, or "" for what a plugin says.

    So both read an answer of trailers only. For gRPC-Web a status of HTTP would do by its rules, but the library that
    pages use then looks at nothing else, and takes 502 for UNKNOWN.
    """
    content_type = value_of(asked, b"content-type")
    if content_type is None or not (GRPC.match(content_type) or GRPC_WEB.match(content_type)):
        return None
    own = value_of(headers, b"content-type") or b""
    if GRPC.match(own) or GRPC_WEB.match(own):
        return None  # a plugin that speaks gRPC itself
    if kind:
        text = KINDS[kind].text.encode()
    elif own.startswith(b"text/plain") and 0 < len(body) <= _LONGEST:
        text = body.strip()
    else:
        text = _PHRASES.get(status, "").encode()
    return b"%bcontent-type: %b\r\n%b" % (_cut_what_replaces_it(headers), content_type, _status_lines(kind, status, text))


def timeout_of(headers: bytes) -> float | None:
    """Seconds that a call may take by its `grpc-timeout`; None when it has none. headers: the request's block."""
    match = _TIMEOUT.fullmatch(value_of(headers, b"grpc-timeout") or b"")
    return None if match is None else int(match[1]) * _UNITS[match[2]]


def is_call(headers: bytes) -> bool:
    """A request, or an answer, with this header block speaks gRPC."""
    return GRPC.match(value_of(headers, b"content-type") or b"") is not None


def trailers_for(asked: bytes, answer: bytes, kind: str) -> bytes:
    """The trailers of an answer in gRPC that breaks off with an error of this kind.

    b"" for what is not gRPC on both sides, where nobody would look at a status and take the answer for whole; and for a fault of
    the client's own. asked, answer: the header blocks.
    """
    return lines_of_cut(kind) if is_call(asked) and is_call(answer) else b""


def lines_of_cut(kind: str) -> bytes:
    """The status of an answer that breaks off with an error of this kind, as lines; b"" for a fault of the client's own."""
    error = KINDS.get(kind)
    if error is None or error.source == "client":
        return b""
    return _status_lines(kind, error.status, b"The answer was cut off. %b" % error.text.encode())


def _status_lines(kind: str, status: int, text: bytes) -> bytes:
    """status: that of HTTP."""
    message = _ESCAPED.sub(lambda found: b"%%%02X" % found[0][0], text)
    return b"grpc-status: %d\r\ngrpc-message: %b\r\n" % (_BY_KIND.get(kind) or _CODES.get(status, UNKNOWN), message)
