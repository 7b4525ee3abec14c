"""What mypyc does otherwise than Python, and would do to us without a word: no module that is compiled has it.

Each rule was met (docs/decisions/0016-the-compiled-form.md). That both forms do the same is held by all other tests, run in both.
"""

from __future__ import annotations

import ast
import importlib
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Final

import pytest

from pingap import form

ROOT: Final = Path(__file__).resolve().parent.parent
TABLE: Final = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pingap"]["compiled"]
MODULES: Final = [f"{package}.{name}" for package, names in TABLE.items() for name in names]

PURE: Final = {"len", "find", "index", "rindex", "start", "end", "match", "tuple"}
"""Calls that may be made twice."""


def path_of(module: str) -> Path:
    return ROOT / f"{module.replace('.', '/')}.py"


def trees() -> Iterator[tuple[str, ast.Module]]:
    for module in MODULES:
        yield module, ast.parse(path_of(module).read_text())


def test_each_module_of_the_list_is_there_and_once() -> None:
    assert len(set(MODULES)) == len(MODULES) > 100
    assert [module for module in MODULES if not path_of(module).is_file()] == []


def test_no_call_that_does_something_stands_in_the_bound_of_a_slice() -> None:
    """It is made twice if what is sliced is neither list, tuple, str nor bytes: a memoryview, say."""
    found = []
    for module, tree in trees():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Slice):
                continue
            for call in ast.walk(node):
                if isinstance(call, ast.Call | ast.Await | ast.NamedExpr):
                    called = call.func if isinstance(call, ast.Call) else None
                    name = called.id if isinstance(called, ast.Name) else called.attr if isinstance(called, ast.Attribute) else ""
                    if name not in PURE:
                        found.append(f"{module}:{call.lineno}: {ast.unparse(call)}")
    assert found == []


def test_no_function_catches_two_types_under_one_name() -> None:
    """The second is taken for one of the first type, and a TypeError comes out."""
    found = []
    for module, tree in trees():
        for function in ast.walk(tree):
            if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            types: dict[str, set[str]] = {}
            for handler in ast.walk(function):
                if isinstance(handler, ast.ExceptHandler) and handler.name and handler.type is not None:
                    types.setdefault(handler.name, set()).add(ast.unparse(handler.type))
            found += [f"{module}:{function.lineno}: {name}: {kinds}" for name, kinds in types.items() if len(kinds) > 1]
    assert found == []


def test_no_class_makes_a_value_in_its_body() -> None:
    """It would be made anew for each object: `respond = staticmethod(reply)` was a third of what a request costs in plugins."""
    found = []
    for module, tree in trees():
        for one in ast.walk(tree):
            if not isinstance(one, ast.ClassDef) or one.decorator_list or any("NamedTuple" in ast.unparse(base) for base in one.bases):
                continue  # of dataclasses and named tuples these are defaults
            for line in one.body:
                is_shared = isinstance(line, ast.AnnAssign) and "ClassVar" in ast.unparse(line.annotation)
                if isinstance(line, ast.Assign | ast.AnnAssign) and isinstance(line.value, ast.Call) and not is_shared:
                    found.append(f"{module}:{line.lineno}: {one.name}: {ast.unparse(line)}")
    assert found == []


def test_no_class_has_a_base_of_others_with_a_layout_of_its_own() -> None:
    """mypyc puts attributes where those of the base are: logging.Handler's weak references pointed at one, asyncio.Transport's
    `_extra` at the table of methods, and asyncio.Future ends the process."""
    found = []
    for name in MODULES:
        module = importlib.import_module(name)
        for one in [value for value in vars(module).values() if isinstance(value, type) and value.__module__ == name]:
            for base in one.__mro__[1:]:
                if base.__module__.partition(".")[0] in ("pingap", "builtins", "enum", "typing"):
                    continue
                if (base.__basicsize__, base.__dictoffset__, base.__weakrefoffset__) != (object.__basicsize__, 0, 0):
                    found.append(f"{name}.{one.__name__}: {base.__module__}.{base.__name__}")
    assert found == []


