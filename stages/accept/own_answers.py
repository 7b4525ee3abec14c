"""Answers that no backend gave, or none to the end: errors, in the form that the client reads."""

from __future__ import annotations

from msgspec.structs import replace

from pingap.stages.accept.core import State
from pingap.stages.accept.stream import Stream
from pingap.stages.error_page import ErrorPages
from pingap.stages.grpc import error_for, trailers_for
from pingap.stages.http1.rules import RequestHead
from pingap.stages.messages import UNKNOWN, Request, Response


def error_answer(stream: Stream, kind: str, pages: ErrorPages, source: int) -> Response:
    """The error page as the stream's response. source: the accept actor."""
    stream.failed = kind
    stream.state = State.RESPONDING
    status, headers, body = pages.page(kind)
    length = len(body)
    if stream.request.method == b"HEAD":
        body = b""
    stream.response = Response(stream.sid, source, status, headers, length, body, True, None, ())
    return as_read_by(stream, stream.response)


def refusal(head: Request | RequestHead, kind: str, pages: ErrorPages) -> tuple[int, bytes, bytes]:
    """Status, headers and body for a request that broke the rules. head: all that is known of it."""
    status, headers, body = pages.page(kind)
    grpc = error_for(head.headers, status, headers, body, kind)
    if grpc is not None:
        return 200, grpc, b""
    return status, headers, b"" if head.method == b"HEAD" else body


def as_read_by(stream: Stream, response: Response) -> Response:
    """An error that no backend gave, in the form that a gRPC client reads; any other answer as it is.

    The log keeps the status that others get: it says more than the 200 of every answer in gRPC.
    """
    report = response.report
    if not response.ended or (report is not None and report.addr) or stream.request.upgrade:
        return response  # also to who wants a tunnel: over HTTP/2 its 200 would open one
    kind = stream.failed or (report.error if report is not None else "")
    grpc = error_for(stream.request.headers, response.status, response.headers, response.body, kind)
    return response if grpc is None else replace(response, status=200, headers=grpc, length=0, body=b"")


def status_of_cut(stream: Stream) -> bytes:
    """The trailers with which an answer in gRPC ends that breaks off; b"" for any other, which nothing but a reset shows to be cut.

    One that has told its length is among those: its client counts.
    """
    response = stream.response
    if response is None or response.length != UNKNOWN or stream.bodiless or stream.is_tunnel:
        return b""
    return trailers_for(stream.request.headers, response.headers, stream.failed or "overloaded")  # "" when accept has to stop
