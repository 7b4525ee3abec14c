"""One pingap before all the origins, and a client that says payloads to it, many at a time."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import re
import threading
from collections.abc import Coroutine
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, TypeVar

from tests.e2e.harness import Pingap
from tests.kit.waiting import free_port
from tests.smuggling.book import Reading, read
from tests.smuggling.origins import Asgi, BehindNginx, Record, Recorder
from tests.smuggling.payload import MARK

T = TypeVar("T")

WAIT = "2s"
"""pingap's patience with an incomplete head or body."""
DEADLINE = 15.0
"""Seconds until a connection that is still open counts as hung."""
AT_ONCE = 48
"""Connections at the same time."""

_STATUS = re.compile(rb"HTTP/1\.1 ([0-9]{3}) [^\r\n]*\r\n")


@dataclass(frozen=True, slots=True)
class Door:
    """One server of pingap: its HTTP/1 and HTTP/2 engines, and the origin behind it."""

    origin: str
    http1: str = "httptools"
    http2: str = ""
    """"" for a server without HTTP/2."""

    @property
    def name(self) -> str:
        return f"{self.origin}-{self.http2 or self.http1}"


@dataclass(slots=True)
class Answer:
    """One final answer on a client's connection."""

    status: int
    serial: str
    """Of the record at the origin; "" for an answer of somebody else."""
    is_refusal: bool
    """An error page of pingap's."""


@dataclass(slots=True)
class Run:
    """One payload said to one door."""

    door: Door
    mark: bytes
    wire: bytes
    """Payload and probe, marked."""
    book: Reading
    """The same read by the book."""
    answers: list[Answer] = field(default_factory=list)
    garbage: bytes = b""
    """What came and was no answer."""
    hung: bool = False


