"""The layout and the house rules (docs/design.md), as far as import-linter does not see to them by itself.

What does not hold yet is listed in leftovers.toml, exactly: whoever mends an entry takes it off, and none is added.
"""

from __future__ import annotations

import ast
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections import Counter
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hatchling.metadata.core import ProjectMetadata

from pingap.bus import kinds
from pingap.bus.envelope import kind_of
from pingap.workshop import manual
from tests.kit.wire import MESSAGES

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("bus", "config", "observability", "stages")
"""Folders that are packages in pingap: by links, so that one name is installed (docs/decisions/0008)."""
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
PACKAGES = sorted({init.parent for root in ("pingap", *PARTS) for init in (ROOT / root).rglob("__init__.py")})
LEFTOVERS: dict[str, Any] = tomllib.loads((ROOT / "tests/leftovers.toml").read_text())
SHARED = {"caching", "client_certificates", "coding", "http1", "http2"}
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


def test_what_is_imported_is_installed_with_pingap() -> None:
    """A package that only the tests bring along is missing where pingap runs."""
    core = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = {
        normal(one)
        for extra in ("fast", "geo", "images", "redis")
        for one in (*core["dependencies"], *core["optional-dependencies"][extra], "pydantic-core")
    }  # pydantic has that
    distributions = packages_distributions()
    foreign = {word.partition(".")[0] for part in ("pingap", *PARTS) for path in (ROOT / part).rglob("*.py") for word in imports(path)}
    foreign -= sys.stdlib_module_names | {"pingap"}
    assert [name for name in sorted(foreign) if not named & {normal(one) for one in distributions.get(name, [name])}] == []


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


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@pytest.mark.processes
def test_what_is_built_has_every_file_under_the_one_name(tmp_path: Path) -> None:
    """Also from a source archive, as package builders do it."""
    build = [sys.executable, "-m", "hatchling", "build", "-d", str(tmp_path)]
    subprocess.run([*build, "-t", "sdist"], cwd=ROOT, check=True, capture_output=True, timeout=50)
    (archive,) = tmp_path.glob("*.tar.gz")
    shutil.unpack_archive(archive, tmp_path)
    subprocess.run(
        [*build, "-t", "wheel"], cwd=tmp_path / archive.name.removesuffix(".tar.gz"), check=True, capture_output=True, timeout=50
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    ours = {path.relative_to(ROOT) for part in PARTS for path in (ROOT / part).rglob("*") if path.suffix in (".py", ".md", ".typed")}
    ours |= {path.relative_to(ROOT / "pingap") for path in (ROOT / "pingap").glob("*.py")}
    assert {f"pingap/{path}" for path in ours} <= names
    assert {name.split("/")[0] for name in names} == {"pingap"}


def test_a_wheel_is_compiled_beside_all_that_the_source_imports() -> None:
    """Else mypyc does not know its types and says no, and the wheel is the pure one."""
    core = ProjectMetadata(str(ROOT), None).core
    hook: Any = runpy.run_path(str(ROOT / "tools/hatch_build.py"))["CompiledWheel"]
    needed = hook.dependencies(SimpleNamespace(metadata=SimpleNamespace(core=core), _is_wanted=lambda: True))
    there = {normal(one) for one in needed}
    files = [
        ROOT.joinpath(*package.split(".")[1:], f"{name}.py") for package, names in SETTINGS["pingap"]["compiled"].items() for name in names
    ]
    distributions = packages_distributions()
    foreign = {word.partition(".")[0] for path in files for word in imports(path)} - {"pingap"} - sys.stdlib_module_names
    assert len(foreign) > 3 and {"ngh2"} <= foreign
    assert [name for name in sorted(foreign) if name in distributions and not {normal(one) for one in distributions[name]} & there] == []


@cache
def imports(path: Path) -> frozenset[str]:
    """Modules that a file names in its imports, those for types included."""
    found: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(found)


def test_parts_are_imported_by_their_one_name() -> None:
    """As `bus.link` a file would be a module of its own beside `pingap.bus.link`."""
    wrong = re.compile(rf"^[ \t]*(?:from|import)[ \t]+(?:{'|'.join(PARTS)})(?:[ \t.]|$)", re.MULTILINE)  # to parse all files takes seconds
    for folder in ("pingap", "tests", "bench", *PARTS):
        for path in (ROOT / folder).rglob("*.py"):
            assert not wrong.search(path.read_text()), path


BUILTIN = ROOT / "stages/plugins/builtin"


def test_no_part_imports_the_command() -> None:
    """Only pingap's own files know them all; tests and plugin authors know pingap."""
    for part in PARTS:
        for path in (ROOT / part).rglob("*.py"):
            ours = {name.split(".")[1] for name in imports(path) if name.startswith("pingap.")}
            assert ours <= set(PARTS) or path.is_relative_to(BUILTIN), path


@pytest.mark.parametrize("path", sorted(BUILTIN.rglob("*.py")), ids=lambda path: path.stem)
def test_builtin_plugins_are_written_on_the_public_api_alone(path: Path) -> None:
    """What they need, authors of plugins may need as well; pingap.plugin has it. What upstream decides by, too, is in stages.coding."""
    ours = {name for name in imports(path) if name.startswith("pingap.") and not name.startswith("pingap.stages.plugins.builtin.")}
    allowed = ("pingap.plugin", "pingap.stages.coding.") if path.stem in ("compression", "encodings") else ("pingap.plugin",)
    assert {name for name in ours if not name.startswith(allowed)} == set()


# -- no circle of files, no name twice, no halves ------------------------------------


def sources() -> dict[str, Path]:
    """Module name to file, of all that is installed. Each file once, though `pingap` has links to the other folders."""
    found = {}
    for folder in ("pingap", *PARTS):
        for path in (ROOT / folder).rglob("*.py"):
            if any(parent.is_symlink() for parent in path.parents):
                continue
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts if folder == "pingap" else ("pingap", *parts))
            found[name.removesuffix(".__init__")] = path
    return found


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The strongly connected components with more than one member: who in them reaches each other."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            new = graph[waiting.pop()] - seen
            seen |= new
            waiting += new
        return seen

    reach = {one: reached(one) for one in graph}
    groups = {frozenset(other for other in reach[one] if one in reach[other]) for one in graph}
    return sorted(sorted(group) for group in groups if len(group) > 1)


