"""Counters against floods: frames that cost us more than their sender. Pure: `now` comes in.

What a correct peer may do must never add up: what it may do once for each stream is worth one for each that was answered
whole, and its rate is then bounded by what an answer costs.

What is counted is read from the frame headers of the incoming bytes, the same for
every engine and before it. Each kind of frame has a bucket that holds `burst`
frames and refills at `rate` a second; a peer that empties one has its connection
ended with ENHANCE_YOUR_CALM. An ordinary HEADERS or DATA frame costs its peer
what it costs us and is not counted.
"""

from __future__ import annotations

from functools import cache
from typing import Final, NamedTuple

from pingap.stages.http2.engine import ENHANCE_YOUR_CALM, FRAME, FRAME_SIZE_ERROR, PROTOCOL_ERROR, Http2Error

_DATA, _HEADERS, _PRIORITY, _RST, _SETTINGS, _PUSH, _PING, _GOAWAY, _WINDOW, _CONTINUATION = range(10)
_PRIORITY_UPDATE: Final = 0x10
_ONE_A_STREAM: Final = frozenset(("resets", "empty", "priorities", "windows", "others"))
_END_STREAM, _END_HEADERS, _PADDED = 0x1, 0x4, 0x8
_PIECE: Final = 1024
_WORTH: Final = 2 * _PIECE


class Bucket(NamedTuple):
    burst: float
    rate: float
    """A second."""


class Floods(NamedTuple):
    """How much of each is too much."""

    resets: Bucket = Bucket(400, 40)
    """RST_STREAM from the peer (rapid reset, CVE-2023-44487), beyond one for every stream that was answered whole."""
    forced: Bucket = Bucket(100, 10)
    """RST_STREAM that the peer's errors made us send (CVE-2025-8671)."""
    pings: Bucket = Bucket(100, 10)
    """PING beyond one for every write of a body: gRPC measures the path with each message it gets."""
    settings: Bucket = Bucket(50, 5)
    empty: Bucket = Bucket(100, 10)
    """DATA and HEADERS frames that carry nothing and end nothing (CVE-2019-9518), beyond one for every answered stream."""
    priorities: Bucket = Bucket(1000, 100)
    """PRIORITY and PRIORITY_UPDATE (RFC 9218), beyond one for every answered stream."""
    windows: Bucket = Bucket(2000, 200)
    """WINDOW_UPDATE beyond one for every KiB that we sent, two for every write (of the stream and of the connection), and one
    for every answered stream: Firefox opens the window of each, a 304 writes no body."""
    others: Bucket = Bucket(100, 10)
    """Unknown frames, PUSH_PROMISE, GOAWAY, beyond one for every answered stream: extensions are to be ignored (RFC 9113
    section 5.5), and Chrome sends some with its requests to keep it so."""
    continuations: int = 32
    """CONTINUATION frames of one header block (CVE-2024-27316)."""
    block: int = 128 * 1024
    """Bytes of one header block over all its frames."""


DEFAULT: Final = Floods()


