"""Being told of changes by the kernel, with real files. Nothing here looks by itself: without notice, a test waits in vain."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pingap.config.storage import notice
from pingap.config.storage.file import FileStorage
from pingap.config.storage.notice import Directories, directories_of
from pingap.config.storage.places import storage_of
from tests.kit.waiting import until

SECONDS = 10.0


class Ear:
    """Hears of changes of one source."""

    def __init__(self, source: Path) -> None:
        self.heard = threading.Event()
        self.end = storage_of(source).follow(self.heard.set)

    def hears(self, change: Callable[[], object]) -> None:
        """Fails unless it is told of a change."""
        self.heard.clear()
        change()
        assert self.heard.wait(SECONDS)


@pytest.fixture
def listen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], Ear]]:
    """Gives an ear that is known to hear."""
    ears: list[Ear] = []
    monkeypatch.setattr(notice, "STEP", 10)
    monkeypatch.setattr(notice, "GROUP", 30)
    monkeypatch.setattr(notice, "ANEW", 0.5)

    def listens(source: Path) -> Ear:
        ears.append(Ear(source))
        probe = (source if source.is_dir() else source.parent) / (source.name if not source.is_dir() else "probe.toml")
        is_there = probe.exists()

        def is_heard() -> bool:
            if is_there:
                os.utime(probe)
            else:
                probe.write_text("")
            return ears[-1].heard.wait(0.05)

        until(is_heard, SECONDS, "it is told")
        if not is_there:
            probe.unlink()
        quiet(ears[-1])
        return ears[-1]

    yield listens
    for ear in ears:
        ear.end()


def quiet(ear: Ear) -> None:
    """Waits until all that has happened has been told."""
    while True:
        ear.heard.clear()
        if not ear.heard.wait(0.3):
            return


def saved(path: Path, text: str = "x") -> None:
    new = path.with_name(f".{path.name}.swp")
    new.write_text(text)
    os.replace(new, path)


@pytest.mark.slow
def test_a_file_that_is_written_replaced_or_away_for_a_moment(tmp_path: Path, listen: Callable[[Path], Ear]) -> None:
    path = tmp_path / "pingap.toml"
    path.write_text("x")
    ear = listen(path)
    ear.hears(lambda: path.write_text("y"))
    for _ in range(2):
        quiet(ear)
        ear.hears(lambda: saved(path))
    quiet(ear)
    ear.hears(path.unlink)
    quiet(ear)
    ear.hears(lambda: path.write_text("z"))
    quiet(ear)
    (tmp_path / "other.toml").write_text("")
    assert not ear.heard.wait(0.3), "what does not concern it is not told"


@pytest.mark.slow
def test_kubernetes_swaps_a_link(tmp_path: Path, listen: Callable[[Path], Ear]) -> None:
    def version(number: int) -> None:
        folder = tmp_path / f"..{number}"
        folder.mkdir()
        (folder / "pingap.toml").write_text(f"x = {number}")
        (tmp_path / "..data_tmp").symlink_to(folder.name)
        os.replace(tmp_path / "..data_tmp", tmp_path / "..data")
        if number > 1:
            shutil.rmtree(tmp_path / f"..{number - 1}")

    version(1)
    (tmp_path / "pingap.toml").symlink_to("..data/pingap.toml")
    for source in (tmp_path / "pingap.toml", tmp_path):
        ear = listen(source)
        for _ in range(3):
            number = int(os.readlink(tmp_path / "..data")[2:])
            quiet(ear)
            ear.hears(lambda: version(number + 1))  # noqa: B023
        ear.end()


@pytest.mark.slow
def test_a_directory_is_heard_after_it_was_replaced_and_with_what_comes_into_it(tmp_path: Path, listen: Callable[[Path], Ear]) -> None:
    root = tmp_path / "conf"
    (root / "servers").mkdir(parents=True)
    (root / "a.toml").write_text("")
    ear = listen(root)
    ear.hears(lambda: saved(root / "servers" / "web.toml"))
    ear.hears((root / "locations").mkdir)
    quiet(ear)
    ear.hears(lambda: saved(root / "locations" / "a.toml"))
    quiet(ear)

    def replaced() -> None:
        (tmp_path / "new").mkdir()
        (tmp_path / "new" / "a.toml").write_text("")
        root.rename(tmp_path / "old")
        (tmp_path / "new").rename(root)

    ear.hears(replaced)
    quiet(ear)
    ear.hears(lambda: saved(root / "a.toml"))
    quiet(ear)
    ear.hears(lambda: shutil.rmtree(root))
    quiet(ear)
    ear.hears(root.mkdir)
    quiet(ear)
    ear.hears(lambda: saved(root / "a.toml"))


def test_every_link_on_the_way_counts(tmp_path: Path) -> None:
    (tmp_path / "v1" / "conf").mkdir(parents=True)
    (tmp_path / "current").symlink_to("v1")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "pingap.toml").symlink_to("../current/conf/pingap.toml")
    (tmp_path / "loop").symlink_to("loop")
    found = {
        os.path.relpath(folder, tmp_path): set(names)
        for folder, names in directories_of([tmp_path / "etc" / "pingap.toml"]).items()
        if names
    }
    assert found == {"etc": {"pingap.toml"}, ".": {"current"}, "v1/conf": {"pingap.toml"}}
    assert directories_of([tmp_path / "loop"], [tmp_path / "v1"])[str(tmp_path / "v1")] is None


def test_where_the_kernel_has_no_watch_left_it_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import watchfiles._rust_notify as library

    real, tries = library.RustNotify, threading.Semaphore(0)

    class Full:
        def __init__(self, *_: object) -> None:
            tries.release()
            raise OSError(28, "No space left on device")

    path = tmp_path / "pingap.toml"
    path.write_text("x")
    monkeypatch.setattr(notice, "AGAIN", 0.02)
    monkeypatch.setattr(library, "RustNotify", Full)
    ear = Ear(path)
    assert tries.acquire(timeout=SECONDS) and tries.acquire(timeout=SECONDS)
    assert not ear.heard.is_set()
    monkeypatch.setattr(library, "RustNotify", real)

    def is_heard() -> bool:
        os.utime(path)
        return ear.heard.wait(0.05)

    until(is_heard, SECONDS, "it is told")
    ear.end()


@pytest.mark.slow
def test_descriptors_stay_the_same_however_often_a_directory_is_replaced(tmp_path: Path, listen: Callable[[Path], Ear]) -> None:
    root = tmp_path / "conf"
    root.mkdir()
    ear = listen(root)
    before = len(os.listdir("/proc/self/fd"))
    for number in range(10):
        quiet(ear)
        root.rename(tmp_path / f"old{number}")
        root.mkdir()
        ear.hears(lambda: saved(root / "a.toml"))
    until(lambda: len(os.listdir("/proc/self/fd")) <= before, SECONDS, "the old ones are closed")
    ear.end()
    until(lambda: len(os.listdir("/proc/self/fd")) < before, SECONDS, "the last one is closed")


def test_a_directory_in_which_much_is_written_is_walked_through_no_more_than_its_share(
    tmp_path: Path, listen: Callable[[Path], Ear], monkeypatch: pytest.MonkeyPatch
) -> None:
    walks = 0
    real = FileStorage._directories

    def slow(storage: FileStorage) -> Directories:
        nonlocal walks
        walks += 1
        time.sleep(0.05)
        return real(storage)

    monkeypatch.setattr(FileStorage, "_directories", slow)
    monkeypatch.setattr(notice, "ANEW", 60.0)
    ear = listen(tmp_path)
    walks = 0
    for _ in range(20):
        ear.hears(lambda: saved(tmp_path / "access.log"))
    assert walks <= 2
