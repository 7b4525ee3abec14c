"""stdout and stderr that nobody reads, a full pipe or a stopped terminal: pingap starts, serves and stops all the same."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import subprocess
import termios
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.harness import Pingap, site
from tests.e2e.origins import Origin
from tests.kit.waiting import until

pytestmark = pytest.mark.alone

TALKER = """
import subprocess, sys
from pingap.plugin import Plugin, Settings, CONTINUE

class Talker(Plugin[Settings]):
    model = Settings

    def request(self, exchange):
        if exchange.path == "/loud":
            print("x" * 200_000)
            sys.stderr.write("y" * 200_000)
            sys.__stderr__.write("z" * 200_000)
        return CONTINUE
"""
QUICK = 2.0
"""Seconds; a write that waits takes for ever."""


class Unread(Pingap):
    """One whose stdout and stderr are `theirs`, full; `ours` is the other end."""

    def __init__(self, config: str, ours: int, theirs: int) -> None:
        super().__init__(config)
        self.ours, self.theirs = ours, theirs
        self.read = b""

    def launch(self) -> subprocess.Popen[bytes]:
        self.process = subprocess.Popen(
            self.argv, stdin=subprocess.DEVNULL, stdout=self.theirs, stderr=self.theirs, env=self.env, cwd=self.dir, start_new_session=True
        )
        return self.process

    def is_ready(self) -> bool:
        try:
            return self.get("/").status == 200
        except OSError:
            return False

    def reads(self, text: bytes) -> bool:
        """Whether it has said that by now."""
        while select.select([self.ours], [], [], 0)[0] and (data := os.read(self.ours, 65536)):
            self.read += data
        return text in self.read


def full_pipe() -> tuple[int, int]:
    ours, theirs = os.pipe()
    fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, 4096)
    fill(theirs)
    return ours, theirs


def stopped_terminal() -> tuple[int, int]:
    ours, theirs = os.openpty()
    attributes = termios.tcgetattr(theirs)
    attributes[1] &= ~termios.OPOST
    termios.tcsetattr(theirs, termios.TCSANOW, attributes)
    fill(theirs)
    termios.tcflow(theirs, termios.TCOOFF)
    return ours, theirs


def fill(theirs: int) -> None:
    os.set_blocking(theirs, False)
    try:
        while True:
            os.write(theirs, b"." * 256)
    except BlockingIOError:
        os.set_blocking(theirs, True)


@pytest.fixture(params=[full_pipe, stopped_terminal])
def unread(request: pytest.FixtureRequest, origin: Origin, tmp_path: Path) -> Iterator[Unread]:
    (tmp_path / "talker.py").write_text(TALKER)
    ours, theirs = request.param()
    more = f'[plugins.talker]\ncategory = "python"\npath = "{tmp_path}/talker.py"\n'
    try:
        with Unread(site([origin.port], location='plugins = ["talker"]', more=more), ours, theirs) as one:
            yield one
        assert os.get_blocking(theirs), "it is the shell's too"
    finally:
        os.close(ours)
        os.close(theirs)


def test_nothing_waits_for_a_reader(unread: Unread) -> None:
    """Neither the start, which is over here, nor requests while the log has nobody to write it, nor print() in a plugin, nor the end."""

    def quick(path: str) -> None:
        began = time.monotonic()
        assert unread.get(path).status == 200
        assert time.monotonic() - began < QUICK

    def is_other(before: int) -> bool:
        return unread.row("logging").pid not in (0, before)

    for _ in range(3):
        quick("/loud")
    for _ in range(2):
        logging = unread.pid("logging")
        os.kill(logging, signal.SIGKILL)
        for _ in range(30):
            quick("/loud")
        until(partial(is_other, logging), 10, "logging is back")
    assert unread.command("scale", "upstream=2").returncode == 0
    # Somebody reads after all.
    if os.isatty(unread.theirs):
        termios.tcflow(unread.theirs, termios.TCOON)
    until(lambda: unread.reads(b" dropped here, for nobody read them\n"), 10, "it tells of its losses")
    until(lambda: unread.reads(b"ready in "), 10, "what was said at the start is there")
    assert unread.command("scale", "upstream=1").returncode == 0
    until(lambda: unread.reads(b"upstream is scaled from 2 to 1"), 10, "and what is said now")


def test_it_ends_though_nobody_reads(unread: Unread) -> None:
    began = time.monotonic()
    assert unread.stop() == 0
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("is_read", [True, False])
def test_a_start_that_fails_says_why_to_who_reads_and_waits_for_nobody(is_read: bool) -> None:
    ours, theirs = full_pipe()
    one = Unread(site([1]).replace("{port}", "nowhere"), ours, theirs)
    try:
        process = one.launch()
        if is_read:
            until(lambda: one.reads(b"nowhere") or process.poll() is not None, 10, "it says why")
        assert process.wait(10) == 2
        assert one.reads(b"nowhere") == is_read
    finally:
        one.discard()
        os.close(ours)
        os.close(theirs)
