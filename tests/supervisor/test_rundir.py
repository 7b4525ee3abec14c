"""The run dir: one instance each, private, and nobody else's files touched."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pingap import instance_dir, rundir
from pingap.rundir import RunDir, RunDirError
from pingap.service.pid_file import PidFile, PidFileError
from pingap.stages import keepsake
from pingap.stages.plugins.cache.store import memory_place


@pytest.fixture
def path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="pgr-", dir="/tmp") as name:
        yield Path(name)


def test_it_is_made_private_and_names_its_supervisor(path: Path) -> None:
    held = RunDir(str(path / "new"))
    assert (path / "new").stat().st_mode & 0o777 == 0o700
    assert rundir.supervisor_of(held.path) == os.getpid()
    held.release()
    assert list((path / "new").iterdir()) == []
    assert rundir.supervisor_of(held.path) is None


def test_a_second_instance_is_refused_with_the_pid_of_the_first(path: Path) -> None:
    held = RunDir(str(path))
    with pytest.raises(RunDirError, match=rf"already running in {path} \(pid {os.getpid()}\)"):
        RunDir(str(path))
    held.release()


def test_a_pid_file_without_its_owner_means_that_nothing_runs(path: Path) -> None:
    (path / "pid").write_text("1\n")
    assert rundir.supervisor_of(str(path)) is None
    RunDir(str(path)).release()


def test_a_directory_that_is_open_and_in_use_is_neither_taken_nor_changed(path: Path) -> None:
    path.chmod(0o755)
    (path / "precious").write_text("")
    with pytest.raises(RunDirError, match="open to other users and not empty"):
        RunDir(str(path))
    assert path.stat().st_mode & 0o777 == 0o755


def test_an_empty_directory_is_closed_to_others(path: Path) -> None:
    path.chmod(0o755)
    RunDir(str(path)).release()
    assert path.stat().st_mode & 0o777 == 0o700


def test_a_link_is_not_followed(path: Path) -> None:
    (path / "real").mkdir(0o700)
    (path / "link").symlink_to(path / "real")
    with pytest.raises(RunDirError):
        RunDir(str(path / "link"))


def test_a_path_too_long_for_sockets_is_refused_with_the_limit(path: Path) -> None:
    with pytest.raises(RunDirError, match="unix sockets allow 80"):
        RunDir(str(path / ("x" * 80)))


def test_sockets_left_behind_are_removed_and_nothing_else(path: Path) -> None:
    held = RunDir(str(path))
    (path / "7").mkdir()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path / "7" / "accept.0.1"))
    (path / "notes.txt").write_text("mine")
    assert held.clear() == 0
    assert {entry.name for entry in path.iterdir()} == {"pid", "current", "1", "notes.txt"}
    held.release()
    assert (path / "notes.txt").read_text() == "mine"


@pytest.mark.processes
def test_processes_of_a_killed_instance_are_ended(path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as left:
        (path / "1").mkdir()
        (path / "1" / "processes").write_text(f"supervisor 1 1\n{left.pid} {instance_dir.start_time(left.pid)}\n")
        held = RunDir(str(path))
        assert held.clear() == 1
        assert left.wait(5) == -9
        held.release()


@pytest.mark.processes
def test_a_process_that_only_has_the_same_pid_is_left_alone(path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as other:
        held = RunDir(str(path))
        (path / "7").mkdir()
        (path / "7" / "processes").write_text(f"{other.pid} 12345\nnonsense\n-1 2\n")
        assert held.clear() == 0
        assert other.poll() is None
        other.kill()
        held.release()


def test_where_it_is_by_default(path: Path) -> None:
    assert rundir.default({"PINGAP_RUN_DIR": "/x/y", "XDG_RUNTIME_DIR": str(path)}) == "/x/y"
    if os.getuid() == 0:  # also in a session: a service has none, and the shell that asks it has one
        assert rundir.default({"XDG_RUNTIME_DIR": str(path)}) == "/run/pingap"
    else:
        assert rundir.default({"XDG_RUNTIME_DIR": str(path)}) == f"{path}/pingap"
    assert rundir.default({"XDG_RUNTIME_DIR": "/proc/no/such"}) == rundir.default({})
    assert rundir.default({}) == ("/run/pingap" if os.getuid() == 0 else f"/tmp/pingap-{os.getuid()}")


def test_somebody_elses_runtime_directory_is_not_used(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    assert rundir.default({"XDG_RUNTIME_DIR": str(path)}) == "/tmp/pingap-4711"


# -- somebody cleans up ---------------------------------------------------------------


def _remove(path: Path, what: str) -> None:
    if what == "the directory":
        shutil.rmtree(path)
        return
    for entry in list(path.iterdir()):
        if what in ("everything", entry.name):
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    if what == "processes":
        (path / "current" / what).unlink()


@pytest.mark.parametrize("what", ["pid", "current", "1", "processes", "everything", "the directory"])
def test_whatever_is_removed_it_stays_taken_and_is_made_anew(path: Path, what: str) -> None:
    directory = path / "run"
    held = RunDir(str(directory))
    held.record([os.getpid()])
    assert held.restore() == []
    before = keepsake.run_of(held.own.path)
    for _ in range(3):
        _remove(directory, what)
        with pytest.raises(RunDirError, match=rf"already running in {directory} \(pid {os.getpid()}\)"):
            RunDir(str(directory))
        assert rundir.supervisor_of(held.path) == os.getpid()
        assert held.restore()
        assert held.restore() == []
        assert (directory / "pid").read_text() == f"{os.getpid()}\n"
        assert (directory / "current" / "processes").read_text().startswith(f"supervisor {os.getpid()} ")
        assert directory.stat().st_mode & 0o777 == 0o700
        assert keepsake.run_of(held.own.path) == before, "what stages keep there still belongs to this run"
        with pytest.raises(RunDirError, match="already running"):
            RunDir(str(directory))
    held.release()
    RunDir(str(directory)).release()
    assert list(directory.iterdir()) == []


def test_many_who_ask_who_is_there_are_all_told(path: Path) -> None:
    held = RunDir(str(path / "run"))
    shutil.rmtree(path / "run")
    for _ in range(400):
        assert rundir.supervisor_of(held.path) == os.getpid()
        held.restore()
        shutil.rmtree(path / "run", ignore_errors=True)
    held.release()


def test_a_directory_that_cannot_be_made_anew_is_told_and_nothing_of_others_is_touched(path: Path) -> None:
    held = RunDir(str(path / "run"))
    shutil.rmtree(path / "run")
    (path / "run").write_text("somebody else's")
    with pytest.raises(OSError):
        held.restore()
    held.release()
    assert (path / "run").read_text() == "somebody else's"


@pytest.mark.processes
def test_a_living_supervisors_processes_are_no_orphans_even_without_a_lock(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as other:
        started = instance_dir.start_time(other.pid)
        (path / "1").mkdir()
        (path / "current").symlink_to("1")
        (path / "1" / "processes").write_text(f"supervisor {other.pid} {started}\n{other.pid} {started}\n")
        with pytest.raises(RunDirError, match=rf"already running in {path} \(pid {other.pid}\)"):
            RunDir(str(path))
        assert other.poll() is None
        (path / "1" / "processes").write_text(f"supervisor {other.pid} {started + 1}\n")
        held = RunDir(str(path))  # the pid is another's by now
        assert held.clear() == 0
        held.release()
        other.kill()


def test_where_no_abstract_socket_can_be_had_the_locks_do(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rundir, "_word", lambda path: "/nonexistent/socket")
    held = RunDir(str(path))
    (path / "pid").unlink()
    with pytest.raises(RunDirError, match="already running"):
        RunDir(str(path))
    assert rundir.supervisor_of(held.path) == 0
    assert held.restore() == ["pid"]
    assert rundir.supervisor_of(held.path) == os.getpid()
    held.release()
    assert rundir.supervisor_of(held.path) is None


def test_the_pid_file_of_the_configuration_is_written_again(path: Path) -> None:
    held = PidFile(str(path / "pid"))
    assert not held.restore()
    (path / "pid").unlink()
    assert held.restore()
    assert (path / "pid").read_text() == f"{os.getpid()}\n"
    with pytest.raises(PidFileError, match="belongs to another pingap"):
        PidFile(str(path / "pid"))
    held.release()
    assert not (path / "pid").exists()


def test_the_instance_that_takes_over_knows_which_backends_are_dead_but_reads_the_configuration_itself(path: Path) -> None:
    old = RunDir(str(path))
    for name in ("health.last", "circuits.last", "config.last"):
        keepsake.save(old.own.path, name, {"saved as": name})
    new = RunDir(str(path), [os.dup(fd) for fd in old.descriptors()])
    assert os.readlink(path / "current") == "1" and new.own.number == 2
    assert keepsake.restore(new.own.path, "health.last") == {"saved as": "health.last"}
    assert keepsake.restore(new.own.path, "circuits.last") == {"saved as": "circuits.last"}
    assert keepsake.restore(new.own.path, "config.last") is None
    old.give_away()
    new.take_office()
    assert os.readlink(path / "current") == "2"
    old.release()
    with pytest.raises(RunDirError, match="already running"):
        RunDir(str(path))
    new.release()
    assert list(path.iterdir()) == []


def both(path: Path) -> tuple[RunDir, RunDir]:
    """An instance, and the next one on the point of taking over."""
    old = RunDir(str(path))
    return old, RunDir(str(path), [os.dup(fd) for fd in old.descriptors()])


def test_who_still_drains_keeps_nobody_out_once_the_next_one_has_gone(path: Path) -> None:
    old, new = both(path)
    old.give_away()
    new.take_office()
    new.release()
    assert rundir.supervisor_of(str(path)) is None
    again = RunDir(str(path))
    again.clear()
    again.release()
    old.release()
    assert list(path.iterdir()) == []


def test_a_run_dir_that_is_removed_during_an_upgrade_is_made_anew_by_who_serves(path: Path) -> None:
    old, new = both(path / "run")
    old.give_away()
    new.take_office()
    shutil.rmtree(path / "run")
    assert old.restore() == []
    assert "the directory" in new.restore()
    assert (path / "run").stat().st_mode & 0o777 == 0o700
    assert old.restore() == ["1"] and new.restore() == []
    old.release()
    new.release()


def test_only_the_run_dir_itself_is_taken_over(path: Path) -> None:
    (path / "mine").mkdir(0o700)
    (path / "other").mkdir(0o700)
    held = RunDir(str(path / "mine"))
    with pytest.raises(RunDirError, match="is not what was handed over"):
        RunDir(str(path / "mine"), [os.open(path / "other", os.O_RDONLY), os.dup(held.descriptors()[1])])
    with pytest.raises(RunDirError, match="is not what was handed over"):
        RunDir(str(path / "mine"), [os.dup(held.descriptors()[0]), os.open("/", os.O_RDONLY)])
    held.release()


def test_what_a_restart_goes_on_with_is_left_there_and_a_stop_leaves_nothing(path: Path) -> None:
    for is_restart, left in ((True, {"tickets.last", "staples.last"}), (False, set())):
        held = RunDir(str(path))
        for name in ("tickets.last", "staples.last"):
            (path / name).write_text("x")
        held.release(is_restart)
        assert set(os.listdir(path)) == left


def test_a_link_in_the_place_of_a_keepsake_is_not_followed(path: Path) -> None:
    old = RunDir(str(path))
    (path / "secret").write_text("not for you")
    os.symlink(path / "secret", os.path.join(old.own.path, "health.last"))
    new = RunDir(str(path), [os.dup(fd) for fd in old.descriptors()])
    assert not os.path.lexists(os.path.join(new.own.path, "health.last"))
    new.release()
    old.release()


def test_what_a_cache_has_in_memory_goes_with_the_instance_and_not_with_the_one_before(path: Path) -> None:
    shared = Path(memory_place.memory_place(str(path)))
    assert shared.parent == Path("/dev/shm")
    for place in (shared, path / "cache"):
        memory_place.made(str(place))
        (place / "old").write_text("")
    first = RunDir(str(path))
    first.clear()  # as each instance does at its start
    assert not shared.exists() and not (path / "cache").exists()
    memory_place.made(str(shared))
    second = RunDir(str(path), [os.dup(fd) for fd in first.descriptors()])
    second.clear()
    first.give_away()
    second.take_office()
    first.release()
    assert shared.exists()
    second.release()
    assert not shared.exists()


def test_what_killed_instances_elsewhere_have_left_in_memory_goes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing that somebody uses, or that does not say whose it is."""
    memory, elsewhere = path / "shm", path / "elsewhere"
    memory.mkdir()
    monkeypatch.setattr(memory_place, "SHARED_MEMORY", str(memory))
    living = RunDir(str(elsewhere / "lives"))
    handed_over = elsewhere / "ends/7"
    handed_over.mkdir(parents=True)
    parent = os.getppid()
    (handed_over / "processes").write_text(f"supervisor {parent} {instance_dir.start_time(parent)}\n")
    left, made = ("gone", "killed"), {}
    for name in ("gone", "killed", "lives", "ends", "open", "young", "unsaid"):
        place = Path(memory_place._shared_place(str(elsewhere / name)))
        (place / "default").mkdir(parents=True)
        place.chmod(0o700)
        (place / "default/users").write_text("")
        if name != "unsaid":
            memory_place.claim(str(place), str(elsewhere / name))
            if name != "young":
                os.utime(place / memory_place.OWNER, (1, 1))
        made[name] = place
    (elsewhere / "killed").mkdir()
    (elsewhere / "killed/pid").write_text("1\n")
    user = os.open(made["open"] / "default/users", os.O_RDONLY)
    fcntl.flock(user, fcntl.LOCK_SH)  # in a container whose run dirs are not seen here

    held = RunDir(str(path / "new"))
    held.clear()
    assert {name for name, place in made.items() if not place.exists()} == set(left)
    os.close(user)
    living.release()
    held.release()
    assert {name for name, place in made.items() if place.exists()} == {"ends", "young", "unsaid"}


def test_a_place_in_memory_that_is_anothers_is_refused(path: Path) -> None:
    place = path / "cache"
    place.symlink_to(path)
    with pytest.raises(PermissionError, match="remove it"):
        memory_place.made(str(place))
    place.unlink()
    place.mkdir(0o755)
    with pytest.raises(PermissionError, match="closed to others"):
        memory_place.made(str(place))
    place.chmod(0o700)
    memory_place.made(str(place))
    if os.getuid() == 0:
        os.chown(place, 12345, 12345)
        with pytest.raises(PermissionError, match="not a directory of user 0"):
            memory_place.made(str(place))