class Lab:
    """Starts everything; use as a context manager. The loop of client and origins has a thread of its own."""

    def __init__(self, doors: list[Door], placement: str = "split") -> None:
        self.doors = doors
        self.ports = {door: free_port() for door in doors}
        kinds = {"nginx": BehindNginx, "uvicorn-h11": Asgi, "uvicorn-httptools": Asgi, "raw": Recorder}
        self.origins: dict[str, Recorder] = {door.origin: kinds[door.origin](door.origin) for door in doors}
        self._placement = placement
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._marks = iter(range(100_000))
        self.room = asyncio.Semaphore(AT_ONCE)

    def __enter__(self) -> Lab:
        self._thread.start()
        try:
            self.wait(self._start_origins())
            self.pingap = Pingap(self._config(), self._placement)
            self.pingap.__enter__()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self.pingap.__exit__(kind, error, trace)
        finally:
            self._end()

    def _end(self) -> None:
        self.wait(self._stop_origins())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(120)

    async def _start_origins(self) -> None:
        await asyncio.gather(*(origin.start() for origin in self.origins.values()))

    async def _stop_origins(self) -> None:
        await asyncio.gather(*(origin.stop() for origin in self.origins.values() if origin.port))

    def _config(self) -> str:
        parts = ["[basic]\nupstream_keepalive_pool_size = 64\n"]
        for door, port in self.ports.items():
            http2 = f'enabled_h2 = true\nhttp2_engine = "{door.http2}"\n' if door.http2 else ""
            parts.append(f"""[servers.{door.name}]
addr = "127.0.0.1:{port}"
locations = ["{door.origin}"]
http1_engine = "{door.http1}"
header_timeout = "{WAIT}"
downstream_read_timeout = "{WAIT}"
keepalive_timeout = "30s"
{http2}""")
        for name, origin in self.origins.items():
            parts.append(f"""[locations.{name}]
upstream = "{name}"
enable_reverse_proxy_headers = true
proxy_set_headers = ["X-Set: by-pingap", "X-Gone:"]
max_retries = 0
[upstreams.{name}]
addrs = ["127.0.0.1:{origin.port}"]
max_pending = 4096
idle_timeout = "30s"
""")
        return "\n".join(parts)

    # -- what is said ---------------------------------------------------------------

    def new_mark(self, kind: str = "run") -> bytes:
        return b"%b%05d" % (kind.encode(), next(self._marks))

    async def say(self, door: Door, wire: bytes, cut: str = "whole", kind: str = "run") -> Run:
        """Sends a payload and a probe behind it, and reads until the connection is closed.

        cut: `whole` for one piece, `late` for the probe after the first answer, `pieces` for cuts anywhere.
        """
        async with self.room:
            mark = self.new_mark(kind)
            probe = b"GET /probe/%b HTTP/1.1\r\nHost: a.example\r\nX-Mark: %b\r\nConnection: close\r\n\r\n" % (mark, mark)
            payload = wire.replace(MARK, mark)
            run = Run(door, mark, payload + probe, read(payload + probe))
            received = bytearray()
            try:
                async with asyncio.timeout(DEADLINE):
                    await self._talk(self.ports[door], payload, probe, cut, received)
            except TimeoutError:
                run.hung = True
            _read_answers(bytes(received), run)
            return run

    async def _talk(self, port: int, payload: bytes, probe: bytes, cut: str, received: bytearray) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            pieces = [payload + probe]
            if cut == "late":
                pieces = [payload, probe]
            elif cut == "pieces":
                rng = random.Random(payload)
                pieces = _pieces(payload + probe, sorted(rng.randrange(1, len(payload)) for _ in range(3)))
            for number, piece in enumerate(pieces):
                if number:
                    if cut == "late":
                        with contextlib.suppress(TimeoutError):
                            received += await asyncio.wait_for(reader.read(65536), 0.1)
                    else:
                        await asyncio.sleep(0.005)
                writer.write(piece)
                await writer.drain()
            while part := await reader.read(65536):
                received += part
        except ConnectionError:
            pass
        finally:
            writer.close()

    # -- what was seen ----------------------------------------------------------------

    def records(self, origin: str, mark: bytes) -> list[Record]:
        return self.origins[origin].by_mark.get(mark, [])

    async def settled(self) -> None:
        """Waits until nothing more reaches an origin: what pingap has passed on is there before its answer is here."""
        before, same = -1, 0
        for _ in range(100):
            count = sum(origin.heard() for origin in self.origins.values())
            same = same + 1 if count == before else 0
            if same == 3:
                return
            before = count
            await asyncio.sleep(0.05)


def _pieces(data: bytes, at: list[int]) -> list[bytes]:
    ends = [0, *at, len(data)]
    return [data[begin:end] for begin, end in itertools.pairwise(ends) if end > begin]


def _read_answers(data: bytes, run: Run) -> None:
    """Final answers; every answer of an origin of ours says its length, and the one to HEAD bears a mark of no body."""
    heads = [request.method for request in run.book.requests]
    while data:
        match = _STATUS.match(data)
        end = data.find(b"\r\n\r\n") + 4
        if match is None or end == 3:
            run.garbage = data
            return
        head, data = data[:end].lower(), data[end:]
        status = int(match[1])
        if 100 <= status < 200 and status != 101:
            continue
        lengths = re.findall(rb"\r\ncontent-length: ([0-9]+)\r\n", head)
        serials = re.findall(rb"\r\nx-serial: ([^\r\n]+)\r\n", head)
        method = heads[len(run.answers)] if len(run.answers) < len(heads) else b""
        is_refusal = b"\r\nx-pingap-etype:" in head
        run.answers.append(Answer(status, serials[0].decode() if serials else "", is_refusal))
        if len(lengths) > 1 or b"transfer-encoding" in head:
            run.garbage = head
            return
        if lengths and (method != b"HEAD" or (is_refusal and data)) and status not in (204, 304):
            size = int(lengths[0])
            if len(data) < size:
                run.garbage = data or b"(nothing)"
                return
            data = data[size:]
