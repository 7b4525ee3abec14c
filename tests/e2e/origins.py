"""Backends for the tests: a real nginx, and a Python origin that misbehaves on demand and records what reached it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.kit.waiting import free_port, until


class Nginx:
    """A static origin: `/` and `/small` answer JSON, `/who` its own port, `/echo…` the request line, `/big/N` files."""

    def __init__(self, root: Path, files: dict[str, bytes] | None = None) -> None:
        self.root, self.port = root, free_port()
        self.log = root / "requests.log"
        www = root / "www" / "big"
        www.mkdir(parents=True)
        root.chmod(0o755)
        for name, content in (files or {}).items():
            (www / name).write_bytes(content)
        user = "user root;" if os.getuid() == 0 else ""
        config = root / "nginx.conf"
        config.write_text(f"""{user} worker_processes 1; daemon off; pid {root}/pid; error_log {root}/error.log;
events {{ worker_connections 4096; }}
http {{
  log_format line '$request_method $request_uri $status $connection $connection_requests'; access_log {self.log} line;
  client_body_temp_path {root}/b; proxy_temp_path {root}/p; fastcgi_temp_path {root}/f; uwsgi_temp_path {root}/u; scgi_temp_path {root}/s;
  keepalive_requests 1000000; keepalive_timeout 600s; client_max_body_size 0; default_type application/json;
  server {{
    listen 127.0.0.1:{self.port} backlog=1024;
    location / {{ return 200 '{{"status": "ok"}}'; }}
    location /who {{ return 200 '{self.port}'; }}
    location /echo {{ default_type text/plain; return 200 '$request_method $request_uri host=$host'; }}
    location /status/404 {{ return 404 'nothing here'; }}
    location /status/204 {{ return 204; }}
    location /status/500 {{ return 500 'broken'; }}
    location /cached {{ add_header ETag '"v1"'; return 304; }}
    location /text {{ default_type text/html; add_header Vary Accept-Language; alias {root}/www/big; }}
    location /big/ {{ root {root}/www; }}
  }}
}}""")
        self.process = subprocess.Popen(["nginx", "-c", config, "-e", root / "error.log"])
        until(lambda: accepts(self.port), 10, "the nginx origin accepts connections")

    def requests(self) -> list[str]:
        """`method uri status connection number` of each request so far."""
        return self.log.read_text().splitlines() if self.log.exists() else []

    def pause(self) -> None:
        """The kernel still takes connections, nobody answers."""
        for pid in self._workers():
            os.kill(pid, signal.SIGSTOP)

    def resume(self) -> None:
        for pid in self._workers():
            os.kill(pid, signal.SIGCONT)

    def _workers(self) -> list[int]:
        pid = self.process.pid
        return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(10)


def has_nginx() -> bool:
    return shutil.which("nginx") is not None


def accepts(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@dataclass(slots=True)
class Exchange:
    """One request as it reached the origin, and the means to answer it well or badly."""

    sock: socket.socket
    head: bytes
    rest: bytes = b""
    """Bytes that came after the head and are not yet read."""
    raw: bytearray = field(default_factory=bytearray)
    """Everything that was read of this request."""
    body: bytes = b""
    closing: bool = False
    trailers: bytes = b""

    @property
    def method(self) -> str:
        return self.head.split(b" ", 1)[0].decode()

    @property
    def target(self) -> str:
        return self.head.split(b" ", 2)[1].decode("latin-1")

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    def headers(self) -> list[tuple[str, str]]:
        lines = self.head[:-4].decode("latin-1").split("\r\n")[1:]
        return [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]

    def all(self, name: str) -> list[str]:
        return [value for known, value in self.headers() if known == name]

    def get(self, name: str) -> str | None:
        values = self.all(name)
        assert len(values) < 2, f"{name} reached the origin {len(values)} times"
        return values[0] if values else None

    def receive(self, most: int = 1 << 18) -> bytes:
        """The next bytes of the connection; b"" at its end."""
        if self.rest:
            part, self.rest = self.rest[:most], self.rest[most:]
        else:
            part = self.sock.recv(most)
        self.raw += part
        return part

    def read_body(self, pace: Callable[[int], None] | None = None) -> bytes:
        """The whole body, as framed. `pace` is called with the bytes read so far."""
        parts: list[bytes] = []
        if length := self.get("content-length"):
            left = int(length)
            while left:
                part = self.receive(min(left, 1 << 18))
                if not part:
                    raise ConnectionError("the body ended early")
                parts.append(part)
                left -= len(part)
                if pace is not None:
                    pace(int(length) - left)
        elif self.get("transfer-encoding"):
            while size := int(self._line().partition(b";")[0], 16):
                parts.append(self._exactly(size))
                self._exactly(2)
            while (line := self._line()) != b"\r\n":
                self.trailers += line
        self.body = b"".join(parts)
        return self.body

    def _line(self) -> bytes:
        line = b""
        while not line.endswith(b"\r\n"):
            part = self.receive(1)
            if not part:
                raise ConnectionError("the body ended early")
            line += part
        return line

    def _exactly(self, size: int) -> bytes:
        parts = b""
        while len(parts) < size:
            part = self.receive(size - len(parts))
            if not part:
                raise ConnectionError("the body ended early")
            parts += part
        return parts

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def reply(self, body: bytes = b"ok", status: str = "200 OK", headers: str = "") -> None:
        """A plain answer; `headers` are whole lines with their line ends."""
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode("latin-1")
        self.send(head + (b"" if self.method == "HEAD" else body))

    def close(self) -> None:
        """No further request on this connection."""
        self.closing = True

    def is_gone(self, timeout: float) -> bool:
        """True once the other side has closed."""
        try:
            self.sock.settimeout(timeout)
            return not self.sock.recv(65536)
        except TimeoutError:
            return False
        except OSError:
            return True


Handler = Callable[[Exchange], None]


def _echo(exchange: Exchange) -> None:
    exchange.read_body()
    exchange.reply(exchange.target.encode())


class Origin:
    """An origin in threads of this process. `on[path]` answers a path, else `answer` does."""

    def __init__(self, answer: Handler | None = None, port: int = 0, path: Path | None = None, host: str = "127.0.0.1") -> None:
        """path: of a UNIX socket to listen at, instead of a port."""
        self.on: dict[str, Handler] = {}
        self.answer: Handler = answer or _echo
        self.requests: list[Exchange] = []
        self.strays: list[bytes] = []
        """What came on a connection and was no request head."""
        self.errors: list[Exception] = []
        self.connections = 0
        self.open = 0
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        if path is None:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self._listener = socket.create_server((host, port), family=family, backlog=1024)
            self.port: int = self._listener.getsockname()[1]
        else:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(str(path))
            self._listener.listen(1024)
            self.port = 0
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def seen(self, path: str) -> list[Exchange]:
        """Requests for a path so far."""
        return [exchange for exchange in list(self.requests) if exchange.path == path]

    def wait(self, path: str, count: int = 1, seconds: float = 10) -> Exchange:
        """The last request for a path, once there are `count` of them."""
        until(lambda: len(self.seen(path)) >= count, seconds, f"{count} requests for {path} reach the origin")
        return self.seen(path)[-1]

    def drop_connections(self) -> None:
        """Closes every connection, as an origin does that restarts."""
        with self._lock:
            for sock in self._sockets:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop_connections()
        self._thread.join(5)
        end = time.monotonic() + 5
        while self.open and time.monotonic() < end:
            time.sleep(0.01)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._sockets.add(sock)
                self.connections += 1
                self.open += 1
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pending = b""
        try:
            while True:
                while b"\r\n\r\n" not in pending:
                    part = sock.recv(65536)
                    if not part:
                        return
                    pending += part
                end = pending.index(b"\r\n\r\n") + 4
                exchange = Exchange(sock, pending[:end], pending[end:], bytearray(pending[:end]))
                self.requests.append(exchange)
                if exchange.head.count(b" ") < 2:
                    self.strays.append(pending)
                    return
                self.on.get(exchange.path, self.answer)(exchange)
                if exchange.closing:
                    return
                pending = exchange.rest
        except OSError:
            return  # the proxy went away: what a test looks at is recorded
        except Exception as error:
            self.errors.append(error)
        finally:
            if pending and b"\r\n\r\n" not in pending:
                self.strays.append(pending)
            with self._lock:
                self._sockets.discard(sock)
                self.open -= 1
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()


class TlsOrigin(Origin):
    """The recording origin under TLS."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__()

    def _serve(self, sock: socket.socket) -> None:
        try:
            wrapped = self._context.wrap_socket(sock, server_side=True)
        except OSError:
            with self._lock:
                self.open -= 1
            sock.close()
            return
        super()._serve(wrapped)
