"""What plugins take is measured by plugin: in all for metrics, and with its request what a client notices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from pingap.stages.messages import Response, Routed
from tests.plugins.script import SID, Stage
from tests.plugins.test_python_plugins import plugin, section, served

SLOW = """
def request(self, exchange): time.sleep(0.003)
async def response(self, exchange): await asyncio.sleep(0.004)
"""


def told(stage: Stage) -> dict[tuple[str, str], float]:
    """(counter, plugin) → what was added since the last time."""
    found: dict[tuple[str, str], float] = {}

    def count(name: str, delta: float, *, plugin: str) -> None:
        found[name, plugin] = delta

    stage.actor.context.count = count  # type: ignore[method-assign,assignment]
    stage.actor.sum_up()
    return found


async def test_each_call_is_counted_and_its_time_is_that_of_its_plugin(tmp_path: Path) -> None:
    sections: dict[str, Any] = {"slow": section(tmp_path, plugin(SLOW)), "id": {"category": "request_id"}}
    async with Stage(sections) as stage:
        for sid in range(SID, SID + 3):
            [routed] = await served(stage, stage.request(sid=sid))
            assert isinstance(routed, Routed)
            assert list(routed.variables["plugin_seconds"]) == ["slow"]
            [response] = await served(stage, stage.response("", b"x", sid=sid))
            assert isinstance(response, Response)
            assert response.report is not None
            assert 0.006 < response.report.context["plugin_seconds"]["slow"] < 3
        found = told(stage)
        assert (found["plugin_calls", "slow"], found["plugin_calls", "id"]) == (6, 3)
        assert 0.018 < found["plugin_seconds", "slow"] < 10
        assert 0 < found["plugin_seconds", "id"] < found["plugin_seconds", "slow"]
        assert told(stage) == {}, "since then there was nothing"


@pytest.mark.parametrize("theirs", ["abc", "", 7, ["slow"], {"slow": "long"}, {"other": 1.0}])
async def test_what_others_call_by_that_name_is_left_alone_and_fails_nothing(theirs: Any, tmp_path: Path) -> None:
    """A capture of a host or path, a claim of a token, a plugin's own."""
    setting = f"\ndef early_request(self, exchange): exchange.context['plugin_seconds'] = {theirs!r}\n"
    for code, captured in ((SLOW, {"plugin_seconds": theirs}), (setting + SLOW, {})):
        async with Stage({"slow": section(tmp_path, plugin(code), f"slow{len(code)}")}) as stage:
            [routed] = await served(stage, stage.request(variables=captured))
            assert isinstance(routed, Routed)
            assert routed.variables["plugin_seconds"] == theirs
            answer = stage.response("", b"x")
            assert answer.report is not None
            answer = replace(answer, report=replace(answer.report, context=dict(routed.variables)))  # as upstream tells it back
            [response] = await served(stage, answer)
            assert isinstance(response, Response)
            assert (response.status, response.body) == (200, b"x")
            assert response.report is not None
            assert response.report.context["plugin_seconds"] == theirs
            assert told(stage)["plugin_seconds", "slow"] > 0.006


async def test_who_fails_or_waits_for_its_turn_is_not_counted_for_others(tmp_path: Path) -> None:
    failing = section(tmp_path, plugin("async def request(self, exchange):\n    await asyncio.sleep(0.003)\n    1 / 0"), "failing")
    async with Stage({"failing": failing, "id": {"category": "request_id"}}) as stage:
        await served(stage, stage.request())
        found = told(stage)
        assert ("plugin_calls", "id") not in found
        assert found["plugin_seconds", "failing"] > 0.002


async def test_a_plugin_that_is_gone_is_forgotten(tmp_path: Path) -> None:
    async with Stage({"a": {"category": "request_id"}}) as stage:
        await stage.run(stage.request())
        stage.load({"b": {"category": "request_id"}})
        await stage.run(stage.request(sid=SID + 1))
        assert {name for _, name in told(stage)} == {"b"}
