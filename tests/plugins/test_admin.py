"""The admin plugin keeps its place: its keys are checked, and nothing is served."""

from __future__ import annotations

from typing import Any

import pytest

from pingap.config.problems import Note, Problem
from pingap.stages.messages import Response, Routed
from pingap.stages.plugins import checking
from tests.plugins.script import Stage

SECTION = {"category": "admin", "path": "/pingap/", "authorizations": ["YWRtaW46MTIzNDU2"], "max_age": "2d", "ip_fail_limit": 10}


@pytest.mark.parametrize("target", ["/pingap", "/pingap/", "/pingap?x", "/pingap/api/configs", "/pingap/x.js"])
async def test_all_under_its_path_is_answered_with_501(target: str) -> None:
    async with Stage({"p": SECTION}) as stage:
        answer = await stage.one(stage.request(target, method=b"POST"))
        assert isinstance(answer, Response)
        assert answer.status == 501
        assert b"not part of this version" in answer.body


@pytest.mark.parametrize("target", ["/", "/pingapx", "/a/pingap", "/PINGAP"])
async def test_all_else_goes_on(target: str) -> None:
    async with Stage({"p": SECTION}) as stage:
        assert isinstance(await stage.one(stage.request(target)), Routed)


async def test_without_a_path_it_is_every_path_and_an_escape_may_have_either_case() -> None:
    async with Stage({"p": {"category": "admin"}}) as stage:
        assert isinstance(await stage.one(stage.request("/x")), Response)
    async with Stage({"p": {"category": "admin", "path": "/verwaltung-ü"}}) as stage:
        for target in ("/verwaltung-%C3%BC/x", "/verwaltung-%c3%bc"):
            assert isinstance(await stage.one(stage.request(target)), Response)


def test_it_is_noted_that_nothing_is_served() -> None:
    (note,) = checking.Checker()("p", dict(SECTION))
    assert isinstance(note, Note)
    assert (note.path, "501" in note.message) == ("plugins.p.category", True)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"authorizations": ["!"]}, "authorizations[0]"),
        ({"authorizations": ["YWRtaW46MTIzNDU2", "YWRtaW4="]}, "authorizations[1]"),
        ({"authorizations": "YWRtaW46MTIzNDU2"}, "authorizations"),
        ({"max_age": 2}, "max_age"),
        ({"max_age": "two days"}, "max_age"),
        ({"ip_fail_limit": "10"}, "ip_fail_limit"),
        ({"path": 1}, "path"),
        ({"paths": "/x"}, "paths"),
        ({"step": "response"}, "step"),
    ],
)
def test_its_keys_are_strict(change: dict[str, Any], path: str) -> None:
    problems = [one for one in checking.Checker()("p", SECTION | change) if isinstance(one, Problem)]
    assert [problem.path for problem in problems] == [f"plugins.p.{path}"]
