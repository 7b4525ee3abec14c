"""A shelf in a directory: whose files these are, what is believed, and what is told when it does not work."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pingap.stages.acme.store.base import StoreError, ValueUnreadable
from pingap.stages.acme.store.files import FileShelf

NOW = 1_800_000_000.0


class Instance:
    """A shelf, what it has told, and its clock."""

    def __init__(self, root: Path) -> None:
        self.told: list[str] = []
        self.now = NOW
        self.shelf = FileShelf(str(root), self.told.append, lambda: self.now)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "state" / "acme"


@pytest.fixture
def one(root: Path) -> Instance:
    return Instance(root)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# -- whose they are -----------------------------------------------------------------


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o777])
def test_all_of_it_is_for_its_owner_alone(root: Path, one: Instance, mask: int) -> None:
    root.parent.mkdir()
    before = os.umask(mask & 0o077)
    try:
        one.shelf.put("certificates", "a", b"1")
        one.shelf.put("certificates", "a", b"2")
        lease = one.shelf.lease("issuing", 5)
        assert lease is not None
    finally:
        os.umask(before)
    assert [mode(path) for path in (root, root / "certificates", root / "leases")] == [0o700] * 3
    assert [mode(path) for path in (root / "certificates/a", root / "leases/issuing")] == [0o600] * 2
    lease.release()
    assert one.told == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away: without it, not shown that what root puts is its owner's")
def test_what_root_puts_is_the_owners(root: Path, one: Instance) -> None:
    root.mkdir(parents=True, mode=0o700)
    os.chown(root, 12345, 12346)
    one.shelf.put("certificates", "a", b"1")
    lease = one.shelf.lease("issuing", 5)
    assert lease is not None
    lease.release()
    for path in ("certificates", "certificates/a", "leases", "leases/issuing"):
        status = (root / path).stat()
        assert (status.st_uid, status.st_gid) == (12345, 12346), path


def test_keys_that_were_open_to_others_are_closed_and_that_is_told(root: Path, one: Instance) -> None:
    one.shelf.put("certificates", "a", b"1")
    version = one.shelf.version()
    (root / "certificates/a").chmod(0o664)
    assert one.shelf.get("certificates", "a") == b"1"
    assert mode(root / "certificates/a") == 0o600
    assert one.told == [f"{root}/certificates/a was open to others (mode 0664): it is 0600 now"]
    assert one.shelf.version() == version


def test_a_directory_that_others_can_write_is_told_once_and_left(root: Path, one: Instance) -> None:
    """A volume may be so, and whoever has given a directory has other things in it, perhaps."""
    root.mkdir(parents=True)
    root.chmod(0o777)
    for value in (b"1", b"2", b"3"):
        one.shelf.put("certificates", "a", value)
    assert mode(root) == 0o777
    assert one.told == [f"{root} can be written by others (mode 0777), who could put certificates there: chmod 700 {root}"]


def test_what_else_is_in_the_directory_stays_as_it_is(root: Path, one: Instance) -> None:
    root.mkdir(parents=True)
    (root / "notes.txt").write_text("mine")
    (root / "notes.txt").chmod(0o644)
    one.shelf.put("challenges", "a", b"1", 1)
    one.shelf.put("challenges", "b", b"1", 1)
    assert (root / "notes.txt").read_text() == "mine" and mode(root / "notes.txt") == 0o644


# -- what is believed ----------------------------------------------------------------


def damaged(path: Path, how: str) -> None:
    content = path.read_bytes()
    path.unlink()
    match how:
        case "cut":
            path.write_bytes(content[:-1])
        case "empty":
            path.write_bytes(b"")
        case "zeros":
            path.write_bytes(bytes(len(content)))
        case "one bit":
            path.write_bytes(content[:-1] + bytes((content[-1] ^ 1,)))
        case "longer":
            path.write_bytes(content + b"x")
        case "another's":
            path.write_text("-----BEGIN CERTIFICATE-----\n")
        case "renamed":
            (path.parent / "b").write_bytes(content)
            path.symlink_to("b")
        case "a link":
            (path.parent.parent / "elsewhere").write_bytes(content)
            path.symlink_to(path.parent.parent / "elsewhere")
        case "a dangling link":
            path.symlink_to("nowhere")
        case "a directory":
            path.mkdir()
        case "a pipe":
            os.mkfifo(path)
        case "a socket":
            with socket.socket(socket.AF_UNIX) as sock:
                sock.bind(str(path))
        case "huge":
            with path.open("wb") as file:
                file.write(content)
                file.truncate(1 << 33)


DAMAGES = [
    "cut",
    "empty",
    "zeros",
    "one bit",
    "longer",
    "another's",
    "renamed",
    "a link",
    "a dangling link",
    "a directory",
    "a pipe",
    "huge",
]


@pytest.mark.parametrize("how", [*DAMAGES, "a socket"])
def test_what_is_damaged_is_as_if_it_were_not_there_and_that_is_told(tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # for the address of a socket, which must be short
    one = Instance(Path("acme"))
    one.shelf.put("certificates", "a", b"value")
    one.shelf.put("certificates", "other", b"1")
    damaged(Path("acme/certificates/a"), how)
    for _ in range(2):
        assert one.shelf.get("certificates", "a") is None
        assert one.shelf.names("certificates") == ["other"]
    one.shelf.version()
    assert "acme/certificates/a is not used: it is damaged, or pingap has not written it; remove it" in one.told
    assert len(one.told) == len(set(one.told))
    if how == "a directory":
        with pytest.raises(StoreError, match=r"a cannot be written: is a directory: .* must be a directory of its own"):
            one.shelf.put("certificates", "a", b"new")
        return
    one.shelf.put("certificates", "a", b"new")
    assert Instance(Path("acme")).shelf.get("certificates", "a") == b"new"


def test_a_value_of_another_kind_or_name_is_not_believed(root: Path, one: Instance) -> None:
    one.shelf.put("certificates", "a", b"1")
    one.shelf.put("orders", "b", b"1")
    os.rename(root / "certificates/a", root / "orders/a")
    os.rename(root / "orders/b", root / "orders/c")
    assert one.shelf.names("orders") == [] and one.shelf.get("orders", "a") is None
    assert len(one.told) == 2


def test_what_a_killed_writer_left_is_cleared_by_the_next(root: Path, one: Instance) -> None:
    one.shelf.put("certificates", "a", b"1")
    litter = root / "certificates/.a.abcdefgh.new"
    litter.write_bytes(b"half")
    assert one.shelf.names("certificates") == ["a"] and one.told == []
    one.shelf.put("certificates", "b", b"1")
    assert not litter.exists()


# -- ends -----------------------------------------------------------------------------


def test_an_end_holds_after_a_restart_and_the_file_goes(root: Path, one: Instance) -> None:
    one.shelf.put("challenges", "a", b"1", 60)
    one.shelf.put("challenges", "b", b"1", 60)
    later = Instance(root)
    later.now = NOW + 59
    assert later.shelf.get("challenges", "a") == b"1"
    later.now = NOW + 60
    assert later.shelf.get("challenges", "a") is None
    assert os.listdir(root / "challenges") == ["b"]
    assert later.shelf.names("challenges") == []
    assert os.listdir(root / "challenges") == []


def test_what_nobody_asks_for_any_more_goes_when_the_next_one_is_put(root: Path, one: Instance) -> None:
    for number in range(5):
        one.shelf.put("challenges", f"{number}", b"1", 60)
    one.now += 100
    one.shelf.put("challenges", "new", b"1", 60)
    assert os.listdir(root / "challenges") == ["new"]


# -- when it does not work ---------------------------------------------------------------


def as_nobody(code: str, *arguments: str) -> str:
    """What a process prints that is nobody's: root may do everything."""
    before = "import os, sys; os.setgroups([]); os.setgid(65534); os.setuid(65534)\n" if os.geteuid() == 0 else "import os, sys\n"
    imports = "from pingap.stages.acme.store.files import FileShelf\nfrom pingap.stages.acme.store.base import StoreError\n"
    words = [sys.executable, "-c", f"{imports}{before}{code}", *arguments]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def open_to_all(path: Path) -> None:
    """Others can get there: pytest's own directories are closed to them."""
    for folder in (path, *path.parents):
        if not folder.stat().st_mode & 0o001:
            folder.chmod(0o755)


