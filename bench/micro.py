"""What the parts cost by themselves: a hop over the bus, parsing a head, packing messages."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

from msgspec.structs import astuple

from pingap.bus import envelope as wire
from pingap.bus.link import Link
from pingap.bus.members import READY, Members
from pingap.stages.http1.engine import ENGINES
from pingap.stages.http1.rules import HeadLimits
from pingap.stages.messages import Affinity, Peer, Report, Request, Response

HEAD = (
    b"GET /api/items?page=2 HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nAccept: application/json\r\n"
    b"Accept-Encoding: gzip, br\r\nAccept-Language: en\r\nCookie: session=0123456789abcdef\r\nReferer: http://shop.example/\r\n\r\n"
)
ANSWER = (
    b"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Sun, 22 Nov 2026 21:00:00 GMT\r\nContent-Type: application/json\r\nContent-Length: 112\r\n"
    b"Connection: keep-alive\r\nCache-Control: public, max-age=60\r\n\r\n"
)


class Ping(Request, frozen=True, tag=200):
    """A kind of our own, for the echo: as large as a request."""


def timed(work: Callable[[], Any], seconds: float = 0.4) -> float:
    """Microseconds of CPU for one call, the best of five rounds: the others were disturbed."""
    count = 1
    while True:
        began = time.process_time()
        for _ in range(count):
            work()
        took = time.process_time() - began
        if took > seconds / 10:
            break
        count *= 4
    rounds = [took / count]
    for _ in range(4):
        began = time.process_time()
        for _ in range(count):
            work()
        rounds.append((time.process_time() - began) / count)
    return min(rounds) * 1e6


def messages() -> tuple[Request, Response]:
    """A request and a response as they cross the bus in the `small` work."""
    engine = ENGINES["httptools"]
    head = engine.parse_request(HEAD, HeadLimits())
    answer = engine.parse_response(ANSWER, HeadLimits())
    peer = Peer("127.0.0.1", 40000, "127.0.0.1", 6188, "http", 1)
    crew = Affinity(2, 3, 4)
    line = (head.method, head.target, head.version, head.host)
    request = Request(5 << 32, 1, crew, "plain", peer, *line, head.headers, 0, b"", True, 1.0, b"")
    report = Report("all", "origin", "127.0.0.1:80", 200, True, 1, (1.0,) * 8, (), "", {}, "127.0.0.1")
    return request, Response(5 << 32, 4, 200, answer.headers, 112, b"x" * 112, True, report, ())


def parts() -> Iterator[tuple[str, float]]:
    """(what, microseconds)."""
    limits = HeadLimits()
    for name, engine in ENGINES.items():
        yield f"request head with 7 headers, {name}", timed(lambda engine=engine: engine.parse_request(HEAD, limits))  # type: ignore[misc]
        yield f"response head with 6 headers, {name}", timed(lambda engine=engine: engine.parse_response(ANSWER, limits))  # type: ignore[misc]
    for message in messages():
        name = type(message).__name__.upper()
        for size in (1, 16):
            packed = wire.pack([message] * size)[0]
            yield f"pack {name}, batch of {size}", timed(lambda message=message, size=size: wire.pack([message] * size)) / size  # type: ignore[misc]
            yield f"unpack {name}, batch of {size}", timed(lambda packed=packed: wire.unpack(packed)) / size  # type: ignore[misc]


# -- a hop over the bus --------------------------------------------------------


def _members(run_dir: str) -> Members:
    return Members.of(1, 2, [(1, "near", 0, f"ipc://{run_dir}/near", READY), (2, "far", 0, f"ipc://{run_dir}/far", READY)])


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop

        return uvloop.new_event_loop
    except ImportError:
        return asyncio.new_event_loop


def echo(run_dir: str) -> None:
    """The far side, in a process of its own: sends back whatever comes, until its parent is gone."""

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        link = Link(loop)
        link.set_members(_members(run_dir))
        link.attach(2, f"ipc://{run_dir}/far", {Ping: lambda envelope: link.send(1, envelope)})
        parent = os.getppid()
        while os.getppid() == parent:
            await asyncio.sleep(0.2)

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(serve())


def hops(sizes: tuple[int, ...] = (1, 4, 16, 64, 256), seconds: float = 1.0) -> Iterator[tuple[int, float, float]]:
    """(envelopes on the way at once, CPU microseconds of both processes for one hop, round trip in ms)."""
    request, _ = messages()
    payload = Ping(*astuple(request))
    with tempfile.TemporaryDirectory(prefix="pg-", dir="/tmp") as run_dir:
        far = subprocess.Popen([sys.executable, "-c", f"from bench.micro import echo; echo({run_dir!r})"])
        try:

            async def measure(size: int) -> tuple[float, float]:
                loop = asyncio.get_running_loop()
                ended = loop.create_future()
                link = Link(loop)
                left = size
                turns = 0
                end = 0.0

                def back(_: Any) -> None:
                    nonlocal left, turns
                    left -= 1
                    if left:
                        return
                    turns += 1
                    left = size
                    if time.monotonic() >= end:
                        ended.set_result(None)
                        return
                    for _ in range(size):
                        link.send(2, payload)

                endpoint = f"ipc://{run_dir}/near"
                link.attach(1, endpoint, {Ping: back})
                link.set_members(_members(run_dir))
                end = time.monotonic() + 0.3
                for _ in range(size):
                    link.send(2, payload)
                await asyncio.wait_for(ended, 10)
                ended, turns, left = loop.create_future(), 0, size
                began, cpu = time.monotonic(), time.process_time() + _cpu(far.pid)
                end = began + seconds
                for _ in range(size):
                    link.send(2, payload)
                await asyncio.wait_for(ended, seconds + 10)
                took, used = time.monotonic() - began, time.process_time() + _cpu(far.pid) - cpu
                link.close()
                return used / (turns * size * 2) * 1e6, took / turns * 1e3

            for size in sizes:
                with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                    yield size, *runner.run(measure(size))
        finally:
            far.kill()
            far.wait()


def _cpu(pid: int) -> float:
    from bench.processes import cpu_seconds

    return cpu_seconds([pid])
