"""An HTTP/2 client that sends exactly the frames it is given and reads what comes back, each wait with a deadline."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple

import hpack

from pingap.stages.http2.engine import PREFACE, Fields
from tests.http2.wire import ACK, CONTINUATION, DATA, END, END_HEADERS, GOAWAY, HAS_PRIORITY, HEADERS, PADDED, PING, RST, SETTINGS, frame

DEADLINE = 5.0
"""Seconds for everything that should happen at once. A conforming server never makes a test wait so long."""

KINDS = ("DATA", "HEADERS", "PRIORITY", "RST_STREAM", "SETTINGS", "PUSH_PROMISE", "PING", "GOAWAY", "WINDOW_UPDATE", "CONTINUATION")


def speaking(*protocols: str) -> ssl.SSLContext:
    """Offers these by ALPN, and takes any certificate."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(list(protocols))
    return context


class Frame(NamedTuple):
    kind: int
    flags: int
    stream: int
    body: bytes

    @property
    def ended(self) -> bool:
        return self.kind in (DATA, HEADERS) and bool(self.flags & END)

    @property
    def code(self) -> int:
        """Of RST_STREAM and GOAWAY."""
        return int.from_bytes(self.body[:4] if self.kind == RST else self.body[4:8], "big")

    @property
    def last_stream(self) -> int:
        """Of GOAWAY."""
        return int.from_bytes(self.body[:4], "big") & 0x7FFFFFFF

    @property
    def content(self) -> bytes:
        """Of DATA, without padding."""
        return self.body[1 : len(self.body) - self.body[0]] if self.flags & PADDED else self.body

    def __str__(self) -> str:
        name = KINDS[self.kind] if self.kind < len(KINDS) else f"frame {self.kind:#x}"
        more = f" code {self.code}" if self.kind in (RST, GOAWAY) else ""
        if self.kind == GOAWAY:
            more += f" last {self.last_stream} {self.body[8:]!r}"
        return f"{name} stream {self.stream} flags {self.flags:#x} {len(self.body)} bytes{more}"


class Answer:
    """What came on one stream so far."""

    def __init__(self) -> None:
        self.interim: list[int] = []
        self.status = 0
        self.fields: Fields = ()
        self.body = bytearray()
        self.trailers: Fields = ()
        self.ended = False
        self.code: int | None = None
        """Of RST_STREAM."""

    def get(self, name: bytes) -> bytes | None:
        return next((value for known, value in self.fields if known == name), None)


class Closed(Exception):
    """The server closed the connection."""


