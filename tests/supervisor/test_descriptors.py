"""The limit of open files: raised at the start, and where it is too low for what is asked, said and not run into."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pingap import limits, preflight, topology
from pingap.config.problems import Problem
from pingap.polling import WRITABLE, ready
from tests.kit.config import load_text
from tests.supervisor.conftest import ROOT, Instance

HARD = resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def limited(soft: int, hard: int, code: str, *args: str) -> subprocess.CompletedProcess[str]:
    """Runs Python code under a limit of descriptors."""
    return subprocess.run(
        [sys.executable, "-c", f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))\n{code}", *args],
        capture_output=True,
        text=True,
        timeout=30,
        cwd=ROOT,
        check=False,
    )


@pytest.mark.processes
def test_the_soft_limit_is_raised_to_the_hard_one() -> None:
    done = limited(200, 300, "from pingap import limits; limits.raise_descriptors(); print(resource.getrlimit(resource.RLIMIT_NOFILE))")
    assert done.stdout == "(300, 300)\n", done.stderr


def test_who_has_room_for_a_few_connections_starts_and_who_has_not_is_told_what_is_needed() -> None:
    for limit in (200, 256, 1024, 65536):
        most = next(actors for actors in range(1, 100_000) if limits.too_many(actors, 0, limit))
        assert limits.room_for_connections(most - 1, 0, limit) >= limits.LEAST_CONNECTIONS
        assert f"one may have {limit}" in limits.too_many(most, 0, limit)
        assert limits.too_many(1, limit, limit)


@pytest.mark.parametrize(("hard", "count", "said"), [(1 << 20, 1, ""), (1024, 1, "room for"), (256, 260, "260 addresses")])
def test_check_says_what_the_limit_means(monkeypatch: pytest.MonkeyPatch, hard: int, count: int, said: str) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (256, hard))
    addresses = ",".join(f"127.0.0.1:{port}" for port in range(20000, 20000 + count))
    snapshot = load_text(f'[servers.web]\naddr = "{addresses}"\n')
    found = list(preflight.limits_for(topology.roles(snapshot, topology.Options()), count))
    assert len(found) == bool(said)
    assert said in "".join(map(str, found))
    assert any(isinstance(one, Problem) for one in found) == (count > 1)


@pytest.mark.processes
def test_an_instance_with_more_addresses_than_descriptors_says_so_and_ends(tmp_path: Path) -> None:
    socks = [socket.create_server(("127.0.0.1", 0)) for _ in range(260)]
    addresses = ",".join(f"127.0.0.1:{sock.getsockname()[1]}" for sock in socks)
    for sock in socks:
        sock.close()
    (tmp_path / "pingap.toml").write_text(f'[servers.web]\naddr = "{addresses}"\n')
    code = "import sys; from pingap.cli import main; main(['up', '-c', sys.argv[1], '--run-dir', sys.argv[2]])"
    done = limited(256, 256, code, str(tmp_path / "pingap.toml"), f"/tmp/pgl-{os.getpid()}")
    assert done.returncode == 1
    assert "260 addresses to listen on need" in done.stderr
    assert "LimitNOFILE" in done.stderr
    os.rmdir(f"/tmp/pgl-{os.getpid()}")


@pytest.mark.processes
def test_ps_knows_the_limit_and_the_use(launch: Callable[..., Instance]) -> None:
    instance = launch().ready()
    rows = instance.ps()
    for row in rows:
        assert 3 < row["open_files"] < row["most_files"], row
    before = next(row["open_files"] for row in rows if row["stage"] == "accept")
    lines = [instance.connect() for _ in range(5)]
    assert all(line.ask("who") for line in lines)
    assert instance.row("accept")["open_files"] >= before + 5


@pytest.mark.processes
def test_more_replicas_than_descriptors_are_refused(launch: Callable[..., Instance]) -> None:
    instance = launch().ready()
    resource.prlimit(instance.process.pid, resource.RLIMIT_NOFILE, (256, HARD))
    done = instance.command("scale", "upstream=500")
    assert done.returncode == 1
    assert "one may have 256" in done.stderr
    assert [row["replica"] for row in instance.ps() if row["stage"] == "upstream"] == [0]


def test_descriptors_above_the_reach_of_select_are_waited_for() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 1200:
        pytest.skip(f"the hard limit of descriptors is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1200), hard))
    here, there = socket.socketpair()
    high = os.dup2(here.fileno(), 1150)
    try:
        assert ready((high,), 0) == []
        assert ready((high,), 0, WRITABLE) == [high]
        there.send(b"x")
        assert ready((high,), 5) == [high]
        there.close()
        here.recv(1)
        assert ready((high,), 5) == [high]
    finally:
        os.close(high)
        here.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
