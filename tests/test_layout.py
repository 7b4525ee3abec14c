"""The layout of design.md section 9, as far as import-linter does not see to it by itself."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

from pingap.bus import kinds
from pingap.bus.envelope import kind_of
from tests.kit.wire import MESSAGES

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("bus", "config", "observability", "stages")
"""Folders that are packages in pingap: by links, so that one name is installed (docs/decisions/0008)."""
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
PACKAGES = sorted({init.parent for root in ("pingap", *PARTS) for init in (ROOT / root).rglob("__init__.py")})
SHARED = {"http1", "http2"}
"""Packages in stages/ that are no stage: what several stages share."""


def contract(word: str) -> dict[str, list[str]]:
    found = [one for one in SETTINGS["importlinter"]["contracts"] if word in one["name"]]
    assert len(found) == 1
    result: dict[str, list[str]] = found[0]
    return result


def test_every_stage_is_in_the_contracts_that_keep_stages_apart() -> None:
    stages = {f"pingap.stages.{package.name}" for package in PACKAGES if package.parent == ROOT / "stages" and package.name not in SHARED}
    assert set(contract("One stage never imports another")["modules"]) == stages
    assert set(contract("What stages share")["forbidden_modules"]) == stages


def test_what_stages_share_is_in_the_contract_that_keeps_it_from_stages() -> None:
    shared = {f"pingap.stages.{path.stem}" for path in (ROOT / "stages").glob("*.py") if path.stem != "__init__"}
    assert set(contract("What stages share")["source_modules"]) == shared | {f"pingap.stages.{name}" for name in SHARED}


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


def test_one_name_is_installed_and_every_part_is_in_it() -> None:
    assert SETTINGS["hatch"]["build"]["targets"]["wheel"]["packages"] == ["pingap"]
    assert all((ROOT / "pingap" / part).resolve() == ROOT / part for part in PARTS)


def imports(path: Path) -> set[str]:
    """Modules that a file names in its imports, those for types included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def test_parts_are_imported_by_their_one_name() -> None:
    """As `bus.link` a file would be a module of its own beside `pingap.bus.link`."""
    for folder in ("pingap", "tests", "bench", *PARTS):
        for path in (ROOT / folder).rglob("*.py"):
            assert not {name for name in imports(path) if name.split(".")[0] in PARTS}, path


def test_no_part_imports_the_command() -> None:
    """Only pingap's own files know them all; tests and plugin authors know pingap."""
    for part in PARTS:
        for path in (ROOT / part).rglob("*.py"):
            ours = {name.split(".")[1] for name in imports(path) if name.startswith("pingap.")}
            assert ours <= set(PARTS), path
