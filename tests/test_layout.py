"""The layout of design.md section 9, as far as import-linter does not see to it by itself."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

from bus import kinds
from bus.envelope import kind_of
from tests.kit.wire import MESSAGES

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
PACKAGES = sorted({init.parent for root in SETTINGS["importlinter"]["root_packages"] for init in (ROOT / root).rglob("__init__.py")})
SHARED = {"http1", "http2"}
"""Packages in stages/ that are no stage: what several stages share."""


def contract(word: str) -> dict[str, list[str]]:
    found = [one for one in SETTINGS["importlinter"]["contracts"] if word in one["name"]]
    assert len(found) == 1
    result: dict[str, list[str]] = found[0]
    return result


def test_every_stage_is_in_the_contracts_that_keep_stages_apart() -> None:
    stages = {f"stages.{package.name}" for package in PACKAGES if package.parent == ROOT / "stages" and package.name not in SHARED}
    assert set(contract("One stage never imports another")["modules"]) == stages
    assert set(contract("What stages share")["forbidden_modules"]) == stages


def test_what_stages_share_is_in_the_contract_that_keeps_it_from_stages() -> None:
    shared = {f"stages.{path.stem}" for path in (ROOT / "stages").glob("*.py") if path.stem != "__init__"}
    assert set(contract("What stages share")["source_modules"]) == shared | {f"stages.{name}" for name in SHARED}


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_package_says_in_under_25_lines_what_it_is(package: Path) -> None:
    note = ast.get_docstring(ast.parse((package / "__init__.py").read_text()))
    assert note, "no docstring"
    assert len(note.splitlines()) < 25


def test_no_two_messages_have_the_same_kind() -> None:
    """PROTOCOL.md has them in tables, one for each part of the bus and of the stages."""
    rows = re.findall(r"^\| (\d+) \| ([A-Z_]+) \|", (ROOT / "bus/PROTOCOL.md").read_text(), re.MULTILINE)
    code = {(name, value) for name, value in vars(kinds).items() if name.isupper()}
    code |= {(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", one.__name__).upper(), kind_of(one)) for one in MESSAGES}
    numbers = {int(number) for number, _ in rows}
    assert len(numbers) == len(rows)
    assert code == {(name, int(number)) for number, name in rows}


def test_the_wheel_has_every_package() -> None:
    assert sorted(SETTINGS["hatch"]["build"]["targets"]["wheel"]["packages"]) == sorted(SETTINGS["importlinter"]["root_packages"])
