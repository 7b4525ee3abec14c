"""Plugins of installed packages, found by the entry points of `pingap.plugins`."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pingap.commands.plugins import plugins as command
from pingap.config.problems import Problem
from pingap.stages.plugins import checking, installed, trial
from pingap.workshop.catalogue import entries_installed
from tests.plugins.script import Stage

TEA = '''
"""Answers with tea. It is hot."""
from pingap.plugin import Plugin, Settings, reply
from tea_plugins.words import WORD

class TeaSettings(Settings):
    kind: str = "green"
    """Which tea."""
    path: str = ""

class Tea(Plugin[TeaSettings]):
    model = TeaSettings
    def request(self, exchange):
        if exchange.path == "/boil": raise OSError("boils over")
        if exchange.path == "/loop":
            while True: pass
        return reply(200, f"{WORD} {self.settings.kind} {self.settings.path}")

class Half: pass
'''


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """On sys.path, as a site-packages of its own."""
    monkeypatch.syspath_prepend(tmp_path)
    installed._found.clear()
    trial._passed.clear()
    yield tmp_path
    installed._found.clear()
    for name in [one for one in sys.modules if one.partition(".")[0] == "tea_plugins"]:
        del sys.modules[name]


def install(folder: Path, points: str, code: str = TEA, name: str = "tea-plugins", version: str = "1.2") -> None:
    """What an installer leaves: a package, and what is to be known of it."""
    package = folder / "tea_plugins"
    package.mkdir(exist_ok=True)
    (package / "__init__.py").write_text("")
    (package / "words.py").write_text("WORD = 'tea'\n")
    (package / "main.py").write_text(code)
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[pingap.plugins]\n{textwrap.dedent(points)}\n")


def problems(**keys: Any) -> list[Problem]:
    return checking.check("p", {"category": "tea", **keys})


async def test_it_is_a_plugin_by_its_name(folder: Path) -> None:
    install(folder, "tea = tea_plugins.main:Tea")
    assert problems(kind="black") == []
    assert "tea_plugins" not in sys.modules, "whoever checks does not import it"
    assert [problem.path for problem in problems(kind=3, colour="red")] == ["plugins.p.kind", "plugins.p.colour"]
    checker = checking.Checker("/base")
    section = {"category": "tea", "path": "own"}
    assert checker("p", section) == [] and section["path"] == "own", "`path` is a key like any other here"
    assert checker.code == {}
    async with Stage({"p": {"category": "tea", "kind": "black", "path": "x", "timeout": "100ms"}}) as stage:
        assert (await stage.one(stage.request())).body == b"tea black x"
        assert (await stage.one(stage.request("/boil"))).status == 500
        assert stage.context.logged[-1][2]["where"] == f"{folder}/tea_plugins/main.py:14"
        assert (await stage.one(stage.request("/loop"))).status == 500
        assert "longer than 0.1 s" in stage.context.logged[-1][2]["error"]


def test_what_it_asks_for_is_found_without_importing_it(folder: Path) -> None:
    from pingap.stages.itinerary import REQUEST_PLUGINS
    from tests.plugins.script import snapshot

    install(folder, "tea = tea_plugins.main:Tea")
    assert checking.plans(snapshot({"p": {"category": "tea"}})) == {"l": REQUEST_PLUGINS}
    assert "tea_plugins" not in sys.modules


@pytest.mark.parametrize(("key", "value"), [("timeout", "2h"), ("hold_timeout", "3s"), ("threads", 0)])
def test_its_deadlines_are_those_of_users(folder: Path, key: str, value: Any) -> None:
    install(folder, "tea = tea_plugins.main:Tea")
    assert [problem.path for problem in problems(**{key: value})] == [f"plugins.p.{key}"]


@pytest.mark.parametrize(
    ("points", "code", "what"),
    [
        ("tea = tea_plugins.main:Tea", "\nimport nothing_like_it", "/tea_plugins/main.py:2: ModuleNotFoundError"),
        ("tea = tea_plugins.main:Coffee", TEA, "AttributeError: module 'tea_plugins.main' has no attribute 'Coffee'"),
        ("tea = tea_plugins.main:Half", TEA, "Half is no subclass of pingap.plugin.Plugin"),
        ("tea = tea_plugins.away:Tea", TEA, "ModuleNotFoundError: No module named 'tea_plugins.away'"),
        ("tea = tea_plugins.main", TEA, "AttributeError"),
        ("tea = tea_plugins.main:Tea", "import os\nos._exit(3)", "importing it ends the process that does it (exit status 3)"),
        ("tea = tea_plugins.main:Tea", "raise SystemExit", "it raised SystemExit"),
        ("tea = tea_plugins.main:Tea", TEA.replace("path:", "threads:"), "has a key 'threads'"),
        (
            "tea = tea_plugins.main:Tea",
            f"{TEA}\nTea.__init__ = lambda self, settings: 1 / 0",
            "main.py:21: ZeroDiv",
        ),
        ("tea = tea_plugins.main:Tea", TEA.replace("def request", "def other"), "Tea overrides no step"),
    ],
)
def test_one_that_cannot_be_used_is_told_with_its_package(folder: Path, points: str, code: str, what: str) -> None:
    install(folder, points, code)
    [problem] = problems()
    assert problem.path == "plugins.p.category"
    assert problem.message.startswith("tea-plugins 1.2 (tea_plugins.")
    assert what in problem.message


@pytest.mark.slow
def test_one_that_never_ends_is_stopped(folder: Path) -> None:
    install(folder, "tea = tea_plugins.main:Tea", "while True: pass")
    [problem] = problems()
    assert "tea-plugins 1.2" in problem.message and "it took longer than 2 s" in problem.message


def test_it_never_takes_the_place_of_one_of_pingaps(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(folder, "ping = tea_plugins.main:Tea\npython = tea_plugins.main:Tea")
    monkeypatch.setattr(installed, "listed", None)  # which is not even asked
    assert checking.check("p", {"category": "ping", "path": "/"}) == []
    assert checking.check("p", {"category": "python"})[0].message.startswith("a python plugin is named by")


def test_two_packages_with_the_same_plugin_are_refused(folder: Path) -> None:
    install(folder, "tea = tea_plugins.main:Tea")
    install(folder, "tea = tea_plugins.main:Tea", name="more-tea", version="2.0")
    [problem] = problems()
    assert problem.path == "plugins.p.category"
    assert "more-tea 2.0 (tea_plugins.main:Tea), tea-plugins 1.2 (tea_plugins.main:Tea); uninstall all but one" in problem.message


def test_a_name_that_is_almost_right_is_guessed_from_all(folder: Path) -> None:
    install(folder, "green_tea = tea_plugins.main:Tea")
    assert checking.check("p", {"category": "gren_tea"})[0].hint == "did you mean 'green_tea'?"
    assert checking.check("p", {"category": "pin"})[0].hint == "did you mean 'ping'?"


def test_a_package_that_cannot_be_read_is_a_problem_of_who_needs_one(folder: Path) -> None:
    install(folder, "nonsense without a sign")
    [problem] = problems()
    assert problem.path == "plugins.p.category" and "cannot be looked through" in problem.message
    assert checking.check("p", {"category": "ping", "path": "/"}) == []


def test_they_are_listed(folder: Path) -> None:
    install(folder, "tea = tea_plugins.main:Tea\nping = tea_plugins.main:Tea\nhalf = tea_plugins.main:Half")
    found = {one.name: one for one in entries_installed() if "tea-plugins" in one.summary}
    assert found["tea"].summary == "tea-plugins 1.2: Answers with tea. It is hot."
    assert [(key.name, key.default) for key in found["tea"].keys] == [("kind", "green"), ("path", "")]
    assert "pingap's own plugin has that name" in found["ping"].summary
    assert "no subclass" in found["half"].summary


@pytest.mark.slow
def test_the_command_shows_them(folder: Path) -> None:
    install(folder, "tea = tea_plugins.main:Tea")
    shown = CliRunner().invoke(command, ["tea"])
    assert shown.exit_code == 0 and "tea-plugins 1.2" in shown.output
