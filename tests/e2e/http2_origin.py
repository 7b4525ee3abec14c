"""A backend on python-hyper `h2`, in threads of this process, that does on demand what well-behaved servers seldom do."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import ssl
import threading
from dataclasses import dataclass, field
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, RequestReceived, StreamEnded, StreamReset, TrailersReceived, WindowUpdated
from h2.exceptions import NoSuchStreamError, ProtocolError, StreamClosedError
from h2.settings import SettingCodes, Settings

from tests.kit.waiting import until


@dataclass(slots=True)
class Request:
    connection: int
    stream: int
    fields: dict[str, str]
    digest: Any = field(default_factory=hashlib.sha256)
    size: int = 0
    trailers: dict[str, str] = field(default_factory=dict)
    reset: int = -1
    """The code with which the proxy reset the stream."""

    @property
    def path(self) -> str:
        return self.fields[":path"]


class Http2Origin:
    """The path says what becomes of a request: see the methods `on_…` (its head has come) and `end_…` (all of it has)."""

    def __init__(self, context: ssl.SSLContext | None = None, settings: dict[SettingCodes, int] | None = None) -> None:
        self.settings = settings or {}
        self.requests: list[Request] = []
        self.connections = 0
        self.open = 0
        self.errors: list[Exception] = []
        self.sessions: list[bool] = []
        """Of each TLS connection: whether it went on with an earlier session."""
        self._context = context
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def seen(self, path: str) -> list[Request]:
        return [request for request in list(self.requests) if request.path == path]

    def wait(self, path: str, count: int = 1) -> Request:
        until(lambda: len(self.seen(path)) >= count, 10, f"{count} requests for {path} reach the origin")
        return self.seen(path)[-1]

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for sock in self._sockets:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        until(lambda: not self.open, 10, "the origin's connections have ended")

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                self.open += 1
                number = self.connections
            threading.Thread(target=self._serve, args=(sock, number), daemon=True).start()

    def _serve(self, sock: socket.socket, number: int) -> None:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._context is not None:
                wrapped = self._context.wrap_socket(sock, server_side=True)
                self.sessions.append(bool(wrapped.session_reused))
                sock = wrapped
            with self._lock:
                self._sockets.add(sock)
            self._speak(sock, number)
        except OSError:
            return  # the proxy went away, or did not like the certificate
        except Exception as error:
            self.errors.append(error)
        finally:
            with self._lock:
                self._sockets.discard(sock)
                self.open -= 1
            sock.close()

    def _speak(self, sock: socket.socket, number: int) -> None:
        _Connection(self, sock, number).run()


class _Connection:
    def __init__(self, origin: Http2Origin, sock: socket.socket, number: int) -> None:
        self.origin, self.sock, self.number = origin, sock, number
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self.requests: dict[int, Request] = {}
        self.unsent: dict[int, memoryview] = {}
        """Stream → what its windows have no room for."""
        self.leaves = False

    def run(self) -> None:
        values = {SettingCodes.MAX_CONCURRENT_STREAMS: 100, SettingCodes.ENABLE_PUSH: 0}
        self.h2.local_settings = Settings(client=False, initial_values=values | self.origin.settings)
        self.h2.initiate_connection()
        self.flush()
        while data := self.sock.recv(65536):
            with contextlib.suppress(ProtocolError) if self.leaves else contextlib.nullcontext():
                for event in self.h2.receive_data(data):
                    self.take(event)
            self.flush()

    def flush(self) -> None:
        for stream in list(self.unsent):
            self.send_more(stream)
        data = self.h2.data_to_send()
        if data:
            self.sock.sendall(data)

    def take(self, event: Any) -> None:
        if isinstance(event, RequestReceived):
            request = Request(self.number, event.stream_id, {str(name): str(value) for name, value in event.headers})
            self.requests[event.stream_id] = request
            self.origin.requests.append(request)
            self.call("on", request)
        elif isinstance(event, DataReceived):
            request = self.requests[event.stream_id]
            request.digest.update(event.data)
            request.size += len(event.data)
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            if request.path == "/ws":
                self.h2.send_data(event.stream_id, event.data)
        elif isinstance(event, TrailersReceived):
            self.requests[event.stream_id].trailers = {str(name): str(value) for name, value in event.headers}
        elif isinstance(event, StreamEnded):
            self.call("end", self.requests[event.stream_id])
        elif isinstance(event, StreamReset):
            self.requests[event.stream_id].reset = int(event.error_code)
            self.unsent.pop(event.stream_id, None)
        elif isinstance(event, WindowUpdated) and event.stream_id in self.unsent:
            self.send_more(event.stream_id)

    def call(self, when: str, request: Request) -> None:
        method = getattr(self, f"{when}_{request.path[1:].partition('?')[0].replace('-', '_')}", None)
        if method is not None:
            method(request)
        elif when == "end":
            self.answer(request, f"{request.digest.hexdigest()} {request.size}".encode())

    # -- means ----------------------------------------------------------------------------

    def head(self, request: Request, status: int = 200, *more: tuple[str, str], ended: bool = False) -> None:
        self.h2.send_headers(request.stream, [(":status", str(status)), *more], end_stream=ended)

    def answer(self, request: Request, body: bytes, status: int = 200) -> None:
        self.head(request, status)
        self.unsent[request.stream] = memoryview(body)

    def send_more(self, stream: int) -> None:
        try:
            left = self.unsent[stream]
            while size := min(len(left), self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size):
                self.h2.send_data(stream, bytes(left[:size]))
                left = left[size:]
            self.unsent[stream] = left
            if not left:
                del self.unsent[stream]
                self.h2.end_stream(stream)
        except (NoSuchStreamError, StreamClosedError):
            self.unsent.pop(stream, None)  # its reset came in the same read

    def is_first(self, request: Request) -> bool:
        return len(self.origin.seen(request.path)) == 1

    # -- what the paths do -------------------------------------------------------------------

    def end_refused(self, request: Request) -> None:
        """The first one is refused."""
        if self.is_first(request):
            self.h2.reset_stream(request.stream, ErrorCodes.REFUSED_STREAM)
        else:
            self.answer(request, b"taken")

    def end_always_refused(self, request: Request) -> None:
        self.h2.reset_stream(request.stream, ErrorCodes.REFUSED_STREAM)

    def end_untouched(self, request: Request) -> None:
        """The first one comes as the server goes away."""
        if self.is_first(request):
            self.leave(request.stream - 2)
        else:
            self.answer(request, b"taken elsewhere")

    def end_last(self, request: Request) -> None:
        """Answered on a connection that takes no more."""
        self.leave(request.stream)
        self.answer(request, b"the last")

    def leave(self, last: int) -> None:
        self.leaves = True
        frame = b"\0\0\x08\x07\0\0\0\0\0" + last.to_bytes(4, "big") + bytes(4)  # h2 would take no frame after its own
        self.sock.sendall(self.h2.data_to_send() + frame)

    def end_trailers(self, request: Request) -> None:
        self.head(request, 200, ("content-type", "text/plain"))
        self.h2.send_data(request.stream, b"body")
        self.h2.send_headers(request.stream, [("x-sum", "7"), ("x-path", request.path)], end_stream=True)

    def end_hints(self, request: Request) -> None:
        self.h2.send_headers(request.stream, [(":status", "103"), ("link", "</style.css>")])
        self.answer(request, b"final")

    def end_cut(self, request: Request) -> None:
        self.head(request)
        self.h2.send_data(request.stream, b"part of it")
        self.flush()
        self.h2.reset_stream(request.stream, ErrorCodes.INTERNAL_ERROR)

    def end_broken(self, request: Request) -> None:
        self.h2.reset_stream(request.stream, ErrorCodes.INTERNAL_ERROR)

    def end_gone(self, request: Request) -> None:
        """The connection ends in the middle of an answer."""
        self.head(request)
        self.h2.send_data(request.stream, b"part of it")
        self.flush()
        self.sock.shutdown(socket.SHUT_RDWR)

    def end_grpc_boundary(self, request: Request) -> None:
        """Two messages, and then the stream is reset."""
        self.cut_grpc(request, b"\0\0\0\0\x03one\0\0\0\0\x03two")

    def end_grpc_middle(self, request: Request) -> None:
        """The same within the second."""
        self.cut_grpc(request, b"\0\0\0\0\x03one\0\0\0\0\x03t")

    def cut_grpc(self, request: Request, body: bytes) -> None:
        self.head(request, 200, ("content-type", "application/grpc"))
        self.h2.send_data(request.stream, body)
        self.flush()
        self.h2.reset_stream(request.stream, ErrorCodes.INTERNAL_ERROR)

    def end_grpc_cancelled(self, request: Request) -> None:
        """As a server in Go ends a call whose deadline has passed."""
        self.head(request, 200, ("content-type", "application/grpc"))
        self.h2.send_data(request.stream, b"\0\0\0\0\x03one")
        self.flush()
        self.h2.reset_stream(request.stream, ErrorCodes.CANCEL)

    def end_wants_http1(self, request: Request) -> None:
        self.h2.reset_stream(request.stream, ErrorCodes.HTTP_1_1_REQUIRED)

    def end_silent(self, request: Request) -> None:
        pass

    def on_early(self, request: Request) -> None:
        """Answers before the body has come, and wants none of it."""
        self.head(request, 413)
        self.h2.send_data(request.stream, b"too much", end_stream=True)
        self.h2.reset_stream(request.stream, ErrorCodes.NO_ERROR)

    def end_early(self, request: Request) -> None:
        pass

    def end_large(self, request: Request) -> None:
        self.answer(request, bytes(range(256)) * (24 * 4096))

    def on_ws(self, request: Request) -> None:
        """A tunnel that echoes."""
        self.head(request, 200, ("sec-websocket-protocol", request.fields.get("sec-websocket-protocol", "none")))

    def end_ws(self, request: Request) -> None:
        self.h2.end_stream(request.stream)
