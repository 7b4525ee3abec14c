"""Writing configuration text: whole or not at all, and never over what its writer has not seen."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from pingap.config.storage import file as module
from pingap.config.storage import replacing
from pingap.config.storage.base import Document, NotWritten, Outdated, Reading, Storage
from pingap.config.storage.memory import MemoryStorage
from pingap.config.storage.places import storage_of

NOBODY = 65534


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory with two documents."""
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "a.toml").write_text("a = 1\n")
    (tmp_path / "conf" / "b.toml").write_text("b = 1\n")
    return tmp_path / "conf"


def version(storage: Storage) -> str:
    return storage.read().version


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


# -- versions ------------------------------------------------------------------------------


def test_a_version_is_that_of_the_texts_wherever_and_whenever_they_are_read(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "copy")
    before = version(storage_of(root))
    assert version(storage_of(tmp_path / "copy")) == before
    os.utime(root / "a.toml", ns=(1, 1))
    assert version(storage_of(root)) == before
    (root / "a.toml").write_text("a = 2\n")
    assert version(storage_of(root)) != before


def test_no_two_configurations_have_the_same_version() -> None:
    readings = [
        (),
        (Document("a.toml", ""),),
        (Document("a.toml", "b.toml"),),
        (Document("a.toml", ""), Document("b.toml", "")),
        (Document("a.tom", "lb.toml"),),
    ]
    assert len({Reading(documents).version for documents in readings}) == len(readings)


# -- every storage -----------------------------------------------------------------------------


@pytest.fixture(params=["memory", "file", "directory"])
def storage(request: pytest.FixtureRequest, root: Path) -> Storage:
    if request.param == "memory":
        return MemoryStorage("a = 1\n")
    return storage_of(root / "a.toml" if request.param == "file" else root)


def test_what_was_written_is_read_and_has_the_version_that_was_told(storage: Storage) -> None:
    name = storage.read().documents[0].name
    before, looked = version(storage), storage.fingerprint()
    after = storage.write(Document(name, "a = 2 # ü\r\n"), before)
    assert storage.read().documents[0] == Document(name, "a = 2 # ü\r\n")
    assert (version(storage), storage.fingerprint() == looked, after == before) == (after, False, False)
    assert storage.write(Document(name, "a = 1\n"), after) == before


def test_a_version_that_is_not_there_any_more_writes_nothing(storage: Storage) -> None:
    name = storage.read().documents[0].name
    old = version(storage)
    storage.write(Document(name, "a = 2\n"), old)
    with pytest.raises(Outdated, match="has changed since it was read"):
        storage.write(Document(name, "a = 3\n"), old)
    assert storage.read().documents[0].text == "a = 2\n"


def test_an_item_that_is_in_no_document_has_one_to_go_to(root: Path) -> None:
    single = str(root / "a.toml")
    assert MemoryStorage("", "m").home_of("servers", "a") == "m"
    assert storage_of(single).home_of("servers", "web") == single
    assert storage_of(root).home_of("servers", "web") == "servers.toml"
    separate = storage_of(f"{root}?separation=true")
    assert separate.home_of("servers", "web.x") == "servers/web.x.toml"
    assert separate.home_of("basic", "basic") == "basic.toml"
    assert storage_of(f"{root}?separation=false").home_of("servers", "web") == "servers.toml"
    for name in ("", "../x", ".hidden", "a\\b", "a\0"):
        with pytest.raises(NotWritten, match="cannot be the name of a file"):
            separate.home_of("servers", name)


# -- files ---------------------------------------------------------------------------------------


def test_a_new_document_may_be_in_a_directory_that_is_not_there_yet(root: Path) -> None:
    storage = storage_of(f"{root}?separation")
    storage.write(Document(storage.home_of("servers", "web"), "x = 1\n"), version(storage))
    assert [document.name for document in storage.read().documents] == ["a.toml", "b.toml", "servers/web.toml"]


