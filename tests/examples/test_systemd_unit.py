"""examples/systemd: systemd takes the units, finds little to say against them, and pingap lives in that sandbox."""

from __future__ import annotations

import os
import queue
import re
import shlex
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.e2e.as_user import ROOT, USER, needs_root, open_python
from tests.e2e.client import Client
from tests.examples.sandbox import DONE, settings
from tests.kit.peers import needs
from tests.kit.waiting import is_alive, low_port, session_members, until

UNITS = ROOT / "examples/systemd"
COMMAND = "/opt/pingap/bin/pingap"
EXPOSURE = 2.0
"""`systemd-analyze security` of Debian 12 says 1.6; 10 is a service without any of it."""

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def units(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copies whose command exists."""
    needs("systemd-analyze", "systemd")
    place = tmp_path_factory.mktemp("units")
    for unit in UNITS.glob("pingap.*"):
        (place / unit.name).write_text(unit.read_text().replace(COMMAND, "/bin/true"))
    return place


def analyze(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, cwd=place, timeout=60, check=False)


def test_systemd_takes_the_units_without_a_word(units: Path) -> None:
    done = analyze(units, "verify", "--man=no", "./pingap.service", "./pingap.socket")
    assert (done.returncode, done.stderr) == (0, "")
    (units / "bad.service").write_text((units / "pingap.service").read_text().replace("Type=notify", "Type=notfiy"))
    assert "notfiy" in analyze(units, "verify", "--man=no", "./bad.service").stderr, "it tells of a mistake"


def test_little_of_the_system_is_exposed(units: Path) -> None:
    done = analyze(units, "security", "--offline=true", "--no-pager", "./pingap.service")
    found = re.search(r"exposure level for pingap.service: ([0-9.]+)", done.stdout)
    assert found and float(found[1]) <= EXPOSURE, done.stdout


def test_the_sandbox_of_the_tests_knows_most_of_the_unit() -> None:
    assert set(settings(str(UNITS / "pingap.service"))) >= DONE


class Boxed:
    """The service, in the sandbox."""

    def __init__(self, place: Path) -> None:
        self.port = low_port()
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.said: queue.Queue[str] = queue.Queue()
        self.name = f"@pingap-test-{os.getpid()}-{self.port}"
        self.manager.bind("\0" + self.name[1:])
        self.listener = threading.Thread(target=self.listen, daemon=True)
        self.listener.start()
        self.config = Path("/var/tmp", f"pingap-{os.getpid()}.toml")  # /tmp is another one in there
        self.config.write_text((UNITS / "pingap.toml").read_text().replace("127.0.0.1:6188", f"127.0.0.1:{self.port}"))
        self.config.chmod(0o644)
        asked = settings(str(UNITS / "pingap.service"))
        python, path = open_python()
        self.pingap = [python, "-m", "pingap"]
        words = [str(self.config) if word == "/etc/pingap" else word for word in shlex.split(asked["ExecStart"][0])[1:]]
        env = dict(pair.split("=", 1) for pair in asked["Environment"])
        self.env = {**path, **env, "PATH": os.environ["PATH"]}
        self.output = place / "output"
        argv = [
            "unshare",
            "--mount",
            python,
            "-m",
            "tests.examples.sandbox",
            str(UNITS / "pingap.service"),
            USER,
            "--",
            *self.pingap,
            *words,
        ]
        told = {"NOTIFY_SOCKET": self.name, "WATCHDOG_USEC": "2000000"}
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env={**self.env, **told}, cwd=ROOT, start_new_session=True
            )

    def listen(self) -> None:
        """Takes each message at once, as systemd does: ten that nobody takes are all that wait, and the next are lost."""
        while message := self.manager.recv(4096).decode():
            self.said.put(message)

    def hear(self, wanted: str) -> str:
        """The next message that begins so."""
        end = time.monotonic() + 15
        while True:
            try:
                said = self.said.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {wanted}; it said:\n{self.output.read_text()}") from None
            if said.startswith(wanted):
                return said

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """As ExecReload= does: in the same namespace."""
        argv = ["nsenter", "--mount", "--target", str(self.process.pid), *self.pingap, *words]
        return subprocess.run(argv, capture_output=True, text=True, env=self.env, timeout=20, check=False)

    def end(self) -> None:
        while left := session_members(self.process.pid):  # one that is being made is not yet among those that were counted
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.process.wait(5)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"", "\0" + self.name[1:])
        self.listener.join(5)
        self.manager.close()
        self.config.unlink()


@pytest.fixture(scope="module")
def boxed(units: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Boxed]:
    if subprocess.run(["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/tmp"], capture_output=True, check=False).returncode:
        pytest.skip("this root may not mount, as in a container without CAP_SYS_ADMIN")
    one = Boxed(tmp_path_factory.mktemp("boxed"))
    yield one
    one.end()


@needs_root
def test_in_its_sandbox_it_serves_a_low_port_and_lives_for_the_watchdog(boxed: Boxed) -> None:
    assert "serves http://127.0.0.1" in boxed.hear("READY=1")
    boxed.hear("WATCHDOG=1")
    with Client(boxed.port) as client:
        assert client.get("/ping").body == b"pong"
    said = boxed.output.read_text()
    assert "\nready in " in said and "rror" not in said and "denied" not in said and "not permitted" not in said, said


@needs_root
def test_the_sandbox_is_one(boxed: Boxed) -> None:
    pid = boxed.process.pid
    text = Path(f"/proc/{pid}/status").read_text()
    assert "NoNewPrivs:\t1" in text and "CapBnd:\t0000000000000400" in text
    if "not filtered" not in boxed.output.read_text():
        assert "Seccomp:\t2" in text
    argv = ["nsenter", "--mount", "--target", str(pid), "touch", "/etc/x"]
    assert "Read-only file system" in subprocess.run(argv, capture_output=True, text=True, check=False).stderr


@needs_root
def test_in_its_sandbox_all_goes_on(boxed: Boxed) -> None:
    done = boxed.command("reload")
    assert done.returncode == 0, done.stderr
    done = boxed.command("ps", "--health")
    assert done.returncode == 0, done.stdout
    for name in ("spawner.0", "routing.0", "config.0"):
        assert boxed.command("kill", name).returncode == 0
    until(lambda: boxed.command("ps", "--health").returncode == 0, 15, "all is back")
    assert boxed.command("scale", "accept=2").returncode == 0
    done = boxed.command("restart")
    assert done.returncode == 0, done.stderr
    with Client(boxed.port) as client:
        assert client.get("/ping").status == 200


@needs_root
def test_an_upgrade_tells_the_manager_who_it_is_now(boxed: Boxed) -> None:
    done = boxed.command("upgrade")
    assert done.returncode == 0, done.stderr + boxed.output.read_text()
    pid = int(boxed.hear("MAINPID=").removeprefix("MAINPID="))
    assert pid != boxed.process.pid and is_alive(pid)
    with Client(boxed.port) as client:
        assert client.get("/ping").status == 200
