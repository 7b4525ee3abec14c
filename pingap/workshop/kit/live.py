"""A real `pingap up` with some plugins, on a free port of 127.0.0.1, for tests: all its processes, and HTTP to it."""

from __future__ import annotations

import asyncio
import http.client
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import tomli_w

from pingap.stages.header_view import WRITTEN_BY_US, Headers, Pairs, block_of
from pingap.stages.plugins import user_code
from pingap.workshop.kit.backend import BackendRequest, Body, ScriptedBackend
from pingap.workshop.kit.client import StageAnswer
from pingap.workshop.kit.ports import free_port

READY: Final = 30.0
"""Seconds that a start may take, on a machine that does other things too."""

ENDING: Final = 15.0

_WATCH: Final = """
read -r _ && exit 0
kill -TERM "$1"
for _ in $(seq "$3"); do kill -0 "$1" || break; sleep 1; done
kill -KILL -- "-$1"
rm -rf -- "$2"
"""
"""Of a shell: whoever made the pingap is gone without having ended it, as a test that was killed."""

_READY_LINE: Final = re.compile(r"(?m)^ready in ")


class LivePingap:
    """A location with some plugins in a pingap of its own. Use as `async with LivePingap(sections) as pingap`. It takes 1 to 2 seconds.

    What it is given is as for `PluginStage`, and so are its answers, but that `error` and `context` are empty: clients are not
    told those.
    """

    def __init__(
        self,
        plugins: Mapping[str, Mapping[str, Any]],
        *,
        order: Sequence[str] | None = None,
        base: str | os.PathLike[str] = "",
        upstream: str = "backend",
        upstreams: Iterable[str] = (),
        options: Sequence[str] = (),
    ) -> None:
        """options: more of `pingap up`, as `("--placement", "colocated")`."""
        self.backends = {name: ScriptedBackend(name) for name in dict.fromkeys((upstream, *upstreams)) if name}
        self.port = free_port()
        self._sections = {name: _absolute(dict(section), os.path.abspath(base)) for name, section in plugins.items()}
        self._order = list(order if order is not None else plugins)
        self._upstream, self._options = upstream, options
        self._servers: list[_BackendServer] = []
        self._dir = Path()
        self._process: subprocess.Popen[bytes] | None = None
        self._watch: subprocess.Popen[bytes] | None = None

    async def __aenter__(self) -> LivePingap:
        """Raises RuntimeError, with what it says, when it does not start."""
        try:
            await asyncio.to_thread(self._start)
        except BaseException:
            await asyncio.to_thread(self._stop)
            raise
        return self

    async def __aexit__(self, *why: object) -> None:
        await asyncio.to_thread(self._stop)

    @property
    def backend(self) -> ScriptedBackend:
        """That of the location's upstream. Raises KeyError when it has none."""
        return self.backends[self._upstream]

    @property
    def output(self) -> str:
        """What it has written so far, its log among it."""
        return (self._dir / "output").read_text(errors="replace")

    async def get(self, target: str = "/", **more: Any) -> StageAnswer:
        """GET; the rest as for `request`."""
        return await self.request("GET", target, **more)

    async def post(self, target: str = "/", body: Body = b"", **more: Any) -> StageAnswer:
        """POST; the rest as for `request`."""
        return await self.request("POST", target, body=body, **more)

    async def request(
        self, method: str, target: str = "/", *, headers: Pairs = (), body: Body = b"", host: str = "example.com", timeout: float = 10.0
    ) -> StageAnswer:
        """One request over HTTP/1.1, on a connection of its own. Raises what http.client does."""
        return await asyncio.to_thread(self._request, method, target, headers, body, host, timeout)

    def _request(self, method: str, target: str, headers: Pairs, body: Body, host: str, timeout: float) -> StageAnswer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        is_cut = False
        try:
            connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            connection.putheader("Host", host)
            for line in block_of(headers).decode("latin-1").splitlines():
                name, _, value = line.partition(": ")
                connection.putheader(name, value)
            content = body.encode() if isinstance(body, str) else body
            is_whole = isinstance(content, bytes)
            if content and is_whole:
                connection.putheader("Content-Length", str(len(content)))
            elif not is_whole:
                connection.putheader("Transfer-Encoding", "chunked")
            connection.endheaders(content or None, encode_chunked=not is_whole)
            answer = connection.getresponse()
            try:
                got = answer.read()
            except http.client.IncompleteRead as error:
                got, is_cut = error.partial, True
            return StageAnswer(answer.status, Headers(_block(answer.getheaders())), got, is_cut=is_cut)
        finally:
            connection.close()

    # -- life --------------------------------------------------------------------------

    def _start(self) -> None:
        self._dir = Path(tempfile.mkdtemp(prefix="pingap-test-"))
        self._servers = [_BackendServer(backend) for backend in self.backends.values()]
        config = self._dir / "pingap.toml"
        config.write_bytes(tomli_w.dumps(self._configuration()).encode())
        run_dir = str(self._dir / "run")
        argv = [sys.executable, "-m", "pingap", "up", "-c", str(config), "--run-dir", run_dir, *self._options]
        env = {key: value for key, value in os.environ.items() if not key.startswith("PINGAP_")}
        env["STATE_DIRECTORY"] = str(self._dir / "state")  # nothing of a test is kept in its author's home
        with open(self._dir / "output", "wb") as output:
            self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=env, start_new_session=True)
        watch = ["/bin/sh", "-c", _WATCH, "sh", str(self._process.pid), str(self._dir), str(int(ENDING))]
        # fmt: off
        self._watch = subprocess.Popen(
            watch, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )
        # fmt: on
        for _ in range(int(READY / 0.02)):
            if _READY_LINE.search(self.output):
                return
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(0.02)
                break
        raise RuntimeError(f"pingap is not ready; it said:\n{self.output}")

    def _configuration(self) -> dict[str, Any]:
        location: dict[str, Any] = {"plugins": self._order}
        if self._upstream:
            location["upstream"] = self._upstream
        return {
            "servers": {"test": {"addr": f"127.0.0.1:{self.port}", "locations": ["test"]}},
            "locations": {"test": location},
            "upstreams": {server.backend.name: {"addrs": [f"127.0.0.1:{server.port}"]} for server in self._servers},
            "plugins": self._sections,
        }

    def _stop(self) -> None:
        process = self._process
        if process is not None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(ENDING)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if self._watch is not None:
            self._watch.communicate(b"\n")
        for server in self._servers:
            server.stop()
        if self._dir != Path():
            shutil.rmtree(self._dir, ignore_errors=True)


