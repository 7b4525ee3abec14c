from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pingap.config.problems import ConfigRefused
from pingap.config.storage.base import Document, Fingerprint
from pingap.config.storage.file import FileStorage, prints_of
from pingap.config.storage.places import storage_of
from tests.kit.waiting import until


def read(source: str | Path) -> tuple[Document, ...]:
    return storage_of(source).read().documents


def fingerprint(source: str | Path) -> Fingerprint:
    return storage_of(source).fingerprint()


def test_files_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b.toml", "a.toml", "c/d.toml", "x.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert read(tmp_path) == (
        Document("a.toml", "a.toml"),
        Document("b.toml", "b.toml"),
        Document("c/d.toml", "c/d.toml"),
    )


def test_the_home_directory_may_be_written_as_a_tilde(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/case")
    storage = storage_of("~/pingap.toml")
    assert isinstance(storage, FileStorage)
    assert (storage.root, storage.base) == (Path("/home/case/pingap.toml"), "/home/case")


def test_a_fingerprint_stays_while_nothing_changes(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("x")
    assert fingerprint(tmp_path) == fingerprint(str(tmp_path)) != ()


def test_a_fingerprint_changes_with_text_time_and_files(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("x")
    os.utime(file, ns=(1, 1))
    seen = [fingerprint(tmp_path)]

    def changed() -> bool:
        seen.append(fingerprint(tmp_path))
        return seen[-1] not in seen[:-1]

    os.utime(file, ns=(2, 2))
    assert changed()
    (tmp_path / "b.toml").write_text("")
    assert changed()
    (tmp_path / "b.toml").rename(tmp_path / "c.toml")
    assert changed()
    other = tmp_path / "new"
    other.write_text("x")
    os.utime(other, ns=(2, 2))
    other.replace(file)  # as editors save: another inode, perhaps the same size and time
    assert changed()
    file.unlink()
    assert changed()
    (tmp_path / "notes.txt").write_text("")
    assert not changed()


def test_a_fingerprint_of_what_is_not_there_has_zeros(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    before = fingerprint(file)
    assert before == ((str(file), 0, 0, 0, 0),)
    file.write_text("x")
    assert fingerprint(file) != before


def test_any_files_may_be_watched(tmp_path: Path) -> None:
    first, plugin = tmp_path / "a.py", tmp_path / "plugin.py"
    first.write_text("x")
    before = prints_of([first, plugin])
    plugin.write_text("x")
    assert prints_of([first, plugin]) != before
    assert prints_of([]) == ()


def test_a_directory_without_permission_is_a_problem(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    (tmp_path / "a.toml").write_text("x")
    closed.chmod(0)
    try:
        if os.access(closed, os.R_OK):
            pytest.skip("root may read everything")
        with pytest.raises(ConfigRefused, match="cannot be read: permission denied"):
            read(tmp_path)
    finally:
        closed.chmod(0o700)


def test_a_directory_behind_a_link_is_read_once_whatever_the_links(tmp_path: Path) -> None:
    root, outside = tmp_path / "conf", tmp_path / "outside"
    (root / "real").mkdir(parents=True)
    outside.mkdir()
    for path in (root / "a.toml", root / "real" / "b.toml", outside / "c.toml"):
        path.write_text("x")
    (root / "linked").symlink_to(outside)
    (root / "again").symlink_to(outside)
    (root / "twin").symlink_to(root / "real")
    (outside / "up").symlink_to(root)
    assert sorted(os.path.basename(document.name) for document in read(root)) == ["a.toml", "b.toml", "c.toml"]
    before = fingerprint(root)
    (outside / "d.toml").write_text("x")
    assert fingerprint(root) != before


def test_a_link_that_leads_nowhere_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("x")
    (tmp_path / "parts").symlink_to(tmp_path / "missing")
    (tmp_path / ".#lock").symlink_to("user@host")
    with pytest.raises(ConfigRefused, match="parts: a link that leads nowhere"):
        read(tmp_path)


def _in_place(path: Path) -> None:
    with open(path, "r+b") as file:
        file.write(b"y")


def _replaced(path: Path) -> None:
    new = path.with_suffix(".new")
    new.write_text("y")
    new.replace(path)


@pytest.mark.parametrize("edit", [_in_place, _replaced])
def test_an_edit_is_seen_though_size_and_time_are_as_before(tmp_path: Path, edit: Callable[[Path], None]) -> None:
    path = tmp_path / "a.toml"
    path.write_text("x")
    before, status = fingerprint(path), path.stat()
    edit(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    until(lambda: _touched(path, status) != before, 5, "the clock of the file system moves on")


def _touched(path: Path, status: os.stat_result) -> Fingerprint:
    """Its fingerprint after one more edit of that kind: the time of change has the grain of the kernel's tick."""
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    return fingerprint(path)
