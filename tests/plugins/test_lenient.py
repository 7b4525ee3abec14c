"""Values of another type are taken as they are meant, where the plugin guards nothing."""

from __future__ import annotations

from typing import Any

import pytest

from pingap.config.problems import Note, Problem
from pingap.stages.plugins import checking
from pingap.stages.plugins.lenient import GUARDLESS
from pingap.stages.plugins.registry import CATEGORIES


def checked(**section: Any) -> tuple[list[Problem], list[Note], dict[str, Any]]:
    told = checking.Checker()("p", section)
    return [one for one in told if isinstance(one, Problem)], [one for one in told if isinstance(one, Note)], section


@pytest.mark.parametrize(
    ("section", "key", "taken"),
    [
        ({"category": "compression", "gzip_level": "6"}, "gzip_level", 6),
        ({"category": "compression", "decompression": "True"}, "decompression", True),
        ({"category": "compression", "gzip_level": 6, "content_types": "text/html"}, "content_types", ["text/html"]),
        ({"category": "mock", "path": "/m", "data": 42}, "data", "42"),
        ({"category": "redirect", "prefix": "/api", "http_to_https": "false"}, "http_to_https", False),
        ({"category": "mock", "path": "/m", "headers": "X-A: b"}, "headers", ["X-A: b"]),
    ],
)
def test_a_value_of_another_type_is_taken_as_it_is_meant(section: dict[str, Any], key: str, taken: Any) -> None:
    problems, notes, section = checked(**section)
    assert problems == []
    assert [note.path for note in notes] == [f"plugins.p.{key}"]
    assert section[key] == taken
    assert "X-A" not in str(notes), "a header may be a secret"


@pytest.mark.parametrize(
    "section",
    [
        {"category": "basic_auth", "authorizations": "YTpi"},
        {"category": "basic_auth", "authorizations": ["YTpi"], "hide_credentials": "true"},
        {"category": "key_auth", "query": "k", "keys": "one"},
        {"category": "ip_restriction", "ip_list": "10.0.0.0/8", "type": "deny"},
        {"category": "ip_restriction", "ip_list": [10], "type": "deny"},
        {"category": "limit", "max": "10"},
    ],
)
def test_what_guards_something_is_refused(section: dict[str, Any]) -> None:
    problems, notes, after = checked(**section)
    assert problems
    assert notes == []
    assert after == section


TYPES: dict[str, Any] = {"boolean": False, "integer": 0, "number": 0.0, "object": {}, "array": [], "string": ""}


@pytest.mark.parametrize("category", sorted(CATEGORIES.keys() - GUARDLESS))
def test_nothing_of_another_type_counts_as_absent_where_something_is_guarded(category: str) -> None:
    """`aud = 0` is no reason to let in whoever comes, and neither is `false` or an empty table."""
    schema = CATEGORIES[category].model.model_json_schema()
    wrong = []
    for key, spec in schema["properties"].items():
        if key == "category":
            continue
        types = {one.get("type", "") for one in spec.get("anyOf", [spec])}
        if types & {"number", "integer"}:
            types |= {"number", "integer"}
        wrong += [(key, value) for kind, value in TYPES.items() if kind not in types]
    assert wrong
    for key, value in wrong:
        problems, _, _ = checked(category=category, **{key: value})
        assert any(one.path.startswith(f"plugins.p.{key}") for one in problems), (key, value)


def test_what_is_not_clear_is_refused() -> None:
    for wrong in ({"gzip_level": "high"}, {"gzip_level": 6.5}, {"gzip_level": [6]}, {"decompression": "yes please"}, {"gzip_levl": "6"}):
        problems, notes, _ = checked(category="compression", **wrong)
        assert problems
        assert notes == []
    problems, notes, _ = checked(category="compression", gzip_level="60")
    assert [problem.path for problem in problems] == ["plugins.p.gzip_level"]
