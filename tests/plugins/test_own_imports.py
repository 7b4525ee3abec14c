"""Modules that a user's plugin imports from beside it: they are replaced with it, and kept with it."""

from __future__ import annotations

import asyncio
import os
import py_compile
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pingap.config.model import Code, Snapshot
from pingap.stages import code_files
from pingap.stages.bundles import packed, unpacked
from pingap.stages.plugins import checking, making, user_code
from pingap.stages.plugins.own_modules import PREFIX
from pingap.stages.steps import finished
from tests.plugins.script import SID, Stage, snapshot

MINE = """
from pingap.plugin import Plugin, reply
IMPORT
class Mine(Plugin):
    def request(self, exchange): return reply(200, str(WORD))
"""


@pytest.fixture(autouse=True)
def _forget() -> None:
    """Nothing is left in sys.modules that a test before has put there."""
    for one in user_code._loaded.values():
        one.forget()
    user_code._loaded.clear()


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))


def mine(folder: Path, line: str, **files: str) -> dict[str, Any]:
    """A plugin that answers with WORD, which the line imports; files by name, `__` for `/`."""
    write(folder, {"mine.py": MINE.replace("IMPORT", line)} | files)
    return {"category": "python", "path": str(folder / "mine.py")}


def checked(section: dict[str, Any]) -> Snapshot:
    """A generation as config has accepted it."""
    checker = checking.Checker()
    assert checker("p", section) == []
    return replace(snapshot({"p": section}), code=checker.code)


async def body(stage: Stage, sid: int = SID) -> str:
    text: str = (await stage.one(stage.request(sid=sid))).body.decode()
    return text


ANNOTATED = """
from __future__ import annotations
from pydantic import BaseModel
from kinds import Text
class Word(BaseModel):
    text: Text
"""