def test_no_setter_says_a_type() -> None:
    """Nobody looks whether what is set has it: C code for text would read a number as text, and the process might end."""
    found = []
    for module, tree in trees():
        for setter in ast.walk(tree):
            if isinstance(setter, ast.FunctionDef) and any(ast.unparse(one).endswith(".setter") for one in setter.decorator_list):
                said = setter.args.args[1].annotation
                if said is None or ast.unparse(said) not in ("Any", "object"):
                    found.append(f"{module}:{setter.lineno}: {setter.name}")
    assert found == []


def test_no_setter_is_one_that_compiled_code_uses() -> None:
    """That of a number would be called with the number as it is in a register, and takes an object: a segmentation fault."""
    setters = {
        f"{module}.{one.name}"
        for module, tree in trees()
        for one in ast.walk(tree)
        if isinstance(one, ast.FunctionDef) and any(ast.unparse(mark).endswith(".setter") for mark in one.decorator_list)
    }
    assert {name.rpartition(".")[2] for name in setters} == {"status", "target", "upstream"}, "plugins set these, none of ours"


def test_nobody_reads_a_cause_that_only_from_has_set() -> None:
    """`raise … from` sets none: what has a cause that is read sets it itself (HookError, guard.failure)."""
    read = {
        (str(path.relative_to(ROOT)), node.lineno)
        for folder in ("bus", "config", "observability", "pingap", "stages")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr == "__cause__" and isinstance(node.ctx, ast.Load)
    }
    files = {path for path, _ in read if not path.startswith("pingap/stages")}
    assert files == {"stages/plugins/driving.py", "stages/plugins/failures.py", "stages/plugins/user_code.py"}


def test_a_form_that_was_compiled_from_other_source_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("one")
    (tmp_path / "b.py").write_text("two")
    assert form.stale(tmp_path) == [], "pure Python is what it is"
    (tmp_path / f"native__mypyc{EXTENSION_SUFFIXES[0]}").touch()
    record = {"mypyc": "1", "sources": {name: form.digest_of(tmp_path / name) for name in ("a.py", "b.py")}}
    (tmp_path / form.RECORD).write_text(json.dumps(record))
    assert form.stale(tmp_path) == []
    (tmp_path / "b.py").write_text("three")
    assert form.stale(tmp_path) == ["b.py"]
    (tmp_path / "b.py").unlink()
    assert form.stale(tmp_path) == ["b.py"]


@pytest.mark.processes
def test_without_a_compiler_it_says_so_and_makes_nothing(tmp_path: Path) -> None:
    environ = {**os.environ, "CC": "/nowhere/cc"}
    command = [sys.executable, str(ROOT / "tools/native.py"), "--into", str(tmp_path / "made")]
    done = subprocess.run(command, check=False, env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "not compiled, and" in done.stderr and "there is no C compiler '/nowhere/cc'" in done.stderr and "gcc" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_is_edited_while_it_is_compiled_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("setuptools")
    source, made = tmp_path / "pingap/a.py", tmp_path / "made"
    for folder in (source.parent, made / "pingap"):
        folder.mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text('[tool.pingap.compiled]\npingap = ["a"]\n')
    source.write_text("one")

    def mypycify(*args: object, **options: object) -> list[object]:
        source.write_text("two")
        return []

    monkeypatch.setitem(sys.modules, "mypyc", ModuleType("mypyc"))
    monkeypatch.setitem(sys.modules, "mypyc.build", SimpleNamespace(mypycify=mypycify))
    monkeypatch.setenv("CC", sys.executable)
    monkeypatch.syspath_prepend(ROOT / "tools")
    importlib.import_module("native").compile_into(made, tmp_path)
    (source.parent / form.RECORD).write_bytes((made / "pingap" / form.RECORD).read_bytes())
    (source.parent / f"{form.LIBRARY}{EXTENSION_SUFFIXES[0]}").touch()
    assert form.stale(source.parent) == ["a.py"]


@pytest.mark.skipif(not form.form().is_compiled, reason="pure Python runs")
def test_what_runs_was_compiled_from_the_source_that_is_here() -> None:
    assert form.stale() == []
    assert form.form().modules == len(MODULES)
