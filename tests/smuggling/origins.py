"""Backends that record what they see: a strict recorder, an ASGI app under two parsers, and nginx before a recorder."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from tests.kit.waiting import free_port
from tests.smuggling.book import Request

_REQUEST_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9a-zA-Z]+) ([!-~]+) HTTP/1\.1")
_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9a-zA-Z]+): ?([\t\x20-\x7e\x80-\xff]*)")
_SIZE = re.compile(rb"[0-9a-f]+")
_MARK = re.compile(rb"(?:run|fuz)[0-9]{5}")


@dataclass(slots=True)
class Record:
    """One request that reached an origin."""

    serial: str
    request: Request
    mark: bytes
    """Of the run that sent it; b"" when it bears none."""
    is_whole: bool = False
    """All of its body came."""


class Recorder:
    """Parses by the letter of RFC 9112, keeps the bytes of each connection, and answers with the number of its record."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.port = 0
        self.records: list[Record] = []
        self.by_mark: dict[bytes, list[Record]] = {}
        self.streams: list[bytearray] = []
        """What came on each connection, to be held against another reading."""
        self.strays: list[bytes] = []
        """What no strict server would take."""
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def record(self, request: Request) -> Record:
        mark = _MARK.search(request.target) or _MARK.search(b" ".join(request.all(b"x-mark")))
        record = Record(f"{self.name}-{len(self.records)}", request, mark[0] if mark else b"")
        self.records.append(record)
        self.by_mark.setdefault(record.mark, []).append(record)
        return record

    def heard(self) -> int:
        """Grows with all that comes."""
        return len(self.records) + sum(map(len, self.streams))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        stream = bytearray()
        self.streams.append(stream)
        try:
            while True:
                await self._one(_Tee(reader, stream), writer)
        except _Stray as stray:
            self.strays.append(stray.args[0])
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _one(self, tee: _Tee, writer: asyncio.StreamWriter) -> None:
        head = await tee.until(b"\r\n\r\n")
        first, *lines = head[:-4].split(b"\r\n")
        start = _REQUEST_LINE.fullmatch(first)
        fields = [_LINE.fullmatch(line) for line in lines]
        if start is None or None in fields:
            raise _Stray(head)
        headers = [(match[1].lower(), match[2].strip(b" \t")) for match in fields if match]
        request = Request(start[1], start[2], b"", headers)
        record = self.record(request)
        lengths, codings = request.all(b"content-length"), request.all(b"transfer-encoding")
        if len(lengths) + len(codings) > 1 or len(request.all(b"host")) != 1:
            raise _Stray(head)
        if request.all(b"x-early"):  # an answer before the body, as servers give that do not want it
            _answer(writer, record)
        if lengths:
            if not lengths[0].isdigit():
                raise _Stray(head)
            request.body = await tee.exactly(int(lengths[0]))
        elif codings:
            if codings != [b"chunked"]:
                raise _Stray(head)
            while True:
                line = (await tee.until(b"\r\n"))[:-2]
                if not _SIZE.fullmatch(line):
                    raise _Stray(head + line)
                size = int(line, 16)
                if not size:
                    break
                request.body += await tee.exactly(size)
                if await tee.exactly(2) != b"\r\n":
                    raise _Stray(head + line)
            while (line := await tee.until(b"\r\n")) != b"\r\n":
                if not _LINE.fullmatch(line[:-2]):
                    raise _Stray(head + line)
        record.is_whole = True
        if not request.all(b"x-early"):
            _answer(writer, record)
        await writer.drain()


class _Stray(Exception):
    """`.args[0]` is what no strict server takes."""


class _Tee:
    def __init__(self, reader: asyncio.StreamReader, stream: bytearray) -> None:
        self._reader, self._stream = reader, stream

    async def until(self, mark: bytes) -> bytes:
        try:
            part = await self._reader.readuntil(mark)
        except asyncio.IncompleteReadError as error:
            self._stream += error.partial
            raise
        self._stream += part
        return part

    async def exactly(self, size: int) -> bytes:
        try:
            part = await self._reader.readexactly(size)
        except asyncio.IncompleteReadError as error:
            self._stream += error.partial
            raise
        self._stream += part
        return part