class Peer:
    """One connection. `raw`: nothing is sent by itself; else the preface, SETTINGS, and its acknowledgement of the server's."""

    def __init__(self, port: int, *, tls: bool = False, settings: bytes = b"", raw: bool = False, receive_buffer: int = 0) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(DEADLINE)
        self.sock.connect(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.tls = tls
        self.alpn: str | None = None
        if tls:
            wrapped = speaking("h2").wrap_socket(self.sock, server_hostname="test.local")
            self.sock, self.alpn = wrapped, wrapped.selected_alpn_protocol()
        self.buffer = b""
        self.seen: list[Frame] = []
        self.answers: dict[int, Answer] = {}
        self.decoder = hpack.Decoder()
        self.remote: dict[int, int] = {}
        """The server's settings."""
        self.unacknowledged = 0
        """SETTINGS of ours that the server has not acknowledged."""
        self.pings = 0
        self.pongs = True
        """Acknowledge what the server sends as PING."""
        self._block = b""
        if not raw:
            self.send(PREFACE + frame(SETTINGS, 0, 0, settings))
            self.unacknowledged = 1
            self.until(lambda seen: seen.kind == SETTINGS and not seen.flags & ACK, "the server's SETTINGS")

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.sock.close()

    def send(self, raw: bytes) -> None:
        """A server that has closed already is no error here: what comes next tells why it did."""
        with contextlib.suppress(ConnectionError):
            self.sock.sendall(raw)

    def next(self, deadline: float | None = None) -> Frame:
        """The next frame. Raises Closed, TimeoutError."""
        until = time.monotonic() + DEADLINE if deadline is None else deadline
        while True:
            if len(self.buffer) >= 9:
                end = 9 + int.from_bytes(self.buffer[:3], "big")
                if len(self.buffer) >= end:
                    raw, self.buffer = self.buffer[:end], self.buffer[end:]
                    found = Frame(raw[3], raw[4], int.from_bytes(raw[5:9], "big"), raw[9:])
                    self.seen.append(found)
                    self._took(found)
                    return found
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self.sock.settimeout(left)
            try:
                part = self.sock.recv(1 << 18)
            except ConnectionError:
                part = b""
            if not part:
                raise Closed
            self.buffer += part

    def http1_head(self) -> bytes:
        """An answer of HTTP/1.1 up to the end of its head."""
        while b"\r\n\r\n" not in self.buffer:
            part = self.sock.recv(65536)
            assert part, f"closed after {self.buffer!r}"
            self.buffer += part
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        return head

    def until(self, wanted: Callable[[Frame], bool], what: str, seconds: float = DEADLINE) -> Frame:
        """The next frame that is wanted. Fails when the server closes first, or takes longer."""
        deadline = time.monotonic() + seconds
        try:
            while True:
                found = self.next(deadline)
                if wanted(found):
                    return found
        except Closed:
            raise AssertionError(f"closed before {what}; {self.history()}") from None
        except TimeoutError:
            raise AssertionError(f"not within {seconds:g} s: {what}; {self.history()}") from None

    def wait_closed(self, seconds: float = DEADLINE) -> None:
        deadline = time.monotonic() + seconds
        try:
            while True:
                self.next(deadline)
        except Closed:
            return
        except TimeoutError:
            raise AssertionError(f"not closed within {seconds:g} s; {self.history()}") from None

    def answer(self, stream: int, seconds: float = DEADLINE) -> Answer:
        """The whole answer on a stream."""
        answer = self.answers.setdefault(stream, Answer())
        if not answer.ended:
            self.until(lambda _: answer.ended or answer.code is not None, f"the answer on stream {stream}", seconds)
        assert answer.ended, f"stream {stream} was reset with {answer.code}; {self.history()}"
        return answer

    def ping(self, seconds: float = DEADLINE) -> None:
        """Sends PING and waits for its acknowledgement: what was sent before has been dealt with then."""
        self.pings += 1
        payload = b"ping%04d" % self.pings
        self.send(frame(PING, 0, 0, payload))
        self.until(lambda seen: seen.kind == PING and seen.flags == ACK and seen.body == payload, "the PING is acknowledged", seconds)

    def goaways(self) -> list[Frame]:
        return [seen for seen in self.seen if seen.kind == GOAWAY]

    def history(self) -> str:
        return "came: " + ("; ".join(map(str, self.seen[-20:])) or "nothing") + (f"; then {self.buffer[:80]!r}" if self.buffer else "")

    def _took(self, found: Frame) -> None:
        if found.kind == SETTINGS:
            if found.flags & ACK:
                self.unacknowledged -= 1
            else:
                for at in range(0, len(found.body), 6):
                    self.remote[int.from_bytes(found.body[at : at + 2], "big")] = int.from_bytes(found.body[at + 2 : at + 6], "big")
                self.send(frame(SETTINGS, ACK))
        elif found.kind == PING and not found.flags & ACK and self.pongs:
            self.send(frame(PING, ACK, 0, found.body))
        elif found.kind in (HEADERS, CONTINUATION):
            assert not found.flags & (PADDED | HAS_PRIORITY), "padded or prioritised HEADERS, which nothing here sends"
            self._block += found.body
            if found.flags & END_HEADERS:
                block, self._block = self._block, b""
                self._fields(found.stream, tuple((bytes(n), bytes(v)) for n, v in self.decoder.decode(block, raw=True)))
            if found.ended:
                self.answers[found.stream].ended = True
        elif found.kind == DATA:
            answer = self.answers.setdefault(found.stream, Answer())
            answer.body += found.content
            answer.ended = found.ended
        elif found.kind == RST:
            self.answers.setdefault(found.stream, Answer()).code = found.code

    def _fields(self, stream: int, fields: Fields) -> None:
        answer = self.answers.setdefault(stream, Answer())
        if answer.status:
            answer.trailers = fields
            return
        assert fields[0][0] == b":status", fields
        status = int(fields[0][1])
        if status < 200:
            answer.interim.append(status)
        else:
            answer.status, answer.fields = status, fields