def _absolute(section: dict[str, Any], base: str) -> dict[str, Any]:
    path = section.get("path")
    if section.get("category") == user_code.CATEGORY and isinstance(path, str):
        section["path"] = os.path.join(base, path)
    return section


def _block(lines: Iterable[tuple[str, str]]) -> bytes:
    """In normal form; what is about the connection is not for plugins."""
    return "".join(f"{name.lower()}: {value}\r\n" for name, value in lines if name.lower() not in WRITTEN_BY_US).encode("latin-1")


class _BackendServer:
    """A scripted backend as a server of HTTP/1.1 in threads."""

    def __init__(self, backend: ScriptedBackend) -> None:
        self.backend = backend
        self.is_over = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                self.raw_requestline = self.rfile.readline(65537)
                if not self.raw_requestline:
                    self.close_connection = True
                elif self.parse_request():
                    server.answer(self)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def answer(self, asked: BaseHTTPRequestHandler) -> None:
        """One request."""
        backend = self.backend
        body = _body_of(asked)
        block = _block((name, value) for name, value in asked.headers.items())
        request = BackendRequest(asked.command, asked.path, Headers(block), body, asked.headers.get("x-forwarded-for", ""), {})
        reply = backend.take(request)
        if backend.is_silent:
            self.is_over.wait()
        if backend.is_silent or backend.failure:
            asked.close_connection = True
            return
        lines = [f"HTTP/1.1 {reply.status} {http.client.responses.get(reply.status, '')}".encode()]
        lines += reply.headers.split(b"\r\n")[:-1]
        is_bare = reply.status in (204, 304)
        if not is_bare:
            lines.append(b"content-length: %d" % len(reply.pieces[0]) if reply.is_measured else b"transfer-encoding: chunked")
        asked.wfile.write(b"\r\n".join((*lines, b"", b"")))
        if is_bare or asked.command == "HEAD":
            return
        if reply.is_measured:
            asked.wfile.write(reply.pieces[0])
            return
        for piece in filter(None, reply.pieces):
            asked.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            asked.wfile.flush()
        asked.wfile.write(b"0\r\n\r\n")

    def stop(self) -> None:
        self.is_over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _body_of(asked: BaseHTTPRequestHandler) -> bytes:
    if "chunked" not in asked.headers.get("transfer-encoding", ""):
        return asked.rfile.read(int(asked.headers.get("content-length", 0)))
    parts = []
    while size := int(asked.rfile.readline().partition(b";")[0], 16):
        parts.append(asked.rfile.read(size))
        asked.rfile.readline()
    while asked.rfile.readline().strip():
        pass
    return b"".join(parts)
