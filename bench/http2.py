"""What an HTTP/2 engine costs a request by itself: `python -m bench.http2`, with h2load.

Each row is a bare server in one process, which answers 112 bytes without looking at the
request: our engines behind the interface of stages/http2, the h2 library as its manual
uses it, and httpunk (hyper's h2), which brings its own transport and tasks, where installed.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec

import uvloop

from bench.processes import cpu_seconds
from pingap.stages.http2.engine import Head, LocalSettings
from pingap.stages.http2.engines import MakeEngine, engine
from tests.kit.waiting import free_port, until

BODY = b"x" * 112
FIELDS = ((b":status", b"200"), (b"content-type", b"application/json"), (b"content-length", b"112"))
REQUESTS = 40_000


def ours(name: str) -> Callable[[], asyncio.Protocol]:
    make: MakeEngine = engine(name)

    class Server(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport: asyncio.Transport = transport  # type: ignore[assignment]
            self.engine = make(False, LocalSettings())
            self.engine.start()

        def data_received(self, data: bytes) -> None:
            for event in self.engine.receive(data):
                if isinstance(event, Head):
                    self.engine.send_head(event.stream_id, FIELDS, False)
                    self.engine.send_data(event.stream_id, BODY, True)
            if out := self.engine.outgoing():
                self.transport.write(out)

    return Server


def library() -> Callable[[], asyncio.Protocol]:
    from h2.config import H2Configuration
    from h2.connection import H2Connection
    from h2.events import RequestReceived

    class Server(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport: asyncio.Transport = transport  # type: ignore[assignment]
            self.connection = H2Connection(H2Configuration(client_side=False, header_encoding=None))
            self.connection.initiate_connection()

        def data_received(self, data: bytes) -> None:
            for event in self.connection.receive_data(data):
                if isinstance(event, RequestReceived) and event.stream_id is not None:
                    self.connection.send_headers(event.stream_id, FIELDS)
                    self.connection.send_data(event.stream_id, BODY, end_stream=True)
            self.transport.write(self.connection.data_to_send())

    return Server


def hyper() -> Callable[[], asyncio.Protocol]:
    import httpunk.asyncio  # type: ignore[import-not-found, unused-ignore]

    headers = {name.decode(): value.decode() for name, value in FIELDS[1:]}

    class Server(httpunk.asyncio.AutoServerProtocol):  # type: ignore[misc, unused-ignore]
        async def handle(self, request: object) -> None:
            await request.respond(200, headers=headers, body=BODY)  # type: ignore[attr-defined]

    return Server


SERVERS: dict[str, tuple[str, Callable[[], Callable[[], asyncio.Protocol]]]] = {
    "engine h2": ("h2", lambda: ours("h2")),
    "engine ngh2": ("ngh2", lambda: ours("ngh2")),
    "h2 as it comes": ("h2", library),
    "httpunk": ("httpunk", hyper),
}


async def _serve(name: str, port: int) -> None:
    server = await asyncio.get_running_loop().create_server(SERVERS[name][1](), "127.0.0.1", port)
    async with server:
        await server.serve_forever()


def measure(name: str) -> tuple[float, float]:
    """(requests per second, CPU microseconds of the server per request)."""
    port = free_port()
    pid = os.fork()
    if not pid:
        uvloop.run(_serve(name, port))
        os._exit(0)
    try:
        until(lambda: _accepts(port), 10, f"{name} accepts connections")
        _load(port, REQUESTS // 4)
        before = cpu_seconds([pid])
        rate = _load(port, REQUESTS)
        return rate, (cpu_seconds([pid]) - before) / REQUESTS * 1e6
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _accepts(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def _load(port: int, count: int) -> float:
    argv = ["h2load", f"-n{count}", "-c4", "-m16", f"http://127.0.0.1:{port}/"]
    said = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=120).stdout
    assert f"{count} succeeded" in said, said
    found = re.search(r"finished in [^,]+, ([\d.]+) req/s", said)
    assert found is not None, said
    return float(found[1])


def main() -> int:
    if shutil.which("h2load") is None:
        print("left out: h2load not installed (Debian: apt-get install nghttp2-client)")
        return 1
    print("an HTTP/2 server that only answers, 4 connections of 16 streams")
    for name, (module, _) in SERVERS.items():
        if find_spec(module) is None:
            print(f"  {name:16s} left out: {module} is not installed")
            continue
        rate, cost = measure(name)
        print(f"  {name:16s} {rate:9.0f}/s {cost:7.1f} µs CPU a request", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