TRY = """
shelf = FileShelf(sys.argv[1])
for work in (lambda: shelf.put("certificates", "a", b"1"), lambda: shelf.get("certificates", "a"), lambda: shelf.names("certificates"),
             lambda: shelf.version(), lambda: shelf.lease("issuing", 5), lambda: shelf.drop("certificates", "a")):
    try:
        work()
    except StoreError as error:
        print(error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has files of others: without it, not shown what is said of them")
@pytest.mark.processes
def test_a_directory_of_another_user_is_told_with_what_to_do(tmp_path: Path) -> None:
    open_to_all(tmp_path)
    root = tmp_path / "acme"
    FileShelf(str(root)).put("certificates", "a", b"1")
    told = as_nobody(TRY, str(root)).splitlines()
    assert len(told) == 6
    hint = (
        f"permission denied: {root} and all in it must belong to user id 65534, which pingap runs as: chown it, or give another directory"
    )
    assert all(hint in line for line in told), told
    assert told[0].startswith(f"{root}/certificates/a cannot be written: ")
    assert as_nobody(TRY, str(tmp_path / "new")).count("permission denied") == 2  # there is nothing to be read, and that is no error


def test_a_file_where_the_directory_should_be(root: Path, one: Instance) -> None:
    root.parent.mkdir()
    root.write_text("")
    for work in (lambda: one.shelf.put("orders", "a", b"1"), lambda: one.shelf.get("orders", "a"), lambda: one.shelf.lease("x", 5)):
        with pytest.raises(StoreError, match="must be a directory of its own: give another directory with acme_directory"):
            work()


def failing(number: int) -> Any:
    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOSPC, "no space left on device: make room there"),
        (errno.EROFS, "read-only file system: give another"),
        (errno.EIO, "error"),
    ],
)
def test_a_put_that_fails_leaves_what_was_there(root: Path, one: Instance, monkeypatch: pytest.MonkeyPatch, code: int, words: str) -> None:
    one.shelf.put("certificates", "a", b"old")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing(code))
        with pytest.raises(StoreError, match=words):
            one.shelf.put("certificates", "a", b"new")
    assert one.shelf.get("certificates", "a") == b"old"
    assert os.listdir(root / "certificates") == ["a"]


def test_a_file_system_without_locks_is_told(one: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", failing(errno.ENOLCK))
    words = r"this file system has no locks \(flock\), so that instances could not take turns"
    with pytest.raises(StoreError, match=words):
        one.shelf.lease("issuing", 5)
    with pytest.raises(StoreError, match=words):
        one.shelf.put("certificates", "a", b"1")


def test_an_error_of_reading_is_no_absence(root: Path, one: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else what is there would be got anew because of one bad moment of a disk."""
    one.shelf.put("certificates", "a", b"1")
    monkeypatch.setattr(os, "open", failing(errno.EIO))
    with pytest.raises(StoreError, match="cannot be read: input/output error"):
        one.shelf.get("certificates", "a")