def test_a_new_document_is_for_those_who_can_read_all_that_is_there(root: Path) -> None:
    """Else the instance whose configuration it is could not read it, or somebody who must not could."""
    (root / "a.toml").chmod(0o644)
    (root / "b.toml").chmod(0o640)
    root.chmod(0o750)
    storage = storage_of(f"{root}?separation")
    storage.write(Document("servers/web.toml", "x = 1\n"), version(storage))
    assert [(root / "servers" / name).stat().st_mode & 0o777 for name in ("", "web.toml")] == [0o750, 0o640]


def test_the_first_document_is_for_its_owner_alone(tmp_path: Path) -> None:
    storage = storage_of(tmp_path / "new")
    storage.write(Document("servers.toml", "x = 1\n"), Reading(()).version)
    assert (tmp_path / "new" / "servers.toml").stat().st_mode & 0o777 == 0o600, "there may be keys in it"


@pytest.mark.parametrize("name", ["../out.toml", "/tmp/out.toml", ".a.toml", "x/.y/z.toml", "", "a.txt", "a\0.toml", "a.hcl2"])
def test_a_name_that_would_not_be_read_again_is_refused(root: Path, name: str) -> None:
    storage = storage_of(root)
    with pytest.raises(NotWritten):
        storage.write(Document(name, "x"), version(storage))
    assert names(root) == ["a.toml", "b.toml"]


def test_a_single_file_is_the_only_document(root: Path) -> None:
    storage = storage_of(root / "a.toml")
    with pytest.raises(NotWritten, match="there is one document here"):
        storage.write(Document(str(root / "b.toml"), "x"), version(storage))


def test_any_change_of_another_document_counts(root: Path) -> None:
    storage = storage_of(root)
    old = version(storage)
    (root / "b.toml").write_text("b = 2\n")
    with pytest.raises(Outdated):
        storage.write(Document("a.toml", "a = 2\n"), old)
    (root / "b.toml").write_text("b = 1\n")
    (root / "c.toml").write_text("")
    with pytest.raises(Outdated):
        storage.write(Document("a.toml", "a = 2\n"), old)
    (root / "c.toml").unlink()
    storage.write(Document("a.toml", "a = 2\n"), old)


def test_a_configuration_that_cannot_be_read_any_more_is_not_written(root: Path) -> None:
    storage = storage_of(root)
    old = version(storage)
    (root / "b.toml").write_bytes(b"\xff")
    with pytest.raises(Outdated, match=r"cannot be read any more: .*not UTF-8"):
        storage.write(Document("a.toml", "a = 2\n"), old)
    assert (root / "a.toml").read_text() == "a = 1\n"


