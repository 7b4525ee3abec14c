"""Direct writes and the transport's queue keep one order, on a real socket that is full most of the time."""

from __future__ import annotations

import asyncio
import random

import pytest

from stages.http1.direct import DirectWriter


class Sender(asyncio.Protocol):
    def __init__(self, connected: asyncio.Queue[Sender]) -> None:
        self.connected = connected

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]  # uvloop's is none by isinstance
        self.writer = DirectWriter(self.transport)
        self.connected.put_nowait(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.writer.end()


@pytest.mark.parametrize("loop_kind", ["asyncio", "uvloop"])
def test_bytes_arrive_in_the_order_of_the_writes_however_they_went(loop_kind: str) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        connected: asyncio.Queue[Sender] = asyncio.Queue()
        server = await loop.create_server(lambda: Sender(connected), "127.0.0.1", 0)
        reader, client = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1], limit=1 << 16)
        sender = await asyncio.wait_for(connected.get(), 5)
        writer = sender.writer
        dice = random.Random(7)
        expected = bytearray()
        received = bytearray()
        for step in range(400):
            piece = bytes([step & 255]) * dice.choice((1, 100, 5_000, 200_000))
            expected += piece
            if dice.random() < 0.3:
                half = len(piece) // 2
                writer.writelines((piece[:half], piece[half:]))
            else:
                writer.write(piece)
            if dice.random() < 0.3:
                received += await reader.read(300_000)
        while len(received) < len(expected):
            received += await asyncio.wait_for(reader.read(1 << 20), 5)
        assert received == expected
        sender.transport.close()
        client.close()
        await client.wait_closed()
        server.close()
        await server.wait_closed()

    if loop_kind == "uvloop":
        uvloop = pytest.importorskip("uvloop")
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(scenario())
    else:
        asyncio.run(scenario())


def test_after_the_end_nothing_reaches_the_descriptor() -> None:
    class Gone:
        written: list[bytes] = []

        def get_extra_info(self, name: str) -> object:
            return self if name == "socket" else None

        def fileno(self) -> int:
            return 1  # would show on standard output

        def write(self, data: bytes) -> None:
            self.written.append(data)

    transport = Gone()
    writer = DirectWriter(transport)  # type: ignore[arg-type]
    writer.end()
    writer.write(b"late")
    assert transport.written == [b"late"]
