"""Tests of json_schema.py: `pingap plugin test examples/plugins/json_schema.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pingap.plugin_testing import PluginRefused, PluginStage

pytestmark = pytest.mark.asyncio

RULES = {
    "type": "object",
    "required": ["item", "count"],
    "properties": {"item": {"type": "string"}, "count": {"type": "integer", "minimum": 1}},
}
JSON = {"content-type": "application/json"}


def stage(**keys: Any) -> PluginStage:
    section = {"category": "python", "path": str(Path(__file__).with_name("json_schema.py")), "rules": RULES}
    return PluginStage({"orders": section | keys})


async def test_what_is_right_goes_to_the_backend_as_it_is() -> None:
    async with stage() as proxy:
        body = '{"item": "tea",  "count": 2}'
        assert (await proxy.post("/", body, headers={"content-type": "application/json; charset=utf-8"})).status == 200
        assert proxy.backend.requests[0].text == body


async def test_all_that_is_wrong_is_told_with_its_place() -> None:
    async with stage() as proxy:
        answer = await proxy.post("/", '{"item": 1, "count": 0}', headers=JSON)
        assert answer.status == 422
        assert {one["at"]: one["why"] for one in answer.json()["errors"]} == {
            "$.item": "1 is not of type 'string'",
            "$.count": "0 is less than the minimum of 1",
        }
        assert proxy.backend.requests == []


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        ("", JSON, 400),
        ("{", JSON, 400),
        (b"\xff", JSON, 400),
        ("[" * 100_000, JSON, 400),
        ('{"item": "tea", "count": 999, "count": 1}', JSON, 400),
        ('{"item": "tea", "count": NaN}', JSON, 400),
        ('{"item": "tea", "count": 1}'.encode("utf-16"), JSON, 400),
        ('{"item": "tea", "count": 1}', {"content-type": "application/json; charset=utf-7"}, 415),
        ('{"item": "tea", "count": 1}', [("content-type", "application/json"), ("content-type", "text/xml")], 415),
        ("{}", {}, 415),
        ('{"item": "' + "x" * 200 + '"}', JSON, 413),
    ],
    ids=["empty", "cut", "bytes", "deep", "twice", "nan", "utf-16", "utf-7", "two types", "no type", "long"],
)
async def test_what_is_no_json_reaches_nobody(body: str | bytes, headers: Any, status: int) -> None:
    async with stage(max_body="200b" if status == 413 else "1mb") as proxy:
        assert (await proxy.post("/", body, headers=headers)).status == status
        assert proxy.backend.requests == []


async def test_other_methods_pass_without_a_body() -> None:
    async with stage() as proxy:
        assert (await proxy.get("/")).status == 200
        assert (await proxy.request("DELETE", "/")).status == 200
        assert (await proxy.request("DELETE", "/", body='{"item": 1}', headers=JSON)).status == 422
        assert (await proxy.request("QUERY", "/", body="anything")).status == 415
        assert len(proxy.backend.requests) == 2


async def test_a_schema_that_is_none_is_refused() -> None:
    with pytest.raises(PluginRefused, match=r"rules: is no JSON Schema: \$.type"):
        async with stage(rules={"type": "objekt"}):
            pass


async def test_references_lead_to_places_in_the_schema() -> None:
    rules = {"$ref": "#/$defs/order", "$defs": {"order": {"properties": {"next": {"$ref": "#"}, "count": {"type": "integer"}}}}}
    async with stage(rules=rules) as proxy:
        assert (await proxy.post("/", '{"next": {"count": 1}}', headers=JSON)).status == 200
        assert (await proxy.post("/", '{"next": {"count": "1"}}', headers=JSON)).status == 422


@pytest.mark.parametrize("reference", ["#/$defs/nobody", "http://127.0.0.1:9/s.json", "file:///etc/passwd", "other.json"])
async def test_a_reference_that_leads_nowhere_is_refused_and_nothing_is_fetched(reference: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr("urllib.request.urlopen", asked.append)
    with pytest.raises(PluginRefused, match="rules: has a reference that leads nowhere"):
        async with stage(rules={"$ref": "#/$defs/a", "$defs": {"a": {"properties": {"b": {"$ref": reference}}}}}):
            pass
    assert asked == []
