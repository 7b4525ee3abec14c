"""A plugin of a package that pip has installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.harness import Pingap, site
from tests.e2e.origins import Origin

PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "tea-plugins"
version = "1.2"

[project.entry-points."pingap.plugins"]
tea = "tea_plugins:Tea"
"""

CODE = """
from pingap.plugin import Plugin, Settings, reply

class TeaSettings(Settings):
    kind: str

class Tea(Plugin[TeaSettings]):
    model = TeaSettings
    def request(self, exchange):
        return reply(418, self.settings.kind)
"""


@pytest.mark.slow
def test_a_package_that_pip_installs_brings_a_plugin(origin: Origin, tmp_path: Path) -> None:
    package, target = tmp_path / "source" / "tea_plugins", tmp_path / "installed"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(CODE)
    (package.parent / "pyproject.toml").write_text(PROJECT)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(target)]
    subprocess.run([*pip, str(package.parent)], check=True, capture_output=True, timeout=120)
    env = {"PYTHONPATH": os.pathsep.join([str(target), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)}
    more = '[plugins.own]\ncategory = "tea"\nkind = "green"\n'
    with Pingap(site([origin.port], location='plugins = ["own"]', more=more), env=env) as proxy:
        answer = proxy.get("/")
        assert (answer.status, answer.body) == (418, b"green")
