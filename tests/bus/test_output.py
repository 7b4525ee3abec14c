"""Writes to what nobody reads never wait, lose nothing that there is room for, and tell what was lost."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import re
import signal
import socket
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pingap.bus import output
from pingap.bus.output import KEPT, Output, Target

Ends = tuple[int, int]
NOTICE = re.compile(rb"pingap \(pid \d+\): (\d+) lines? dropped here, for nobody read them\n")


def pipe() -> Ends:
    ours, theirs = os.pipe()
    fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, 4096)
    return ours, theirs


def terminal() -> Ends:
    ours, theirs = os.openpty()
    attributes = termios.tcgetattr(theirs)
    attributes[1] &= ~termios.OPOST
    termios.tcsetattr(theirs, termios.TCSANOW, attributes)
    return ours, theirs


def sockets() -> Ends:
    return tuple(end.detach() for end in socket.socketpair())  # type: ignore[return-value]


def as_it_is(patch: pytest.MonkeyPatch) -> None:
    pass


def not_opened_anew(patch: pytest.MonkeyPatch) -> None:
    """As another user's: a container's pipe, the terminal that `su` was called in."""

    def refused(*_: object) -> int:
        raise PermissionError(errno.EACCES, "no")

    patch.setattr(os, "open", refused)


def only_looked_at(patch: pytest.MonkeyPatch) -> None:
    """The same on a kernel that cannot be asked for a write that does not wait."""

    def unknown(*_: object) -> int:
        raise OSError(errno.EOPNOTSUPP, "no")

    not_opened_anew(patch)
    patch.setattr(os, "pwritev", unknown)


@pytest.fixture(autouse=True)
def no_wait() -> Iterator[None]:
    """A write that waits is a failure, not a hanging test."""

    def waits(*_: object) -> None:
        raise AssertionError("it waits")

    before = signal.signal(signal.SIGALRM, waits)
    signal.alarm(30)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(
    params=[
        (ends, how)
        for ends in (pipe, terminal, sockets)
        for how in (as_it_is, not_opened_anew, only_looked_at)
        if ends is not sockets or how is as_it_is
    ],
    ids=lambda param: f"{param[0].__name__}-{param[1].__name__}",
)
def ends(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ends]:
    make, how = request.param
    how(monkeypatch)
    ours, theirs = make()
    os.set_blocking(ours, False)
    yield ours, theirs
    os.close(ours)
    os.close(theirs)


def everything(ours: int, retry: Callable[[], None]) -> bytes:
    """What a reader gets who comes now."""
    read = b""
    while True:
        try:
            read += os.read(ours, 65536)
        except BlockingIOError:
            before = len(read)
            retry()
            try:
                read += os.read(ours, 65536)
            except BlockingIOError:
                assert len(read) == before
                return read


def test_lines_that_nobody_reads(ends: Ends) -> None:
    ours, theirs = ends
    shells = os.dup(theirs)
    out = Output(theirs)
    stream = io.TextIOWrapper(io.BufferedWriter(out), "utf-8", line_buffering=True)
    count = 4000
    for number in range(count):
        print(f"{number} {'x' * 200}", file=stream)
    assert os.get_blocking(shells), "what the shell has must not change"
    os.close(shells)
    read = everything(ours, out.retry)
    before, lost, after = NOTICE.split(read)
    lines = before.splitlines()
    assert len(before) >= KEPT - 300
    assert [line.split()[0] for line in lines] == [b"%d" % number for number in range(len(lines))]
    assert int(lost) == count - len(lines) and not after
    print("news", file=stream)
    assert everything(ours, out.retry) == b"news\n"
    stream.detach()


def test_what_is_read_in_time_is_whole(ends: Ends) -> None:
    ours, theirs = ends
    out = Output(theirs)
    said = b"".join(b"%d\n" % number for number in range(8000))
    assert out.write(said) == len(said) < KEPT
    read = b""
    while len(read) < len(said):
        out.drain(0.001)
        read += os.read(ours, 1000)
    assert read == said


def test_drain_ends_when_nobody_reads(ends: Ends) -> None:
    _, theirs = ends
    out = Output(theirs)
    out.write(b"x\n" * 20000)
    out.drain(0.01)
    out.forget()
    out.retry()


def test_a_reader_that_is_gone_is_no_error() -> None:
    ours, theirs = pipe()
    os.close(ours)
    out = Output(theirs)
    for _ in range(3):
        out.write(b"x\n" * 40000)
    out.drain(5)
    os.close(theirs)


def test_lines_on_a_full_disk_are_counted(tmp_path: Path) -> None:
    file = os.open("/dev/full", os.O_WRONLY)
    out = Output(file)
    for _ in range(100):
        out.write(b"x" * 1000 + b"\n")
    os.dup2(os.open(tmp_path / "file", os.O_CREAT | os.O_WRONLY, 0o600), file)
    out.retry()
    out.write(b"news\n")
    read = (tmp_path / "file").read_bytes()
    found = NOTICE.search(read)
    assert found and read.count(b"x\n") + int(found[1]) == 100 and read.endswith(b"news\n")


def test_a_file_is_shared_as_it_is(tmp_path: Path) -> None:
    """Two writers of `>file` have one place in it."""
    file = os.open(tmp_path / "file", os.O_CREAT | os.O_WRONLY, 0o600)
    other = os.dup(file)
    out = Output(file)
    for text in (b"a\n", b"b\n"):
        out.write(text)
        os.write(other, b"between\n")
    assert (tmp_path / "file").read_bytes() == b"a\nbetween\nb\nbetween\n"


def test_a_closed_descriptor_has_no_target() -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    os.close(theirs)
    with pytest.raises(OSError):
        Target(theirs)


CHILD = """
import os, subprocess, sys, threading
from pingap.bus import output
output.never_wait()
output.never_wait()
print("out" * 100_000)
print("err" * 100_000, file=sys.stderr)
print("err" * 100_000, file=sys.__stderr__)
for fd in (1, 2):
    try:
        os.write(fd, b"from C" * 10_000)
    except BlockingIOError:
        pass
