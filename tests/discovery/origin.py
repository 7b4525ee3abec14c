"""A backend for health checks that does what the test says."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Origin:
    """Answers every request head with `answer`; b"" answers nothing; counts what came."""

    def __init__(self) -> None:
        self.answer = OK
        self.closes = False
        self.port = 0
        self.connections = 0
        self.open = 0
        self.requests: list[bytes] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.faults: list[AssertionError] = []

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self.serve(reader, writer))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        try:
            while True:
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
                if not self.answer and not self.closes:
                    await reader.read()
                    return
                writer.write(self.answer)
                await writer.drain()
                if self.closes:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            self.open -= 1
            writer.close()


class Hostile(Origin):
    """Does what `act` does once a connection is there, until that ends or the other side has gone."""

    def __init__(self, act: Handler) -> None:
        super().__init__()
        self.act = act

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        try:
            await self.act(reader, writer)
        except AssertionError as fault:
            self.faults.append(fault)
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            return
        finally:
            self.open -= 1
            writer.transport.abort()


@asynccontextmanager
async def origin(answer: bytes = OK, closes: bool = False, tls: ssl.SSLContext | None = None) -> AsyncIterator[Origin]:
    it = Origin()
    it.answer, it.closes = answer, closes
    async with listening(it, tls):
        yield it


@asynccontextmanager
async def hostile(act: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[Hostile]:
    it = Hostile(act)
    async with listening(it, tls):
        yield it


@asynccontextmanager
async def listening(it: Origin, tls: ssl.SSLContext | None = None) -> AsyncIterator[None]:
    """Binds it to a free port of loopback; at the end nothing of it is left."""
    server = await asyncio.start_server(it.accept, "127.0.0.1", 0, ssl=tls)
    it.port = server.sockets[0].getsockname()[1]
    try:
        yield
    finally:
        await turns()  # what the kernel has accepted gets its task, which can then be ended
        server.close()
        for task in it.tasks:
            task.cancel()
        await asyncio.gather(*it.tasks, return_exceptions=True)
        await turns()
        assert not it.faults, it.faults


async def turns() -> None:
    """A few turns of the loop, in which transports close their sockets."""
    for _ in range(5):
        await asyncio.sleep(0)