def import_graph() -> dict[str, set[str]]:
    """Who imports whom among our files. `from pingap.bus import kinds` is an import of the file kinds."""
    files = sources()
    graph: dict[str, set[str]] = {}
    for module, path in files.items():
        named: set[str] = set()
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Import):
                named.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
                named.update(name if name in files else node.module for name in names)
        graph[module] = named & files.keys() - {module}
    return graph


def test_circles_are_found_through_any_number_of_files() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": {"e"}, "e": {"d"}, "f": {"a", "d"}}
    assert circles(graph) == [["a", "b", "c"], ["d", "e"]]


def test_files_import_each_other_in_no_circle() -> None:
    """Imports under TYPE_CHECKING count, for a reader follows them. Where two know each other, one keeps a Protocol."""
    exact(circles(import_graph()), [sorted(one["files"]) for one in LEFTOVERS.get("circle", [])], "circle")


def test_no_class_name_stands_for_two_things() -> None:
    """So that grep finds what a name means."""
    names = Counter(node.name for path in sources().values() for node in ast.walk(tree(path)) if isinstance(node, ast.ClassDef))
    twice = [[name, times] for name, times in names.items() if times > 1]
    exact(twice, [list(one) for one in LEFTOVERS.get("class_names", {}).items()], "class name")


def test_no_class_of_the_stages_is_a_half_that_another_fills() -> None:
    def halves(path: Path) -> int:
        raised = [ast.unparse(node.exc) for node in ast.walk(tree(path)) if isinstance(node, ast.Raise) and node.exc]
        return sum("NotImplementedError" in what for what in raised)

    found = [[name, halves(path)] for name, path in sources().items() if name.startswith("pingap.stages.") and halves(path)]
    exact(found, [list(one) for one in LEFTOVERS.get("not_implemented", {}).items()], "NotImplementedError")


def exact(found: list[Any], listed: list[Any], what: str) -> None:
    new = "".join(f"\n  a {what} that is not to be: {one}" for one in found if one not in listed)
    mended = "".join(f"\n  a {what} that is no more: {one}; take it off tests/leftovers.toml" for one in listed if one not in found)
    if new or mended:
        pytest.fail(new + mended, pytrace=False)


def test_the_manual_of_the_plugins_is_what_they_say() -> None:
    page = (ROOT / "docs/builtin-plugins.md").read_text()
    assert page == manual.page(), "run `make docs`: docs/builtin-plugins.md is made of the plugins' docstrings"


# -- what is installed, and on what it is checked ----------------------------------------

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def normal(requirement: str) -> str:
    """The name in a requirement as registries compare it."""
    found = re.match(r"[\w.-]+", requirement)
    assert found
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def test_whatever_we_depend_on_has_a_version_in_the_constraints() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    versions = {normal(line): line.partition("==")[2] for line in lines if not line.startswith("#")}
    assert all(versions.values())
    wanted = {normal(one) for one in PROJECT["dependencies"]}
    wanted |= {normal(one) for extra in PROJECT["optional-dependencies"].values() for one in extra}
    assert wanted - {"pingap"} <= versions.keys()


def test_ci_runs_on_every_python_that_we_say_we_work_with() -> None:
    said = [one.rpartition(" ")[2] for one in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d+$", one)]
    matrices = re.findall(r"^ +python: \[(.*)\]$", (ROOT / ".github/workflows/checks.yml").read_text(), re.MULTILINE)
    assert len(matrices) == 2
    assert all(re.findall(r"[\d.]+", one) == said for one in matrices)


FOLDERS = [top for top in ROOT.iterdir() if top.is_dir() and top.name not in (".venv", ".git", "build", "node_modules")]
TEXTS = sorted({*ROOT.glob("*.md"), *(path for top in FOLDERS for path in top.rglob("*.md"))})


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_texts_speak_of_what_is_in_the_repository(text: Path) -> None:
    """Whoever clones it has all that is cited."""
    links = re.findall(r"\]\(([^)#\s]*)[^)]*\)", text.read_text())
    assert [link for link in links if link and ":" not in link and not (text.parent / link).exists()] == []
    assert "../shared" not in text.read_text()
