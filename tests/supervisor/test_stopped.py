"""SIGSTOP, a suspended machine: whoever is stopped and lives is waited for, or replaced, and nothing else leaves for it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest

from pingap import spawning
from pingap.bus.liveness import SILENCE
from pingap.spawning import SpawnerHandle
from tests.kit.waiting import until
from tests.supervisor.conftest import Instance


@pytest.mark.processes
def test_a_supervisor_that_was_stopped_for_long_finds_everybody_there(instance: Instance) -> None:
    before = {row["pid"] for row in instance.ps()}
    line = instance.connect()
    assert line.ask("who")
    instance.signal(signal.SIGSTOP)
    time.sleep(SILENCE + 1)  # what is tested is that this much time changes nothing
    assert line.ask("who")
    instance.signal(signal.SIGCONT)
    assert {row["pid"] for row in instance.ps()} == before
    assert line.ask("who")
    assert "drains" not in instance.log()


@pytest.mark.processes
def test_a_stopped_spawner_is_replaced_and_who_dies_meanwhile_comes_back(instance: Instance) -> None:
    spawner, upstream, accept = instance.pid("spawner"), instance.pid("upstream"), instance.pid("accept")
    os.kill(spawner, signal.SIGSTOP)
    os.kill(upstream, signal.SIGKILL)

    def is_back() -> bool:
        row = instance.row("upstream")
        return row["pid"] not in (upstream, None) and row["state"] == "ready"

    until(is_back, 12, "it is back")
    assert instance.pid("spawner") != spawner
    assert instance.pid("accept") == accept
    instance.wait_log("the spawner was silent")
    instance.signal(signal.SIGTERM)
    assert instance.wait() == 0


@pytest.mark.processes
def test_a_killed_supervisor_is_known_at_once(launch: Callable[..., Instance]) -> None:
    instance = launch().ready()
    began = time.monotonic()
    instance.signal(signal.SIGKILL)
    until(lambda: "accept.0 drains" in instance.log() or not instance.members(), 5, "they drain")
    until(lambda: not instance.members(), 10, "all have gone")
    assert time.monotonic() - began < SILENCE


@pytest.mark.processes
@pytest.mark.parametrize("pause", [0.0, 100.0])
def test_a_spawner_is_not_silent_because_the_supervisor_was_stopped(monkeypatch: pytest.MonkeyPatch, pause: float) -> None:
    spawner = SpawnerHandle(["json"])
    try:
        began = spawner._heard
        killed: list[bool] = []
        monkeypatch.setattr(spawner, "kill", lambda: killed.append(True))
        monkeypatch.setattr(spawning.SpawnerHandle, "_send", lambda *_: None)
        spawner._patience = SILENCE  # it has said something
        now = began
        spawner._pinged = now
        for _ in range(5):
            now += 0.5
            assert spawner.beat(now)
        now += pause + 0.4
        assert spawner.beat(now)
        for _ in range(12):
            now += 0.5
            spawner.beat(now)
        assert killed
    finally:
        monkeypatch.undo()
        spawner.close()
