"""Answers that no backend gave, or none to the end: errors, in the form that the client reads."""

from __future__ import annotations

from time import monotonic

from msgspec.structs import replace

from pingap.bus.actor import Context
from pingap.stages.accept.access_lines import AccessLines
from pingap.stages.accept.door import Door
from pingap.stages.accept.event import refused_stream
from pingap.stages.answers import page_response
from pingap.stages.client import Client
from pingap.stages.error_page import ErrorPages
from pingap.stages.grpc import error_for, trailers_for
from pingap.stages.http1.rules import RequestHead
from pingap.stages.messages import UNKNOWN, Response
from pingap.stages.stream import OwnedStream
from pingap.stages.stream_states import ANSWERING, HALF_SHUT, TUNNEL
from pingap.stages.streams import Streams


class ErrorAnswers:
    """To requests that the stages could not answer, or shall not see."""

    def __init__(self, context: Context, streams: Streams, lines: AccessLines) -> None:
        self._context = context
        self._streams = streams
        self._lines = lines
        self.pages = ErrorPages()
        """Of the committed generation."""
        self.refused_heads = 0
        """So many requests never became a stream."""

    def answer(self, stream: OwnedStream, kind: str) -> Response:
        """Makes the error page the stream's response (kind as in stages/errors.py)."""
        stream.failed = kind
        stream.state = ANSWERING
        response = page_response(stream.sid, self._context.id, self.pages.page(kind), stream.request.method, None)
        stream.response = response
        return response

    def refuse(
        self, client: Client, door: Door, refused: OwnedStream | RequestHead, kind: str, detail: str, at: float
    ) -> tuple[int, bytes, bytes]:
        """Status, headers and body that answer a request which broke the rules; writes its event too.

        refused: as far as it had come: a stream, a head whose body was awaited, or what can be told of a head.
        at: monotonic seconds at which it began to arrive.
        """
        head = refused.request if isinstance(refused, OwnedStream) else refused
        status, headers, body = self.pages.page(kind)
        grpc = error_for(head.headers, status, headers, body, kind)
        if grpc is not None:
            status, headers, body = 200, grpc, b""
        elif head.method == b"HEAD":
            body = b""
        self.record(client, door, refused, kind, detail, at, sent=len(body))
        return status, headers, body

    def record(
        self,
        client: Client,
        door: Door,
        refused: OwnedStream | RequestHead,
        kind: str,
        detail: str,
        at: float,
        sent: int = 0,
        received: int = 0,
    ) -> None:
        """Writes the event of a request that no stage will answer. sent, received: body bytes of the answer, of the request."""
        now = monotonic()
        if isinstance(refused, OwnedStream):
            refused.failed, refused.reason, refused.responded, refused.sent = kind, detail, now, sent
            self._streams.ended(refused, now, detail)
        else:
            self.refused_heads += 1
            stream = refused_stream(client, door.name, refused, at)
            stream.failed, stream.reason, stream.responded, stream.sent, stream.received = kind, detail, now, sent, received
            self._lines.record(stream, now, self._streams.by_sid)
        self._context.log("debug", "request refused", kind=kind, detail=detail, client=client.arrival.peer.ip)


def as_read_by(stream: OwnedStream, response: Response) -> Response:
    """An error that no backend gave, in the form that a gRPC client reads; any other answer as it is.

    The log keeps the status that others get: it says more than the 200 of every answer in gRPC.
    """
    report = response.report
    if not response.ended or (report is not None and report.addr) or stream.request.upgrade:
        return response  # also to who wants a tunnel: over HTTP/2 its 200 would open one
    kind = stream.failed or (report.error if report is not None else "")
    grpc = error_for(stream.request.headers, response.status, response.headers, response.body, kind)
    return response if grpc is None else replace(response, status=200, headers=grpc, length=0, body=b"")


def status_of_cut(stream: OwnedStream) -> bytes:
    """The trailers with which an answer in gRPC ends that breaks off; b"" for any other, which nothing but a reset shows to be cut.

    One that has told its length is among those: its client counts.
    """
    response = stream.response
    if response is None or response.length != UNKNOWN or stream.bodiless or stream.state in (TUNNEL, HALF_SHUT):
        return b""
    return trailers_for(stream.request.headers, response.headers, stream.failed or "overloaded")  # "" when accept has to stop