@cache
def for_lists_of(size: int) -> Floods:
    """Lets field lists through that the limits of a server allow, and as much again, so that they can be answered. size: bytes."""
    block = max(DEFAULT.block, 2 * size)
    return DEFAULT._replace(block=block, continuations=max(DEFAULT.continuations, 2 * block // FRAME))


class FloodGuard:
    """For one connection. Feed it what comes, before the engine; begin after the client's preface."""

    __slots__ = (
        "_block",
        "_continuations",
        "_floods",
        "_header",
        "_levels",
        "_sent",
        "_skip",
        "_stamps",
        "_worth",
        "_writes",
        "answered",
        "goodbyes",
    )

    def __init__(self, preface: int = 0, floods: Floods = DEFAULT) -> None:
        """preface: bytes to skip before the first frame."""
        self._floods = floods
        self._skip = preface
        self._header = b""
        self._block = 0
        self._continuations = 0
        self._levels: dict[str, float] = {}
        self._stamps: dict[str, float] = {}
        self._sent = 0
        self._writes = 0
        """Writes that no PING has answered yet."""
        self.answered = 0
        """Streams that were answered whole; counted by who answers."""
        self._worth: dict[str, int] = {}
        """So many of them have been made use of, by counter."""
        self.goodbyes: list[int] = []
        """Where in the bytes that came last, or behind them, the last stream id of a GOAWAY begins."""

    def came(self, data: bytes, now: float) -> None:
        """Counts the frames that begin in `data`. Raises Http2Error."""
        at, size = self._skip, len(data)
        if at >= size:
            self._skip = at - size
            return
        before = 0
        if self._header:
            before = len(self._header)
            data = self._header + data
            size = len(data)
            self._header = b""
        while size - at >= 9:
            length = data[at] << 16 | data[at + 1] << 8 | data[at + 2]
            kind, flags = data[at + 3], data[at + 4]
            if length > FRAME:
                raise Http2Error(FRAME_SIZE_ERROR, "frame too large")
            if kind == _HEADERS:
                if not flags & _END_HEADERS or self._block:
                    self._begin_block(length, flags)
            elif kind == _DATA:
                if length < 2 and not flags & _END_STREAM and (not length or flags & _PADDED):
                    self._take("empty", now, 1)
            else:
                if kind == _PRIORITY and not int.from_bytes(data[at + 5 : at + 9], "big") & 0x7FFFFFFF:
                    raise Http2Error(PROTOCOL_ERROR, "PRIORITY on stream 0")  # libnghttp2 no longer looks at it
                if kind == _GOAWAY and length >= 8:
                    self.goodbyes.append(at + 9 - before)
                self._take_other(kind, flags, length, now)
            at += 9 + length
        if at < size:
            self._header = data[at:]
            self._skip = 0
        else:
            self._skip = at - size

    def _begin_block(self, length: int, flags: int) -> None:
        self._continuations = 0
        self._block = 0 if flags & _END_HEADERS else length or 1

    def _take_other(self, kind: int, flags: int, length: int, now: float) -> None:
        if kind == _CONTINUATION:
            self._continuations += 1
            self._block += length
            if self._continuations > self._floods.continuations or self._block > self._floods.block:
                raise Http2Error(ENHANCE_YOUR_CALM, "header block in too many pieces")
            if flags & _END_HEADERS:
                self._block = self._continuations = 0
        elif kind == _WINDOW:
            self._take("windows", now, 1)
        elif kind == _RST:
            self._take("resets", now, 1)
        elif kind == _PING:
            self._take("pings", now, 1)
        elif kind == _SETTINGS:
            self._take("settings", now, 1)
        elif kind in (_PRIORITY, _PRIORITY_UPDATE):
            self._take("priorities", now, 1)
        else:
            self._take("others", now, 1)

    def without_last_streams(self, data: bytes) -> bytes:
        """What came, with 0 for the last stream id of every GOAWAY: for an end that opens no streams.

        Clients name there what they like (Go 2^31-1, others the last stream of their own), which libnghttp2 takes for a
        broken connection.
        """
        out, size = bytearray(data), len(data)
        for at in self.goodbyes:
            for place in range(max(at, 0), min(at + 4, size)):
                out[place] = 0
        self.goodbyes = [at - size for at in self.goodbyes if at + 4 > size]
        return bytes(out)

    def forced(self, count: int, now: float) -> None:
        """So many resets more had to be sent because of the peer's errors. Raises Http2Error."""
        self._take("forced", now, count)

    def sent(self, count: int) -> None:
        """So many bytes left in one write: they are worth WINDOW_UPDATE frames, and a PING."""
        self._sent += count + _WORTH
        self._writes += 1

    def _take(self, name: str, now: float, count: int) -> None:
        bucket: Bucket = getattr(self._floods, name)
        level = self._levels.get(name, bucket.burst)
        level = min(bucket.burst, level + (now - self._stamps.get(name, now)) * bucket.rate)
        self._stamps[name] = now
        if name in _ONE_A_STREAM:
            level = min(bucket.burst, level + self.answered - self._worth.get(name, 0))
            self._worth[name] = self.answered
        if name == "windows":
            level = min(bucket.burst, level + self._sent // _PIECE)
            self._sent %= _PIECE
        elif name == "pings":
            level = min(bucket.burst, level + self._writes)
            self._writes = 0
        level -= count
        self._levels[name] = level
        if level < 0:
            raise Http2Error(ENHANCE_YOUR_CALM, f"flood of {name}")
