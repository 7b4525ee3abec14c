"""Somebody cleans the run dir of a running instance: it heals within a second or two, and nobody else gets in meanwhile."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import Pingap, site
from tests.e2e.origins import Nginx
from tests.kit.waiting import until

KINDS = {
    "control": lambda name: name.endswith("/control"),
    "pid": lambda name: name == "pid",
    "the link": lambda name: name == "current",
    "publishers": lambda name: name.endswith(".pub"),
    "inboxes": lambda name: name.count(".") == 2,
    "everything": lambda name: True,
    "the directory": None,
}


def _files(proxy: Pingap) -> set[str]:
    """All but directories, relative to the run dir."""
    found = (Path(folder, name) for folder, folders, names in os.walk(proxy.run_dir) for name in (*names, *folders))
    return {str(path.relative_to(proxy.run_dir)) for path in found if path.is_symlink() or not path.is_dir()}


@pytest.fixture(scope="module")
def proxy(nginx: Nginx) -> Iterator[Pingap]:
    with Pingap(site([nginx.port])) as instance:
        yield instance


@pytest.mark.parametrize("kind", list(KINDS))
def test_it_heals(proxy: Pingap, kind: str) -> None:
    until(lambda: {row.state for row in proxy.ps()} == {"ready"}, 10, "all are ready")
    living = {row.name: row.pid for row in proxy.ps()}
    files = {name for name in _files(proxy) if name.count(".") != 2}
    is_meant = KINDS[kind]
    if is_meant is None:
        shutil.rmtree(proxy.run_dir)
    else:
        for name in filter(is_meant, _files(proxy)):
            (proxy.run_dir / name).unlink()
    second = proxy.command("up", "-c", str(proxy.config))
    assert second.returncode == 1
    assert "already running" in second.stderr
    until(lambda: proxy.run_dir.exists() and files <= _files(proxy), 5, "the files are back")
    assert {row.name: row.pid for row in proxy.ps()} == living
    for stage in ("upstream", "config"):
        pid = living[f"{stage}.0"]
        os.kill(pid, signal.SIGKILL)
        proxy.wait_restarted(stage, pid)
    until(lambda: proxy.get().status == 200, 5, "it serves")
    assert proxy.command("reload").returncode == 0
    assert proxy.row("accept").pid == living["accept.0"]
