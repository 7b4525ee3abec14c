"""`python -m bench.calls`: the Python calls of one kept-alive GET through accept, routing and upstream in one process, in their order.

What a newcomer has to read to follow a request, and a measure of how far it is: not of time.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, ClassVar, Final

from pingap.bus.actor import Actor
from pingap.bus.members import Members
from pingap.bus.process import Process
from pingap.bus.replication import REPEATS_END
from pingap.bus.seat import Seat
from pingap.config.model import Location, Server, Snapshot, Upstream
from pingap.config.parts import Backend, Listen
from pingap.stages.accept.actor import AcceptActor
from pingap.stages.bundles import packed
from pingap.stages.routing.actor import RoutingActor
from pingap.stages.upstream.actor import UpstreamActor

ROOT: Final = Path(__file__).resolve().parents[1]
ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
ASKED: Final = b"GET /api/users/1 HTTP/1.1\r\nHost: example.com\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n"
BEFORE: Final = 50
"""Requests before the one that is looked at: memories are filled by then."""


class Config(Actor):
    """Stands for config: publishes one committed generation."""

    stage: ClassVar[str] = "config"

    async def start(self) -> None:
        made = packed(self.context.settings["snapshot"], {})
        value = {"committed": 1, "current": made.contents, "candidate": 0, "next": None, "oldest": 1, "problems": []}
        self.context.publish("config", value, made.blobs)


def origin() -> int:
    """A backend in a thread; its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    def answer(connection: socket.socket) -> None:
        while connection.recv(65536):
            connection.sendall(ANSWER)

    threading.Thread(target=serve, daemon=True).start()
    port: int = listener.getsockname()[1]
    return port


def snapshot(port: int) -> Snapshot:
    return Snapshot(
        servers={"s": Server(addr=(Listen("127.0.0.1", 1),), locations=("l",))},
        locations={"l": Location(upstream="u")},
        upstreams={"u": Upstream(addrs=(Backend("127.0.0.1", port),))},
    )


async def calls() -> list[CodeType]:
    """The functions of ours that one GET calls."""
    run_dir = tempfile.mkdtemp(prefix="pingap-calls-")
    listener = socket.create_server(("127.0.0.1", 0))
    address = listener.getsockname()
    listeners = [{"fd": listener.detach(), "server": "s", "addr": f"{address[0]}:{address[1]}"}]
    stages: list[tuple[str, Any, dict[str, Any]]] = [
        ("config", Config, {"snapshot": snapshot(origin())}),
        ("accept", AcceptActor, {"listeners": listeners}),
        ("routing", RoutingActor, {}),
        ("upstream", UpstreamActor, {}),
    ]
    seats = [
        Seat(number, stage, 0, f"ipc://{run_dir}/{stage}.0.{number}", factory, settings)
        for number, (stage, factory, settings) in enumerate(stages, 1)
    ]
    process = Process(run_dir, seats, asyncio.get_running_loop())
    try:
        for actor in process.actors.values():
            await actor.start()
        process._take_members(Members.of(1, len(seats), [(seat.id, seat.stage, 0, seat.endpoint, "ready") for seat in seats]))
        while True:
            await asyncio.sleep(0.05)
            with socket.socket() as probe:
                if probe.connect_ex(address) == 0:
                    break
        await asyncio.sleep(2 * REPEATS_END)  # what was published at the start is not repeated any more: it is of no request
        return await asyncio.to_thread(_asked, asyncio.get_running_loop(), address)
    finally:
        for actor in process.actors.values():
            await actor.stop()
        process.replication.stop()
        process.link.close()
        shutil.rmtree(run_dir, ignore_errors=True)


def _asked(loop: asyncio.AbstractEventLoop, address: Any) -> list[CodeType]:
    found: list[CodeType] = []

    def seen(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(f"{ROOT}{os.sep}"):
            found.append(frame.f_code)

    with socket.create_connection(address, 5) as client:
        for number in range(BEFORE):
            client.sendall(ASKED)
            assert client.recv(65536).startswith(b"HTTP/1.1 200 "), "the pipeline serves"
            if number == BEFORE - 2:
                loop.call_soon_threadsafe(sys.setprofile, seen)
        time.sleep(0.1)  # until what the requests before it left to do is done: it is not of this one
        found.clear()
        client.sendall(ASKED)
        client.recv(65536)
        done = threading.Event()

        def end() -> None:
            sys.setprofile(None)
            done.set()

        loop.call_soon_threadsafe(loop.call_soon, end)  # a turn later: what is done behind the answer belongs to it
        done.wait(5)
    return [code for code in found if code.co_filename != __file__]


def main() -> None:
    try:
        import uvloop

        found = uvloop.run(calls())
    except ImportError:
        found = asyncio.run(calls())
    for code in found:
        path = Path(code.co_filename).resolve().relative_to(ROOT)
        print(f"{path!s:40s} {code.co_qualname if hasattr(code, 'co_qualname') else code.co_name}")
    print(f"{len(found)} calls in {len({code.co_filename for code in found})} files")


if __name__ == "__main__":
    main()
