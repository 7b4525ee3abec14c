"""The manual of the built-in plugins is what their files say."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import pytest
from pydantic import BeforeValidator, Field, WithJsonSchema

from pingap.plugin import CONTINUE, Duration, Exchange, HeaderLine, Hook, Plugin, Result, Settings, Size, Step
from pingap.stages.plugins.registry import BUILTIN_SECTIONS, CATEGORIES
from pingap.stages.plugins.user_code import HOST_KEYS
from pingap.workshop import manual
from pingap.workshop.catalogue import PluginEntry, as_json, entries, entry_of

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "builtin-plugins.md"
ENTRIES = {entry.name: entry for entry in entries()}


def test_every_plugin_and_every_instance_is_on_it() -> None:
    assert [*ENTRIES] == [*sorted(CATEGORIES), "python"]
    assert {name for entry in ENTRIES.values() for name in entry.instances} == set(BUILTIN_SECTIONS)
    assert re.findall(r"(?m)^## `(\w+)`$", PAGE.read_text()) == [*ENTRIES]


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=lambda entry: entry.name)
def test_each_plugin_says_what_it_does_and_what_each_key_means(entry: PluginEntry) -> None:
    assert len(entry.summary) > 10
    assert [key.name for key in entry.keys if not key.text] == []
    assert entry.steps or entry.name == "python"
    if entry.name in CATEGORIES:
        fields = CATEGORIES[entry.name].model.model_fields
        assert {key.name for key in entry.keys} == {spec.alias or name for name, spec in fields.items()} - set(Settings.model_fields)
        assert {key.name for key in entry.keys if key.is_required} == {
            spec.alias or name for name, spec in fields.items() if spec.is_required()
        }
    else:
        assert {key.name for key in entry.keys} == HOST_KEYS


@pytest.mark.processes
def test_whoever_serves_requests_does_not_read_the_source_for_it() -> None:
    code = (
        "import sys, pingap.stages.plugins.actor; print('pingap.workshop.catalogue' in sys.modules, 'pingap.config.schema' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert run.stdout.split() == ["False", "False"]


class OddSettings(Settings):
    when: Duration = 90.0
    """How long.  Ours."""
    never: Duration | None = None
    size: Size = 65536
    """Much, or
    little."""
    level: Annotated[int, Field(ge=1, le=9)] = 3
    count: Annotated[int, Field(ge=0)] = 0
    mode: Literal["", "on|off"] = ""
    either: str | list[str] = Field(default_factory=list)
    lines: list[HeaderLine]
    rule: Annotated[str, BeforeValidator(str), WithJsonSchema({"type": "string", "format": "regex"})] = "a|b"
    class_: str = Field(default="x", alias="class")
    odd: Any = None


class Odd(Plugin[OddSettings]):
    model = OddSettings
    steps: ClassVar[tuple[Step, ...]] = ("request", "proxy_upstream")

    def request(self, exchange: Exchange) -> Result:
        return CONTINUE


class Moved(Odd):
    steps: ClassVar[tuple[Step, ...]] = ()

    def hooks(self) -> Mapping[Step, Hook]:
        return {"response": self.request}


def test_a_key_is_told_as_it_is_written() -> None:
    keys = {key.name: key for key in entry_of("odd", Odd, "").keys}
    assert {name: (key.type, manual.default_of(key)) for name, key in keys.items()} == {
        "when": ("duration", '"1m 30s"'),
        "never": ("duration", ""),
        "size": ("size", '"64KiB"'),
        "level": ("1 to 9", "3"),
        "count": ("number", "0"),
        "mode": ('"on|off"', ""),
        "either": ("text or list of text", "[]"),
        "lines": ("list of text", "required"),
        "rule": ("regex", '"a|b"'),
        "class": ("text", '"x"'),
        "odd": ("text", ""),
    }
    assert (keys["when"].is_ours, keys["size"].is_ours, keys["size"].text) == (True, False, "Much, or little.")
    assert as_json(entry_of("odd", Odd, ""))["keys"][0] == {
        "name": "when",
        "type": "duration",
        "default": "1m 30s",
        "required": False,
        "ours": True,
        "text": "How long. Ours.",
    }


def test_steps_are_those_at_which_it_runs_and_what_may_be_chosen() -> None:
    assert manual.steps_of(entry_of("odd", Odd, "")) == "Step `request`; with `step` also `proxy_upstream`."
    assert (ENTRIES["compression"].steps, ENTRIES["compression"].choice) == (("response",), ())
    assert (ENTRIES["response_headers"].steps, ENTRIES["response_headers"].choice) == (("response",), ("response", "upstream_response"))
    assert entry_of("moved", Moved, "").steps == ("request",)  # its settings have no default, so that nobody can make one to ask it


def test_bars_do_not_end_a_cell_of_the_table() -> None:
    rows = manual.section(entry_of("odd", Odd, "`odd`: does what it says.\n\nAnd more.\n")).splitlines()
    assert rows[:3] == ["## `odd`", "", "Does what it says."]
    assert '| `rule` | regex | `"a\\|b"` | |' in rows
    assert rows[-1] == "And more."


def test_the_json_is_json() -> None:
    assert all(json.loads(json.dumps(as_json(entry))) == as_json(entry) for entry in ENTRIES.values())
