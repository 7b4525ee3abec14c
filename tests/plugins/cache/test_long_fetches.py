"""What a cache fetches and no client waits for comes to an end, whatever a backend does."""

from __future__ import annotations

from pathlib import Path
from time import monotonic

from pingap.stages.messages import UNKNOWN, Cancel, Response
from pingap.stages.plugins.actor import LONGEST_FETCH
from pingap.stages.plugins.cache.filling import QUIET
from tests.plugins.script import SID, UPSTREAM, Stage, data

FRESH = "cache-control: max-age=60"


def cached(tmp_path: Path) -> Stage:
    return Stage({"c": {"category": "cache", "directory": str(tmp_path)}})


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
