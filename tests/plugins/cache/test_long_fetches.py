"""What a cache fetches and no client waits for comes to an end, whatever a backend does."""

from __future__ import annotations

from pathlib import Path
from time import monotonic

import pytest

from pingap.stages.itinerary import OUTLIVES
from pingap.stages.messages import UNKNOWN, Cancel, Done, Response
from pingap.stages.plugins.actor import LONGEST_FETCH
from pingap.stages.plugins.cache.filling import PATIENCE, QUIET, SLOWEST, UNREAD
from tests.kit.waiting import eventually
from tests.plugins.script import SID, UPSTREAM, Stage, data

FRESH = "cache-control: max-age=60"


def cached(tmp_path: Path) -> Stage:
    return Stage({"c": {"category": "cache", "directory": str(tmp_path), "max_file_size": "1gb"}})


async def test_a_backend_that_never_answers_is_given_up_when_its_client_has_long_left(tmp_path: Path) -> None:
    async with cached(tmp_path) as stage:
        await stage.run(stage.request())
        assert await stage.run(Cancel(SID, "client")) == [], "the answer is wanted all the same"
        stage.actor._sweep(monotonic() + LONGEST_FETCH - 5)
        assert stage.sent() == []
        stage.actor._sweep(monotonic() + LONGEST_FETCH + 5)
        assert stage.sent() == [(UPSTREAM, Cancel(SID, "it takes too long", True))]
        assert stage.actor.held() == 0


async def test_a_body_that_stops_coming_is_cut_off_for_all_who_read_it(tmp_path: Path) -> None:
    async with cached(tmp_path) as stage:
        await stage.run(stage.request())
        out = await stage.run(stage.response(FRESH, b"begun ", ended=False, length=UNKNOWN))
        assert isinstance(out[0], Response) and not out[0].ended
        now = monotonic()
        stage.actor._sweep(now)
        stage.give(data(b"more"))
        await stage.run()
        stage.actor._sweep(now + QUIET + 1)  # it has come on
        assert not [message for to, message in stage.sent() if to == UPSTREAM]
        stage.actor._sweep(now + 3 * QUIET)
        assert Cancel(SID, "plugins", True) in await stage.run()
        again = await stage.run(stage.request(sid=SID + 1))
        assert again[0].target == b"/", "half a body is not stored"


@pytest.mark.parametrize(("asked", "length"), [("range: bytes=0-7999999", 8_000_000), ("", UNKNOWN)])
async def test_a_client_that_pauses_is_not_taken_for_a_backend_that_stops(tmp_path: Path, asked: str, length: int) -> None:
    async with Stage({"c": {"category": "cache", "directory": str(tmp_path), "max_file_size": "100kb"}}) as stage:
        await stage.run(stage.request("/", asked))
        await stage.run(stage.response(FRESH, b"", ended=False, length=length))
        for _ in range(70):
            await stage.run(data(bytes(65536)))
        [fill] = stage.actor._fills._by_sid.values()
        await eventually(fill._sink.is_full)  # its file may have to be waited for
        now = monotonic()
        for number in range(4):
            stage.actor._sweep(now + number * QUIET)
        assert not any(isinstance(message, Cancel) for _, message in stage.sent()), "it is the client that does not read on"
        assert stage.actor.held() > 0
        assert Cancel(SID, "plugins", True) in [*await stage.run(Cancel(SID, "client_closed")), *await stage.run(data(bytes(65536)))]


async def begun(stage: Stage, length: int) -> float:
    """A body that comes, and whose client leaves; the time of that."""
    await stage.run(stage.request())
    await stage.run(stage.response(FRESH, b"begun ", ended=False, length=length))
    stage.actor._sweep(monotonic() + 2 * PATIENCE)
    assert not [message for to, message in stage.sent() if to == UPSTREAM and isinstance(message, Cancel)], "its client reads it"
    await stage.run(Cancel(SID, "client_closed"))
    now = monotonic()
    stage.actor._sweep(now)
    return now


def is_given_up(stage: Stage, now: float) -> bool:
    stage.actor._sweep(now)
    return (UPSTREAM, Cancel(SID, "plugins", True)) in stage.sent()


async def test_a_body_that_trickles_for_nobody_is_given_up(tmp_path: Path) -> None:
    async with cached(tmp_path) as stage:
        now = await begun(stage, 1_000_000)
        for number in range(1, int(PATIENCE)):
            await stage.run(data(b"x"))
            assert not is_given_up(stage, now + number)
        assert is_given_up(stage, now + PATIENCE + 1)
        assert stage.actor.held() == 0
        again = await stage.run(stage.request(sid=SID + 1))
        assert again[0].target == b"/", "and whoever is next asks at once"


async def test_a_body_without_an_end_goes_on_for_a_while_and_one_with_an_end_to_it(tmp_path: Path) -> None:
    for length in (UNKNOWN, 100_000_000):
        async with cached(tmp_path / str(length)) as stage:
            now = await begun(stage, length)
            for number in range(1, 10):
                await stage.run(data(b"x" * int(SLOWEST * UNREAD / 5)))
                assert not is_given_up(stage, now + number * UNREAD / 10)
            assert is_given_up(stage, now + UNREAD + 1) is (length == UNKNOWN)


async def test_a_stream_of_events_is_not_fetched_for_others(tmp_path: Path) -> None:
    async with cached(tmp_path) as stage:
        await stage.run(stage.request())
        out = await stage.run(stage.response(FRESH + "\ncontent-type: Text/Event-Stream", b"data: 1\n\n", ended=False, length=UNKNOWN))
        assert out[0].body == b"data: 1\n\n" and not len(stage.actor._fills)
        assert Cancel(SID, "client_closed", True) in await stage.run(Cancel(SID, "client_closed"))


async def test_what_is_not_stored_ends_with_its_client(tmp_path: Path) -> None:
    async with cached(tmp_path) as stage:
        routed = await stage.one(stage.request())
        assert routed.plan & OUTLIVES and routed.watchers
        await stage.run(stage.response("cache-control: no-store", b"begun ", ended=False, length=UNKNOWN))
        out = await stage.run(Done(SID), Cancel(SID, "client_closed"))  # as accept says it to who watches
        assert [one for one in out if isinstance(one, Cancel)] == [Cancel(SID, "done", True)], "upstream goes on for nobody"
        assert stage.actor.held() == 0
