"""`[basic] user`: root binds, and then no process is root's any more; and all that a running pingap does still works."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pingap.rundir import RunDir
from tests.e2e.as_user import USER, AsUser, needs_root, open_python
from tests.e2e.harness import Pingap
from tests.kit.waiting import free_port, low_port, until

pytestmark = [pytest.mark.processes, needs_root]

BIND = 1 << 10
SITE = """[basic]
user = "nobody"
error_log = "{dir}/error.log"
pid_file = "{dir}/pid"
[servers.plain]
addr = "127.0.0.1:{port}"
reuse_port = true
access_log = "{dir}/logs/access.log combined"
locations = ["ping"]
[locations.ping]
plugins = ["pingap:ping"]
"""


def status(pid: int, name: str) -> list[str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split()[1:] for line in lines if line.startswith(f"{name}:"))


@pytest.fixture(scope="module")
def instance() -> Iterator[AsUser]:
    one = AsUser(SITE, port=low_port())
    logs = one.dir / "logs"
    logs.mkdir()
    shutil.chown(logs, USER, "nogroup")
    with one:
        yield one


def ours(instance: Pingap) -> list[int]:
    return sorted(instance.processes())


def test_no_process_is_roots_and_none_can_be_again(instance: AsUser) -> None:
    account = pwd.getpwnam(USER)
    supervisor = instance.ps()[0].pid
    for pid in ours(instance):
        assert status(pid, "Uid") == [str(account.pw_uid)] * 4
        assert status(pid, "Gid") == [str(account.pw_gid)] * 4
        assert set(status(pid, "Groups")) <= {str(group) for group in os.getgrouplist(USER, account.pw_gid)}
        assert status(pid, "NoNewPrivs") == ["1"]
        for kind in ("CapPrm", "CapEff", "CapInh", "CapAmb"):
            assert int(status(pid, kind)[0], 16) == (BIND if pid == supervisor else 0), (pid, kind)


def test_a_port_that_only_root_may_bind_is_served(instance: AsUser) -> None:
    assert instance.port < 1024
    assert instance.get("/ping").status == 200


def test_ps_sees_its_processes_as_if_the_user_had_started_them(instance: AsUser) -> None:
    rows = instance.ps()
    assert all(row.raw["rss"] > 1_000_000 and row.raw["pss"] > 0 and row.raw["open_files"] > 3 for row in rows), rows


def test_what_root_made_at_the_start_is_the_users(instance: AsUser) -> None:
    for name in ("error.log", "pid", "run", "run/current", "run/pid", "logs/access.log"):
        assert os.lstat(instance.dir / name).st_uid == pwd.getpwnam(USER).pw_uid, name
    assert (instance.dir / "pid").read_text().strip() == str(instance.ps()[0].pid)


def test_a_killed_stage_and_a_killed_spawner_come_back_as_the_user(instance: AsUser) -> None:
    old = instance.pid("routing")
    assert instance.command("kill", "spawner.0").returncode == 0
    assert instance.command("kill", "routing.0").returncode == 0
    row = instance.wait_restarted("routing", old)
    assert status(row.pid, "Uid")[0] == str(pwd.getpwnam(USER).pw_uid)
    spawner = until(lambda: next((row for row in instance.ps() if row.stage == "spawner" and row.restarts), None), 5, "another spawner")
    assert status(spawner.pid, "CapEff") == status(row.pid, "CapEff") == ["0000000000000000"]
    assert instance.get("/ping").status == 200


def test_a_new_replica_gets_a_socket_of_its_own_on_a_low_port(instance: AsUser) -> None:
    before = len(instance.output())
    assert instance.command("scale", "accept=2").returncode == 0
    log = (instance.dir / "error.log").read_text()
    assert "cannot have the addresses" not in log, log
    assert instance.command("scale", "accept=1").returncode == 0
    assert "error" not in instance.output()[before:]


def test_a_reload_reads_as_the_user(instance: AsUser) -> None:
    instance.write_config(SITE + 'remark = "changed"\n')
    done = instance.command("reload")
    assert done.returncode == 0, done.stderr
    instance.config.chmod(0o600)
    os.utime(instance.config)
    done = instance.command("reload")
    assert done.returncode == 1 and "permission denied" in done.stderr.lower()
    instance.write_config(SITE)
    assert instance.command("reload").returncode == 0


def test_logs_are_opened_anew_where_the_user_may(instance: AsUser) -> None:
    log = instance.dir / "logs/access.log"
    instance.get("/ping?before")
    until(lambda: "before" in log.read_text(), 3, "the request is logged")
    log.rename(log.with_suffix(".1"))
    os.kill(instance.ps()[0].pid, signal.SIGUSR1)
    until(log.exists, 3, "the log is made anew")
    instance.get("/ping?after")
    until(lambda: "after" in log.read_text(), 3, "the request is in the new one")


def test_a_restart_binds_the_low_port_again_and_stays_the_user(instance: AsUser) -> None:
    pid = instance.ps()[0].pid
    done = instance.command("restart")
    assert done.returncode == 0, done.stderr
    assert instance.ps()[0].pid == pid
    assert instance.get("/ping").status == 200
    assert {status(each, "Uid")[0] for each in ours(instance)} == {str(pwd.getpwnam(USER).pw_uid)}
    assert "without effect" not in instance.output()


def test_an_upgrade_keeps_the_low_port_the_user_and_the_pid_file(instance: AsUser) -> None:
    before = instance.ps()[0].pid
    done = instance.command("upgrade")
    assert done.returncode == 0, done.stderr + instance.output()[-2000:]
    after = instance.ps()[0].pid
    assert after != before
    assert int((instance.dir / "pid").read_text()) == after
    assert instance.get("/ping").status == 200
    assert status(after, "Uid") == [str(pwd.getpwnam(USER).pw_uid)] * 4
    assert int(status(after, "CapPrm")[0], 16) == BIND
    assert {status(row.pid, "CapPrm")[0] for row in instance.ps()[1:]} == {"0" * 16}


# -- starts of their own ---------------------------------------------------------------------


def test_root_takes_back_the_run_dir_of_an_instance_that_is_no_more() -> None:
    with AsUser(SITE.replace("/logs/", "/")) as instance:
        instance.stop()
        assert (instance.dir / "run").stat().st_uid == pwd.getpwnam(USER).pw_uid
        assert (instance.dir / "pid").read_text() == ""  # in a directory where the user cannot remove it
        instance.output_file.unlink()
        instance.start()
        instance.kill_all()
        instance.output_file.unlink()
        instance.start()
        assert instance.get("/ping").status == 200


def test_root_takes_over_from_the_user_and_becomes_him_too() -> None:
    with AsUser(SITE.replace("/logs/", "/")) as instance:
        log = instance.dir / "second"
        with log.open("wb") as output:
            next_one = subprocess.Popen([*instance.argv, "-u"], env=instance.env, stdout=output, stderr=output, cwd=instance.dir)
        try:
            until(lambda: "\nready in " in log.read_text() or next_one.poll() is not None, 20, "the next one serves")
            assert next_one.poll() is None, log.read_text()
            assert instance.process is not None and instance.process.wait(15) == 0
            assert instance.ps()[0].pid == next_one.pid
            assert instance.get("/ping").status == 200
            assert {status(row.pid, "Uid")[1] for row in instance.ps()} == {str(pwd.getpwnam(USER).pw_uid)}
            assert instance.command("down").returncode == 0
            assert next_one.wait(10) == 0
        finally:
            if next_one.poll() is None:
                next_one.kill()
                next_one.wait()


def refusal(config: str) -> str:
    instance = AsUser(config)
    try:
        process = instance.launch()
        assert process.wait(10) != 0
        return instance.output()
    finally:
        instance.discard()


@pytest.mark.parametrize(
    ("basic", "said"),
    [
        ('user = "no-such-one"', "basic.user: there is no user 'no-such-one' on this system"),
        ('user = "nobody"\ngroup = "no-such-one"', "basic.group: there is no group 'no-such-one' on this system"),
        ('user = "4711"', "basic.user: user id 4711 has no entry here, and so no group"),
    ],
)
def test_an_unknown_user_or_group_is_a_problem_at_its_path(basic: str, said: str) -> None:
    assert said in refusal(f'[basic]\n{basic}\n[servers.a]\naddr = "127.0.0.1:{{port}}"\n')


def test_a_number_and_a_group_will_do() -> None:
    with AsUser(SITE.replace('"nobody"', '"4711"\ngroup = "12"').replace("/logs/", "/")) as instance:
        for pid in ours(instance):
            assert status(pid, "Uid") == ["4711"] * 4
            assert status(pid, "Gid") == ["12"] * 4
            assert status(pid, "Groups") == ["12"]


def test_what_only_root_can_read_is_refused_before_anything_is_bound() -> None:
    instance = AsUser(SITE.replace("/logs/", "/"))
    instance.config.chmod(0o600)
    try:
        assert instance.launch().wait(10) == 2
        assert "cannot be read: permission denied" in instance.output()
        assert "looked at as nobody" in instance.output()
        python, _ = open_python()
        argv = [python, "-m", "pingap", "check", "-c", str(instance.config)]
        done = subprocess.run(argv, env=instance.env, capture_output=True, text=True, check=False, cwd="/")
        assert done.returncode == 2 and "looked at as nobody" in done.stderr
    finally:
        instance.discard()


def test_check_tells_which_log_the_user_could_not_make_anew() -> None:
    instance = AsUser(SITE)
    (instance.dir / "logs").mkdir()
    shutil.chown(instance.dir / "logs", USER, "nogroup")
    try:
        python, _ = open_python()
        argv = [python, "-m", "pingap", "check", "-c", str(instance.config)]
        done = subprocess.run(argv, env=instance.env, capture_output=True, text=True, check=False, cwd="/")
        assert done.returncode == 0, done.stderr
        assert f"note: basic.error_log: {instance.dir}/error.log cannot be made anew" in done.stderr
        assert "create 0640" in done.stderr and "access_log" not in done.stderr
        assert not (instance.dir / "error.log").exists(), "a check makes nothing"
    finally:
        instance.discard()


def test_a_link_that_the_user_has_put_is_not_followed_as_root() -> None:
    """The log of a directory that is the user's, the way to root of many a daemon."""
    instance = AsUser(SITE)
    logs, precious = instance.dir / "logs", instance.dir / "precious"
    logs.mkdir()
    (logs / "access.log").symlink_to(precious)
    shutil.chown(logs, USER, "nogroup")
    try:
        assert instance.launch().wait(10) == 2
        assert not precious.exists()
        assert "precious" in instance.output() or "access.log" in instance.output()
    finally:
        instance.discard()