def _answer(writer: asyncio.StreamWriter, record: Record) -> None:
    body = b"" if record.request.method == b"HEAD" else b"seen"
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nX-Serial: %b\r\n\r\n%b" % (record.serial.encode(), body))


class Asgi(Recorder):
    """uvicorn with one of its parsers, h11 or httptools."""

    async def start(self) -> None:
        self.port = free_port()
        config = uvicorn.Config(
            self._app,
            host="127.0.0.1",
            port=self.port,
            http=self.name.removeprefix("uvicorn-"),
            ws="none",
            interface="asgi3",
            lifespan="off",
            log_config=None,
            log_level="critical",
            access_log=False,
            server_header=False,
            timeout_keep_alive=120,
            proxy_headers=False,
        )
        self._uvicorn = uvicorn.Server(config)
        self._task = asyncio.create_task(self._uvicorn._serve())
        while not self._uvicorn.started:
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        self._uvicorn.should_exit = self._uvicorn.force_exit = True
        await self._task

    async def _app(
        self, scope: dict[str, Any], receive: Callable[[], Awaitable[dict[str, Any]]], send: Callable[[dict[str, Any]], Awaitable[None]]
    ) -> None:
        target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
        record = self.record(Request(scope["method"].encode(), target, b"", _lower(scope["headers"])))
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            record.request.body += message.get("body", b"")
            if not message.get("more_body"):
                break
        record.request.headers = _lower(scope["headers"])  # with httptools the trailers are among them now
        record.is_whole = True
        headers = [(b"x-serial", record.serial.encode()), (b"content-length", b"4")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"seen"})


def _lower(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [(name.lower(), value) for name, value in headers]


class BehindNginx(Recorder):
    """nginx, which reads all of a body and passes the request on to a recorder as it has understood it."""

    async def start(self) -> None:
        await super().start()
        self._sink, self.port = self.port, free_port()
        self._root = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
        self._root.chmod(0o755)
        self.log = self._root / "access.log"
        self._read, self._logged = -1, {}  # type: tuple[int, dict[bytes, list[str]]]
        user = "user root;" if os.getuid() == 0 else ""
        config = self._root / "nginx.conf"
        config.write_text(f"""{user} worker_processes 1; daemon off; pid {self._root}/pid; error_log {self._root}/error.log;
events {{ worker_connections 4096; }}
http {{
  log_format line escape=json '{{"request":"$request","mark":"$http_x_mark","status":$status}}'; access_log {self.log} line;
  client_body_temp_path {self._root}/b; proxy_temp_path {self._root}/p; fastcgi_temp_path {self._root}/f;
  uwsgi_temp_path {self._root}/u; scgi_temp_path {self._root}/s;
  keepalive_requests 1000000; keepalive_timeout 600s; client_max_body_size 0; merge_slashes off;
  large_client_header_buffers 8 32k; client_header_timeout 120s; client_body_timeout 120s;
  upstream sink {{ server 127.0.0.1:{self._sink}; keepalive 32; }}
  server {{
    listen 127.0.0.1:{self.port} backlog=1024;
    location / {{
      proxy_pass http://sink; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $http_host;
      proxy_read_timeout 120s; proxy_next_upstream off;
    }}
  }}
}}""")
        self._process = await asyncio.create_subprocess_exec("nginx", "-c", str(config), "-e", str(self._root / "error.log"))
        end = time.monotonic() + 10
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.close()
                return
            assert time.monotonic() < end, "nginx does not listen"
            await asyncio.sleep(0.02)

    def logged(self) -> dict[bytes, list[str]]:
        """Request lines and statuses that nginx has seen, by mark."""
        size = self.log.stat().st_size
        if size != self._read:
            self._read, self._logged = size, {}
            for line in self.log.read_bytes().decode("latin-1").splitlines():
                entry = json.loads(line)
                mark = _MARK.search(f"{entry['request']} {entry['mark']}".encode("latin-1"))
                self._logged.setdefault(mark[0] if mark else b"", []).append(f"{entry['request'][:100]} {entry['status']}")
        return self._logged

    def heard(self) -> int:
        return super().heard() + self.log.stat().st_size

    async def stop(self) -> None:
        self._process.terminate()
        await self._process.wait()
        await super().stop()
        shutil.rmtree(self._root, ignore_errors=True)
