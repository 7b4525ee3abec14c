"""A client on a bare socket: sends exactly the bytes it is given and reports exactly what came back."""

from __future__ import annotations

import socket
import ssl
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

TRUSTING = ssl.create_default_context()
TRUSTING.check_hostname = False
TRUSTING.verify_mode = ssl.CERT_NONE


class Closed(Exception):
    """The server closed the connection where an answer was due; `.args[0]` is what had come of it."""


@dataclass(slots=True)
class Response:
    status: int
    reason: str
    version: str
    headers: list[tuple[str, str]]
    """Names in lower case, in order, duplicates kept."""
    body: bytes = b""
    trailers: list[tuple[str, str]] = field(default_factory=list)
    informational: list[int] = field(default_factory=list)
    """1xx statuses that came before."""
    chunks: int = 0
    head: bytes = b""

    def get(self, name: str) -> str | None:
        """The value of the only line of that name, None when there is none."""
        values = self.all(name)
        assert len(values) < 2, f"{name} came {len(values)} times: {values}"
        return values[0] if values else None

    def all(self, name: str) -> list[str]:
        return [value for known, value in self.headers if known == name.lower()]


class Client:
    """One connection."""

    def __init__(self, port: int, host: str = "127.0.0.1", timeout: float = 10, receive_buffer: int = 0, tls: bool = False) -> None:
        """tls: over TLS, whoever the server says it is."""
        self.timeout = timeout
        self.buffer = b""
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(timeout)
        try:
            self.sock.connect((host, port))
        except OSError:
            self.sock.close()
            raise
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            self.sock = TRUSTING.wrap_socket(self.sock, server_hostname="test.local")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def request(
        self,
        target: str = "/",
        method: str = "GET",
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
        host: str = "test.local",
    ) -> None:
        lines = [f"{method} {target} HTTP/1.1", f"Host: {host}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        self.send("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (body or b""))

    def get(self, target: str = "/", method: str = "GET", headers: dict[str, str] | None = None, body: bytes | None = None) -> Response:
        """One request and its whole answer."""
        self.request(target, method, headers, body)
        return self.response(method)

    def response(self, method: str = "GET", timeout: float | None = None) -> Response:
        """The next answer. Raises Closed, TimeoutError."""
        until = time.monotonic() + (self.timeout if timeout is None else timeout)
        early: list[int] = []
        while True:
            response = self.head(until)
            if response.status >= 200 or response.status == 101:
                break
            early.append(response.status)
        response.informational = early
        if response.status == 101 or method == "HEAD" or response.status in (204, 304):
            return response
        if "chunked" in (response.get("transfer-encoding") or ""):
            self._chunked(response, until)
        elif (length := response.get("content-length")) is not None:
            response.body = self.exactly(int(length), until)
        else:
            response.body = self.rest(until)
        return response

    def head(self, until: float | None = None) -> Response:
        """The next head, informational or not, without its body."""
        until = time.monotonic() + self.timeout if until is None else until
        block = self._until(b"\r\n\r\n", until)
        lines = block[:-4].decode("latin-1").split("\r\n")
        version, status, *reason = lines[0].split(" ", 2)
        headers = []
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers.append((name.strip().lower(), value.strip()))
        return Response(int(status), reason[0] if reason else "", version, headers, head=block)

    def exactly(self, size: int, until: float | None = None) -> bytes:
        until = time.monotonic() + self.timeout if until is None else until
        parts, have = [self.buffer], len(self.buffer)
        while have < size:
            part = self._receive(until)
            if not part:
                raise Closed(b"".join(parts))
            parts.append(part)
            have += len(part)
        whole = b"".join(parts)
        self.buffer = whole[size:]
        return whole[:size]

    def rest(self, until: float | None = None) -> bytes:
        """All that comes until the server closes."""
        until = time.monotonic() + self.timeout if until is None else until
        while part := self._receive(until):
            self.buffer += part
        rest, self.buffer = self.buffer, b""
        return rest

    def is_closed(self, timeout: float = 5) -> bool:
        """True once the server has closed; False when it has not within `timeout` or sends something."""
        self.sock.settimeout(timeout)
        try:
            part = self.sock.recv(65536)
        except TimeoutError:
            return False
        except ConnectionResetError:
            return True
        finally:
            self.sock.settimeout(self.timeout)
        self.buffer += part
        return not part

    def _chunked(self, response: Response, until: float) -> None:
        parts = []
        while True:
            line = self._until(b"\r\n", until)
            size = int(line[:-2].partition(b";")[0], 16)
            if not size:
                break
            response.chunks += 1
            parts.append(self.exactly(size, until))
            assert self.exactly(2, until) == b"\r\n", "no line end after a chunk"
        while (line := self._until(b"\r\n", until)) != b"\r\n":
            name, _, value = line[:-2].decode("latin-1").partition(":")
            response.trailers.append((name.lower(), value.strip()))
        response.body = b"".join(parts)

    def _until(self, mark: bytes, until: float) -> bytes:
        while mark not in self.buffer:
            part = self._receive(until)
            if not part:
                raise Closed(self.buffer)
            self.buffer += part
        end = self.buffer.index(mark) + len(mark)
        found, self.buffer = self.buffer[:end], self.buffer[end:]
        return found

    def _receive(self, until: float) -> bytes:
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"no more within the deadline; so far {self.buffer[:200]!r}")
        self.sock.settimeout(left)
        try:
            return self.sock.recv(1 << 20)
        except ConnectionResetError:
            return b""
        finally:
            self.sock.settimeout(self.timeout)


def get(port: int, target: str = "/", **more: object) -> Response:
    """One GET on a connection of its own."""
    with Client(port) as client:
        return client.get(target, **more)  # type: ignore[arg-type]
