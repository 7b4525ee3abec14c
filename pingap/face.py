"""What `pingap up` shows: the table of stages, the line that says ready, what to try next, and why it failed."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TextIO

from pingap import rundir, terminal

if TYPE_CHECKING:
    from pingap.rows import Row
    from pingap.service.daemon import Background

RESTARTED: Final = "_PINGAP_RESTARTED"
"""Environment variable in which a restart says when it was: the start time of the process stays the old one."""

_DEMO = """\
No configuration was given, so this is the demo: two small backends behind the proxy. Try next:
  curl -i {url}/      again and again: the backends take turns
  {command} ps{at}      the stages, each a process of its own
  {command} tap{at}      requests as they come, with the time that each stage took
  {command} scale upstream=2{at}      a second replica while it runs
  a pingap.toml of your own, taken by `{command} up` in its directory or with -c PATH"""


class ConsoleFace:
    """On stdout what is wanted, on stderr what went wrong. A closed terminal is no reason to stop."""

    def __init__(self, run_dir: str, is_demo: bool, background: Background | None = None) -> None:
        """background: for a daemon, who is to know that it serves."""
        self._background = background
        self._run_dir = run_dir
        self._is_demo = is_demo

    def ready(self, rows: list[Row], urls: list[str]) -> None:
        from pingap.rows import start_table

        lines = [*start_table(rows), f"ready in {since_start():.1f} s: {', '.join(urls)}"]
        if self._is_demo:
            lines.append(_demo(urls[0], self._at()))
        if self._background is None or self._background.is_awaited:
            _print(sys.stdout, "\n".join(lines))
        if self._background is not None:
            self._background.serves()

    def failed(self, reason: str) -> None:
        _print(sys.stderr, terminal.fitted(f"pingap: {reason}"))

    def note(self, text: str) -> None:
        _print(sys.stderr, terminal.fitted(f"note: {text}"))

    def _at(self) -> str:
        return "" if os.path.abspath(rundir.default()) == self._run_dir else f" --run-dir {self._run_dir}"


def _demo(url: str, at: str) -> str:
    lines = _DEMO.format(url=url, at=at, command=_command()).split("\n")
    pairs = [line.split("      ", 1) for line in lines]
    width = max(len(pair[0]) for pair in pairs if len(pair) > 1)
    return "\n".join(f"{pair[0].ljust(width)}  {pair[1]}" if len(pair) > 1 else pair[0] for pair in pairs)


def _command() -> str:
    """What to type for `pingap`: the path that this process was started by, should the shell not find the name."""
    import shutil

    started_by = sys.argv[0]
    return started_by if os.path.basename(started_by) == "pingap" and not shutil.which("pingap") else "pingap"


def since_start() -> float:
    """Seconds since this process began, or ran `up` anew, the interpreter's own start included."""
    if began := os.environ.get(RESTARTED):
        with suppress(ValueError):
            return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - float(began))
    with open("/proc/self/stat", "rb") as file:
        ticks = int(file.read().rpartition(b")")[2].split()[19])
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK"))


def _print(stream: TextIO, text: str) -> None:
    with suppress(OSError, ValueError):
        print(text, file=stream, flush=True)
