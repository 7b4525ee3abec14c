"""`pingap plugin new` and `pingap plugin test`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pingap import cli
from pingap.config.problems import BadValue
from pingap.config.storage.places import storage_of
from pingap.loading import load
from pingap.workshop import making, running, templates


def run(*words: str) -> Result:
    return CliRunner().invoke(cli.commands, ["plugin", *words])


@pytest.mark.parametrize("kind", templates.KINDS)
def test_a_new_plugin_is_three_files_and_says_what_to_do_next(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "some where"
    done = run("new", "green_tea", "--kind", kind, "--dir", str(place))
    assert done.exit_code == 0
    assert sorted(path.name for path in place.iterdir()) == ["green_tea.py", "green_tea.toml", "test_green_tea.py"]
    assert f"pingap plugin test '{place}/green_tea.py'" in done.output
    assert f"pingap up -c '{place}/green_tea.toml'" in done.output
    assert all(len(line) <= 80 for line in run("new", "a_b", "--dir", os.path.relpath(tmp_path)).output.splitlines()[1:] if "/" not in line)


@pytest.mark.parametrize("name", ["hello", "behind", "app", "all", "web", "mock", "a" * templates.LONGEST])
@pytest.mark.parametrize("kind", templates.KINDS)
def test_its_configuration_is_one_whatever_its_name(tmp_path: Path, kind: str, name: str) -> None:
    assert run("new", name, "--kind", kind, "--dir", str(tmp_path)).exit_code == 0
    snapshot = load(storage_of(tmp_path / f"{name}.toml"))
    assert snapshot.locations["all"].plugins == (name,) and len(snapshot.plugins) == 2


def test_nothing_is_overwritten_and_nothing_is_left_half(tmp_path: Path) -> None:
    (tmp_path / "test_tea.py").write_text("mine")
    done = run("new", "tea", "--dir", str(tmp_path))
    assert done.exit_code == 2 and "test_tea.py: there already" in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["test_tea.py"]
    assert (tmp_path / "test_tea.py").read_text() == "mine"


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run("new", "tea", "--dir", str(tmp_path / "file"))
    assert done.exit_code in (1, 2) and "file" in done.output and "Traceback" not in done.output


def test_a_disk_that_is_full_leaves_no_file(tmp_path: Path) -> None:
    class Full(dict[str, str]):
        def items(self):  # type: ignore[no-untyped-def]
            yield "one", "1"
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError):
        making.write(tmp_path, Full(one="", two=""))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("my-plugin", "such as my_plugin"),
        ("Tea", "such as tea"),
        ("1st", "such as st"),
        ("../up", "such as up"),
        ("", "is not a name"),
        ("té", "is not a name"),
        ("a__b", "such as a_b"),
        ("class", "such as class_plugin"),
        ("match", "such as match_plugin"),
        ("json", "such as own_json"),
        ("pytest", "such as own_pytest"),
        ("test_tea", "such as own_tea"),
        ("plugin", "such as own_plugin"),
        ("file_body", "such as own_file_body"),
        ("a" * 25, "more than 24 letters"),
    ],
)
def test_a_name_has_to_do_for_a_file_and_a_class(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(BadValue) as refused:
        templates.files(name, "request")
    assert said in f"{refused.value.message} {refused.value.hint}"
    assert run("new", name, "--dir", str(tmp_path)).exit_code == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.timeout(180)
def test_what_is_written_passes_its_tests_ruff_and_mypy(tmp_path: Path) -> None:
    for kind in templates.KINDS:
        making.write(tmp_path, templates.files(f"tea_{kind}", kind))
        making.write(tmp_path / kind, templates.files("a" * templates.LONGEST, kind))
    python = [sys.executable, "-m"]
    files = [str(path) for path in sorted(tmp_path.glob("*.py"))]
    for check in (
        ["ruff", "check", "--isolated", "."],
        ["ruff", "format", "--isolated", "--check", "."],
        ["mypy", "--strict", *files],
        ["pytest", "-q", "-k", "not whole", *files],  # as who does not use the command
        ["pingap", "plugin", "test", "."],
    ):
        done = subprocess.run([*python, *check], cwd=tmp_path, capture_output=True, text=True, timeout=110, check=False)
        assert done.returncode == 0, f"{check}: {done.stdout}{done.stderr}"


@pytest.mark.processes
@pytest.mark.slow
def test_the_tests_beside_a_plugin_are_run_with_what_pytest_is_told(tmp_path: Path) -> None:
    making.write(tmp_path, templates.files("tea", "request"))
    (tmp_path / "tests").mkdir()
    (tmp_path / "test_tea.py").rename(tmp_path / "tests" / "test_tea.py")
    command = [sys.executable, "-m", "pingap", "plugin", "test"]
    text = (tmp_path / "tests" / "test_tea.py").read_text().replace("with_name", "parent.with_name")
    (tmp_path / "tests" / "test_tea.py").write_text(text)
    done = subprocess.run([*command, str(tmp_path / "tea.py"), "-k", "word", "-v"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "::test_the_word_is_answered_here PASSED" in done.stdout and "3 deselected" in done.stdout
    (tmp_path / "tea.py").write_text((tmp_path / "tea.py").read_text().replace("if exchange", "if 1 / 0 or exchange"))
    done = subprocess.run([*command, str(tmp_path), "-k", "word"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f'File "{tmp_path / "tea.py"}", line ' in done.stdout and "ZeroDivisionError" in done.stdout


def test_a_plugin_without_tests_and_one_that_is_not_there_are_told(tmp_path: Path) -> None:
    (tmp_path / "tea.py").write_text("")
    done = run("test", str(tmp_path / "tea.py"))
    assert done.exit_code == 2 and "there is no test_tea.py beside" in done.output
    done = run("test", str(tmp_path / "none.py"))
    assert done.exit_code == 2 and "none.py does not exist" in done.output


def test_without_pytest_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "NEEDED", ("pytest", "pytest_nowhere"))
    done = run("test", str(tmp_path))
    assert done.exit_code == 1 and "need pytest-nowhere: pip install pytest-nowhere" in done.output
