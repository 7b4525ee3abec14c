"""`-d`: pingap in the background. The command ends when the instance serves, or with its reason and exit code when it does not.

The process forks before it has threads, sockets of ZeroMQ or a spawner: the daemon goes on with the command line, the launcher
waits for its word. Until then both have the terminal, so that whatever a start says is read there; from then on nobody holds
it. What the daemon's processes print besides the log goes to the log's file, or nowhere.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from contextlib import suppress
from types import TracebackType
from typing import Final, NoReturn, Self

from pingap.bus import output

MARK: Final = "_PINGAP_DAEMON"
"""Environment variable with the daemon's process id: a restart of it, or a successor that it starts, is one already."""

FROM: Final = "_PINGAP_CWD"
"""The directory in which it was started: what its command line says of paths holds there."""

PID_FILE: Final = "/run/pingap.pid"
"""Where root's pid file is by default, for the instance in the default run dir."""

GROUP_AND_OTHERS_WRITE: Final = 0o022

LAST_WORDS: Final = 0.5
"""Seconds that a slow terminal has to take what the start had to say."""

INTERRUPTED: Final = 128
"""And the number of a signal: the exit code of a launcher that was told to stop."""


class Background:
    """The daemon's end of what it shares with its launcher. As a context it tells the launcher an exit code on the way out."""

    def __init__(self, launcher: int) -> None:
        """launcher: the pipe to it; -1 where nobody waits."""
        self._launcher = launcher
        self._path = os.devnull

    @property
    def is_awaited(self) -> bool:
        """Somebody reads what the start says. Nobody does of a restart, or of a successor."""
        return self._launcher >= 0

    def print_to(self, log: str | None) -> str:
        """What is printed shall go to that log, once it serves; the path that this comes to."""
        is_file = log is not None and log not in ("", "/dev/stderr", "/dev/stdout") and not log.startswith("syslog:")
        self._path = log if is_file and log is not None else os.devnull
        return self._path

    def serves(self) -> None:
        """The launcher may end, and has its terminal for itself."""
        output.drain(LAST_WORDS)
        output.go_to(self._path)
        self._tell(0)

    def _tell(self, code: int) -> None:
        if self._launcher >= 0:
            with suppress(OSError):  # it was killed meanwhile
                os.write(self._launcher, f"code {code}\n".encode())
            os.close(self._launcher)
            self._launcher = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        code = error.code if isinstance(error, SystemExit) else 1
        self._tell(code if isinstance(code, int) else 1)


def enter(env: MutableMapping[str, str]) -> Background:
    """Returns in the daemon only; the launcher ends here. Inherited descriptors that are wanted are not inheritable any more by now."""
    if env.get(MARK) in (str(os.getpid()), str(os.getppid())):
        _settle(env)
        return Background(-1)
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        os.close(writing)
        _await(reading, child)
    os.close(reading)
    os.setsid()
    if os.fork():  # who leads a session could get a terminal by opening one
        os._exit(0)
    os.write(writing, f"pid {os.getpid()}\n".encode())
    _settle(env)
    return Background(writing)


def _settle(env: MutableMapping[str, str]) -> None:
    env[MARK] = str(os.getpid())
    with suppress(OSError):  # it was removed
        env[FROM] = os.getcwd()
    os.chdir("/")  # so that it keeps no file system from being unmounted
    os.umask(os.umask(0) | GROUP_AND_OTHERS_WRITE)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    for name in os.listdir("/proc/self/fd"):
        number = int(name)
        with suppress(OSError):
            if number > 2 and os.get_inheritable(number):  # what this process opened is not
                os.close(number)


def back_to(env: Mapping[str, str]) -> str | None:
    """The directory that a command line of this process, run once more, has to be run in; None is the present one."""
    directory = env.get(FROM, "") if env.get(MARK) == str(os.getpid()) else ""
    return directory if os.path.isdir(directory) else None


def pid_file_by_default(run_dir: str) -> str | None:
    """Where a daemon without `basic.pid_file` writes its process id besides its run dir."""
    is_usual = run_dir == "/run/pingap" and (os.geteuid() == 0 or os.access(PID_FILE, os.W_OK))
    return PID_FILE if is_usual else None


def _await(reading: int, child: int) -> NoReturn:
    """In the launcher: ends with what the daemon says."""
    daemon, stopped_by = 0, 0

    def stop(number: int, _: object) -> None:
        nonlocal stopped_by
        stopped_by = number
        if daemon:
            _signal(daemon, signal.SIGTERM)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    os.waitpid(child, 0)
    code = -1
    for word, value in _words(lambda: os.read(reading, 64)):
        if word == "pid":
            daemon = value
            if stopped_by:
                _signal(daemon, signal.SIGTERM)
        else:
            code = value
            break
    if stopped_by and code != 0:
        code = INTERRUPTED + stopped_by
    elif code < 0:
        print(f"pingap: the daemon (pid {daemon or 'unknown'}) died before it served", file=sys.stderr)
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # what else was to be done at an end is the daemon's


def _words(read: Callable[[], bytes]) -> Iterable[tuple[str, int]]:
    kept = b""
    while fresh := read():
        *lines, kept = (kept + fresh).split(b"\n")
        for line in lines:
            word, _, value = line.decode("ascii").partition(" ")
            yield word, int(value)


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)
