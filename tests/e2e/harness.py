"""A real `pingap up` with real processes: started, watched, broken and stopped by the tests."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

from pingap.stages.plugins.cache.store.memory_place import remove_memory
from tests.e2e.client import Client, Response
from tests.kit.waiting import free_port, is_alive, pss, session_members, until

COMMAND = str(Path(sys.executable).with_name("pingap"))
READY_WITHIN = 15.0
STOPPED_WITHIN = 15.0
PLACEMENTS = ("split", "colocated")
REQUEST_PATH = ("accept", "routing", "plugins", "upstream")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of `pingap ps --json`."""

    stage: str
    replica: int
    pid: int
    state: str
    restarts: int
    in_flight: int
    requests: int
    raw: dict[str, Any]

    @property
    def name(self) -> str:
        return f"{self.stage}.{self.replica}"


class Pingap:
    """One running instance. Use as a context manager: at the end it is stopped, and nothing may be left of it."""

    running: ClassVar[list[Pingap]] = []
    """Those whose output is shown when a test fails."""

    def __init__(
        self, config: str | None, placement: str = "split", *, up: Sequence[str] = (), env: dict[str, str] | None = None, port: int = 0
    ) -> None:
        """config: TOML; `{port}` in it stands for the port to listen on. None starts the embedded default."""
        self.placement = placement
        self.port = port or free_port()
        self.dir = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
        self.run_dir = self.dir / "run"
        self.config = self.dir / "pingap.toml"
        self.output_file = self.dir / "output"
        self.env = {key: value for key, value in os.environ.items() if not key.startswith("PINGAP_")}
        self.env |= {"STATE_DIRECTORY": str(self.dir / "state")} | (env or {})
        source: list[str] = []
        if config is not None:
            self.write_config(config)
            source = ["-c", str(self.config)]
        self.argv = [COMMAND, "up", *source, "--run-dir", str(self.run_dir), "--placement", placement, *up]
        self.process: subprocess.Popen[bytes] | None = None
        self.took = 0.0
        """Seconds from the start to the first answer on the port."""

    # -- life -------------------------------------------------------------------

    def launch(self) -> subprocess.Popen[bytes]:
        """Starts it without waiting."""
        with open(self.output_file, "ab") as output:
            # A session of its own: whoever belongs to it is found even when its parent is dead.
            self.process = subprocess.Popen(
                self.argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=self.env, cwd=self.dir, start_new_session=True
            )
        return self.process

    def start(self) -> Pingap:
        began = time.monotonic()
        process = self.launch()
        try:
            until(lambda: self.is_ready() or process.poll() is not None, READY_WITHIN, "pingap is ready")
            assert process.poll() is None, f"pingap ended with {process.returncode}"
        except AssertionError as error:
            said = self.output()[-3000:]
            self.discard()
            raise AssertionError(f"{error}; it said:\n{said}") from None
        self.took = time.monotonic() - began
        return self

    def is_ready(self) -> bool:
        """It has said that it is ready, in one line."""
        return READY_LINE.search(self.output()) is not None

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Signals the supervisor; its exit code, once nothing is left of it."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.wait_stopped()

    def wait_stopped(self, seconds: float = STOPPED_WITHIN) -> int:
        assert self.process is not None
        session = self.process.pid
        try:
            code = self.process.wait(seconds)
            until(lambda: not session_members(session), 3, "every process of pingap is gone")
        except (subprocess.TimeoutExpired, AssertionError) as error:
            left = [(pid, Path(f"/proc/{pid}/cmdline").read_bytes()[:60]) for pid in session_members(session)]
            self.kill_all()
            raise AssertionError(f"{error}; left: {left}; it said:\n{self.output()[-4000:]}") from None
        return code

    def kill_all(self) -> None:
        if self.process is not None:
            for pid in session_members(self.process.pid):
                with suppress(ProcessLookupError):  # it ends by itself, after an upgrade say
                    os.kill(pid, signal.SIGKILL)
            self.process.wait(5)

    def discard(self) -> None:
        """Ends what is left and removes its directory: for tests that only `launch`."""
        self.kill_all()
        self._remove()

    def __enter__(self) -> Self:
        self.start()
        self.running.append(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self.process is not None
        self.running.remove(self)
        try:
            if self.process.poll() is None:
                code = self.stop()
                assert code == 0 or error is not None, f"exit code {code} after TERM; it said:\n{self.output()[-4000:]}"
            elif error is None:
                left = session_members(self.process.pid)
                assert not left, f"processes left behind: {left}"
        finally:
            self.kill_all()
            if error is not None:
                print(f"--- output of {' '.join(self.argv)}\n{self.output()[-12000:]}")
            self._remove()

    def _remove(self) -> None:
        """What of it is in files, and what a killed one had in memory."""
        shutil.rmtree(self.dir, ignore_errors=True)
        remove_memory(str(self.run_dir))

    # -- what it says and does ------------------------------------------------------

    def output(self) -> str:
        return self.output_file.read_text(errors="replace") if self.output_file.exists() else ""

    def wait_output(self, pattern: str, seconds: float = 5, after: int = 0) -> re.Match[str]:
        """The first match in what it wrote to stdout and stderr, `after` characters skipped."""
        found = re.compile(pattern)
        try:
            return until(lambda: found.search(self.output(), after), seconds, f"output matches {pattern!r}")
        except AssertionError as error:
            raise AssertionError(f"{error}; since then it said:\n{self.output()[after:][-4000:]}") from None

    def write_config(self, text: str) -> None:
        """Replaces the file in one step, as editors do."""
        new = self.config.with_suffix(".new")
        new.write_text(text.replace("{port}", str(self.port)).replace("{dir}", str(self.dir)))
        new.replace(self.config)

    def command(self, *args: str, timeout: float = 20) -> subprocess.CompletedProcess[str]:
        """Runs `pingap ARGS --run-dir …` to its end."""
        argv = [COMMAND, *args, "--run-dir", str(self.run_dir)]
        return subprocess.run(argv, capture_output=True, text=True, timeout=timeout, env=self.env, cwd=self.dir, check=False)

    def follow(self, *args: str) -> Follower:
        """Runs `pingap ARGS` in the background: for `logs -f` and `tap`."""
        return Follower([COMMAND, *args, "--run-dir", str(self.run_dir)], self.env)

    def ps(self) -> list[Row]:
        done = self.command("ps", "--json")
        assert done.returncode == 0, done.stderr
        value = json.loads(done.stdout)
        rows = value["stages"] if isinstance(value, dict) else value
        return [Row(r["stage"], r["replica"], r["pid"] or 0, r["state"], r["restarts"], r["in_flight"], r["requests"], r) for r in rows]

    def row(self, stage: str, replica: int = 0) -> Row:
        """The row of a replica; the ready one when another of the same number still drains."""
        rows = [row for row in self.ps() if (row.stage, row.replica) == (stage, replica)]
        assert rows, f"ps names no {stage}.{replica}"
        return next((row for row in rows if row.state == "ready"), rows[0])

    def pid(self, stage: str, replica: int = 0) -> int:
        return self.row(stage, replica).pid

    def replicas(self, stage: str) -> list[Row]:
        """The ready replicas of a stage."""
        return [row for row in self.ps() if row.stage == stage and row.state == "ready"]

    def processes(self) -> list[int]:
        """Every living process of this instance."""
        assert self.process is not None
        return session_members(self.process.pid)

    def memory(self) -> int:
        """PSS of all processes, bytes."""
        return pss(self.processes())

    def data(self) -> int:
        """The same without what is mapped from files: code that runs for the first time (7 MB of it is compiled) is no growth."""
        return pss(self.processes(), ("Pss_Anon:", "Pss_Shmem:"))

    def wait_restarted(self, stage: str, old: int, replica: int = 0, seconds: float = 5) -> Row:
        """The row of a replica once it is ready again with another pid."""

        def back() -> Row | None:
            return next((row for row in self.replicas(stage) if row.replica == replica and row.pid != old), None)

        return until(back, seconds, f"{stage}.{replica} is back with a new pid")

    def client(self, **more: Any) -> Client:
        return Client(self.port, **more)

    def get(self, target: str = "/", **more: Any) -> Response:
        """One request on a connection of its own."""
        with self.client() as client:
            return client.get(target, **more)

    def stage_pids(self) -> dict[str, int]:
        return {row.name: row.pid for row in self.ps() if is_alive(row.pid)}


READY_LINE = re.compile(r"(?m)^ready in .*$")


class Follower:
    """A command that runs until it is stopped; its output lines so far."""

    def __init__(self, argv: list[str], env: dict[str, str]) -> None:
        self._file = tempfile.NamedTemporaryFile(prefix="pg-", suffix=".out")  # noqa: SIM115 - closed in __exit__
        self.process = subprocess.Popen(argv, stdout=self._file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=env)

    def lines(self) -> list[str]:
        return Path(self._file.name).read_text().splitlines()

    def wait_line(self, pattern: str, seconds: float = 8) -> str:
        found = re.compile(pattern)
        try:
            return until(lambda: next((line for line in self.lines() if found.search(line)), ""), seconds, f"a line matches {pattern!r}")
        except AssertionError as error:
            raise AssertionError(f"{error}; lines: {self.lines()[-20:]}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)
        self._file.close()


def site(
    backends: Sequence[int],
    *,
    server: str = "",
    location: str = "",
    upstream: str = "",
    basic: str = "",
    more: str = "",
    locations: str = '["all"]',
) -> str:
    """A configuration: one server, one location, one upstream, each with lines of the test's own."""
    addrs = ", ".join(f'"127.0.0.1:{port}"' for port in backends)
    return f"""[basic]
{basic}
[servers.plain]
addr = "127.0.0.1:{{port}}"
locations = {locations}
{server}
[locations.all]
upstream = "origin"
{location}
[upstreams.origin]
addrs = [{addrs}]
{upstream}
{more}
"""