def test_an_edit_in_the_middle_of_a_write_is_seen(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = storage_of(root)

    def edited(path: Path, content: bytes, like: Iterable[Path]) -> str:
        (root / "b.toml").write_text("b = 22\n")
        return replacing.beside(path, content, like)

    monkeypatch.setattr(module, "beside", edited)
    with pytest.raises(Outdated, match="at this moment"):
        storage.write(Document("a.toml", "a = 2\n"), version(storage))
    assert (names(root), (root / "a.toml").read_text()) == (["a.toml", "b.toml"], "a = 1\n")


def test_a_writer_waits_for_the_one_before_and_sees_what_he_wrote(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = storage_of(root)
    old = version(storage)
    flock = fcntl.flock
    has_come = threading.Event()

    def comes(fd: int, how: int) -> None:
        has_come.set()
        flock(fd, how)

    before = os.open(root, os.O_RDONLY)
    flock(before, fcntl.LOCK_EX)
    monkeypatch.setattr(fcntl, "flock", comes)
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(storage.write, Document("a.toml", "a = 2\n"), old)
        assert has_come.wait(10)
        (root / "b.toml").write_text("b = 2\n")
        os.close(before)
        assert isinstance(writing.exception(10), Outdated)


def test_where_directories_cannot_be_locked_a_file_in_them_is(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flock = fcntl.flock

    def on_files(fd: int, how: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(errno.EBADF, "Bad file descriptor")  # as on NFS
        flock(fd, how)

    monkeypatch.setattr(fcntl, "flock", on_files)
    storage = storage_of(root)
    changed = storage.write(Document("a.toml", "a = 2\n"), version(storage))
    assert (version(storage), names(root)) == (changed, [replacing.LOCK, "a.toml", "b.toml"])
    monkeypatch.setattr(replacing, "PATIENCE", 0.05)
    with open(root / replacing.LOCK, "r+b") as other:
        flock(other.fileno(), fcntl.LOCK_EX)
        with pytest.raises(NotWritten, match="another writer has been at work"):
            storage.write(Document("a.toml", "a = 3\n"), changed)


def test_of_many_writers_with_one_version_one_wins(root: Path) -> None:
    storage = storage_of(root)
    old = version(storage)

    def write(number: int) -> bool:
        try:
            storage_of(root).write(Document("a.toml", f"a = {number}\n"), old)
        except Outdated:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = [number for number, has in enumerate(pool.map(write, range(2, 10)), 2) if has]  # the old text is `a = 1`
    assert len(won) == 1
    assert (root / "a.toml").read_text() == f"a = {won[0]}\n"
    assert names(root) == ["a.toml", "b.toml"]


def test_a_reader_never_finds_half_a_document(root: Path) -> None:
    storage = storage_of(root / "a.toml")
    texts = ["x = 1\n" * 5000, "y = 1\n"]
    seen: set[str] = set()
    is_over = threading.Event()

    def reads() -> None:
        while not is_over.is_set():
            seen.add((root / "a.toml").read_text())

    reader = threading.Thread(target=reads)
    reader.start()
    current = version(storage)
    for number in range(40):
        current = storage.write(Document(str(root / "a.toml"), texts[number % 2]), current)
    is_over.set()
    reader.join()
    assert seen <= {"a = 1\n", *texts}


def test_a_link_stays_a_link_and_what_it_leads_to_is_replaced(root: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    target = tmp_path / "elsewhere" / "real.toml"
    target.write_text("c = 1\n")
    (root / "c.toml").symlink_to(target)
    storage = storage_of(root)
    storage.write(Document("c.toml", "c = 2\n"), version(storage))
    assert (root / "c.toml").is_symlink() and target.read_text() == "c = 2\n"
    (tmp_path / "one.toml").symlink_to(target)
    single = storage_of(tmp_path / "one.toml")
    single.write(Document(str(tmp_path / "one.toml"), "c = 3\n"), version(single))
    assert (tmp_path / "one.toml").is_symlink() and target.read_text() == "c = 3\n"


def test_a_directory_behind_a_link_is_written_to(root: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(root)
    storage = storage_of(tmp_path / "linked")
    storage.write(Document("a.toml", "a = 2\n"), version(storage))
    assert (root / "a.toml").read_text() == "a = 2\n"


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444])
def test_permissions_stay(root: Path, mode: int) -> None:
    (root / "a.toml").chmod(mode)
    storage = storage_of(root)
    storage.write(Document("a.toml", "a = 2\n"), version(storage))
    assert (root / "a.toml").stat().st_mode & 0o7777 == mode


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_the_owner_stays(root: Path) -> None:
    os.chown(root / "a.toml", NOBODY, NOBODY)
    storage = storage_of(root)
    storage.write(Document("a.toml", "a = 2\n"), version(storage))
    status = (root / "a.toml").stat()
    assert (status.st_uid, status.st_gid) == (NOBODY, NOBODY)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_what_root_makes_is_for_whom_the_configuration_is(root: Path) -> None:
    for path in (root, root / "a.toml", root / "b.toml"):
        os.chown(path, NOBODY, NOBODY)
        path.chmod(0o700 if path == root else 0o600)
    storage = storage_of(f"{root}?separation")
    storage.write(Document("servers/web.toml", "x = 1\n"), version(storage))
    made = [(root / "servers" / name).stat() for name in ("", "web.toml")]
    assert [(one.st_uid, one.st_gid, one.st_mode & 0o777) for one in made] == [(NOBODY, NOBODY, 0o700), (NOBODY, NOBODY, 0o600)]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_a_history_is_for_whom_the_configuration_is(root: Path) -> None:
    os.chown(root / "a.toml", NOBODY, NOBODY)
    storage = storage_of(f"{root}?enable_history=true")
    storage.write(Document("a.toml", "a = 2\n"), version(storage))
    folder = root.with_name(f"{root.name}-history")
    kept = [one.stat() for one in (folder, *folder.iterdir())]
    assert [(one.st_uid, one.st_mode & 0o777) for one in kept] == [(NOBODY, 0o700), (NOBODY, 0o600)]


@contextmanager
def nobody() -> Iterator[Path]:
    """A directory that everybody may look into, as a user who is not its owner."""
    folder = Path(tempfile.mkdtemp(prefix="pingap-test-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        os.seteuid(0)
        shutil.rmtree(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_a_directory_that_may_not_be_written_to_is_told_and_nothing_happens() -> None:
    with nobody() as folder:
        (folder / "a.toml").write_text("a = 1\n")
        storage = storage_of(folder)
        os.seteuid(NOBODY)
        with pytest.raises(NotWritten, match=r"a\.toml cannot be written: permission denied"):
            storage.write(Document("a.toml", "a = 2\n"), version(storage))
        assert (names(folder), (folder / "a.toml").read_text()) == (["a.toml"], "a = 1\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_a_file_of_another_user_in_a_directory_of_ours_becomes_ours_and_keeps_its_permissions() -> None:
    with nobody() as folder:
        (folder / "a.toml").write_text("a = 1\n")
        (folder / "a.toml").chmod(0o644)
        os.chown(folder, NOBODY, NOBODY)
        storage = storage_of(folder)
        os.seteuid(NOBODY)
        storage.write(Document("a.toml", "a = 2\n"), version(storage))
        os.seteuid(0)
        status = (folder / "a.toml").stat()
        assert (status.st_uid, status.st_mode & 0o777, (folder / "a.toml").read_text()) == (NOBODY, 0o644, "a = 2\n")


FULL = """
import resource, sys
from pingap.config.storage.base import Document, NotWritten
from pingap.config.storage.places import storage_of
storage = storage_of(sys.argv[1])
version = storage.read().version
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    storage.write(Document("a.toml", "#" * 2000), version)
except NotWritten as error:
    print(error)
"""


@pytest.mark.processes
def test_a_disk_that_is_full_leaves_the_old_text_and_nothing_else(root: Path) -> None:
    """A limit of file sizes fails in the same place as a disk without room: in the middle of the new file."""
    done = subprocess.run([sys.executable, "-c", FULL, str(root)], capture_output=True, text=True, check=True)
    assert done.stdout == "a.toml cannot be written: file too large\n"
    assert (names(root), (root / "a.toml").read_text()) == (["a.toml", "b.toml"], "a = 1\n")


def test_a_disk_that_fails_to_keep_it_leaves_the_old_text(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(fd: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fails)
    storage = storage_of(root)
    with pytest.raises(NotWritten, match="cannot be written: input/output error"):
        storage.write(Document("a.toml", "a = 2\n"), version(storage))
    assert (names(root), (root / "a.toml").read_text()) == (["a.toml", "b.toml"], "a = 1\n")


def test_a_file_where_a_directory_should_be_is_told(root: Path) -> None:
    (root / "servers").write_text("")
    storage = storage_of(f"{root}?separation")
    with pytest.raises(NotWritten, match="cannot be written"):
        storage.write(Document("servers/web.toml", "x = 1\n"), version(storage))


def test_new_directories_are_on_the_disk_before_what_is_in_them_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is lost with the name of its directory, however well the file itself was written."""
    flushed: list[str] = []
    fsync = os.fsync

    def noted(fd: int) -> None:
        flushed.append(os.readlink(f"/proc/self/fd/{fd}"))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", noted)
    storage = storage_of(f"{tmp_path}/new/conf?separation=true&enable_history=true")
    name = storage.home_of("servers", "web")
    first = storage.write(Document(name, "x = 1\n"), Reading(()).version)
    parents = [str(tmp_path / one) for one in ("", "new", "new/conf", "new/conf/servers")]
    assert [one for one in flushed if one in parents] == parents
    flushed.clear()
    storage.write(Document(name, "x = 2\n"), first)
    assert str(tmp_path / "new") in flushed, "the history came"
