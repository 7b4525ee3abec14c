"""A pingap that a test starts as root and that becomes another user; the Python for it is one that this user may run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

from tests.e2e.harness import Pingap

USER = "nobody"
ROOT = Path(__file__).parents[2]

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@cache
def open_python() -> tuple[str, dict[str, str]]:
    """An interpreter, and what it needs in its environment to import pingap. Root's own Python may be in a home that is closed."""
    path = os.pathsep.join([str(ROOT), *(entry for entry in sys.path if entry.endswith("site-packages"))])
    env = {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    for python in (sys.executable, "/usr/bin/python3"):
        probe = [python, "-c", f"import sys, pingap.cli, msgpack, zmq; assert sys.version_info[:2] == {sys.version_info[:2]}"]
        try:
            done = subprocess.run(probe, user=USER, group="nogroup", cwd="/", env=env, capture_output=True, check=False)
        except OSError:
            continue
        if done.returncode == 0:
            return python, env
    pytest.skip(f"there is no Python {sys.version_info[0]}.{sys.version_info[1]} with pingap that {USER} may run")


class AsUser(Pingap):
    """`[basic] user` is for the configuration to say."""

    def __init__(self, config: str, placement: str = "split", *, up: Sequence[str] = (), port: int = 0, env: dict[str, str] | None = None):
        python, path = open_python()
        super().__init__(config, placement, up=up, port=port, env=path | (env or {}))
        self.argv = [python, "-m", "pingap", *self.argv[1:]]
        self.dir.chmod(0o711)
        self.config.chmod(0o644)

    def command(self, *args: str, timeout: float = 20) -> subprocess.CompletedProcess[str]:
        """By the same Python: of `upgrade` it is the one that runs the next instance."""
        argv = [*self.argv[:3], *args, "--run-dir", str(self.run_dir)]
        return subprocess.run(argv, capture_output=True, text=True, timeout=timeout, env=self.env, cwd=self.dir, check=False)

    def write_config(self, text: str) -> None:
        super().write_config(text)
        self.config.chmod(0o644)