def test_one_file_that_cannot_be_read_costs_no_other(root: Path, one: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        one.shelf.put("certificates", name, name.encode())
    open_file = os.open

    def bad_sector(path: Any, *more: Any, **named: Any) -> int:
        if str(path).endswith("/b"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return open_file(path, *more, **named)

    monkeypatch.setattr(os, "open", bad_sector)
    assert one.shelf.names("certificates") == one.shelf.names("certificates") == ["a"]
    assert one.shelf.get("certificates", "a") == b"a"
    with pytest.raises(ValueUnreadable, match="certificates/b cannot be read: input/output error"):
        one.shelf.get("certificates", "b")
    assert one.told == [f"{root}/certificates/b cannot be read: input/output error; what was in it is got anew"]
    monkeypatch.undo()
    assert one.shelf.names("certificates") == ["a", "b"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away: without it, not shown that a new owner is a change")
def test_that_a_file_was_given_to_another_user_is_a_change(root: Path, one: Instance) -> None:
    one.shelf.put("certificates", "a", b"1")
    before = one.shelf.version()
    os.chown(root / "certificates/a", 65534, 65534)
    assert one.shelf.version() != before


def test_a_directory_that_was_there_and_is_gone_is_not_empty(root: Path, one: Instance) -> None:
    assert one.shelf.names("certificates") == [] and one.shelf.version() == one.shelf.version()
    one.shelf.put("certificates", "a", b"1")
    root.rename(root.with_name("elsewhere"))
    shelf = one.shelf
    for work in (
        shelf.version,
        lambda: shelf.names("certificates"),
        lambda: shelf.get("certificates", "a"),
        lambda: shelf.put("certificates", "b", b"2"),
        lambda: shelf.lease("a", 5),
    ):
        with pytest.raises(StoreError, match=f"{root} was there and is not any more: mount it again"):
            work()
    assert not root.exists(), "nothing is written to where something else was mounted"
    root.mkdir()
    assert shelf.names("certificates") == []
    shelf.put("certificates", "b", b"2")


def test_what_is_larger_than_what_is_read_is_not_written(one: Instance) -> None:
    with pytest.raises(StoreError, match="more than are kept"):
        one.shelf.put("certificates", "a", bytes(5 << 20))
    assert one.shelf.names("certificates") == []


def test_two_changes_within_a_tick_of_the_clock_have_two_times(root: Path, one: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 1_800_000_000_000_000_000)
    times = []
    for value in (b"1", b"2", b"3"):
        one.shelf.put("certificates", "a", value)
        times.append((root / "certificates/a").stat().st_mtime_ns)
    assert [one - times[0] for one in times] == [0, 1, 2]


def test_a_lease_is_of_the_file_that_others_find(root: Path, one: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be removed between the two steps of taking it."""
    flock = fcntl.flock
    removed: list[Path] = []

    def late(fd: int, how: int) -> None:
        if not removed:
            removed.append(root / "leases/issuing")
            removed[0].unlink()
        flock(fd, how)

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", late)
        lease = one.shelf.lease("issuing", 5)
    assert lease is not None and lease.renew()
    assert Instance(root).shelf.lease("issuing", 5) is None
    lease.release()


def test_a_lease_whose_file_was_removed_is_lost(root: Path, one: Instance) -> None:
    lease = one.shelf.lease("issuing", 5)
    assert lease is not None
    (root / "leases/issuing").unlink()
    other = Instance(root).shelf.lease("issuing", 5)
    assert other is not None
    assert not lease.renew() and not lease.renew()
    lease.release()
    assert other.renew()
    other.release()
