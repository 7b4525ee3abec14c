"""A supervisor with real processes and the tests' own actors."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.kit.waiting import free_port, session_members, until

ROOT = Path(__file__).parents[2]


class Instance:
    """One supervisor and what it says."""

    def __init__(self, config: str = "", server: str = "", before: Sequence[str] = (), **asked: Any) -> None:
        """before: words of a command that runs it, as `nice`."""
        self.dir = Path(tempfile.mkdtemp(prefix="pgs-", dir="/tmp"))
        self.run_dir = self.dir / "run"
        self.port = free_port()
        self.config = self.dir / "pingap.toml"
        self.log_file = self.dir / "log"
        self.output_file = self.dir / "output"
        self.lines: list[Line] = []
        self.before = before
        self.write_config(config, server)
        self.asked = {"run_dir": str(self.run_dir), "config": str(self.config), "log": str(self.log_file)} | asked
        self.process: subprocess.Popen[bytes] = self.launch()

    def write_config(self, more: str = "", server: str = "") -> None:
        text = f'[servers.web]\naddr = "127.0.0.1:{self.port}"\n{server}\n{more}\n'
        new = self.dir / "new"
        new.write_text(text)
        new.replace(self.config)

    def launch(self) -> subprocess.Popen[bytes]:
        with open(self.output_file, "ab") as output:
            argv = [*self.before, sys.executable, "-m", "tests.supervisor.driver", json.dumps(self.asked)]
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=ROOT, start_new_session=True)
        return self.process

    def ready(self) -> Instance:
        def is_ready() -> bool:
            assert self.process.poll() is None, self.output()
            return "\nready in " in self.output()

        until(is_ready, 15, "it is ready")
        return self

    def output(self) -> str:
        return self.output_file.read_text(errors="replace")

    def log(self) -> str:
        return self.log_file.read_text() if self.log_file.exists() else ""

    def wait_log(self, text: str, seconds: float = 5) -> None:
        until(lambda: text in self.log(), seconds, f"the log says {text!r}; it says {self.log()!r}")

    def command(self, *args: str) -> subprocess.CompletedProcess[str]:
        with self.begin(*args) as process:
            out, err = process.communicate(timeout=20)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def begin(self, *args: str, before: Sequence[str] = ()) -> subprocess.Popen[str]:
        """A command, running."""
        argv = [*before, sys.executable, "-m", "pingap", *args, "--run-dir", str(self.run_dir)]
        return subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def ps(self) -> list[dict[str, Any]]:
        done = self.command("ps", "--json")
        assert done.returncode == 0, done.stderr
        rows: list[dict[str, Any]] = json.loads(done.stdout)
        return rows

    def row(self, stage: str, replica: int = 0) -> dict[str, Any]:
        return next(row for row in self.ps() if (row["stage"], row["replica"]) == (stage, replica))

    def pid(self, stage: str, replica: int = 0) -> int:
        pid: int = self.row(stage, replica)["pid"]
        return pid

    def wait_replaced(self, stage: str, old: int) -> dict[str, Any]:
        def replaced() -> dict[str, Any] | None:
            row = self.row(stage)
            return row if row["state"] == "ready" and row["pid"] != old else None

        return until(replaced, 5, f"{stage} is back with a new pid")

    def connect(self) -> Line:
        self.lines.append(Line(self.port))
        return self.lines[-1]

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self, seconds: float = 15) -> int:
        """The exit code, once no process is left."""
        code = self.process.wait(seconds)
        until(lambda: not session_members(self.process.pid), 10, "no process is left")
        return code

    def members(self) -> list[int]:
        return session_members(self.process.pid)

    def end(self) -> None:
        for line in self.lines:
            line.close()
        for pid in self.members():
            os.kill(pid, signal.SIGKILL)
        self.process.wait(5)
        shutil.rmtree(self.dir, ignore_errors=True)


class Line:
    """A connection to the test accept stage."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=5)
        self._file = self.sock.makefile("r")

    def say(self, text: str) -> None:
        self.sock.sendall(text.encode() + b"\n")

    def ask(self, text: str) -> str:
        self.say(text)
        return self._file.readline().strip()

    def hear(self) -> str:
        return self._file.readline().strip()

    def close(self) -> None:
        self._file.close()
        self.sock.close()

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@pytest.fixture
def launch() -> Iterator[Callable[..., Instance]]:
    """Starts instances; ends them whatever happens."""
    started: list[Instance] = []

    def begin(config: str = "", server: str = "", **asked: Any) -> Instance:
        started.append(Instance(config, server, **asked))
        return started[-1]

    yield begin
    for instance in started:
        instance.end()


@pytest.fixture
def instance(launch: Callable[..., Instance]) -> Instance:
    """One that is ready, split, one replica each."""
    return launch().ready()
