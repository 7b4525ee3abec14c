"""One target of lines: files, pipes, full disks, vanished directories."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pingap.stages.logging import sink as module
from pingap.stages.logging.sink import Sink


@pytest.fixture
def told() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def open_sink(told: list[tuple[str, str]]) -> Iterator[Callable[[Path | str], Sink]]:
    sinks: list[Sink] = []

    def make(path: Path | str) -> Sink:
        sink = Sink(str(path), lambda level, text: told.append((level, text)))
        sinks.append(sink)
        sink.open(0.0)
        return sink

    yield make
    for sink in sinks:
        sink.close(1e9)


def put(sink: Sink, *lines: str, now: float = 1.0) -> None:
    sink.lines += lines
    sink.flush(now)


def test_lines_are_appended_to_a_file_that_others_cannot_read(tmp_path: Path, open_sink: Callable[[Path], Sink]) -> None:
    path = tmp_path / "a.log"
    path.write_text("before\n")
    path.chmod(0o600)
    put(open_sink(path), "one", "two")
    assert path.read_text() == "before\none\ntwo\n"
    new = tmp_path / "b.log"
    put(open_sink(new), "é")
    assert new.read_bytes() == "é\n".encode()
    assert stat.S_IMODE(new.stat().st_mode) & ~0o640 == 0


def test_reopening_takes_the_new_file_and_leaves_the_rest_in_the_old_one(tmp_path: Path, open_sink: Callable[[Path], Sink]) -> None:
    path = tmp_path / "a.log"
    sink = open_sink(path)
    sink.lines.append("old")
    path.rename(tmp_path / "a.log.1")
    sink.reopen(1.0)
    put(sink, "new")
    assert (tmp_path / "a.log.1").read_text() == "old\n"
    assert path.read_text() == "new\n"


def test_a_renamed_file_is_written_to_until_it_is_told_to_reopen(tmp_path: Path, open_sink: Callable[[Path], Sink]) -> None:
    path = tmp_path / "a.log"
    sink = open_sink(path)
    path.rename(tmp_path / "a.log.1")
    sink.tick(1.0)
    put(sink, "still there")
    assert (tmp_path / "a.log.1").read_text() == "still there\n"
    assert not path.exists()


def test_a_deleted_file_is_made_again(tmp_path: Path, open_sink: Callable[[Path], Sink]) -> None:
    path = tmp_path / "a.log"
    sink = open_sink(path)
    path.unlink()
    sink.tick(1.0)
    put(sink, "back")
    assert path.read_text() == "back\n"


def test_a_vanished_directory_is_told_once_a_minute_and_costs_nothing_when_it_comes_back(
    tmp_path: Path, open_sink: Callable[[Path], Sink], told: list[tuple[str, str]]
) -> None:
    path = tmp_path / "logs" / "a.log"
    sink = open_sink(path)
    for second in range(1, 60):
        sink.lines.append(f"line {second}")
        sink.tick(float(second))
    assert told == [("error", f"log {path}: No such file or directory")]
    sink.tick(61.0)
    assert len(told) == 2
    path.parent.mkdir()
    sink.tick(62.0)
    assert told[-1] == ("info", f"log {path}: writes again")
    assert path.read_text().splitlines() == [f"line {second}" for second in range(1, 60)]


def test_a_full_disk_is_told_and_what_it_cannot_keep_is_counted(
    tmp_path: Path, open_sink: Callable[[Path], Sink], told: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEPT", 100)
    path = tmp_path / "a.log"
    path.symlink_to("/dev/full")
    sink = open_sink(path)
    for number in range(10):
        put(sink, f"line {number} " + "x" * 22)  # 30 bytes with its end: three are kept
    assert told == [("error", f"log {path}: No space left on device")]
    assert sink.lost == 7
    path.unlink()
    sink.reopen(2.0)
    put(sink, "after")
    assert told[-1] == ("info", f"log {path}: writes again, 7 lines lost")
    assert [line[:6] for line in path.read_text().splitlines()] == ["line 0", "line 1", "line 2", "after"]


def test_a_reader_that_does_not_read_never_blocks_the_writer(
    tmp_path: Path, open_sink: Callable[[Path], Sink], told: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEPT", 20_000)
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    sink = open_sink(path)
    sent = [f"{number:06} " + "x" * 992 for number in range(200)]  # more than a pipe holds, by far
    for line in sent:
        put(sink, line)
    assert told == [("error", f"log {path}: takes no lines, 1 line lost")]
    got = b""
    while chunk := _read(reader):
        got += chunk
        sink.flush(2.0)
    os.close(reader)
    lines = got.decode().splitlines()
    assert len(lines) + sink.lost == len(sent)
    assert lines == sent[: len(lines)]


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 65536)
    except BlockingIOError:
        return b""


def test_stderr_as_a_pipe_is_not_made_non_blocking_for_others(open_sink: Callable[[str], Sink], monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    monkeypatch.setitem(module._INHERITED, "", writer)
    put(open_sink(""), "one")
    assert os.get_blocking(writer)
    assert os.read(reader, 100) == b"one\n"
    os.close(reader)
    os.close(writer)


def test_stderr_as_a_file_shares_its_place_with_other_writers(
    tmp_path: Path, open_sink: Callable[[str], Sink], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "stderr"
    shared = os.open(path, os.O_WRONLY | os.O_CREAT)  # as a shell opens `2>stderr`
    monkeypatch.setitem(module._INHERITED, "", shared)
    sink = open_sink("")
    os.write(shared, b"supervisor\n")
    put(sink, "logging")
    os.write(shared, b"supervisor\n")
    os.close(shared)
    assert path.read_text() == "supervisor\nlogging\nsupervisor\n"