threads = [threading.Thread(target=print, args=("thread" * 1000,)) for _ in range(8)]
[one.start() for one in threads]
[one.join() for one in threads]
if os.fork() == 0:
    print("child" * 1000)
    raise SystemExit(0)
os.wait()
raise ValueError("a traceback at the end")
"""


@pytest.mark.processes
@pytest.mark.parametrize("make", [pipe, terminal])
def test_a_process_waits_for_nobody(make: Callable[[], Ends]) -> None:
    """print, C code, threads, a forked child, the traceback at its end."""
    ours, theirs = make()
    done = subprocess.run([sys.executable, "-c", CHILD], stdout=theirs, stderr=theirs, timeout=25, check=False)
    assert done.returncode == 1
    assert os.get_blocking(theirs)
    os.close(ours)
    os.close(theirs)


def test_streams_of_others_are_left_alone(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    ours, kept = sys.stdout, dict(output._outputs)
    output.never_wait()
    assert sys.stdout is ours and output._outputs == kept


MOVING = """
import os, sys
from pingap.bus import output
output.never_wait()
print("to the reader")
output.go_to("one/log")
print("one", flush=True)
os.write(2, b"from C\\n")
os.rename("one/log", "one/old")
output.reopen()
print("two")
os.rename("one", "other")
output.reopen()
print("three")
output.go_to("nowhere/log")
print("four")
if os.fork() == 0:
    output.go_to("child")
    print("five")
    sys.exit()
os.wait()
"""


@pytest.mark.processes
@pytest.mark.parametrize("make", [pipe, sockets])
def test_it_goes_to_a_file_and_follows_it_and_never_to_a_closed_one(make: Callable[[], Ends], tmp_path: Path) -> None:
    ours, theirs = make()
    (tmp_path / "one").mkdir()
    done = subprocess.run([sys.executable, "-c", MOVING], stdout=theirs, stderr=theirs, cwd=tmp_path, timeout=25, check=False)
    os.close(theirs)
    assert done.returncode == 0
    assert os.read(ours, 1000) == b"to the reader\n"
    assert os.read(ours, 1000) == b"", "nobody holds the other end any more"
    os.close(ours)
    # What cannot be opened after logrotate stays what it is; what never could be is /dev/null.
    assert (tmp_path / "other/old").read_text() == "one\nfrom C\n"
    assert (tmp_path / "other/log").read_text() == "two\nthree\n"
    assert (tmp_path / "child").read_text() == "five\n"
