"""What a check tells of the machine: what a start would meet there, without a trace of the check itself."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pingap import cli, flags, preflight, rundir, terminal, topology
from pingap.config.model import Snapshot
from pingap.config.parts import Listen
from pingap.config.problems import Note, Problem
from pingap.listeners import Listeners
from tests.kit.config import load_text
from tests.kit.waiting import free_port


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("PINGAP_CONF", "PINGAP_LOG", "PINGAP_LOG_LEVEL", "RUST_LOG", *flags.ENVIRONMENT):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PINGAP_RUN_DIR", str(tmp_path / "run"))


@pytest.fixture
def taken() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def server(*addrs: str, rest: str = "") -> Snapshot:
    return load_text(f'[servers.web]\naddr = "{",".join(addrs)}"\n{rest}')


def found(snapshot: Snapshot, run_dir: str = "run", **options: Any) -> list[Problem | Note]:
    return list(preflight.preflight(snapshot, topology.Options(**options), run_dir))


def check(*args: str) -> Result:
    return CliRunner().invoke(cli.commands, ["check", "-c", "pingap.toml", *args])


def test_an_address_that_is_taken_is_a_problem_that_names_who_has_it(taken: socket.socket) -> None:
    port = taken.getsockname()[1]
    [problem] = found(server(f"127.0.0.1:{port}", f"127.0.0.1:{free_port()}"))
    assert isinstance(problem, Problem)
    assert (problem.path, problem.message.partition(" by ")[0]) == (
        "servers.web.addr",
        f"cannot listen on 127.0.0.1:{port}: address already in use",
    )
    assert problem.message.endswith(f"(pid {os.getpid()})")
    with socket.create_connection(taken.getsockname(), 5) as client:
        accepted, _ = taken.accept()
        assert accepted.getpeername() == client.getsockname(), "whoever has it goes on"
        accepted.close()


def test_what_the_instance_of_the_run_dir_has_is_a_note(taken: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    port = taken.getsockname()[1]
    for pid in (os.getpid(), 0):
        monkeypatch.setattr(rundir, "supervisor_of", lambda path, pid=pid: pid)
        if not pid:
            monkeypatch.setattr(preflight, "holder_of", lambda port, first: None)
        [note] = found(server(f"127.0.0.1:{port}"))
        assert isinstance(note, Note)
        assert note.message.startswith("pingap runs in ")


def test_a_port_that_nobody_listens_on_is_not_listened_on_by_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that came in that instant would be lost."""
    monkeypatch.setattr(socket.socket, "listen", lambda *args: pytest.fail("it listens"))
    assert found(server(f"127.0.0.1:{free_port()}")) == []


def test_a_port_that_needs_a_privilege_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    denied = PermissionError(errno.EACCES, "Permission denied")
    monkeypatch.setattr(Listeners, "refusals", lambda self: [("web", Listen("0.0.0.0", 1), denied)])
    [problem] = found(server(":1"))
    assert isinstance(problem, Problem)
    assert "permission denied" in problem.message
    assert "CAP_NET_BIND_SERVICE" in problem.hint


def test_a_name_to_listen_on_that_is_none_is_a_problem() -> None:
    [problem] = found(server("nowhere.invalid:8080"))
    assert isinstance(problem, Problem)
    assert (problem.path, "cannot listen on nowhere.invalid:8080" in problem.message) == ("servers.web.addr", True)


UPSTREAM = '[upstreams.api]\naddrs = ["nowhere.invalid:80", "127.0.0.1:80", "elsewhere.invalid:81"]\ndiscovery = "static"\n'


def test_names_of_backends_that_are_not_found_are_notes() -> None:
    notes = found(server(f"127.0.0.1:{free_port()}", rest=UPSTREAM))
    assert all(isinstance(note, Note) for note in notes)
    assert [note.path for note in notes] == ["upstreams.api.addrs[0]", "upstreams.api.addrs[2]"]


def test_a_resolver_that_says_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    says = threading.Event()
    snapshot = server(f"127.0.0.1:{free_port()}", rest=UPSTREAM)
    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *args, **more: says.wait(30) if "where" in host else real(host, *args, **more))
    monkeypatch.setattr(preflight, "NAMES", 0.05)
    notes = found(snapshot)
    says.set()
    assert [note.message.partition(": ")[2] for note in notes] == ["no answer within 0.05 s"] * 2


def test_a_processor_that_is_not_there_is_a_problem() -> None:
    [problem] = found(server(f"127.0.0.1:{free_port()}", rest="[stages.accept]\ncpus = [1000]\n"))
    assert isinstance(problem, Problem)
    assert (problem.path, problem.message.startswith("CPU 1000 cannot be used here")) == ("stages.accept.cpus", True)


