"""What a service manager hears: the words, when each is said, and when the watchdog hears nothing."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from pingap.bus.members import READY, STARTING
from pingap.plan_words import Role
from pingap.service.systemd import KEPT, Service
from pingap.service.unit import RELOAD, Unit
from pingap.service.vitals import PATIENCE, Vitals
from tests.kit.waiting import until
from tests.supervisor.conftest import Instance


class Manager:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind("\0" + address[1:] if address[0] == "@" else address)
        self.sock.setblocking(False)
        self.heard: list[str] = []
        self.spoken_to: list[Service] = []

    def close(self) -> None:
        self.sock.close()
        for one in self.spoken_to:
            one.close()

    def hear(self) -> list[str]:
        """All messages so far, the lines of one joined by a blank."""
        try:
            while True:
                self.heard.append(self.sock.recv(4096).decode().replace("\n", " "))
        except BlockingIOError:
            return self.heard

    def fresh(self) -> list[str]:
        """Those since the last look."""
        before = len(self.heard)
        return self.hear()[before:]


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    one = Manager(str(tmp_path / "notify"))
    yield one
    one.close()


def service(manager: Manager, **more: str) -> Service:
    manager.spoken_to.append(Service({"NOTIFY_SOCKET": manager.sock.getsockname(), **more}))
    return manager.spoken_to[-1]


class Process(NamedTuple):
    role: Role
    state: str = READY


def role(name: str, *stages: str) -> Role:
    return Role(name, stages or (name,), 1, True, (), 0, ())


PATH = [Process(role(name)) for name in ("accept", "routing", "plugins", "upstream")]


# -- the words --------------------------------------------------------------------------


def test_it_says_ready_reloading_stopping_and_who_takes_its_place(manager: Manager) -> None:
    one = service(manager)
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    one.ready("serves\neverybody")
    one.reloading()
    one.main_pid(7)
    one.stopping()
    ready, reloading, pid, stopping = manager.hear()
    assert ready == "READY=1 STATUS=serves everybody"
    words = reloading.split()
    assert words[0] == "RELOADING=1"
    assert before <= int(words[1].removeprefix("MONOTONIC_USEC=")) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert pid == "MAINPID=7"
    assert stopping.startswith("STOPPING=1")


def test_the_socket_may_have_an_abstract_name() -> None:
    name = f"@pingap-test-{os.getpid()}"
    manager = Manager(name)
    one = Service({"NOTIFY_SOCKET": name})
    one.ready("serves")
    assert manager.hear() == ["READY=1 STATUS=serves"]
    one.close()
    manager.close()


def test_a_socket_of_another_kind_is_a_problem_to_be_told() -> None:
    assert "vsock:2:1234" in Service({"NOTIFY_SOCKET": "vsock:2:1234"}).problem


def test_processes_that_it_starts_do_not_speak_for_it_and_who_takes_its_place_does() -> None:
    given = {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}
    env = given | {"HOME": "/"}
    one = Service(env)
    one.close()
    assert one.environment() == given
    assert env == {"HOME": "/"}


def test_without_a_manager_nothing_is_said() -> None:
    one = Service({})
    one.ready("serves")
    one.beat(1.0, True)
    assert one.every == 0


def test_what_a_full_socket_does_not_take_is_said_later_in_its_order(manager: Manager) -> None:
    one = service(manager)
    said = 0
    while not one._waiting:  # an unread socket takes a few
        one.ready(str(said))
        said += 1
    one.stopping()
    for _ in range(KEPT):
        manager.hear()
        one.beat(1.0, True)
    assert [line.split("=")[-1] for line in manager.hear() if line.startswith("READY")] == [str(i) for i in range(said)]
    assert manager.heard[-1].startswith("STOPPING")


def test_a_manager_that_is_gone_harms_nobody(manager: Manager) -> None:
    one = service(manager)
    manager.sock.close()
    one.ready("serves")
    one.beat(1.0, True)


# -- the watchdog -----------------------------------------------------------------------


def test_it_says_that_it_lives_at_half_of_what_is_asked_for(manager: Manager) -> None:
    one = service(manager, WATCHDOG_USEC="4000000", WATCHDOG_PID=str(os.getpid()))
    for now in (100.0, 101.9, 102.0, 103.0, 104.5):
        one.beat(now, True)
    one.beat(120.0, False)
    assert manager.hear() == ["WATCHDOG=1"] * 3


def test_a_watchdog_that_waits_for_another_process_hears_nothing(manager: Manager) -> None:
    one = service(manager, WATCHDOG_USEC="4000000", WATCHDOG_PID="1")
    one.beat(100.0, True)
    assert manager.hear() == []


def test_a_stage_that_is_being_restarted_is_alive_until_it_takes_too_long() -> None:
    vitals = Vitals([one.role for one in PATH])
    without = [Process(one.role, STARTING if one.role.name == "routing" else READY) for one in PATH]
    assert vitals.lost(PATH, 0.0) == []
    assert vitals.lost(without, 1.0) == []
    assert vitals.lost(without, 0.9 + PATIENCE) == []
    assert vitals.lost(without, 1.0 + PATIENCE) == ["routing"]
    assert vitals.lost(PATH, 2.0 + PATIENCE) == []


def test_one_ready_replica_is_enough_and_stages_beside_the_request_are_not_asked_for() -> None:
    roles = [role("worker", "accept", "routing"), role("logging"), role("metrics")]
    vitals = Vitals(roles)
    one = [Process(roles[0], STARTING), Process(roles[0])]
    assert vitals.lost(one, 0.0) == []
    assert vitals.lost(one, 1000.0) == []


# -- when what is said ------------------------------------------------------------------


def unit(manager: Manager, said: list[str], **more: str) -> Unit:
    return Unit(service(manager, **more), [one.role for one in PATH], lambda level, text: said.append(f"{level}: {text}"))


def test_a_reload_ends_with_its_outcome_and_not_with_another_one(manager: Manager) -> None:
    one = unit(manager, [])
    one.ready(["http://a"])
    one.reloading(1.0)
    one.reloaded({"word": "dry-run", "asked": 3})
    one.reloaded({"word": "reload", "asked": 0})
    assert [line.split()[0] for line in manager.hear()] == ["READY=1", "RELOADING=1"]
    one.reloaded({"word": "reload", "asked": 3, "problems": ["x"]})
    assert manager.hear()[2].startswith("READY=1 STATUS=serves http://a; its last configuration was refused")
    one.reloaded({"word": "reload", "asked": 4})
    assert len(manager.hear()) == 3


def test_a_reload_without_an_outcome_ends_too(manager: Manager) -> None:
    one = unit(manager, [])
    one.ready(["http://a"])
    one.reloading(1.0)
    one.beat(PATH, RELOAD)
    assert len(manager.hear()) == 2
    one.beat(PATH, RELOAD + 1.0)
    assert manager.hear()[2].startswith("READY=1") and "no outcome" in manager.heard[2]


def test_a_restart_is_no_stop(manager: Manager) -> None:
    one = unit(manager, [])
    one.stopping(is_restart=True)
    one.stopping(is_restart=False)
    assert [line.split("=")[0] for line in manager.hear()] == ["STATUS", "STOPPING"]


def test_the_log_says_why_the_watchdog_hears_nothing(manager: Manager) -> None:
    said: list[str] = []
    one = unit(manager, said, WATCHDOG_USEC="2000000")
    one.ready(["http://a"])
    without = [process for process in PATH if process.role.name != "upstream"]
    for now in (1.0, 2.0, 1.0 + PATIENCE, 2.0 + PATIENCE):
        one.beat(without, now)
    assert manager.hear().count("WATCHDOG=1") == 2
    assert said == ["error: the watchdog hears nothing more: no upstream has been ready for 15 s"]
    one.beat(PATH, 3.0 + PATIENCE)
    assert manager.hear().count("WATCHDOG=1") == 3


# -- an instance ------------------------------------------------------------------------


@pytest.mark.processes
def test_an_instance_tells_of_its_life(launch: Callable[..., Instance], manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", manager.sock.getsockname())
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    instance = launch().ready()
    until(lambda: "READY=1" in str(manager.fresh()), 5, "it says that it serves")
    until(lambda: "WATCHDOG=1" in manager.fresh(), 5, "it says that it lives")
    instance.signal(signal.SIGHUP)
    until(lambda: "RELOADING=1" in str(manager.fresh()), 5, "it says that it reloads")
    until(lambda: "READY=1" in str(manager.hear()[-2:]), 5, "and that this has ended")
    for pid in instance.members():
        if pid != instance.process.pid:
            assert b"NOTIFY_SOCKET" not in Path(f"/proc/{pid}/environ").read_bytes()
    instance.signal(signal.SIGTERM)
    assert instance.wait() == 0
    assert "STOPPING=1" in str(manager.fresh())


@pytest.mark.processes
def test_a_restart_is_told_as_a_new_start_of_the_same_process(
    launch: Callable[..., Instance], manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", manager.sock.getsockname())
    instance = launch().ready()
    until(lambda: "READY=1" in str(manager.fresh()), 5, "it says that it serves")
    done = instance.command("restart", "--unchecked")
    assert done.returncode == 0, done.stderr
    until(lambda: "READY=1" in str(manager.fresh()), 5, "the new one says so, too")
    assert "STOPPING=1" not in str(manager.heard)