def test_a_run_dir_names_no_process_of_others_to_be_killed_by_root() -> None:
    """What is written down in a user's directory is obeyed for that user's processes only."""
    with tempfile.TemporaryDirectory(prefix="pgr-", dir="/tmp") as name:
        victim = subprocess.Popen(["sleep", "60"])
        own = Path(name, "1")
        own.mkdir()
        started = Path(f"/proc/{victim.pid}/stat").read_text().rpartition(")")[2].split()[19]
        (own / "processes").write_text(f"supervisor 1 1\n{victim.pid} {started}\n")
        for path in (own / "processes", own, name):
            shutil.chown(path, USER, "nogroup")
        held = RunDir(name)
        held.clear()
        assert victim.poll() is None
        held.release()
        victim.kill()
        victim.wait()


def test_root_takes_no_directory_from_a_user_that_is_no_run_dir() -> None:
    from pingap.rundir import RunDirError

    with tempfile.TemporaryDirectory(prefix="pgr-", dir="/tmp") as name:
        Path(name, "diary").write_text("")
        shutil.chown(name, USER, "nogroup")
        with pytest.raises(RunDirError, match="not a directory of user 0"):
            RunDir(name)
        assert Path(name).stat().st_uid == pwd.getpwnam(USER).pw_uid


def test_a_user_without_effect_is_a_note() -> None:
    python, path = open_python()
    with tempfile.TemporaryDirectory(prefix="pgr-", dir="/tmp") as name:
        config = Path(name, "pingap.toml")
        config.write_text(f'[basic]\nuser = "root"\n[servers.a]\naddr = "127.0.0.1:{free_port()}"\n')
        for each in (Path(name), config):
            each.chmod(0o755)
        argv = [python, "-m", "pingap", "check", "-c", str(config)]
        done = subprocess.run(argv, user=USER, env=path, cwd="/", capture_output=True, text=True, check=False)
        assert "note: basic.user: without effect: this is user id" in done.stderr and done.returncode == 0, done.stderr
        config.write_text(f'[basic]\nuser = "{USER}"\n[servers.a]\naddr = "127.0.0.1:{free_port()}"\n')
        done = subprocess.run(argv, user=USER, env=path, cwd="/", capture_output=True, text=True, check=False)
        assert "basic.user" not in done.stderr and done.returncode == 0, done.stderr
