"""The plugins under examples/ do what their own tests say, and are typed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PLUGINS = Path(__file__).parents[2] / "examples" / "plugins"
NAMES = sorted(path.stem for path in PLUGINS.glob("*.py") if not path.stem.startswith("test_"))


@pytest.mark.parametrize("name", NAMES)
def test_each_has_a_configuration_a_test_and_says_how_to_run_it(name: str) -> None:
    text = (PLUGINS / f"{name}.py").read_text()
    for line in (f"pingap up -c examples/plugins/{name}.toml", f"pingap plugin test examples/plugins/{name}.py"):
        assert line in text.split('"""')[1]
    assert (PLUGINS / f"{name}.toml").read_text().startswith(f"# pingap up -c examples/plugins/{name}.toml\n")
    assert (PLUGINS / f"test_{name}.py").exists()
    assert f"[{name}.py](plugins/{name}.py)" in (PLUGINS.parent / "README.md").read_text()


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.timeout(180)
def test_their_own_tests_pass() -> None:
    command = [sys.executable, "-m", "pingap", "plugin", "test", str(PLUGINS)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=170)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.timeout(180)
def test_they_are_typed() -> None:
    files = sorted(map(str, PLUGINS.glob("*.py")))
    done = subprocess.run([sys.executable, "-m", "mypy", "--strict", *files], check=False, capture_output=True, text=True, timeout=170)
    assert done.returncode == 0, done.stdout