@pytest.fixture
def short_dir(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Sockets have short paths."""
    with tempfile.TemporaryDirectory(prefix="pg-", dir="/tmp") as name:
        monkeypatch.chdir(name)
        yield Path(name)


def test_a_run_dir_that_cannot_be_used_is_a_problem(short_dir: Path) -> None:
    (short_dir / "file").write_text("")
    (short_dir / "open").mkdir()
    (short_dir / "open").chmod(0o755)
    (short_dir / "open" / "mine").write_text("")
    (short_dir / "good").mkdir()
    snapshot = server(f"127.0.0.1:{free_port()}")
    for path, why in (
        ("file", "is no directory"),
        ("file/below", "is no directory"),
        ("open", "open to other users"),
        ("x" * 120, "unix sockets allow"),
        ("good", ""),
        ("new/below", ""),
    ):
        told = found(snapshot, path)
        assert [isinstance(one, Problem) and why in one.message for one in told] == [True] * bool(why), (path, told)


def test_a_pid_file_that_another_instance_has_is_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    path.write_text("4711\n")
    snapshot = load_text(f'[basic]\npid_file = "{path}"\n[servers.web]\naddr = "127.0.0.1:{free_port()}"\n')
    assert found(snapshot) == [], "left by one that was killed"
    with open(path) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        [problem] = found(snapshot)
    assert isinstance(problem, Problem)
    assert "belongs to another pingap (pid 4711)" in problem.message


PLUGIN = """
from pingap.plugin import Exchange, Plugin, Result, CONTINUE


class Mine(Plugin):
    def request(self, exchange: Exchange) -> Result:
        return CONTINUE
"""


def state(root: Path) -> dict[str, tuple[int, int, int, bytes]]:
    """Everything below a directory: what was made, removed, written or touched would differ."""
    seen = {}
    for path in [root, *sorted(root.rglob("*"))]:
        about = path.lstat()
        content = path.read_bytes() if path.is_file() else b""
        seen[str(path)] = about.st_ino, about.st_mtime_ns, about.st_ctime_ns, content
    return seen


def test_a_check_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "old.log").write_text("a line\n")
    (tmp_path / "mine.py").write_text(PLUGIN)
    good = f"""
[basic]
error_log = "logs/new.log"
pid_file = "logs/pid"
[servers.web]
addr = "127.0.0.1:{free_port()}"
access_log = "logs/old.log combined"
locations = ["all"]
[locations.all]
path = "/"
plugins = ["mine"]
upstream = "api"
[upstreams.api]
addrs = ["127.0.0.1:5000"]
[plugins.mine]
category = "python"
path = "mine.py"
"""
    for text, code in ((good, 0), (good.replace("/old.log", "/no/such.log").replace('"/"', '"~["'), 2)):
        (tmp_path / "pingap.toml").write_text(text)
        before = state(tmp_path)
        for args in ((), ("--json", "--strict")):
            assert check(*args).exit_code == code
        assert state(tmp_path) == before


def test_what_the_configuration_and_the_machine_have_wrong_is_told_at_once(tmp_path: Path, taken: socket.socket) -> None:
    (tmp_path / "pingap.toml").write_text(
        f"""[basic]
pid_file = "{tmp_path}"
work_stealing = true
[servers.web]
addr = "127.0.0.1:{taken.getsockname()[1]}"
locations = ["nowhere"]
"""
    )
    done = check("--json")
    assert done.exit_code == 2
    told = json.loads(done.stdout)
    assert [one["path"] for one in told["problems"]] == ["servers.web.locations[0]", "basic.pid_file", "servers.web.addr"]
    assert [one["path"] for one in told["notes"]] == ["basic.work_stealing"]
    assert told["counts"] == {}
    assert {*told["problems"][0]} == {"path", "message", "hint", "source"}


def test_strict_takes_notes_for_problems(tmp_path: Path) -> None:
    path = tmp_path / "pingap.toml"
    path.write_text(f'[basic]\nwork_stealing = true\n[servers.web]\naddr = "127.0.0.1:{free_port()}"\n')
    assert check().exit_code == 0
    assert json.loads(check("--json").stdout)["counts"]["servers"] == 1
    done = check("--strict")
    assert (done.exit_code, "1 note, which --strict takes for problems" in done.output) == (2, True), done.output
    path.write_text(path.read_text().replace("work_stealing", 'name = "x" #'))
    assert check("--strict").exit_code == 0


def test_a_report_is_broken_between_words_to_fit_a_terminal() -> None:
    text = "head:\n  locations.a.path: " + "word " * 30 + "\n      a hint of " + "many " * 20 + "words\n\n  " + "x" * 100
    fitted = terminal.fitted(text, 80).split("\n")
    assert max(len(line) for line in fitted if "xxx" not in line) <= 80
    assert " ".join(" ".join(fitted).split()) == " ".join(text.split())
    assert fitted[0] == "head:"
    assert fitted[2].startswith("    word")
