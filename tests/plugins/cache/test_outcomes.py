"""What a fetch came to is told to those who wait, and bodies that turn out too large are read to their end."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pingap.stages.plugins.cache.flights.verdicts import ALONE, FAILED, FETCH, JOIN, LOOK
from pingap.stages.plugins.cache.outcomes import fails_others, tell
from pingap.stages.plugins.cache.sink import StoreSink
from tests.plugins.cache.fleet import SID, Asked, FlightFleet, Part, entry_of


class PartOfStore(Part):
    failure = ""
    is_there = True

    def write(self, data: bytes) -> None:
        super().write(data)

    def discard(self) -> None:
        self.is_there = False
        Path(self.path).unlink()


class OneStore:
    """A store that says of the next put what the test says."""

    def __init__(self, purged: int = 0) -> None:
        self.purged = purged
        self.puts: list[asyncio.Future[int]] = []

    def purged_at(self, place: bytes) -> int:
        return self.purged

    def put(self, *what: Any) -> asyncio.Future[int]:
        self.puts.append(asyncio.get_running_loop().create_future())
        return self.puts[-1]


async def told(store: OneStore, outcome: int | BaseException) -> list[int]:
    """What two who wait hear of it, one that asks after a purge included."""
    fleet = FlightFleet(1)
    asked = [fleet[100].ask(SID + number) for number in range(3)]
    stored = store.put()
    tell(asked[0].lease, stored, store, b"k", 5)  # type: ignore[arg-type]
    if isinstance(outcome, int):
        stored.set_result(outcome)
    else:
        stored.set_exception(outcome)
    await asyncio.sleep(0)
    fleet.stop()
    return [one.kind for one in asked[1:]]


async def test_who_waits_hears_what_the_store_has_decided() -> None:
    assert await told(OneStore(), 7) == [LOOK, LOOK]
    assert await told(OneStore(), 0) == [ALONE, ALONE], "without room they would fetch it one after the other"
    assert await told(OneStore(purged=6), 0) == [FETCH, 0], "what was purged meanwhile is fetched once more, and once"
    assert await told(OneStore(), OSError("gone")) == [FETCH, 0]


@pytest.mark.parametrize(
    ("kind", "fails"),
    [("connect_failed", True), ("gateway_timeout", True), ("no_backend", True), ("overloaded", True), ("client_closed", False)]
    + [("body_too_large", False), ("plugin_failed", False), ("stage_lost", False), ("made up", False)],
)
def test_only_what_others_would_fail_of_too_counts_as_a_failure(kind: str, fails: bool) -> None:
    assert fails_others(kind) is fails


async def sunk(fleet: FlightFleet, path: Path) -> tuple[StoreSink, PartOfStore, OneStore, list[Asked]]:
    """A fill of at most 10 bytes, and who else has asked in two processes."""
    key = fleet.key_of(101)
    asked = [fleet[actor].ask(SID + actor, key) for actor in (101, 100)]
    fleet.deliver()
    part, store = PartOfStore(path), OneStore()
    parts: Any = SimpleNamespace(rules=SimpleNamespace(max_file_size=10), store=store)
    sink = StoreSink(parts, key, entry_of(), part, 0, asked[0].lease)  # type: ignore[arg-type]
    fleet.deliver()
    return sink, part, store, asked


async def read(body: Any) -> bytes:
    return b"".join([piece async for piece in body])


@pytest.mark.interpreted
async def test_a_body_that_is_too_large_goes_on_in_its_file_while_another_process_reads_along(tmp_path: Path) -> None:
    fleet = FlightFleet(2)
    sink, part, store, asked = await sunk(fleet, tmp_path / "part")
    far = asyncio.ensure_future(read(asked[1].answer.body))
    for _ in range(3):
        assert sink.write(b"123456") is None
        await asyncio.sleep(0)
        fleet.deliver()
    late = fleet[100].ask(SID, fleet.key_of(101))
    fleet.deliver()
    assert late.kind == ALONE, "and nobody joins any more"
    sink.ended()
    fleet.deliver()
    assert await far == await read(sink.body) == b"123456" * 3
    assert (store.puts, part.is_there, len(fleet[101].flights)) == ([], False, 0)
    fleet.stop()


@pytest.mark.interpreted
async def test_a_fill_that_fails_of_its_own_lets_the_next_try_at_once_and_one_of_the_origin_does_not(tmp_path: Path) -> None:
    for kind, expected in (("plugin_failed", FETCH), ("gateway_timeout", FAILED)):
        fleet = FlightFleet(2)
        sink, part, _, asked = await sunk(fleet, tmp_path / kind)
        assert asked[1].kind == JOIN
        sink.failed(kind)
        next_one = fleet[101].ask(SID, fleet.key_of(101), lock=0.5, has_stale=True)
        assert next_one.kind == expected and not part.is_there
        fleet.stop()
