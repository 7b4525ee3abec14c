"""Every path that a configuration names for writing: checked without touching it, told with its key."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest

from pingap.config.model import Basic, FilePath, Server, Snapshot
from pingap.config.parts import AccessLog, Listen
from pingap.config.paths import check_paths, why_no_log, why_not_opened


def with_log(path: str) -> Snapshot:
    return Snapshot(basic=Basic(error_log=path))


def with_access_log(path: str) -> Snapshot:
    return Snapshot(servers={"web": Server(addr=(Listen("127.0.0.1", 1),), access_log=AccessLog("combined", path))})


def with_pid_file(path: str) -> Snapshot:
    return Snapshot(basic=Basic(pid_file=path))


KEYS: dict[str, Callable[[str], Snapshot]] = {
    "basic.error_log": with_log,
    "servers.web.access_log": with_access_log,
    "basic.pid_file": with_pid_file,
}


def unusable(place: Path, kind: str) -> str:
    """A path that can be no file to write, of one kind or another."""
    match kind:
        case "no directory":
            return str(place / "missing" / "x")
        case "a directory":
            return str(place)
        case "under a file":
            (place / "file").write_text("")
            return str(place / "file" / "x")
        case "a socket":
            with socket.socket(socket.AF_UNIX) as sock:
                sock.bind(str(place / "s"))
            return str(place / "s")
        case "a dangling link":
            (place / "link").symlink_to(place / "missing" / "x")
            return str(place / "link")
        case "a circle of links":
            (place / "link").symlink_to(place / "link")
            return str(place / "link")
        case "too long":
            return str(place / ("x" * 300))
        case "no name":
            return str(place / "missing") + "/"
        case _:
            return "/tmp/a\0b"


KINDS = ("no directory", "a directory", "under a file", "a socket", "a dangling link", "a circle of links", "too long", "no name", "NUL")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("key", KEYS)
def test_a_path_that_cannot_be_written_is_told_with_its_key(tmp_path: Path, key: str, kind: str) -> None:
    before = sorted(tmp_path.iterdir())
    path = unusable(tmp_path, kind)
    made = sorted(tmp_path.iterdir())
    problems = [(problem.path, problem.message) for problem in check_paths(KEYS[key](path))]
    assert [where for where, _ in problems] == [key]
    assert path.rstrip("/") in problems[0][1] or repr(path) in problems[0][1]
    assert sorted(tmp_path.iterdir()) == made and len(made) <= len(before) + 1, "a check touches nothing"


@pytest.mark.parametrize("key", KEYS)
def test_a_file_that_is_there_or_can_be_made_is_fine_and_stays_as_it_is(tmp_path: Path, key: str) -> None:
    assert not list(check_paths(KEYS[key](str(tmp_path / "new"))))
    assert not list(tmp_path.iterdir())
    (tmp_path / "old").write_text("4711\n")
    assert not list(check_paths(KEYS[key](str(tmp_path / "old"))))
    assert (tmp_path / "old").read_text() == "4711\n"


@pytest.mark.skipif(os.geteuid() != 0 or not hasattr(os, "seteuid"), reason="only root can become somebody who may not")
@pytest.mark.parametrize("key", KEYS)
def test_what_this_user_may_not_is_told_and_who_that_is(tmp_path: Path, key: str) -> None:
    os.chmod(tmp_path, 0o755)
    (tmp_path / "old").write_text("")
    os.seteuid(65534)
    try:
        found = [list(check_paths(KEYS[key](str(tmp_path / name)))) for name in ("old", "new")]
    finally:
        os.seteuid(0)
    for problems in found:
        # pytest's own directory above is closed to others, so that even the look may be refused.
        assert len(problems) == 1 and ("permission" in problems[0].message)


@pytest.mark.parametrize("path", ["", "/dev/stderr", "/dev/stdout", "/dev/null", "/dev/full"])
def test_streams_and_devices_are_logs(path: str) -> None:
    assert why_no_log(path) is None


def test_a_pid_file_overwrites_nothing_but_a_process_id(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("root:x:0:0\n")
    assert [problem.path for problem in check_paths(with_pid_file(str(path)))] == ["basic.pid_file"]
    assert [problem.path for problem in check_paths(with_pid_file("/dev/null"))] == ["basic.pid_file"]
    both = Snapshot(basic=Basic(pid_file=str(tmp_path / "x"), error_log=str(tmp_path / "x")))
    assert [problem.path for problem in check_paths(both)] == ["basic.pid_file"]


def test_a_start_finds_what_permissions_do_not_show(tmp_path: Path) -> None:
    assert "cannot be opened" in why_not_opened("/proc/pingap.log")
    assert not why_not_opened(str(tmp_path / "log"))
    os.mkfifo(tmp_path / "pipe")
    assert not why_not_opened(str(tmp_path / "pipe")), "its reader may come later"


def test_no_key_that_is_a_file_is_left_out() -> None:
    named = {f"basic.{spec.name}" for spec in fields(Basic) if spec.type == "FilePath"}
    assert FilePath is not None
    assert named == {key for key in KEYS if key.startswith("basic.")}
