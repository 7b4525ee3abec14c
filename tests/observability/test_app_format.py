"""The application log's lines."""

from __future__ import annotations

import json

import pytest

from pingap.observability.app_format import as_json, as_text, level_number
from tests.observability.samples import log


def test_text_names_level_actor_message_and_fields() -> None:
    line = as_text(log(addr="127.0.0.1:80", count=3, names=["a", "b"], why="no way", ok=True))
    assert line.partition(" ")[2] == 'INFO  accept.0 listening addr=127.0.0.1:80 count=3 names="[\\"a\\", \\"b\\"]" why="no way" ok=True'


def test_nothing_in_a_message_or_field_can_start_a_line_of_its_own() -> None:
    line = as_text(log("evil\nERROR fake", detail="a\r\nb\x1b[2J"))
    assert line.isprintable()
    assert "evil\\nERROR fake" in line


def test_a_traceback_is_readable_and_indented() -> None:
    lines = as_text(log("it failed", "error", traceback="Traceback:\n  File x\nValueError: a\x07b\n")).split("\n")
    assert lines[1:] == ["    | Traceback:", "    |   File x", "    | ValueError: a\\u0007b"]


def test_json_is_one_object_with_the_fields_beside_the_record() -> None:
    record = json.loads(as_json(log("x\ny", addr="a", level_="z", time=5, raw=b"\xff", nested={"a": [1]})))
    assert record == {
        "time": "2026-07-01T10:00:00.500Z",
        "level": "info",
        "stage": "accept",
        "replica": 0,
        "message": "x\ny",
        "addr": "a",
        "level_": "z",
        "field_time": 5,
        "raw": "\ufffd",
        "nested": {"a": [1]},
    }


@pytest.mark.parametrize(("level", "number"), [("debug", 0), ("TRACE", 0), ("info", 1), ("Warning", 2), ("error", 3), ("off", 4), ("?", 1)])
def test_levels_have_an_order_and_the_usual_other_names(level: str, number: int) -> None:
    assert level_number(level) == number
