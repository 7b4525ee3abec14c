"""gRPC-Web of a client, gRPC to the backend (grpc/grpc: doc/PROTOCOL-WEB.md, doc/PROTOCOL-HTTP2.md).

Two things differ. What HTTP/2 says in trailers is the last frame of the body, for browsers show scripts no trailers; and
the text variant has both bodies in base64. Messages are framed alike and are never collected here: a message of any
length passes as it comes.
"""

from __future__ import annotations

from binascii import Error as BadBase64
from binascii import a2b_base64, b2a_base64
from typing import Final

from pingap.stages.grpc import GRPC, GRPC_WEB, lines_of_cut
from pingap.stages.headers import cutter, joined, value_of
from pingap.stages.http1.rules import READS_TRAILERS, AnswerHead, ProtocolError, reads_trailers
from pingap.stages.messages import UNKNOWN

PREFIX: Final = 5
"""Bytes before each message: flags, then its length in 4 bytes, most significant first."""
TRAILERS: Final = 0x80
"""The flag of the frame that holds the trailers."""
NO_STATUS: Final = b"grpc-status: 2\r\ngrpc-message: The backend gave no status.\r\n"
"""UNKNOWN: what a gRPC client makes of an answer that lacks one (doc/http-grpc-status-mapping.md)."""

_NO_BODY: Final = frozenset((204, 205, 304))
_cut_content_type: Final = cutter((b"content-type",))


def bridge_of(method: bytes, headers: bytes) -> Bridge | None:
    """A bridge for a request that is gRPC-Web; None for any other. headers: its block in normal form."""
    content_type = value_of(headers, b"content-type")
    web = GRPC_WEB.match(content_type) if content_type is not None and method == b"POST" else None
    if web is None:
        return None
    sends_text = web[1] is not None
    accept = joined(headers, b"accept")
    accepted = GRPC_WEB.search(accept) if accept is not None else None
    # A client that names neither form of answer gets the one that it speaks itself.
    reads_text = accepted[1] is not None if accepted is not None else sends_text
    return Bridge(sends_text, reads_text, web[2] or b"")


class Bridge:
    """One request and its answer."""

    __slots__ = ("_decoder", "_encoder", "_frames", "_has_status", "_is_grpc", "_kind", "_suffix")

    def __init__(self, sends_text: bool, reads_text: bool, suffix: bytes) -> None:
        """suffix: what the messages are, `+proto` say, or b""."""
        self._decoder = Base64Decoder() if sends_text else None
        self._encoder = Base64Encoder() if reads_text else None
        self._frames = Frames()
        self._kind = b"application/grpc-web-text" if reads_text else b"application/grpc-web"
        self._suffix = suffix
        self._is_grpc = False
        """The answer is one that is to be translated."""
        self._has_status = False

    def request(self, headers: bytes, length: int, body: bytes, ended: bool) -> tuple[bytes, int, bytes]:
        """(headers, length, body) of the gRPC request. Raises ProtocolError for a body that is no base64."""
        headers = b"%bcontent-type: application/grpc%b\r\n" % (_cut_content_type(headers), self._suffix)
        if not reads_trailers(headers):
            headers += READS_TRAILERS
        if self._decoder is None:
            return headers, length, body
        body = self.upload(body, ended)
        return headers, len(body) if ended else UNKNOWN, body

    def upload(self, payload: bytes, ended: bool) -> bytes:
        """More of the request's body. Raises ProtocolError for what is no base64."""
        return payload if self._decoder is None else self._decoder.decode(payload, ended)

    def answer(self, head: AnswerHead, body: bytes, ended: bool) -> tuple[AnswerHead, bytes]:
        """The answer's head and what came with it. One that is not gRPC, an error page say, passes as it is.

        A status in the head (an answer of trailers only) stays there: PROTOCOL-WEB.md wants it so.
        """
        content_type = value_of(head.headers, b"content-type")
        grpc = GRPC.match(content_type) if content_type is not None and head.status not in _NO_BODY else None
        if grpc is None:
            return head, body
        self._is_grpc = True
        self._has_status = value_of(head.headers, b"grpc-status") is not None
        kind = self._kind + (grpc[1] or self._suffix)
        headers = b"%bcontent-type: %b\r\n" % (_cut_content_type(head.headers), kind)
        body = self.download(body, ended, b"")
        return head._replace(headers=headers, length=len(body) if ended else UNKNOWN, chunked=False), body

    def download(self, payload: bytes, ended: bool, trailers: bytes) -> bytes:
        """More of the answer's body; its trailers become the end of it. Maybe b"" where less than a character is known."""
        if not self._is_grpc:
            return payload
        encoder = self._encoder
        if encoder is not None:
            payload = encoder.encode(payload, ended)
        elif not ended:
            self._frames.passed(payload)
        if ended and (trailers or not self._has_status):
            payload += self._last(trailers or NO_STATUS)
        return payload

    def cut(self, kind: str) -> bytes:
        """The end of an answer that breaks off with an error of this kind, after whole messages; b"" within one, where a status would
        be taken for a part of it, and where nobody looks for one."""
        is_between = self._frames.is_between if self._encoder is None else self._encoder.is_between
        lines = lines_of_cut(kind) if self._is_grpc and not self._has_status and is_between else b""
        return self._last(lines) if lines else b""

    def _last(self, trailers: bytes) -> bytes:
        frame = trailers_frame(trailers)
        return frame if self._encoder is None else b2a_base64(frame, newline=False)


