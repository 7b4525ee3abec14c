"""A hook that gets the whole body may change the head as well: what is stored is what it has made of both."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from pingap.plugin_testing import BackendRequest, PluginStage
from pingap.stages.messages import Response
from pingap.stages.plugins.cache.whole_body import is_small, wants_whole
from pingap.stages.plugins.exchange import Reply, Transformer, reply
from tests.plugins.script import SID, Stage, data, lines

SHOUT = """
import asyncio
from pingap.plugin import Exchange, Plugin, reply

class Shout(Plugin):
    def upstream_response(self, exchange):
        exchange.collect_response(self.whole, limit=1000)

    async def whole(self, exchange, body):
        await asyncio.sleep(0)
        if body == b"no":
            return reply(451, "not here")
        exchange.response.headers["content-type"] = "text/loud"
        exchange.response.headers.remove("etag")
        if body == b"secret":
            exchange.response.headers["cache-control"] = "no-store"
        return body.upper() + b"!"
"""


def origin(request: BackendRequest) -> Reply:
    word = request.path[1:]
    body = b"x" * int(word) if word.isdigit() else word.encode()
    return reply(200, body, [("cache-control", "max-age=60"), ("content-type", "text/plain"), ("etag", '"abc"')])


def staged(tmp_path: Path) -> PluginStage:
    (tmp_path / "shout.py").write_text(SHOUT)
    sections: dict[str, dict[str, Any]] = {"c": {"category": "cache"}, "p": {"category": "python", "path": str(tmp_path / "shout.py")}}
    return PluginStage(sections)


async def test_what_hooks_make_of_a_whole_body_is_stored_with_the_head_that_belongs_to_it(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        backend = stage.backends["backend"]
        backend.answers_with(origin)
        for status in ("miss", "hit", "hit"):
            answer = await stage.get("/word")
            told = answer.headers.get("x-cache-status"), answer.headers.get("content-type"), answer.headers.get("etag"), answer.body
            assert told == (status, "text/loud", None, b"WORD!")
        assert len(backend.requests) == 1
        for _ in range(2):
            assert (await stage.get("/secret")).body == b"SECRET!"
        assert len(backend.requests) == 3, "what the hook has said of it counts"
        for _ in range(2):
            answer = await stage.get("/no")
            assert (answer.status, answer.text, answer.headers.get("x-cache-status")) == (451, "not here", None)
        assert len(backend.requests) == 5, "what a plugin answers is not stored"


async def test_what_is_too_large_for_the_hook_or_has_no_length_passes(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        backend = stage.backends["backend"]
        backend.answers_with(origin)
        answer = await stage.get("/1001")
        assert (answer.body, answer.headers.get("content-type")) == (b"x" * 1001, "text/plain")
        backend.answers(200, [b"pie", b"ces"], [("cache-control", "max-age=60")])
        for _ in range(2):
            answer = await stage.get("/pieces")
            assert (answer.body, answer.headers.get("content-type")) == (b"PIECES!", "text/loud")


async def test_a_body_that_breaks_off_is_an_error_and_not_stored(tmp_path: Path) -> None:
    (tmp_path / "shout.py").write_text(SHOUT)
    sections: dict[str, dict[str, Any]] = {"c": {"category": "cache"}, "p": {"category": "python", "path": str(tmp_path / "shout.py")}}
    async with Stage(sections) as stage:
        await stage.one(stage.request("/word"))
        stage.give(stage.response("cache-control: max-age=60", b"wo", ended=False, length=4))
        answer = await until_response(stage, data(b"", error="bad_gateway"))
        assert answer.status == 502
        await stage.one(stage.request("/other", sid=SID + 1))
        stage.give(stage.response("cache-control: max-age=60", b"wo", ended=False, length=4, sid=SID + 1))
        answer = await until_response(stage, data(b"rd", ended=True, sid=SID + 1))
        assert (answer.status, answer.body) == (200, b"WORD!")
        assert "x-cache-status: miss" in lines(answer.headers)


async def until_response(stage: Stage, *envelopes: Any) -> Response:
    stage.give(*envelopes)
    async with asyncio.timeout(10):
        while True:
            for envelope in await stage.run():
                if isinstance(envelope, Response):
                    return envelope


def test_which_bodies_are_waited_for() -> None:
    transformer = Transformer()
    hook = (lambda exchange, body: None, 1000, True)
    assert [wants_whole(stages) for stages in (None, [], [transformer], [transformer, hook])] == [False, False, False, True]
    assert [is_small([hook, transformer], length) for length in (-1, 0, 1000, 1001)] == [False, True, True, False]
