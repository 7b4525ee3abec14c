"""The JSON Schema knows every key, takes what pingap takes, and editors can use it."""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
import tomllib
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from pingap import cli
from pingap.config import model
from pingap.config.problems import BadValue, ConfigRefused
from pingap.config.quantities import parse_duration, parse_size
from pingap.config.storage.memory import MemoryStorage
from pingap.config.storage.places import storage_of
from pingap.config.template import SCHEMA, TEMPLATE
from pingap.loading import load
from pingap.schema import document
from pingap.stages.plugins import registry
from tests.kit.peers import required

ROOT = Path(__file__).parents[2]
DOCUMENT = document()
EXAMPLES = sorted((ROOT / "examples").rglob("*.toml"))


@pytest.fixture(scope="module")
def validator() -> Any:
    jsonschema = required("jsonschema")
    jsonschema.Draft202012Validator.check_schema(DOCUMENT)
    return jsonschema.Draft202012Validator(DOCUMENT)


def test_every_key_of_the_model_is_in_it_with_what_it_means() -> None:
    for section, kind in model.KINDS.items():
        found = DOCUMENT["properties"][section]
        keys = found.get("additionalProperties") or found
        assert set(keys["properties"]) == {spec.name for spec in fields(kind)}
    servers = DOCUMENT["properties"]["servers"]["additionalProperties"]
    assert servers["required"] == ["addr"]
    assert servers["properties"]["keepalive_timeout"]["default"] == "1m 15s"
    assert servers["properties"]["addr"]["description"].startswith("`host:port`, several separated by commas")
    assert servers["properties"]["addr"]["description"].endswith("A change needs a restart.")
    undescribed = [key for key, entry in servers["properties"].items() if "description" not in entry]
    assert len(undescribed) <= 2, undescribed


def test_every_plugin_is_in_it_with_the_keys_of_its_model() -> None:
    rules = {
        rule["if"]["properties"]["category"]["const"]: rule["then"]
        for rule in DOCUMENT["properties"]["plugins"]["additionalProperties"]["allOf"]
    }
    assert set(rules) == {*registry.CATEGORIES, "python"}
    assert set(rules["mock"]["properties"]) == {"category", "step", "remark", "path", "status", "headers", "data", "delay"}
    assert rules["mock"]["properties"]["delay"]["default"] == "0s"
    assert rules["mock"]["properties"]["data"]["description"] == "The body."
    assert rules["python"]["additionalProperties"] is True and "class" in rules["python"]["properties"]


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.parent.name)
def test_the_examples_fit(validator: Any, file: Path) -> None:
    assert [*validator.iter_errors(tomllib.loads(file.read_text()))] == []


def test_the_template_fits_and_loads(validator: Any) -> None:
    assert [*validator.iter_errors(tomllib.loads(TEMPLATE))] == []
    assert [*load(MemoryStorage(TEMPLATE)).locations] == ["all"]
    assert TEMPLATE.startswith(f"#:schema ./{SCHEMA}\n")
    uncommented = "\n".join(line.removeprefix("# ") if " = " in line or line.startswith("# [") else line for line in TEMPLATE.splitlines())
    with pytest.raises(ConfigRefused) as caught:  # what is commented out are keys that there are, too
        load(MemoryStorage(uncommented))
    assert not [problem for problem in caught.value.problems if "unknown" in problem.message]


BAD: dict[str, dict[str, Any]] = {
    "an unknown section": {"servrs": {}},
    "an unknown key": {"servers": {"web": {"addr": "1", "adr": "2"}}},
    "a missing key": {"servers": {"web": {}}},
    "a number for a text": {"servers": {"web": {"addr": 80}}},
    "a text for a list": {"locations": {"a": {"match_headers": "x"}}},
    "a duration without a unit": {"upstreams": {"a": {"addrs": [], "read_timeout": "10"}}},
    "a number for a duration": {"upstreams": {"a": {"addrs": [], "read_timeout": 10}}},
    "a size of another unit": {"locations": {"a": {"client_max_body_size": "10 apples"}}},
    "a number out of bounds": {"locations": {"a": {"weight": 70000}}},
    "a word that is not one": {"servers": {"web": {"addr": "1", "http1_engine": "h12"}}},
    "no category": {"plugins": {"p": {}}},
    "a category that there is not": {"plugins": {"p": {"category": "mok"}}},
    "a key that the plugin has not": {"plugins": {"p": {"category": "mock", "body": "x"}}},
    "a stage that there is not": {"stages": {"acept": {}}},
}


