"""The writing half of an HTTP/1.x connection: how an answer is framed, and when it is cut (RFC 9112 section 6)."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final

from pingap.stages.accept.connection import BODILESS, TOP_UP, Connection
from pingap.stages.accept.stream import Stream
from pingap.stages.date import dated
from pingap.stages.http1.direct import reset
from pingap.stages.http1.render import LAST_CHUNK, STATUS_LINES, chunk, status_line
from pingap.stages.http1.rules import reads_trailers
from pingap.stages.http1.spelling import Spelled, respelled
from pingap.stages.messages import UNKNOWN, Data, Interim, Response

if TYPE_CHECKING:
    from pingap.stages.accept.intake import Intake

ONE_PIECE: Final = 16 * 1024
"""Up to this many bytes it is cheaper to copy a payload into its chunk than to hand the parts to the kernel."""

_FINAL: Final = {status: line for status, line in STATUS_LINES.items() if status >= 200}


class Http1Output(Connection):
    """Its state is set by who reads: what may be written depends on what has come."""

    __slots__ = ("_choked", "_intake", "_stream")

    _stream: Stream | None
    """The request that waits for its answer, or is being answered."""
    _intake: Intake | None
    """Of a request whose body has not all come, or whose answer has not waited for it."""
    _choked: bool
    """The client does not take what is written."""

    def respond(self, stream: Stream, response: Response, now: float) -> None:
        request = stream.request
        status, length, body = response.status, response.length, response.body
        framing = b""
        if status == 101:
            self._open_tunnel(stream, response, now)
            return
        if request.method == b"HEAD" or status in BODILESS:
            stream.bodiless = True
            body = b""  # a stage may have answered HEAD like GET: the client would take it for the next answer
            if length != UNKNOWN and status != 204:
                framing = b"content-length: %d\r\n" % length
        elif response.ended:
            framing = b"content-length: %d\r\n" % len(body)
        elif length != UNKNOWN:
            framing = b"content-length: %d\r\n" % length
        elif request.version >= 11:
            stream.chunked = True
            framing = b"transfer-encoding: chunked\r\n"
        else:
            stream.keep_alive = False
        settings = self.door.settings
        if self.actor.draining or not settings.keepalive_timeout:
            stream.keep_alive = False
        if not stream.upload_done:
            intake = self._intake
            if status >= 400 or intake is None or intake.is_expected:
                stream.keep_alive = False
            if intake is not None:
                intake.is_expected = False  # this is the final answer: 100 must not come after it
        if not stream.keep_alive:
            framing += b"connection: close\r\n"
        elif request.version < 11:
            framing += b"connection: keep-alive\r\n"
        if stream.chunked:
            body = chunk(body)
        headers = response.headers
        start = _FINAL[status]
        if response.reason:
            start = status_line(status, response.reason)
        date = dated(headers, now)
        if settings.preserve_header_case:
            headers, date, framing = respelled(b"%b%b%b" % (headers, date, framing), response.spelled), b"", b""
        out = b"%b%b%b%b\r\n%b" % (start, headers, date, framing, body)
        stream.responded = now
        self.write(out)
        if response.ended:
            stream.sent = len(body)
            self._finish(stream, now)
        else:
            stream.unacked = len(response.body)
            stream.sent = 0 if stream.bodiless else stream.unacked

    def interim(self, stream: Stream, interim: Interim) -> None:
        if stream.request.version >= 11:  # a client of 1.0 knows none (RFC 9110 section 15.2)
            headers = self._written(interim.headers, interim.spelled)
            self.write(b"%b%b\r\n" % (status_line(interim.status, interim.reason), headers))

    def _written(self, block: bytes, spelled: Spelled) -> bytes:
        """A block in normal form as this server's clients get it."""
        return respelled(block, spelled) if self.door.settings.preserve_header_case else block

    def body(self, stream: Stream, data: Data) -> None:
        response = stream.response
        assert response is not None
        if data.error:
            stream.failed = data.error
            if data.payload and response.length == UNKNOWN and not stream.bodiless:
                self._end_cut(stream, data.payload)
            else:
                self.cut(stream)
            return
        payload = data.payload
        size = len(payload)
        stream.unacked += size
        if not stream.bodiless:
            stream.sent += size
            if stream.chunked:
                if data.trailers and reads_trailers(stream.request.headers):
                    self._write_chunk(payload, False)
                    self.write(b"0\r\n%b\r\n" % self._written(data.trailers, response.spelled))
                else:
                    self._write_chunk(payload, data.ended)
            elif response.length == UNKNOWN or stream.sent <= response.length:
                if size:
                    self.write(payload)
            else:
                excess = stream.sent - response.length
                stream.sent = response.length
                if size > excess:
                    self.write(payload[:-excess])
                stream.failed = "bad_gateway"  # more than was promised: the client would take it for the next answer
                self.cut(stream)
                return
        if data.ended:
            if data.context and response.report is not None:
                response.report.context.update(data.context)
            if stream.is_tunnel and not stream.upload_done:
                self._half_shut(stream)
            elif response.length in (UNKNOWN, stream.sent) or stream.bodiless:
                self._finish(stream, monotonic())
            else:
                stream.failed = "bad_gateway"  # less than was promised: only a close can tell the client
                self.cut(stream)
        elif not self._choked and stream.unacked >= TOP_UP:
            self.actor.give_credit(stream)

    def _write_chunk(self, payload: bytes, ended: bool) -> None:
        size = len(payload)
        if size > ONE_PIECE:
            self._writer.writelines((b"%x\r\n" % size, payload, b"\r\n0\r\n\r\n" if ended else b"\r\n"))
        elif size:
            self.write(b"%x\r\n%b\r\n0\r\n\r\n" % (size, payload) if ended else b"%x\r\n%b\r\n" % (size, payload))
        elif ended:
            self.write(LAST_CHUNK)

    def _half_shut(self, stream: Stream) -> None:
        """The backend's half of a tunnel has ended."""
        if self.transport.can_write_eof():
            stream.is_half_shut = True
            self.transport.write_eof()
        else:
            self._finish(stream, monotonic())

    def fail(self, stream: Stream, kind: str) -> None:
        self.respond(stream, self.actor.own_answer(stream, kind), monotonic())

    def cut(self, stream: Stream) -> None:
        self._stream = None
        self.actor.ended(stream, monotonic(), stream.failed or "cut")
        response = stream.response
        if response is not None and response.length == UNKNOWN and not stream.chunked and not stream.bodiless:
            reset(self.transport)  # its end is the connection's end, so an orderly close would say that all is there
        else:
            self._close()

    def _end_cut(self, stream: Stream, last: bytes) -> None:
        """An answer that is cut off and says so at its end, which is an orderly one."""
        self._stream = None
        stream.sent += len(last)
        if stream.chunked:
            self._write_chunk(last, True)
        else:
            self.write(last)
        self.actor.ended(stream, monotonic(), stream.failed)
        self._close()

    # -- done by who reads --------------------------------------------------------

    def _open_tunnel(self, stream: Stream, response: Response, now: float) -> None:
        """The backend has agreed to switch protocols."""
        raise NotImplementedError

    def _finish(self, stream: Stream, now: float) -> None:
        """The answer is complete: on to the next request, or to the end."""
        raise NotImplementedError

    def _close(self) -> None:
        """Closes once the client has taken what waits for it."""
        raise NotImplementedError
