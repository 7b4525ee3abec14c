"""What the stage owes to the others: credit, cancels, recalls, deaths, generations."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from pingap.stages.messages import NOT_BEGUN, UNKNOWN, WILL_ANSWER, WINDOW, Cancel, Data, Interim, Recall, Recalled, Response, Routed
from tests.plugins.script import ACCEPT, CONFIG, PLUGINS, ROUTING, SID, UPSTREAM, Stage, bodies, credit, data, granted, lines

TOUCH: dict[str, Any] = {"p": {"category": "response_headers", "set_headers": ["X: 1"]}}
GROW: dict[str, Any] = {"p": {"category": "sub_filter", "filters": [f"sub_filter 'a' '{'b' * 10}' g"]}}
SLOW: dict[str, Any] = {"p": {"category": "mock", "delay": "30s"}}
ZIP: dict[str, Any] = {"p": {"category": "compression", "gzip_level": 1}}


# -- credit --------------------------------------------------------------------------


async def test_upstream_gets_credit_only_as_the_client_takes_what_was_made() -> None:
    async with Stage(GROW) as stage:
        await stage.run(stage.request())
        out = await stage.run(stage.response("", b"a" * (WINDOW // 2), ended=False), data(b"a" * (WINDOW // 2)))
        assert len(bodies(out)) == WINDOW
        assert granted(out) == 0  # a tenth of it is made: not yet worth a message
        total, credits = WINDOW, 0
        for _ in range(10):
            out = await stage.run(credit(WINDOW))
            total += len(bodies(out))
            credits += granted(out)
        assert total == 10 * WINDOW
        assert WINDOW * 3 // 4 <= credits <= WINDOW


async def test_a_slow_client_bounds_what_is_held() -> None:
    async with Stage(GROW) as stage:
        await stage.run(stage.request())
        await stage.run(stage.response("", b"a" * WINDOW, ended=False))
        flow = stage.actor.streams.by_sid[SID].download.flow  # type: ignore[union-attr]
        for _ in range(20):
            out = await stage.run(credit(1000))
            assert len(bodies(out)) == 1000
            assert flow.ready <= 256 * 1024


async def test_a_body_that_is_not_touched_passes_credit_through() -> None:
    async with Stage(TOUCH) as stage:
        await stage.run(stage.request())
        await stage.run(stage.response("", b"x", ended=False))
        stage.give(credit(4711))
        assert stage.sent() == [(UPSTREAM, credit(4711, PLUGINS))]


async def test_a_body_that_shrinks_gives_upstream_its_credit_without_asking_the_client() -> None:
    async with Stage(ZIP) as stage:
        await stage.run(stage.request(headers="accept-encoding: gzip"))
        out = await stage.run(stage.response("content-type: text/plain", b"", ended=False))
        for _ in range(8):
            out += await stage.run(data(bytes(WINDOW // 4)))
        assert granted(out) == 2 * WINDOW
        assert len(bodies(out)) < WINDOW // 8


async def test_a_long_answer_of_a_plugin_is_sent_under_credit() -> None:
    size = WINDOW + 500_000
    async with Stage({"p": {"category": "mock", "data": "x" * size}}) as stage:
        out = await stage.run(stage.request())
        assert (out[0].length, out[0].ended) == (size, False)
        assert len(bodies(out)) == WINDOW
        out += await stage.run(credit(WINDOW))
        assert len(bodies(out)) == size and out[-1].ended
        assert stage.actor.held() == 0


# -- the ways in which a stream ends -----------------------------------------------------


async def test_cancel_reaches_upstream_when_the_client_leaves() -> None:
    async with Stage(ZIP) as stage:
        await stage.run(stage.request())
        await stage.run(stage.response("content-type: text/plain", b"x", ended=False))
        await stage.run(Cancel(SID, "client"))
        assert stage.actor.held() == 0
        assert await stage.run(data(b"more")) == []


async def test_an_answer_to_a_stream_that_is_gone_is_cancelled() -> None:
    async with Stage(TOUCH) as stage:
        stage.give(stage.response("", b"x", ended=False))
        assert stage.sent() == [(UPSTREAM, Cancel(SID, "gone", True))]
        assert stage.feed(stage.response("", b"x")) == []
        assert stage.feed(data(b"x"), credit(5)) == []


@pytest.mark.parametrize("plugins", [TOUCH, ZIP], ids=["untouched", "transformed"])
async def test_a_backend_body_that_breaks_is_told_on(plugins: dict[str, Any]) -> None:
    async with Stage(plugins) as stage:
        await stage.run(stage.request(headers="accept-encoding: gzip"))
        await stage.run(stage.response("content-type: text/plain", b"x" * 50, ended=False))
        out = await stage.run(data(b"", error="bad_gateway"))
        assert out == [data(b"", error="bad_gateway")]
        assert stage.actor.held() == 0


async def test_when_upstream_dies_before_its_answer_accept_is_left_to_answer() -> None:
    async with Stage(TOUCH) as stage:
        await stage.run(stage.request())
        stage.members(ACCEPT, ROUTING, PLUGINS, CONFIG)
        assert await stage.run() == []
        assert stage.actor.held() == 0


@pytest.mark.parametrize("plugins", [TOUCH, ZIP], ids=["untouched", "transformed"])
async def test_when_upstream_dies_in_mid_answer_accept_is_told(plugins: dict[str, Any]) -> None:
    async with Stage(plugins) as stage:
        await stage.run(stage.request(headers="accept-encoding: gzip"))
        await stage.run(stage.response("content-type: text/plain", b"x" * 50, ended=False))
        stage.members(ACCEPT, ROUTING, PLUGINS, CONFIG)
        assert await stage.run() == [data(b"", error="stage_lost")]


async def test_when_upstream_dies_after_its_answer_the_rest_is_still_sent() -> None:
    async with Stage(GROW) as stage:
        await stage.run(stage.request())
        out = await stage.run(stage.response("", b"a" * 500_000))
        stage.members(ACCEPT, ROUTING, PLUGINS, CONFIG)
        while stage.actor.held():
            out += await stage.run(credit(WINDOW))
        assert len(bodies(out)) == 5_000_000 and out[-1].ended


async def test_when_accept_dies_its_streams_are_forgotten() -> None:
    async with Stage(ZIP) as stage:
        await stage.run(stage.request())
        stage.members(ROUTING, PLUGINS, UPSTREAM, CONFIG)
        assert await stage.run() == [Cancel(SID, "accept is gone", True)]
        assert stage.actor.held() == 0


async def test_a_request_with_no_upstream_that_no_plugin_answers_is_404() -> None:
    async with Stage({"p": {"category": "ping", "path": "/ping"}}, upstream="") as stage:
        missing = await stage.one(stage.request("/other", upstream=""))
        assert (missing.status, missing.report.error, missing.report.location) == (404, "not_found", "l")
        assert b"No location" in missing.body


# -- recall -----------------------------------------------------------------------------


async def recalled(stage: Stage, sid: int = SID) -> int:
    [answer] = await stage.run(Recall(sid, ACCEPT))
    assert answer == Recalled(sid, PLUGINS, answer.state)
    return int(answer.state)


async def test_a_stream_that_never_came_is_refused_from_the_recall_on() -> None:
    async with Stage(TOUCH) as stage:
        assert await recalled(stage) == NOT_BEGUN
        assert await stage.run(stage.request()) == []


async def test_a_stream_in_a_hook_is_given_up_for_upstream_would_refuse_it() -> None:
    async with Stage(SLOW) as stage:
        await stage.run(stage.request())
        assert await recalled(stage) == NOT_BEGUN
        assert stage.actor.held() == 0


async def test_what_upstream_has_is_upstreams_to_answer_for_and_its_answer_is_still_taken() -> None:
    async with Stage(TOUCH) as stage:
        await stage.run(stage.request())
        assert await recalled(stage) == NOT_BEGUN
        assert isinstance(await stage.one(stage.response("", b"x")), Response)


async def test_a_stream_whose_answer_is_here_will_be_answered() -> None:
    async with Stage({"p": {"category": "compression", "gzip_level": 1}}) as stage:
        await stage.run(stage.request())
        await stage.run(stage.response("", b"x", ended=False))
        assert await recalled(stage) == WILL_ANSWER


# -- generations ---------------------------------------------------------------------------


async def test_the_stage_is_ready_when_it_can_serve() -> None:
    stage = Stage(TOUCH)
    await stage.actor.start()
    assert not stage.context.is_ready
    stage.load(TOUCH)
    assert stage.context.is_ready
    await stage.actor.stop()


async def test_a_request_runs_under_its_own_generation() -> None:
    async with Stage(TOUCH) as stage:
        old = stage.request()
        stage.load({"p": {"category": "response_headers", "set_headers": ["X: 2"]}})
        for request, value in ((old, "x: 1"), (stage.request(), "x: 2")):
            await stage.run(request)
            assert lines((await stage.one(stage.response())).headers) == [value]


async def test_a_replica_that_is_younger_than_a_request_runs_it_under_the_newest_generation() -> None:
    async with Stage(TOUCH) as stage:
        assert isinstance(await stage.one(stage.request(generation=0)), Routed)
        unknown = await stage.one(stage.request(generation=99))
        assert (unknown.status, unknown.report.error) == (503, "overloaded")
        assert "retry-after: 1" in lines(unknown.headers)


async def test_a_location_that_is_not_there_is_no_reason_to_crash() -> None:
    async with Stage(TOUCH) as stage:
        assert (await stage.one(stage.request(location="gone"))).status == 503


# -- order -----------------------------------------------------------------------------------


async def test_body_bytes_that_come_while_a_response_hook_is_at_work_are_not_lost(tmp_path: Any) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from pingap.plugin import *\nimport asyncio\n"
        "class Mine(Plugin):\n    async def response(self, exchange):\n        await asyncio.sleep(0.01)\n"
    )
    for more in ({}, {"zip": ZIP["p"]}):
        async with Stage({"p": {"category": "python", "path": str(path)}, **more}) as stage:
            await stage.run(stage.request())
            out = await stage.run(stage.response("content-type: text/plain", b"a", ended=False), data(b"b"), data(b"c", ended=True))
            assert out == []
            while stage.actor.held():
                await asyncio.sleep(0.005)
            out = stage.out()
            assert bodies(out) == b"abc"
            assert isinstance(out[0], Response) and out[0].length in (UNKNOWN, 3)
            assert out[-1].ended
            assert isinstance(out[-1], Data | Response)


@pytest.mark.parametrize("plugins", [ZIP, GROW], ids=["smaller", "larger"])
async def test_a_body_that_comes_in_the_same_turn_as_its_head_does_not_wait_for_more(plugins: dict[str, Any]) -> None:
    async with Stage(plugins) as stage:
        await stage.run(stage.request(headers="accept-encoding: gzip"))
        out = await stage.run(stage.response("content-type: text/plain", b"a", ended=False), data(b"a"), data(b"", ended=True))
        assert out[-1].ended
        assert stage.actor.held() == 0


async def test_an_answer_turned_into_one_without_body_has_none(tmp_path: Any) -> None:
    path = tmp_path / "mine.py"
    path.write_text("from pingap.plugin import *\nclass Mine(Plugin):\n    def response(self, e): e.response.status = 304\n")
    async with Stage({"p": {"category": "python", "path": str(path)}}) as stage:
        await stage.run(stage.request())
        stage.give(stage.response("", b"abc", ended=False))
        [(_, cancel), (_, head)] = stage.sent()
        assert isinstance(cancel, Cancel)
        assert (head.status, head.body, head.ended, head.length) == (304, b"", True, UNKNOWN)


# -- interim answers ----------------------------------------------------------------------


def hint(status: int = 103) -> Interim:
    return Interim(SID, status, b"link: </a>\r\n")


@pytest.mark.parametrize("plugin", [TOUCH, ZIP, GROW])
async def test_an_interim_answer_goes_on_before_the_final_one_whatever_that_waits_for(plugin: dict[str, Any]) -> None:
    async with Stage(plugin) as stage:
        await stage.run(stage.request())
        out = await stage.run(hint(102), hint(), stage.response("Content-Type: text/html", b"a" * 2000), hint(104))
        assert out[:2] == [hint(102), hint()]
        assert isinstance(out[2], Response) and not any(isinstance(one, Interim) for one in out[3:])


async def test_an_interim_answer_of_a_stream_that_is_not_here_is_nobody_s() -> None:
    async with Stage(TOUCH) as stage:
        assert await stage.run(hint()) == []


# -- the reason phrase ----------------------------------------------------------------------


@pytest.mark.parametrize("plugins", [TOUCH, ZIP, GROW])
async def test_the_phrase_of_a_backend_passes_whatever_becomes_of_its_body(plugins: dict[str, Any]) -> None:
    async with Stage(plugins) as stage:
        await stage.run(stage.request(headers="accept-encoding: gzip"))
        out = await stage.run(stage.response("content-type: text/html", b"a" * 2000, status=404, reason=b"No such thing"))
        assert [(one.status, one.reason) for one in out if isinstance(one, Response)] == [(404, b"No such thing")]


@pytest.mark.parametrize("code", ["e.response.status = 403", "return e.respond(404, 'ours')", "e.response.status = 304"])
@pytest.mark.parametrize("more", ["", "; e.collect_response(lambda e, body: body * 2)"], ids=["head", "body"])
async def test_a_phrase_does_not_outlive_the_answer_that_it_was_of(tmp_path: Any, code: str, more: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(f"from pingap.plugin import *\nclass Mine(Plugin):\n    def response(self, e):\n        {code}{more}\n")
    async with Stage({"p": {"category": "python", "path": str(path)}}) as stage:
        await stage.run(stage.request())
        out = await stage.run(stage.response("", b"abc", status=404, reason=b"No such thing"))
        (head,) = (one for one in out if isinstance(one, Response))
        assert head.reason == b""


# -- header names as they were written ----------------------------------------------------------------


@pytest.mark.parametrize("plugins", [TOUCH, ZIP, GROW])
async def test_spellings_pass_in_both_directions_whatever_becomes_of_a_body(plugins: dict[str, Any]) -> None:
    async with Stage(plugins) as stage:
        out = await stage.run(stage.request(headers="accept-encoding: gzip", spelled=(b"HOST",)))
        assert [one.spelled for one in out if isinstance(one, Routed)] == [(b"HOST",)]
        out = await stage.run(stage.response("content-type: text/html", b"a" * 2000, spelled=(b"X-UPPER",)))
        assert [one.spelled for one in out if isinstance(one, Response)] == [(b"X-UPPER",)]


async def test_what_a_plugin_answers_is_nobody_s_spelling() -> None:
    async with Stage({"p": {"category": "mock", "data": "x"}}) as stage:
        out = await stage.run(stage.request(spelled=(b"HOST",)))
        assert [one.spelled for one in out if isinstance(one, Response)] == [()]


async def test_a_request_that_is_cancelled_in_its_own_turn_leaves_no_coroutine_behind() -> None:
    """Its hook waits, and its task has not begun: Python would warn of the coroutine, which is an error here."""
    async with Stage(SLOW) as stage:
        stage.give(stage.request(), Cancel(SID, "client"))
        await asyncio.sleep(0)
        assert stage.actor.held() == 0
        gc.collect()
