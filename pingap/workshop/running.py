"""Runs the tests of a plugin with pytest."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pingap import terminal
from pingap.config.problems import BadValue

NEEDED: Final = ("pytest", "pytest_asyncio")

_SCOPE: Final = "asyncio_default_fixture_loop_scope"
"""pytest-asyncio warns where nobody has said it."""


def missing() -> list[str]:
    """Packages that the tests want and that are not installed, by the names that pip knows."""
    return [name.replace("_", "-") for name in NEEDED if importlib.util.find_spec(name) is None]


def tests_of(place: Path) -> Path:
    """The tests that belong to a plugin's file, or the file or directory of tests itself. Raises BadValue where there are none."""
    if not place.exists():
        raise BadValue(f"{place} does not exist", "`pingap plugin new NAME` makes a plugin with a test")
    if place.is_dir() or place.name.startswith("test_") or place.stem.endswith("_test"):
        return place
    name = f"test_{place.stem}.py"
    found = [one for one in (place.with_name(name), place.parent / "tests" / name, place.parent.parent / "tests" / name) if one.is_file()]
    if not found:
        raise BadValue(f"there is no {name} beside {place} or in tests/", "`pingap plugin new NAME` makes a plugin with a test to look at")
    return found[0]


def run(tests: Path, arguments: Sequence[str]) -> int:
    """pytest's exit code. What it says goes to where we write, as it comes."""
    argv = [
        sys.executable,
        "-m",
        "pytest",
        "--import-mode=importlib",
        "--asyncio-mode=auto",
        "-o",
        f"{_SCOPE}=function",
        str(tests),
        *arguments,
    ]
    terminal.flush()
    if terminal.is_terminal():  # it is pytest's then, with its colours and its debugger
        return _ended(subprocess.Popen(argv))
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    for line in process.stdout:
        sys.stdout.write(line.decode(errors="replace"))
        terminal.flush()
    return _ended(process)


def _ended(process: subprocess.Popen[bytes]) -> int:
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue  # pytest has had it too, and ends with what it has to say