@pytest.mark.parametrize("name", BAD)
def test_it_refuses(validator: Any, name: str) -> None:
    assert not validator.is_valid(BAD[name])


def is_taken(parse: Callable[[str], object], text: str) -> bool:
    try:
        parse(text)
    except BadValue:
        return False
    return True


@pytest.mark.parametrize("text", ["0", "10s", "1h 30m", "1.5 s", "250ms", "2M", "1", "", "s", "1x", "1s x", "-1s", "1h30"])
def test_durations_are_what_the_parser_takes(validator: Any, text: str) -> None:
    assert validator.is_valid({"basic": {"grace_period": text}}) == is_taken(parse_duration, text)


@pytest.mark.parametrize("text", ["0", "10", "4kb", "4KiB", "10 MB", "1.5g", "1e", "x", "", "4kx", "-1", "1 k b"])
def test_sizes_are_what_the_parser_takes(validator: Any, text: str) -> None:
    assert validator.is_valid({"locations": {"a": {"client_max_body_size": text}}}) == is_taken(parse_size, text)


def test_a_text_may_stand_for_another_one(validator: Any) -> None:
    assert validator.is_valid({"basic": {"grace_period": "$ENV:GRACE", "name": "$FILE:/etc/name"}})


# -- an editor -------------------------------------------------------------------------------------


def lint(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    required("tombi")
    (folder / SCHEMA).write_text(json.dumps(DOCUMENT))
    (folder / "pingap.toml").write_text(text)
    command = [os.path.join(sysconfig.get_path("scripts"), "tombi"), "lint", "--offline", "pingap.toml"]
    environment = {**os.environ, "HOME": str(folder), "XDG_CACHE_HOME": str(folder / "cache"), "NO_COLOR": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=50, check=False)


@pytest.mark.processes
def test_tombi_takes_the_template_and_names_what_is_wrong(tmp_path: Path) -> None:
    good = lint(
        tmp_path, TEMPLATE + '[plugins.m]\ncategory = "mock"\ndelay = "1s"\n[plugins.own]\ncategory = "python"\nmodule = "x"\nany = 1\n'
    )
    assert good.returncode == 0, good.stdout + good.stderr
    assert "rror" not in good.stdout + good.stderr and "arning" not in good.stdout + good.stderr
    bad = lint(tmp_path, TEMPLATE.replace('addr = "0.0.0.0:80"', "adr = 80") + '[plugins.m]\ncategory = "mock"\ndelay = 1\n')
    said = bad.stdout + bad.stderr
    assert bad.returncode != 0
    assert '"adr" is not allowed' in said
    assert "expected a value of type String, but found Integer" in said


# -- the commands ----------------------------------------------------------------------------------


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main([*words])
    return int(ended.value.code or 0)


def test_schema_template_and_conversions_go_to_stdout(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run("schema") == 0
    assert json.loads(capsys.readouterr().out) == DOCUMENT
    assert run("--template", "-c", "nowhere") == 0
    template = capsys.readouterr().out
    assert template == TEMPLATE
    file = tmp_path / "x.toml"
    file.write_text(template)
    for language in ("hcl", "kdl", "toml"):
        assert run("-c", str(file), f"--to-{language}") == 0
        file = tmp_path / f"x.{language}"
        file.write_text(capsys.readouterr().out)
    assert tomllib.loads(file.read_text()) == tomllib.loads(TEMPLATE)
    assert load(storage_of(tmp_path / "x.kdl")) == load(MemoryStorage(TEMPLATE))


def test_what_cannot_be_converted_ends_with_2(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("--to-hcl") == 2
    assert "there is no ./pingap.toml to convert" in capsys.readouterr().err
    (tmp_path / "pingap.toml").write_text("[basic\n")
    assert run("--to-kdl") == 2
    assert "pingap.toml:1:7: not TOML" in capsys.readouterr().err
    assert run("--to-hcl", "out.hcl") == 2  # the reference's documents say so, but it refuses that, too
    assert os.listdir(tmp_path) == ["pingap.toml"]


def test_the_flags_for_a_proxy_without_a_file_make_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--upstream=127.0.0.1:5000", "--to-toml") == 0
    assert [one.addrs[0].port for one in load(MemoryStorage(capsys.readouterr().out)).upstreams.values()] == [5000]


def test_it_says_nothing_of_what_stages_see() -> None:
    keys = dict(DOCUMENT["properties"]["certificates"]["additionalProperties"]["properties"])
    keys |= DOCUMENT["properties"]["servers"]["additionalProperties"]["properties"]
    assert not [key for key, entry in keys.items() if "Here " in entry.get("description", "")]
    assert "default" not in keys["dns_server"]
