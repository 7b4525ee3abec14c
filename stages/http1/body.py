"""Decoders of the three body framings (RFC 9112 sections 6 and 7): by length, chunked, until the connection closes."""

from __future__ import annotations

import re
from collections.abc import Container
from typing import Final, Protocol

from pingap.stages.http1.rules import NOT_IN_TRAILERS, TOKEN, VALUE, ProtocolError

_SIZE_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[\t ]*;[\t\x20-\x7e\x80-\xff]*)?")
"""White space only before an extension, where a recipient has to take it (BWS, RFC 9112 section 7.1.1), and neither around a bare size."""

_PADDED_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[\t ]*(?:;[\t\x20-\x7e\x80-\xff]*)?")
"""For backends: several pad their sizes to a fixed width. No request is read so."""

MAX_LINE: Final = 4096
"""Bytes of one chunk-size line with its extensions, or of one trailer line."""

MAX_OVERHEAD: Final = 64 * 1024
"""Bytes of chunk extensions and trailers of one body: they are dropped, so they must not be a way to send for ever."""


_AT_SIZE: Final = 0
_AT_DATA: Final = 1
_AT_DATA_END: Final = 2
_AT_TRAILER: Final = 3
"""What comes next of a chunked body."""


class BodyDecoder(Protocol):
    done: bool
    rest: bytes
    """What follows the body, once it is done."""

    def feed(self, data: bytes) -> bytes:
        """Payload bytes in `data`. Raises ProtocolError("bad_request") on broken framing."""


class LengthBody:
    """A body of exactly `length` bytes."""

    __slots__ = ("done", "left", "rest")

    def __init__(self, length: int) -> None:
        self.left = length
        self.done = length == 0
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        size = len(data)
        if size < self.left:
            self.left -= size
            return data
        payload, self.rest = (data, b"") if size == self.left else (data[: self.left], data[self.left :])
        self.left = 0
        self.done = True
        return payload


class CloseBody:
    """A response body that ends with the connection."""

    __slots__ = ("done", "rest")

    def __init__(self) -> None:
        self.done = False
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        return data


class ChunkedBody:
    """Chunked coding: extensions are checked and dropped, trailers are collected in normal form, without those that may not be there."""

    __slots__ = ("_buffer", "_left", "_overhead", "_size_line", "_state", "_unwanted", "done", "rest", "trailers")

    def __init__(self, unwanted: Container[bytes] = (), is_lenient: bool = False) -> None:
        """unwanted: names that no trailer may have besides those that none ever has (`RequestHead.named`).

        is_lenient: white space after a chunk's size is forgiven, for an answer.
        """
        self._size_line = _PADDED_LINE if is_lenient else _SIZE_LINE
        self.done = False
        self.rest = b""
        self.trailers = b""
        self._unwanted = unwanted
        self._buffer = b""
        self._left = 0
        self._overhead = 0
        self._state = _AT_SIZE

    def feed(self, data: bytes) -> bytes:
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        payload: list[bytes] = []
        at, size = 0, len(data)
        while at < size and not self.done:
            if self._state == _AT_DATA:
                take = min(self._left, size - at)
                payload.append(data[at : at + take])
                at += take
                self._left -= take
                if not self._left:
                    self._state = _AT_DATA_END
            elif self._state == _AT_DATA_END:
                if size - at < 2:
                    if data[at] != 13:
                        raise ProtocolError("bad_request", "chunk not ended by CRLF")
                    break
                if data[at : at + 2] != b"\r\n":
                    raise ProtocolError("bad_request", "chunk not ended by CRLF")
                at += 2
                self._state = _AT_SIZE
            else:
                end = data.find(b"\n", at)
                if end < 0:
                    if size - at > MAX_LINE:
                        raise ProtocolError("bad_request", "chunk line too long")
                    break
                if end - at > MAX_LINE:
                    raise ProtocolError("bad_request", "chunk line too long")
                if data[end - 1 : end] != b"\r" or end == at:
                    raise ProtocolError("bad_request", "bare LF in chunked body")
                line = data[at : end - 1]
                at = end + 1
                if self._state == _AT_SIZE:
                    self._begin_chunk(line)
                else:
                    self._take_trailer(line)
        if self.done:
            self.rest = data[at:]
        else:
            self._buffer = data[at:]
        return payload[0] if len(payload) == 1 else b"".join(payload)

    def _begin_chunk(self, line: bytes) -> None:
        match = self._size_line.fullmatch(line)
        if match is None:
            raise ProtocolError("bad_request", "malformed chunk size")
        self._left = int(match[1], 16)
        self._count(len(line) - len(match[1]))
        self._state = _AT_DATA if self._left else _AT_TRAILER

    def _take_trailer(self, line: bytes) -> None:
        if not line:
            self.done = True
            return
        name, colon, value = line.partition(b":")
        value = value.strip(b" \t")
        if not colon or not name or name.translate(None, TOKEN) or value.translate(None, VALUE):
            raise ProtocolError("bad_request", "malformed trailer")
        self._count(len(line))
        name = name.lower()
        if name not in NOT_IN_TRAILERS and name not in self._unwanted:
            self.trailers += b"%b: %b\r\n" % (name, value)

    def _count(self, overhead: int) -> None:
        self._overhead += overhead
        if self._overhead > MAX_OVERHEAD:
            raise ProtocolError("bad_request", "too many chunk extensions or trailers")
