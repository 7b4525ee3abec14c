"""`host.when_done`: called once for each request that ends, in whatever way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pingap.stages.messages import Cancel, Done, Response
from tests.plugins.script import ACCEPT, CONFIG, FAR, PLUGINS, ROUTING, SID, UPSTREAM, Stage

CODE = """
from pingap.plugin import CONTINUE, Plugin, reply


class Watches(Plugin):
    def start(self, host):
        self.host = host

    def request(self, exchange):
        self.host.when_done(exchange, lambda: self.end(exchange))
        if exchange.path == "/reply":
            return reply(418)

    def end(self, exchange):
        self.host.count("ended")
        if exchange.path == "/fails":
            raise ValueError("oops")
        if exchange.path == "/hangs":
            while True:
                pass
"""
LATE = """
from pingap.plugin import CONTINUE, Plugin


class Late(Plugin):
    def start(self, host):
        self.host = host

    def response(self, exchange):
        self.host.when_done(exchange, lambda: None)
"""


@pytest.fixture
def plugins(tmp_path: Path) -> dict[str, dict[str, Any]]:
    (tmp_path / "watches.py").write_text(CODE)
    return {"p": {"category": "python", "path": str(tmp_path / "watches.py"), "hold_timeout": "100ms"}}


async def test_it_is_called_when_accept_says_done_and_only_once(plugins: dict[str, dict[str, Any]]) -> None:
    async with Stage(plugins) as stage:
        routed = await stage.one(stage.request())
        assert routed.watchers == (PLUGINS,)
        assert stage.context.counted.get("ended") is None
        stage.give(Done(SID), Done(SID))
        assert stage.context.counted["ended"] == 1


async def test_what_a_plugin_answers_and_what_a_client_gives_up_end_too(plugins: dict[str, dict[str, Any]]) -> None:
    async with Stage(plugins) as stage:
        answer = await stage.one(stage.request("/reply"))
        assert isinstance(answer, Response) and answer.watchers == (PLUGINS,)
        stage.give(Done(SID))
        await stage.run(stage.request(sid=SID + 1))
        stage.give(Cancel(SID + 1, "client"))
        assert stage.context.counted["ended"] == 2


async def test_requests_of_an_accept_that_died_have_ended(plugins: dict[str, dict[str, Any]]) -> None:
    async with Stage(plugins) as stage:
        stage.members(ACCEPT, FAR, ROUTING, PLUGINS, UPSTREAM, CONFIG)
        await stage.run(stage.request(), stage.request(sid=FAR << 32))
        stage.members(ACCEPT, ROUTING, PLUGINS, UPSTREAM, CONFIG)
        assert stage.context.counted["ended"] == 1


async def test_one_that_fails_is_told_and_one_that_hangs_is_broken_off(plugins: dict[str, dict[str, Any]]) -> None:
    async with Stage(plugins) as stage:
        for at, path in enumerate(("/fails", "/hangs")):
            await stage.run(stage.request(path, sid=SID + at))
            stage.give(Done(SID + at))
            assert stage.context.counted["plugin_failures"] == at + 1


async def test_it_is_too_late_when_there_is_an_answer(tmp_path: Path) -> None:
    (tmp_path / "late.py").write_text(LATE)
    async with Stage({"p": {"category": "python", "path": str(tmp_path / "late.py")}}) as stage:
        assert (await stage.exchange()).status == 500
