"""`-d`: the command ends when the instance serves, or says why it does not; nothing holds the terminal; all commands work on it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.as_user import AsUser, needs_root
from tests.e2e.harness import COMMAND, Pingap
from tests.kit.waiting import is_alive, session_members, until

pytestmark = pytest.mark.processes

SITE = """[basic]
error_log = "{dir}/error.log"
{basic}
[servers.plain]
addr = "127.0.0.1:{port}"
locations = ["ping"]
[locations.ping]
plugins = ["pingap:ping"]
"""


class Daemon(Pingap):
    """Started by a command that ends."""

    def __init__(self, config: str = SITE, basic: str = "", flag: str = "-d") -> None:
        super().__init__(config.replace("{basic}", basic), up=[flag] if flag else [])
        self.pid_of_daemon = 0
        self.session = 0

    def up(self, *more: str, umask: int = 0o002) -> subprocess.CompletedProcess[str]:
        """Runs the command to its end; pipes that anybody kept open would keep it from that."""
        argv = ["pingap" if word == COMMAND else word for word in self.argv]
        done = subprocess.run(
            [*argv, *more],
            executable=COMMAND,
            capture_output=True,
            text=True,
            timeout=20,
            env=self.env,
            cwd=self.dir,
            umask=umask,
            check=False,
        )
        with contextlib.suppress(OSError, ValueError):
            self.pid_of_daemon = int((self.run_dir / "pid").read_text())
            self.session = os.getsid(self.pid_of_daemon)
        return done

    def wait_begun(self) -> int:
        """The process id, as soon as the daemon has the run dir."""
        file = self.run_dir / "pid"
        return int(until(lambda: file.read_text().strip() if file.exists() else "", 10, "it begins"))

    def processes(self) -> list[int]:
        return session_members(self.session) if self.session else []

    def end(self) -> None:
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        until(lambda: not self.processes(), 5, "nothing is left of the daemon")
        self.discard()


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    one = Daemon()
    yield one
    one.end()


@pytest.fixture(scope="module")
def serving() -> Iterator[Daemon]:
    one = Daemon()
    done = one.up()
    assert done.returncode == 0, done.stderr
    yield one
    one.end()


def targets(pid: int) -> list[str]:
    return [os.readlink(f"/proc/{pid}/fd/{number}") for number in range(3)]


def test_it_ends_with_0_when_it_serves_and_has_said_so(daemon: Daemon) -> None:
    done = daemon.up()
    assert done.returncode == 0, done.stderr
    assert "\nready in " in done.stdout and not done.stderr
    assert daemon.get("/ping").status == 200


def test_it_belongs_to_nobody(serving: Daemon) -> None:
    pid = serving.pid_of_daemon
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    parent, session, terminal = int(fields[1]), int(fields[3]), int(fields[4])
    assert parent not in (os.getpid(), 0) and session != os.getsid(0)
    assert session != pid, "who leads a session could get a terminal"
    assert terminal == 0
    assert os.readlink(f"/proc/{pid}/cwd") == "/"


def test_what_is_printed_goes_to_the_log_and_nothing_is_read(serving: Daemon) -> None:
    log = str(serving.dir / "error.log")
    for pid in serving.processes():
        assert targets(pid) == ["/dev/null", log, log], pid


def test_files_are_not_for_others_to_write(serving: Daemon) -> None:
    assert Path(f"/proc/{serving.pid_of_daemon}/status").read_text().split("Umask:\t")[1].split()[0] == "0022"


def test_descriptors_of_the_caller_are_closed() -> None:
    daemon = Daemon()
    with socket.create_server(("127.0.0.1", 0)) as theirs:
        os.set_inheritable(theirs.fileno(), True)
        how: dict[str, Any] = {"pass_fds": [theirs.fileno()], "env": daemon.env, "cwd": daemon.dir}
        done = subprocess.run(daemon.argv, capture_output=True, timeout=20, check=False, **how)
        assert done.returncode == 0, done.stderr
        pid = int((daemon.run_dir / "pid").read_text())
        daemon.session = os.getsid(pid)
        inode = os.readlink(f"/proc/self/fd/{theirs.fileno()}")
        for each in daemon.processes():
            links = []
            for name in os.listdir(f"/proc/{each}/fd"):
                with contextlib.suppress(OSError):
                    links.append(os.readlink(f"/proc/{each}/fd/{name}"))
            assert inode not in links
    daemon.end()


def test_commands_find_it_and_stop_it(daemon: Daemon) -> None:
    daemon.up()
    assert daemon.row("routing").state == "ready"
    assert daemon.command("down").returncode == 0
    until(lambda: not daemon.processes(), 5, "it is gone")


def test_logs_are_opened_anew_by_all(serving: Daemon) -> None:
    log = serving.dir / "error.log"
    log.rename(serving.dir / "error.log.1")
    os.kill(serving.pid_of_daemon, signal.SIGUSR1)
    until(lambda: all(targets(pid)[1:] == [str(log)] * 2 for pid in serving.processes()), 5, "all print to the new file")
    for number in (1, 2):
        assert os.path.samestat(os.stat(f"/proc/{serving.pid_of_daemon}/fd/{number}"), log.stat())


def test_a_stage_that_is_started_later_prints_there_too(serving: Daemon) -> None:
    old = serving.pid("routing")
    assert serving.command("kill", "spawner.0").returncode == 0
    serving.command("kill", "routing.0")
    row = serving.wait_restarted("routing", old)
    assert targets(row.pid)[1:] == [str(serving.dir / "error.log")] * 2


def test_a_restart_stays_the_same_daemon(serving: Daemon) -> None:
    done = serving.command("restart")
    assert done.returncode == 0, done.stderr
    assert serving.pid("supervisor") == serving.pid_of_daemon
    assert os.readlink(f"/proc/{serving.pid_of_daemon}/cwd") == "/"
    assert serving.get("/ping").status == 200


def test_an_upgrade_leaves_a_daemon_of_the_same_kind(daemon: Daemon) -> None:
    daemon.up()
    before = daemon.pid_of_daemon
    done = daemon.command("upgrade")
    assert done.returncode == 0, done.stderr
    after = daemon.pid("supervisor")
    assert after != before
    until(lambda: not is_alive(before), 10, "the one before ends, for nobody waits for it")
    assert daemon.get("/ping").status == 200
    assert os.readlink(f"/proc/{after}/cwd") == "/" and targets(after)[0] == "/dev/null"
    assert int((daemon.run_dir / "pid").read_text()) == after
    assert "STAGE" not in (daemon.dir / "error.log").read_text(), "nobody reads the table of a later start"


def test_relative_paths_hold_for_a_restart_as_well() -> None:
    daemon = Daemon()
    daemon.argv = [COMMAND, "-d", "-c", "pingap.toml", "--run-dir", "run", "--log", "own.log"]
    try:
        assert daemon.up().returncode == 0
        done = daemon.command("restart")
        assert done.returncode == 0, done.stderr
        assert "pingap is up" in (daemon.dir / "own.log").read_text()
    finally:
        daemon.end()


@pytest.mark.parametrize("value", ["1", "true"])
def test_the_environment_asks_for_it_too(value: str) -> None:
    daemon = Daemon(flag="")
    daemon.env["PINGAP_DAEMON"] = value
    try:
        assert daemon.up().returncode == 0
        assert daemon.get("/ping").status == 200
    finally:
        daemon.end()


# -- starts that fail ------------------------------------------------------------------


def test_an_address_that_is_taken_is_told_where_it_was_started(daemon: Daemon) -> None:
    with socket.create_server(("127.0.0.1", daemon.port)):
        done = daemon.up()
    assert done.returncode == 1
    assert "address already in use" in done.stderr
    assert not session_members(daemon.session) if daemon.session else True


def test_a_bad_configuration_has_the_exit_code_of_one(daemon: Daemon) -> None:
    daemon.write_config("[servers.a]\n")
    done = daemon.up()
    assert done.returncode == 2
    assert "servers.a.addr: the key is required" in done.stderr


def test_a_second_one_is_refused_and_the_first_goes_on(serving: Daemon) -> None:
    done = serving.up()
    assert done.returncode == 1 and "already running" in done.stderr
    assert serving.get("/ping").status == 200


def test_who_stops_waiting_stops_the_start() -> None:
    daemon = Daemon()
    process = subprocess.Popen(daemon.argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=daemon.env, cwd=daemon.dir)
    pid = daemon.wait_begun()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode in (0, 128 + signal.SIGINT)
    if process.returncode:
        until(lambda: not is_alive(pid), 10, "the daemon ends")
    else:  # it served already
        daemon.session = os.getsid(pid)
    daemon.end()


def test_a_daemon_that_is_killed_while_it_starts_is_told() -> None:
    daemon = Daemon()
    process = subprocess.Popen(daemon.argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=daemon.env, cwd=daemon.dir, text=True)
    pid = daemon.wait_begun()
    daemon.session = os.getsid(pid)
    os.kill(pid, signal.SIGKILL)
    _, said = process.communicate(timeout=20)
    if process.returncode:  # else it served already
        assert process.returncode == 1 and f"the daemon (pid {pid}) died before it served" in said
    daemon.end()


def test_without_a_log_it_says_that_there_is_none() -> None:
    daemon = Daemon(SITE.replace('error_log = "{dir}/error.log"', ""))
    try:
        done = daemon.up()
        assert done.returncode == 0
        assert "note: the application log goes nowhere" in done.stderr
        assert all(targets(pid) == ["/dev/null"] * 3 for pid in daemon.processes())
    finally:
        daemon.end()


# -- as another user --------------------------------------------------------------------


@needs_root
def test_as_another_user_it_keeps_its_pid_file_and_its_run_dir() -> None:
    user = AsUser(SITE.replace("{basic}", 'user = "nobody"\npid_file = "{dir}/pid"'), up=["-d"])
    done = subprocess.run(user.argv, capture_output=True, text=True, env=user.env, cwd=user.dir, timeout=20, check=False)
    assert done.returncode == 0, done.stderr
    pid = int((user.dir / "pid").read_text())
    session = os.getsid(pid)
    try:
        assert user.command("restart").returncode == 0
        assert int((user.dir / "pid").read_text()) == pid
        assert user.get("/ping").status == 200
        log = (user.dir / "error.log").read_text()
        assert "error" not in log.lower().replace("error.log", ""), log
        assert user.command("down").returncode == 0
    finally:
        for each in session_members(session):
            os.kill(each, signal.SIGKILL)
        user.discard()
