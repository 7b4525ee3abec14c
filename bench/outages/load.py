"""An open-loop load: requests leave at their times whatever became of those before, each is asked once, and all is written down."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from dataclasses import dataclass
from typing import Final

LATE: Final = 10.0
"""Seconds after which a client gives up."""

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True, slots=True)
class Seen:
    """What a client saw of one request."""

    number: int
    at: float
    """When it was sent, seconds since the load began."""
    took: float
    status: int
    """0: the connection was refused, reset or closed without a whole answer. -1: no answer within `LATE`."""
    backend: str = ""
    """The one that answered, by its own word."""

    @property
    def is_error(self) -> bool:
        return self.status < 200 or self.status >= 500


class OpenLoad:
    """GETs evenly spaced over kept connections, in a thread of its own: `/?id=NUMBER`."""

    def __init__(self, port: int, rate: float, seconds: float) -> None:
        self.seen: list[Seen] = []
        self.lateness = 0.0
        """Seconds by which the latest request left after its time: what the machine adds to the figures."""
        self._port, self._rate, self._seconds = port, rate, seconds
        self._idle: list[Connection] = []
        self._began = 0.0
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def start(self) -> None:
        self._began = time.monotonic() + 0.2
        self._thread.start()

    def clock(self) -> float:
        """Seconds since the first request."""
        return time.monotonic() - self._began

    def sleep_until(self, moment: float) -> None:
        time.sleep(max(0.0, moment - self.clock()))

    def join(self) -> list[Seen]:
        """What was seen of every request, in the order in which they were sent."""
        self._thread.join(self._seconds + LATE + 10)
        if self._thread.is_alive():
            raise TimeoutError("the load did not end")
        return sorted(self.seen, key=lambda seen: seen.at)

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(int(self._rate * self._seconds)):
                due = number / self._rate
                if (early := due - self.clock()) > 0:
                    await asyncio.sleep(early)
                self.lateness = max(self.lateness, self.clock() - due)
                group.create_task(self._ask(number))
        for _, writer in self._idle:
            writer.close()

    async def _ask(self, number: int) -> None:
        at = self.clock()
        status, backend = 0, ""
        connection: Connection | None = None
        try:
            async with asyncio.timeout(LATE):
                connection = self._kept() or await asyncio.open_connection("127.0.0.1", self._port)
                status, backend, is_kept = await _exchange(connection, f"/?id={number}")
            if is_kept:
                self._idle.append(connection)
                connection = None
        except TimeoutError:
            status = -1
        except (OSError, ValueError, asyncio.IncompleteReadError):
            status = 0
        finally:
            if connection is not None:
                connection[1].close()
        self.seen.append(Seen(number, at, self.clock() - at, status, backend))

    def _kept(self) -> Connection | None:
        """A connection that the proxy has not closed, as a client's pool looks before it uses one."""
        while self._idle:
            connection = self._idle.pop()
            if not connection[0].at_eof():
                return connection
            with contextlib.suppress(OSError):
                connection[1].close()
        return None


async def _exchange(connection: Connection, target: str) -> tuple[int, str, bool]:
    """Status, backend, and whether the connection is kept."""
    reader, writer = connection
    writer.write(f"GET {target} HTTP/1.1\r\nHost: app.test\r\n\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
    if "content-length" in fields:
        await reader.readexactly(int(fields["content-length"]))
    elif "chunked" in fields.get("transfer-encoding", ""):
        while size := int(await reader.readline(), 16):
            await reader.readexactly(size + 2)
        await reader.readline()
    else:
        await reader.read()
    return int(head[0].split(" ")[1]), fields.get("x-backend", ""), fields.get("connection", "").lower() != "close"