def trailers_frame(trailers: bytes) -> bytes:
    """The last frame of a body. trailers: lines in normal form, which is the form that the frame wants."""
    return b"%c%b%b" % (TRAILERS, len(trailers).to_bytes(4, "big"), trailers)


class Frames:
    """Where in a stream of frames a body has come to."""

    __slots__ = ("_left", "_prefix")

    def __init__(self) -> None:
        self._left = 0
        """Bytes of the present frame that are to come, once its prefix is here."""
        self._prefix = b""

    @property
    def is_between(self) -> bool:
        """No frame has begun that has not ended."""
        return not self._left and not self._prefix

    def passed(self, data: bytes) -> None:
        """More of the body."""
        if self._prefix:
            data, self._prefix = self._prefix + data, b""
        at, size = self._left, len(data)
        while at + PREFIX <= size:
            at += PREFIX + int.from_bytes(data[at + 1 : at + PREFIX], "big")
        if at < size:
            self._prefix, at = data[at:], size
        self._left = at - size


class Base64Decoder:
    """Decodes a stream of base64 (RFC 4648 section 4) in which padding may end any group of four, not only the last."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""
        """Less than a group."""

    def decode(self, data: bytes, ended: bool) -> bytes:
        """All that is known of the bytes so far. Raises ProtocolError for what is no base64, and for an end within a group."""
        if self._rest:
            data = self._rest + data
        end = len(data) & ~3
        if ended and end != len(data):
            raise ProtocolError("bad_request", "base64 of a gRPC-Web body ends within a group")
        self._rest = data[end:]
        parts = []
        at = 0
        try:
            while (padding := data.find(b"=", at, end)) >= 0:
                if padding & 3 < 2:
                    raise BadBase64  # a2b_base64 would let a group of nothing but padding pass after a whole one
                group_end = (padding & ~3) + 4
                parts.append(a2b_base64(data[at:group_end], strict_mode=True))
                at = group_end
            parts.append(a2b_base64(data[at:end], strict_mode=True))
        except BadBase64:
            raise ProtocolError("bad_request", "a gRPC-Web body that is not base64") from None
        return b"".join(parts) if at else parts[0]


class Base64Encoder:
    """Encodes a stream of frames, each of them as a base64 text of its own, as other proxies do.

    So all of a frame can be read as soon as it is here, padding stands nowhere but at the end of frames, and what comes out
    does not depend on how the bytes came in.
    """

    __slots__ = ("_left", "_rest")

    def __init__(self) -> None:
        self._rest = b""
        """Bytes that are not encoded yet: a part of a prefix, or less than three bytes of a frame."""
        self._left = 0
        """Bytes of the present frame from `_rest` on; 0 while its prefix is not whole."""

    @property
    def is_between(self) -> bool:
        """No frame has begun that has not ended."""
        return not self._left and not self._rest

    def encode(self, data: bytes, ended: bool) -> bytes:
        """Everything that can be encoded without a guess at what follows; at the end all of it."""
        if self._rest:
            data = self._rest + data
        view = memoryview(data)
        size, at, left = len(data), 0, self._left
        parts = []
        while at < size:
            if not left:
                if size - at < PREFIX:
                    break
                left = PREFIX + int.from_bytes(view[at + 1 : at + PREFIX], "big")
            take = left if left <= size - at else (size - at) // 3 * 3
            if not take:
                break
            parts.append(b2a_base64(view[at : at + take], newline=False))
            at += take
            left -= take
        self._left = left
        self._rest = data[at:]
        if ended and self._rest:  # the backend broke off within a frame, which the client shall see
            parts.append(b2a_base64(self._rest, newline=False))
            self._rest = b""
        return b"".join(parts)
