"""Long bodies take turns on the event loop, and wait for the pipe that they go into."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pingap.bus.messages import Echo
from pingap.bus.pipes import LIMIT, Pipes
from pingap.stages.bulk import AT_ONCE, TURN, Bulk
from pingap.stages.read_gate import CREDIT, ReadGate

TO = 9
READ = 256 * 1024


class Reader:
    """A connection on which bytes come in without end. As its own transport it is stopped and let go on."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        transport: Any = self
        self.gate = ReadGate(transport)
        self.is_reading = True
        self.is_lost = False
        self.reads = 0

    def pause_reading(self) -> None:
        assert not self.is_lost, "what is lost must be left alone"
        self.is_reading = False

    def resume_reading(self) -> None:
        assert not self.is_lost, "what is lost must be left alone"
        self.is_reading = True

    def is_closing(self) -> bool:
        return self.is_lost

    def reads_as_long_as_it_may(self, most: int = 32) -> None:
        """As uvloop does when a socket is readable."""
        for _ in range(most):
            if not self.is_reading:
                return
            self.reads += 1
            self._bench.bulk.took(READ, self.gate, TO)


class Bench:
    def __init__(self, readers: int, echoes: bool = True) -> None:
        self.marks: list[Any] = []
        self.pipes = Pipes(1, self._marked)
        self.echoes = echoes
        self.bulk = Bulk(asyncio.get_running_loop(), self.pipes)
        self.readers = [Reader(self) for _ in range(readers)]

    def _marked(self, to: int, mark: Any) -> None:
        self.marks.append(mark)
        if self.echoes:
            self.echo()

    def echo(self) -> None:
        self.pipes.echoed(Echo(TO, self.marks[-1].sent))

    async def turn(self) -> int:
        """One look at the sockets, and what comes of it. The bytes that were read."""
        before = sum(reader.reads for reader in self.readers)
        for reader in self.readers:
            reader.reads_as_long_as_it_may()
        await asyncio.sleep(0)
        return READ * (sum(reader.reads for reader in self.readers) - before)


async def test_no_turn_reads_much_more_than_its_share_however_many_there_are() -> None:
    bench = Bench(64)
    await bench.turn()  # the first look finds all of them, one read each
    for _ in range(100):
        assert 0 < await bench.turn() <= TURN + AT_ONCE * READ


async def test_all_get_their_turn() -> None:
    bench = Bench(64)
    for _ in range(200):
        await bench.turn()
    reads = [reader.reads for reader in bench.readers]
    assert max(reads) - min(reads) <= 8, reads


async def test_one_alone_is_hardly_held_up() -> None:
    bench = Bench(1)
    for _ in range(10):
        assert await bench.turn() == TURN


async def test_into_a_full_pipe_nobody_reads_until_it_has_room() -> None:
    bench = Bench(3, echoes=False)
    total = 0
    for _ in range(50):
        total += await bench.turn()
    assert LIMIT < total <= LIMIT + 4 * READ
    assert not any(reader.is_reading for reader in bench.readers)
    bench.echo()
    await asyncio.sleep(0)
    assert all(reader.is_reading for reader in bench.readers)


@pytest.mark.parametrize("why", ["gone", "stopped"])
async def test_who_is_gone_or_stopped_by_others_stays_so(why: str) -> None:
    bench = Bench(2)
    await bench.turn()
    first, second = bench.readers
    first.gate.shut(CREDIT)
    first.is_lost = why == "gone"
    assert not first.is_reading
    for _ in range(5):
        await bench.turn()
    assert not first.is_reading
    assert second.reads > 10


async def test_the_last_that_came_of_a_lost_connection_stops_nothing() -> None:
    bench = Bench(2)
    await bench.turn()
    bench.readers[0].is_lost = True
    bench.bulk.took(READ, bench.readers[0].gate, TO)


async def test_short_reads_are_not_scheduled_for_ever() -> None:
    bench = Bench(1)
    bench.bulk.took(20_000, bench.readers[0].gate, 0)
    await asyncio.sleep(0)
    assert bench.readers[0].is_reading
    assert not bench.bulk._is_scheduled
