"""A configuration of the reference, with every key of it, says the same in every layout; what comes later is refused by name.

tests/kit/reference.py tells what is where. A key or plugin that this version learns goes from reference/later.toml over to
reference/pingap.toml, pingap.hcl and pingap.kdl; `UPDATE_CASES=1 pytest tests/config` writes the rest anew, before it is read.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pingap import cli
from pingap.config.convert import WRITERS, converted
from pingap.config.problems import ConfigRefused
from pingap.config.storage.memory import MemoryStorage
from pingap.config.storage.places import storage_of
from pingap.config.unsupported import BUILTIN_PLUGINS, LATER_BUILTIN_PLUGINS
from pingap.config.unsupported import KEYS as LATER_KEYS
from pingap.stages.plugins import registry
from tests.kit import reference

ROOT = reference.ROOT
FILE = ROOT / "pingap.toml"
TABLES = tomllib.loads(FILE.read_text())
LATER = tomllib.loads((ROOT / "later.toml").read_text())
LAYOUTS = ("pingap.toml", "pingap.hcl", "pingap.kdl", "by-type", "by-item?separation=true", "hcl")
UPDATES = bool(os.environ.get("UPDATE_CASES"))


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        yield reference.certificates_in(home)


def files(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): path.read_text() for path in sorted(root.rglob("*")) if path.is_file()}


def held(root: Path, texts: Mapping[str, str]) -> None:
    """The directory has these files; or, while cases are updated, gets them."""
    if UPDATES:
        for path in root.rglob("*.*"):
            path.unlink()
        for name, text in texts.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
    assert files(root) == texts


# -- what is in it ----------------------------------------------------------------------------------


def items(tables: Mapping[str, Any], section: str) -> list[dict[str, Any]]:
    table = tables.get(section, {})
    return [table] if section == "basic" else list(table.values())


@pytest.mark.parametrize("section", reference.KEYS)
def test_it_has_every_key_of_the_reference(section: str) -> None:
    later = set(LATER_KEYS.get(section, ()))
    every = {*reference.KEYS[section].split(), *reference.DEAD_KEYS.get(section, "").split()}
    assert set().union(*items(TABLES, section)) == every - later
    assert later <= set().union(*items(LATER, section)) <= every


@pytest.mark.parametrize("category", reference.PLUGIN_KEYS)
def test_it_has_every_plugin_with_every_key(category: str) -> None:
    tables = TABLES if category in registry.CATEGORIES else LATER
    written = set().union(*(item for item in items(tables, "plugins") if item["category"] == category))
    assert written - {"category", "step", "remark"} == set(reference.PLUGIN_KEYS[category].split())


def test_it_has_every_plugin_there_is() -> None:
    assert set(registry.CATEGORIES) <= set(reference.PLUGIN_KEYS)
    named = {name for tables in (TABLES, LATER) for item in items(tables, "locations") for name in item.get("plugins", ())}
    assert {*BUILTIN_PLUGINS, *LATER_BUILTIN_PLUGINS, *TABLES["plugins"]} <= named


# -- from one layout into another -------------------------------------------------------------------


@pytest.mark.parametrize(("layout", "directory"), [("type", "by-type"), ("item", "by-item")])
def test_migration_writes_the_layouts_and_leads_back(layout: str, directory: str, env: dict[str, str], tmp_path: Path) -> None:
    def migrate(source: str, to: str, into: Path) -> None:
        done = CliRunner().invoke(cli.commands, ["config", "migrate", "-c", source, "--to", to, "--into", str(into)])
        assert done.exit_code == 0, done.output

    migrate(str(FILE), layout, tmp_path / "conf")
    held(ROOT / directory, files(tmp_path / "conf"))
    migrate(str(tmp_path / "conf"), "file", tmp_path / "again.toml")
    assert reference.comparable(reference.read(tmp_path / "again.toml", env)) == reference.comparable(reference.read(FILE, env))


def test_a_file_of_hcl_for_each_section() -> None:
    held(ROOT / "hcl", {f"{section}.hcl": WRITERS["hcl"]({section: table}) for section, table in TABLES.items()})


# -- what it says -----------------------------------------------------------------------------------


def test_it_says_what_is_expected(env: dict[str, str]) -> None:
    text = json.dumps(reference.comparable(reference.read(FILE, env)), indent=2, ensure_ascii=False) + "\n"
    expected = ROOT / "pingap.expected"
    if UPDATES:
        expected.write_text(text)
    assert text == expected.read_text()


def test_what_was_encrypted_there_is_read(env: dict[str, str]) -> None:
    snapshot = reference.read(FILE, env)
    assert snapshot.locations["covers"].proxy_set_headers[0] == ("X-Shelf-Key", "blue-lantern-42")
    assert snapshot.secret == ("locations.covers.proxy_set_headers",)


@pytest.mark.parametrize("layout", LAYOUTS[1:])
def test_every_layout_says_the_same(layout: str, env: dict[str, str]) -> None:
    expected = reference.comparable(reference.read(FILE, env))
    assert reference.comparable(reference.read(f"{ROOT}/{layout}", env)) == expected


@pytest.mark.parametrize("language", ["hcl", "kdl", "toml"])
@pytest.mark.parametrize("source", LAYOUTS)
def test_every_layout_says_the_same_in_every_language(source: str, language: str, env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / f"x.{language}").write_text(converted(storage_of(f"{ROOT}/{source}"), language))
    expected = reference.comparable(reference.read(FILE, env))
    assert reference.comparable(reference.read(tmp_path / f"x.{language}", env)) == expected


# -- what comes later -------------------------------------------------------------------------------


def refusals(name: str, text: str, env: dict[str, str]) -> list[str]:
    with pytest.raises(ConfigRefused) as refused:
        reference.read(MemoryStorage(text, name), env)
    return sorted(f"{problem.path}: {problem.message}" for problem in refused.value.problems)


@pytest.mark.parametrize("language", ["toml", "hcl", "kdl"])
def test_what_comes_later_is_refused_by_name(language: str, env: dict[str, str]) -> None:
    file = ROOT / f"later.{language}"
    if UPDATES and language != "toml":
        file.write_text(converted(storage_of(ROOT / "later.toml"), language))
    found = refusals(file.name, file.read_text(), env)
    expected = ROOT / "later.expected"
    if UPDATES and language == "toml":
        expected.write_text("\n".join(found) + "\n")
    assert found == expected.read_text().splitlines()
    assert all(": not supported yet: " in line for line in found)
    refused = {line.partition(": ")[0] for line in found}
    for section, keys in LATER_KEYS.items():
        names = [""] if section == "basic" else [f".{name}" for name in LATER[section]]
        for key in keys:
            assert any(f"{section}{name}.{key}" in refused for name in names), f"{section}: {key}"
    assert {f"plugins.{name}.category" for name in LATER.get("plugins", ())} <= refused
