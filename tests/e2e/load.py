"""A load that runs in the background while a test breaks something, and counts what its clients noticed."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable
from types import TracebackType

from tests.kit.waiting import until


class Tally:
    """What the clients of a load saw."""

    def __init__(self) -> None:
        self.statuses: Counter[int] = Counter()
        self.dropped = 0
        """Connections that the proxy closed without saying `Connection: close`, or in the middle of an answer."""
        self.refused = 0
        self.hung = 0
        """Requests without a whole answer within the deadline."""
        self.mixed_up: list[str] = []
        """Answers that were not to the question asked."""
        self.slowest = 0.0
        self.slowest_good = 0.0
        self.reasons: Counter[str] = Counter()

    @property
    def requests(self) -> int:
        return sum(self.statuses.values())

    @property
    def failed(self) -> int:
        return sum(count for status, count in self.statuses.items() if status >= 400)

    def __str__(self) -> str:
        return (
            f"{dict(self.statuses)}, {self.dropped} dropped, {self.refused} refused, {self.hung} hung, "
            f"slowest {self.slowest:.3f} s, {dict(self.reasons)}, {self.mixed_up[:3]}"
        )


class Load:
    """Keep-alive connections, each asking again and again with a short pause, in a thread of its own.

    Each request has a target of its own; the origin must echo it (`expect`), so that an
    answer that belongs to another request is noticed.
    """

    def __init__(
        self,
        port: int,
        connections: int = 12,
        pause: float = 0.01,
        deadline: float = 8.0,
        target: Callable[[int], str] = lambda number: f"/echo/{number}",
        expect: Callable[[str], bytes] | None = lambda target: target.encode(),
        method: str = "GET",
        body: bytes | None = None,
        fields: str = "",
    ) -> None:
        """fields: more header lines, each with its CRLF; `Connection: close` asks for a new connection each time."""
        self.tally = Tally()
        self._port, self._connections, self._pause, self._deadline = port, connections, pause, deadline
        self._target, self._expect, self._method, self._body = target, expect, method, body
        self._fields = fields
        self._stop = threading.Event()
        self._number = 0
        self._pending: set[int] = set()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> Load:
        self._thread.start()
        self.advance(self._connections * 2)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def advance(self, requests: int, seconds: float = 30) -> None:
        """Waits until that many more requests have been answered."""
        goal = self.tally.requests + requests
        until(lambda: self.tally.requests >= goal, seconds, f"{requests} more requests are answered ({self.tally})")

    @property
    def latest(self) -> int:
        """The number of the latest request."""
        return self._number

    def settle(self, seconds: float = 30) -> int:
        """Waits until every request that is under way now has ended. The number of the latest of them."""
        latest = self._number
        until(lambda: not any(number <= latest for number in list(self._pending)), seconds, "what was under way ends")
        return latest

    def stop(self) -> Tally:
        self._stop.set()
        self._thread.join(self._deadline + 5)
        assert not self._thread.is_alive(), "the load did not end"
        return self.tally

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(self._connections):
                group.create_task(self._client())

    async def _client(self) -> None:
        while not self._stop.is_set():
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            except OSError as error:
                self.tally.refused += 1
                self.tally.reasons[type(error).__name__] += 1
                await asyncio.sleep(0.05)
                continue
            try:
                await self._converse(reader, writer)
            finally:
                writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tally = self.tally
        while not self._stop.is_set():
            self._number = number = self._number + 1
            self._pending.add(number)
            target = self._target(number)
            length = "" if self._body is None else f"Content-Length: {len(self._body)}\r\n"
            head = f"{self._method} {target} HTTP/1.1\r\nHost: load.local\r\n{length}{self._fields}\r\n".encode()
            began = time.monotonic()
            try:
                async with asyncio.timeout(self._deadline):
                    writer.write(head + (self._body or b""))
                    status, keep, body = await _answer(reader)
            except TimeoutError:
                tally.hung += 1
                return
            except (OSError, asyncio.IncompleteReadError, ValueError) as error:
                tally.dropped += 1
                tally.reasons[f"{type(error).__name__}: {error}"] += 1
                return
            finally:
                self._pending.discard(number)
            took = time.monotonic() - began
            tally.slowest = max(tally.slowest, took)
            tally.statuses[status] += 1
            if status == 200:
                tally.slowest_good = max(tally.slowest_good, took)
                if self._expect is not None and self._expect(target) not in body.split():
                    tally.mixed_up.append(f"{target} → {body[:80]!r}")
            else:
                tally.reasons[f"{status} {body[:60]!r}"] += 1
            if not keep:
                return
            await asyncio.sleep(self._pause)


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bool, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    status = int(lines[0].split(b" ")[1])
    fields = dict(line.split(b":", 1) for line in lines[1:] if b":" in line)
    keep = b"close" not in fields.get(b"connection", b"")
    if b"content-length" in fields:
        return status, keep, await reader.readexactly(int(fields[b"content-length"]))
    body = b""
    while size := int(await reader.readline(), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readline()
    return status, keep, body
