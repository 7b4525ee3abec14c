"""The pid file: whose it is, and what becomes of another's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pingap.service.pid_file import PidFile, PidFileError


def test_a_second_one_neither_overwrites_nor_removes_it(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    first = PidFile(str(path))
    with pytest.raises(PidFileError, match=rf"basic\.pid_file: .*belongs to another pingap \(pid {os.getpid()}\)"):
        PidFile(str(path))
    assert path.read_text() == f"{os.getpid()}\n"
    first.release()
    assert not path.exists()


def test_one_that_a_killed_instance_left_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    path.write_text("123456789\n")
    PidFile(str(path)).release()
    assert not path.exists()


def test_what_has_taken_its_place_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    mine = PidFile(str(path))
    path.unlink()
    theirs = PidFile(str(path))
    mine.release()
    assert path.exists()
    theirs.release()


@pytest.mark.parametrize("bad", ["missing/pid", ".", "other"])
def test_one_that_cannot_be_written_is_told_with_its_key(tmp_path: Path, bad: str) -> None:
    (tmp_path / "other").write_text("not a pid")
    with pytest.raises(PidFileError, match=r"^basic\.pid_file: "):
        PidFile(str(tmp_path / bad))
    assert (tmp_path / "other").read_text() == "not a pid"
