"""Who reads an answer slowly that is not stored after all does not keep from it who reads it as well."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pingap.stages.plugins.cache.flights import tail
from pingap.stages.plugins.cache.flights.growing_body import GrowingBody
from pingap.stages.plugins.cache.flights.growth import Growth, GrowthCut, NoReaders
from pingap.stages.plugins.cache.flights.tail import PATIENCE, ROOM, BodyReader, Tail
from tests.plugins.cache.store.stores import entry

PIECE = b"x" * 65_536


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "LOOK", 0.01)
    monkeypatch.setattr(tail, "PATIENCE", 0.05)


def growing(root: Path) -> Growth:
    (root / "part").write_bytes(PIECE)
    return Growth(entry(b"n\0k", -1), str(root / "part"), len(PIECE))


async def spill(growth: Growth, pieces: int) -> None:
    for _ in range(pieces):
        if (waits := growth.spill(PIECE)) is not None:
            await waits
    growth.end(growth.size)


async def read(body: GrowingBody) -> int:
    return sum([len(piece) async for piece in body])


@pytest.mark.parametrize("begun", [0, 1, 3])
async def test_who_does_not_read_is_cut_off_and_the_others_get_all(tmp_path: Path, begun: int) -> None:
    growth = growing(tmp_path)
    idle: AsyncIterator[bytes] = aiter(GrowingBody(growth))
    others = [asyncio.create_task(read(GrowingBody(growth).expect())) for _ in range(2)]
    if not begun:
        growth.begin(0)  # it was told the head, and its body was not begun
    async with asyncio.timeout(20):
        filling = asyncio.create_task(spill(growth, 40))
        for _ in range(begun):
            await anext(idle)
        assert [await one for one in others] == [41 * len(PIECE)] * 2
        await filling
    if begun:
        with pytest.raises(GrowthCut) as cut:
            await anext(idle)
        assert cut.value.kind == "overloaded"
    assert not growth.is_read


async def test_who_reads_alone_is_waited_for(tmp_path: Path) -> None:
    growth = growing(tmp_path)
    slow = aiter(GrowingBody(growth).expect())
    await anext(slow)
    filling = asyncio.create_task(spill(growth, 40))
    await asyncio.sleep(0.3)
    assert not filling.done()
    async with asyncio.timeout(20):
        assert sum([len(piece) async for piece in slow]) == 40 * len(PIECE)
        await filling


async def test_with_the_last_of_them_it_ends(tmp_path: Path) -> None:
    growth = growing(tmp_path)
    one, other = growth.begin(0), growth.begin(0)
    filling = asyncio.create_task(spill(growth, 40))
    await asyncio.sleep(0)
    growth.ended(one)
    growth.ended(other)
    async with asyncio.timeout(20):
        with pytest.raises(NoReaders):
            await filling


def test_who_takes_its_share_is_waited_for_and_who_does_not_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "PATIENCE", PATIENCE)
    rest = Tail(1_000_000)
    quick, steady, idle, behind = (BodyReader(at) for at in (1_000_000, 1_000_000, 1_000_000, 0))
    readers = (quick, steady, idle, behind)
    cut: list[BodyReader] = []
    for _ in range(30):
        rest.add(bytes(ROOM // 4))
        assert not rest.too_slow([one for one in readers if one is not quick], 100.0)  # nobody has come to the end
        quick.at = rest.end
        steady.at += ROOM // 4
        behind.at += 20_000
        cut += rest.too_slow([one for one in readers if one not in cut], 1.0)
    assert set(cut) == {idle, behind}


def test_a_moment_at_the_end_does_not_count_for_ever() -> None:
    rest = Tail(0)
    rest.add(bytes(ROOM))
    late, quick = BodyReader(0), BodyReader(ROOM)
    for _ in range(10):
        assert not rest.too_slow((late, quick), 0.04)
        late.at = rest.end
        assert not rest.too_slow((late, quick), 0.04)
        rest.add(bytes(10))
        quick.at = rest.end