LAYOUTS: dict[str, tuple[str, dict[str, str]]] = {
    "beside": ("from words import WORD", {"words.py": "WORD = 'here'"}),
    "relative": ("from .words import WORD", {"words.py": "WORD = 'here'"}),
    "relative module": ("from . import words; WORD = words.WORD", {"words.py": "WORD = 'here'"}),
    "dotted": ("import a.b.words as w; WORD = w.WORD", {"a/__init__.py": "", "a/b/__init__.py": "", "a/b/words.py": "WORD = 'here'"}),
    "plain dotted": ("import a.words; WORD = a.words.WORD", {"a/__init__.py": "", "a/words.py": "WORD = 'here'"}),
    "no __init__": ("from a.b import words; WORD = words.WORD", {"a/b/words.py": "WORD = 'here'"}),
    "package": ("from a import WORD", {"a/__init__.py": "from .words import WORD", "a/words.py": "WORD = 'here'"}),
    "up": ("from a.b import WORD", {"a/b.py": "from ..words import WORD", "words.py": "WORD = 'here'"}),
    "star": ("from a import *; WORD = words.WORD", {"a/__init__.py": "__all__ = ['words']", "a/words.py": "WORD = 'here'"}),
    "circle": (
        "import words; WORD = words.word()",
        {"words.py": "import other\ndef word(): return other.WORD", "other.py": "import words\nfrom mine import Plugin\nWORD = 'here'"},
    ),
    "by name": (
        "import importlib; WORD = importlib.import_module('.words', __package__).WORD\ndef never(): import words",
        {"words.py": "WORD = 'here'"},
    ),
    "annotations": (
        "from words import Word; WORD = Word(text='here').text",
        {
            "words.py": ANNOTATED,
            "kinds.py": "Text = str",
        },
    ),
    "named as Python's": ("from .json import WORD; import json; json.dumps", {"json.py": "WORD = 'here'"}),
    "named as itself": (
        "from helper import WORD",
        {
            "helper.py": "from typing import *\nimport pydantic\nWORD = 'here'",
            "pydantic.py": "import pydantic; BaseModel = pydantic.BaseModel",
        },
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
async def test_the_ways_to_import_what_is_beside(tmp_path: Path, name: str) -> None:
    line, files = LAYOUTS[name]
    made = checked(mine(tmp_path, line, **files))
    for path in tmp_path.rglob("*.py"):
        path.unlink()  # a process that starts later runs what was kept, and nothing else
    plans = checking.plans(made)
    async with Stage({}) as stage:
        stage.plan = plans["l"]
        stage.publish(made, plans)
        assert stage.answers_to_config() == [""]
        assert await body(stage) == "here"


async def test_a_module_of_a_package_brings_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"own_{tmp_path.name}".replace("-", "_")
    write(tmp_path / name, {"__init__.py": "KIND = 'pack'", "sub/__init__.py": "", "words.py": "from . import KIND\nWORD = KIND + 'age'"})
    mine(tmp_path / name / "sub", f"from ..words import WORD; import {name}.words")
    write(tmp_path, {"beside.py": "raise RuntimeError"})
    monkeypatch.syspath_prepend(tmp_path)
    section = {"category": "python", "module": f"{name}.sub.mine"}
    made = checked(section)
    assert [one.name for one in made.code["p"].modules] == [name, f"{name}.sub", f"{name}.words"]
    async with Stage({}) as stage:
        stage.publish(made, checking.plans(made))
        stage.plan = checking.plans(made)["l"]
        assert await body(stage) == "package"
        write(tmp_path / name, {"__init__.py": "KIND = 'bagg'"})
        again = checked(section)
        stage.publish(again, checking.plans(again))
        assert await body(stage) == "baggage"
    assert name not in sys.modules


def test_what_is_installed_has_no_modules_of_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "lib" / "site-packages"
    section = mine(folder, "WORD = 1\ntry: import words\nexcept ImportError: pass", **{"words.py": "raise RuntimeError"})
    assert code_files.read(section["path"]) == Code(section["path"], Path(section["path"]).read_bytes())
    assert code_files.files_of(section["path"]) == (section["path"],)
    assert checking.check("p", section) == []


LATE = """
from pingap.plugin import Plugin, reply
import early
class Mine(Plugin):
    def request(self, exchange):
        import late
        from pack import later
        return reply(200, f"{early.WORD} {late.WORD} {later.WORD} {late.early is early}")
    async def response(self, exchange):
        from .last import WORD
        exchange.response.headers["x"] = WORD
"""


async def test_two_generations_share_nothing_and_late_imports_find_their_own(tmp_path: Path) -> None:
    section = {"category": "python", "path": str(tmp_path / "mine.py")}

    def version(word: str) -> Snapshot:
        text = f"WORD = '{word}'\n"
        files = {"early.py": text, "late.py": f"import early\n{text}", "pack/__init__.py": "", "pack/later.py": text, "last.py": text}
        write(tmp_path, {"mine.py": LATE} | files)
        return checked(section)

    one = version("one")
    plans = checking.plans(one)
    async with Stage({}) as stage:
        stage.plan = plans["l"]
        stage.publish(one, plans)
        routed = await stage.one(stage.request())
        assert routed.body == b"one one one True"
    async with Stage({}) as stage:
        stage.plan = plans["l"]
        write(tmp_path, {"mine.py": LATE.replace("return reply(200, ", "exchange.headers['x'] = (")})
        first = checked(section)
        stage.publish(first, plans)
        await stage.run(stage.request())
        second = version("two")
        write(tmp_path, {"mine.py": LATE.replace("return reply(200, ", "exchange.headers['x'] = (")})
        second = checked(section)
        stage.publish(second, plans)
        for path in tmp_path.rglob("*.py"):
            path.write_text("raise RuntimeError('from disk')")
        await stage.run(stage.request(sid=SID + 1))
        assert b"x: one\r\n" in (await stage.one(stage.response())).headers
        assert b"x: two\r\n" in (await stage.one(stage.response(sid=SID + 1))).headers


async def test_a_changed_helper_alone_is_new_code(tmp_path: Path) -> None:
    section = mine(tmp_path, "from a import WORD", **{"a.py": "from b import WORD", "b.py": "WORD = 1"})
    before = checked(section)
    async with Stage({}) as stage:
        stage.plan = checking.plans(before)["l"]
        stage.publish(before, checking.plans(before))
        assert await body(stage) == "1"
        write(tmp_path, {"b.py": "WORD = 2"})
        after = checked(section)
        assert after.code != before.code
        stage.publish(after, checking.plans(after))
        assert await body(stage) == "2"
        write(tmp_path, {"unrelated.py": "x"})
        assert checked(section).code == after.code


@pytest.mark.parametrize(
    ("files", "what"),
    [
        ({"a.py": "x = 1\nx ="}, "a.py:2: SyntaxError"),
        ({"a.py": "\n\nWORD = nothing"}, "a.py:3: NameError"),
        ({"a.py": "from b import WORD", "b.py": "\nfrom c import WORD\n"}, "b.py:2: ModuleNotFoundError: No module named 'c'"),
        ({"a.py": "def WORD():\n  from .gone import x\nWORD()"}, "a.py:2: ModuleNotFoundError: No module named 'gone'"),
        ({"a.py": "THING = 1"}, "mine.py:3: ImportError: cannot import name 'WORD' from 'a'"),
        (
            {"a.py": "from mine import Mine\nWORD = 1"},
            "a.py:1: ImportError: cannot import name 'Mine' from partially initialized module 'mine'",
        ),
        ({"a.py": "raise SystemExit"}, "a.py:1: it raised SystemExit"),
        pytest.param({"a.py": "\nwhile True: pass"}, "a.py:2: it took longer than 2 s", marks=pytest.mark.slow),
        ({"a.py": "import os\nos._exit(3)"}, "mine.py: importing it ends the process"),
        ({}, "mine.py:3: ModuleNotFoundError: No module named 'a'"),
    ],
)
def test_a_broken_helper_is_told_by_its_file_and_line(tmp_path: Path, files: dict[str, str], what: str) -> None:
    [problem] = checking.check("p", mine(tmp_path, "from a import WORD", **files))
    assert problem.path == "plugins.p.path"
    assert f"{tmp_path}/{what}" in problem.message
    assert PREFIX not in problem.message


async def test_failures_of_a_helper_are_told_by_its_line(tmp_path: Path) -> None:
    section = mine(tmp_path, "from a import WORD", **{"a.py": "class Word:\n    def __str__(self):\n        raise OSError\nWORD = Word()"})
    async with Stage({"p": section}) as stage:
        assert (await stage.one(stage.request())).status == 500
        assert stage.context.logged[-1][2]["where"] == f"{tmp_path}/a.py:3"


def test_what_is_watched(tmp_path: Path) -> None:
    section = mine(
        tmp_path, "from a import WORD\nimport json, pydantic, gone.away", **{"a/__init__.py": "from .b import WORD", "a/b.py": "WORD = 1"}
    )
    there = {"mine.py", "a/__init__.py", "a/b.py"}
    awaited = {"gone.py", "gone/__init__.py", "gone/away.py", "gone/away/__init__.py", "pydantic.py", "a/WORD.py", "a/b/__init__.py"}
    files = {os.path.relpath(path, tmp_path) for path in code_files.files_of(section["path"])}
    assert there | awaited <= files
    assert not {name for name in files if "json" in name or "pingap" in name}
    (tmp_path / "a/b.py").write_text("broken (")
    assert str(tmp_path / "a/b.py") in code_files.files_of(section["path"])
    (tmp_path / "mine.py").unlink()
    assert code_files.files_of(section["path"]) == (section["path"],)


def test_bytecode_of_other_source_is_never_taken(tmp_path: Path) -> None:
    section = mine(tmp_path, "from a import WORD", **{"a.py": "WORD = 1"})
    py_compile.compile(str(tmp_path / "a.py"), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    (tmp_path / "a.py").write_text("WORD = nothing")
    [problem] = checking.check("p", section)
    assert "a.py:1: NameError" in problem.message


@pytest.mark.parametrize(
    ("count", "size", "what"), [(code_files.MOST_MODULES + 1, 1, "256 modules"), (5, 1 << 20, "4 MiB"), (1, 5 << 20, "4 MiB")]
)
def test_bounds(tmp_path: Path, count: int, size: int, what: str) -> None:
    names = [f"m{at}" for at in range(count)]
    files = {f"{name}.py": "#" * size for name in names}
    [problem] = checking.check("p", mine(tmp_path, f"import {', '.join(names)}; WORD = 1", **files))
    assert problem.path == "plugins.p.path" and f"more than {what} of code" in problem.message


def test_a_helper_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    section = mine(tmp_path, "from a import WORD")
    os.mkfifo(tmp_path / "a.py")
    [problem] = checking.check("p", section)
    assert f"{tmp_path}/a.py: it is no file but a pipe" in problem.message
    assert str(tmp_path / "a.py") in code_files.files_of(section["path"])


def test_an_import_that_could_not_be_seen_is_told(tmp_path: Path) -> None:
    line = "import importlib; WORD = importlib.import_module('.a', __package__)"
    [problem] = checking.check("p", mine(tmp_path, line, **{"a.py": ""}))
    assert "No module named 'a' of this plugin was seen: name it in an `import`" in problem.message


def test_code_travels_with_its_modules(tmp_path: Path) -> None:
    made = checked(mine(tmp_path, "from a import WORD", **{"a.py": "WORD = '\xff'"}))
    assert len(made.code["p"].modules) == 1
    whole = packed(made, {})
    there, _ = finished(unpacked(whole.contents, whole.blobs))
    assert there.code == made.code
    assert Snapshot.from_wire(made.to_wire()).code == made.code


async def test_what_lives_is_not_forgotten_and_what_does_not_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_code, "KEPT", 2)
    code = "class Late:\n    def __str__(self): import late; return late.WORD\nWORD = Late()"
    section = mine(tmp_path / "lives", "from a import WORD", **{"a.py": code, "late.py": "WORD = 'kept'"})
    async with Stage({"p": section}) as stage:
        for number in range(4):
            checked_here = making.make("q", mine(tmp_path / str(number), f"WORD = {number}"), checking.load_guard)
            del checked_here
        write(tmp_path / "lives", {"late.py": "WORD = 'changed'"})
        assert await body(stage) == "kept"
        assert len({name.partition(".")[0] for name in sys.modules if name.startswith(PREFIX)}) == 2


async def test_jobs_for_other_processes_say_what_those_cannot_have(tmp_path: Path) -> None:
    line = "import words, operator; WORD = ''"
    code = """
from pingap.plugin import Plugin, reply
import operator, words
class Mine(Plugin):
    def start(self, host): self.host = host
    async def request(self, exchange):
        said = []
        jobs = (words.work, 1), (operator.neg, words.Thing()), (operator.neg, [words.Thing]), (operator.neg, words.work)
        for call, argument in jobs:
            try: await self.host.in_process(call, argument)
            except ValueError as error: said.append(str(error))
        return reply(200, "\\n".join(said))
"""
    section = mine(tmp_path, line, **{"words.py": "class Thing: pass\ndef work(x): return x"})
    write(tmp_path, {"mine.py": code})
    async with Stage({"p": section}) as stage:
        out = await stage.run(stage.request())
        while not out:
            await asyncio.sleep(0.01)
            out = stage.out()
        function, thing, kind, other = out[0].body.decode().split("\n")
    assert "another process cannot import <function work" in function and "of one beside it" in function
    assert "another process cannot have a Thing, a class of the plugin's own code" in thing
    assert "another process cannot have Thing of the plugin's own code" in kind
    assert "another process cannot have work of the plugin's own code" in other
