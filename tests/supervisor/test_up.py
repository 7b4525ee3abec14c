"""`pingap up` with real processes: start, failure, restarts, scaling, signals, the end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pingap.plan_state import SAME
from pingap.rundir import supervisor_of
from tests.kit.waiting import is_alive, title, until
from tests.supervisor.conftest import Instance

pytestmark = [pytest.mark.alone, pytest.mark.processes]

Launch = Callable[..., Instance]


# -- start ------------------------------------------------------------------------


def test_it_prints_a_table_of_stages_and_one_line_when_it_serves(instance: Instance) -> None:
    lines = instance.output().splitlines()
    assert lines[0].split() == ["STAGE", "REPLICA", "PID", "CPU", "ENDPOINT"]
    assert [line.split()[0] for line in lines[1:7]] == ["logging", "config", "accept", "routing", "plugins", "upstream"]
    assert lines[7].startswith("ready in ") and lines[7].endswith(f"http://127.0.0.1:{instance.port}")
    with instance.connect() as line:
        assert int(line.ask("who")) == instance.pid("accept")


def test_each_process_says_by_its_title_what_it_is(instance: Instance) -> None:
    titles = {title(pid) for pid in instance.members()}
    assert {"pingap: supervisor", "pingap: spawner", "pingap: accept.0", "pingap: logging.0", "pingap: upstream.0"} <= titles


def test_ps_lists_every_actor_with_its_figures(instance: Instance) -> None:
    with instance.connect() as line:
        line.ask("who")
        until(lambda: instance.row("accept")["requests"] == 1, 3, "the heartbeat brought the figures")
    row = instance.row("accept")
    assert {"stage", "replica", "pid", "state", "restarts", "cpus", "rss", "in_flight", "requests"} <= row.keys()
    assert row["state"] == "ready" and row["restarts"] == 0 and row["rss"] > 1_000_000
    table = instance.command("ps").stdout.splitlines()
    assert table[0].split() == ["STAGE", "PID", "STATE", "UPTIME", "RESTARTS", "CPUS", "RSS", "IN-FLIGHT", "REQUESTS"]
    assert table.index("") == 1 + 8
    assert table[10].startswith("pingap ") and "ready for" in table[10]


def test_replicas_and_cpus_come_from_the_configuration_and_scale_wins(launch: Launch) -> None:
    cpu = min(os.sched_getaffinity(0))
    stages = f"[stages.accept]\nreplicas = 2\ncpus = [{cpu}]\n[stages.upstream]\nreplicas = 2\n"
    instance = launch(stages, scale={"upstream": 1}).ready()
    rows = instance.ps()
    assert [row["replica"] for row in rows if row["stage"] == "accept"] == [0, 1]
    assert [row["replica"] for row in rows if row["stage"] == "upstream"] == [0]
    assert os.sched_getaffinity(instance.pid("accept", 1)) == {cpu}
    assert instance.row("accept", 1)["cpus"] == [cpu]


def test_colocated_puts_the_request_path_into_one_process(launch: Launch) -> None:
    instance = launch(placement="colocated", workers=2).ready()
    rows = [row for row in instance.ps() if row["stage"] in ("accept", "routing", "plugins", "upstream")]
    assert len(rows) == 8 and len({row["pid"] for row in rows}) == 2
    assert title(instance.pid("plugins", 1)) == "pingap: worker.1"
    with instance.connect() as line:
        assert line.ask("crew") == "['plugins', 'routing', 'upstream']"


def test_every_address_that_cannot_be_listened_on_is_told_and_the_exit_code_is_1(launch: Launch) -> None:
    with socket.socket() as taken, socket.socket() as other:
        ports = []
        for sock in (taken, other):
            sock.bind(("127.0.0.1", 0))
            sock.listen()
            ports.append(sock.getsockname()[1])
        instance = launch("".join(f'[servers.s{port}]\naddr = "127.0.0.1:{port}"\n' for port in ports))
        assert instance.wait() == 1
    for port in ports:
        assert f"servers.s{port}.addr: cannot listen on 127.0.0.1:{port}: address already in use" in instance.output()


def test_a_bad_configuration_ends_with_2_and_all_problems(launch: Launch) -> None:
    instance = launch('[basic]\nthreads = "many"\n[locations.x]\nupstream = "none"\n')
    assert instance.wait() == 2
    assert "basic.threads" in instance.output() and "locations.x.upstream" in instance.output()


def test_a_cpu_that_is_not_there_is_bad_configuration(launch: Launch) -> None:
    instance = launch("[stages.accept]\ncpus = [900]\n")
    assert instance.wait() == 2
    assert "stages.accept.cpus: CPU 900 cannot be used here" in instance.output()


@pytest.mark.parametrize(
    ("actor", "reason"),
    [("CannotBoot", "failed to start: OSError: no such disk"), ("CannotBeMade", "ValueError: made of nothing")],
)
def test_a_stage_that_cannot_boot_ends_the_start_with_its_reason(launch: Launch, actor: str, reason: str) -> None:
    instance = launch(actors={"plugins": f"tests.supervisor.actors:{actor}"})
    assert instance.wait() == 1
    last = instance.output().splitlines()[-1]
    assert last.startswith("pingap: plugins.0 ") and last.endswith(reason)


def test_a_stage_that_cannot_be_imported_ends_the_start_with_its_reason(launch: Launch) -> None:
    instance = launch(actors={"plugins": "tests.supervisor.no_such_module:Actor"})
    assert instance.wait() == 1
    assert "No module named 'tests.supervisor.no_such_module'" in instance.output().splitlines()[-1]


def test_a_loader_that_fails_ends_the_start_with_its_reason(launch: Launch) -> None:
    instance = launch(loader="tests.supervisor.actors:never_loads")
    assert instance.wait() == 1
    assert instance.output().splitlines()[-1] == "pingap: /nonexistent/file: No such file or directory"


def test_a_second_up_on_the_same_run_dir_says_who_is_there(instance: Instance, launch: Launch) -> None:
    second = launch(run_dir=str(instance.run_dir))
    assert second.wait() == 1
    assert f"pingap is already running in {instance.run_dir} (pid {instance.process.pid})" in second.output()
    assert instance.ps()


def test_a_term_while_it_starts_ends_it_with_0(launch: Launch) -> None:
    instance = launch(actors={"plugins": "tests.supervisor.actors:NeverReady"})
    until((instance.run_dir / "current" / "control").exists, 5, "it starts its processes")
    instance.signal(signal.SIGTERM)
    assert instance.wait() == 0


# -- death --------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["logging", "config", "accept", "routing", "upstream"])
def test_a_killed_process_is_replaced_within_a_second(instance: Instance, stage: str) -> None:
    old = instance.pid(stage)
    began = time.monotonic()
    os.kill(old, signal.SIGKILL)
    row = instance.wait_replaced(stage, old)
    assert time.monotonic() - began < 1
    assert row["restarts"] == 1


def test_the_death_of_logging_is_in_the_log_when_that_is_back(instance: Instance) -> None:
    os.kill(instance.pid("logging"), signal.SIGKILL)
    instance.wait_log("logging.0 was killed by SIGKILL: started again at once", 5)
    instance.wait_log("logging.0 is back", 5)


def test_connections_that_come_while_accept_is_dead_are_served_by_its_successor(instance: Instance) -> None:
    old = instance.pid("accept")
    os.kill(old, signal.SIGKILL)
    with instance.connect() as line:
        assert int(line.ask("who")) != old


def test_a_hung_process_is_found_and_replaced(instance: Instance) -> None:
    old = instance.pid("upstream")
    os.kill(old, signal.SIGSTOP)
    instance.wait_log("upstream.0 was silent for 3 s and was killed: started again at once", 6)
    assert instance.wait_replaced("upstream", old)["restarts"] == 1
    assert not is_alive(old)


@pytest.mark.slow
def test_after_all_of_it_was_suspended_for_a_while_nobody_takes_anybody_for_dead(instance: Instance) -> None:
    before = instance.ps()
    pids = instance.members()
    for number, pause in ((signal.SIGSTOP, 4.0), (signal.SIGCONT, 2.0)):
        for pid in pids:
            os.kill(pid, number)
        time.sleep(pause)  # the time itself is what is tested
    assert [(row["process"], row["pid"], row["restarts"]) for row in instance.ps()] == [
        (row["process"], row["pid"], row["restarts"]) for row in before
    ]


def test_a_dead_worker_is_replaced_whole(launch: Launch) -> None:
    instance = launch(placement="colocated").ready()
    old = instance.pid("routing")
    os.kill(old, signal.SIGKILL)
    instance.wait_replaced("routing", old)
    with instance.connect() as line:
        assert int(line.ask("who")) == instance.pid("upstream")


def test_without_its_spawner_everything_goes_on_and_deaths_are_still_seen(instance: Instance) -> None:
    before = {row["stage"]: row["pid"] for row in instance.ps()}
    os.kill(before["spawner"], signal.SIGKILL)
    instance.wait_log("the spawner died: another is started, the processes go on")
    os.kill(before["routing"], signal.SIGKILL)
    instance.wait_replaced("routing", before["routing"])
    after = {row["stage"]: row["pid"] for row in instance.ps()}
    assert after["spawner"] != before["spawner"]
    assert {stage for stage in after if after[stage] != before[stage]} == {"spawner", "routing"}
    os.kill(after["accept"], signal.SIGKILL)
    instance.wait_replaced("accept", after["accept"])
    with instance.connect() as line:
        assert int(line.ask("who")) == instance.pid("accept")


def test_a_dead_actor_leaves_no_socket_behind(instance: Instance) -> None:
    endpoint = Path(instance.row("upstream")["endpoint"].removeprefix("ipc://"))
    assert endpoint.exists()
    old = instance.pid("upstream")
    os.kill(old, signal.SIGKILL)
    instance.wait_replaced("upstream", old)
    assert not endpoint.exists()


@pytest.mark.slow
def test_nothing_is_left_within_ten_seconds_of_killing_the_supervisor_not_even_what_hangs(instance: Instance) -> None:
    os.kill(instance.pid("plugins"), signal.SIGSTOP)
    instance.process.kill()
    began = time.monotonic()
    instance.wait()
    assert time.monotonic() - began < 10


def test_a_new_instance_starts_at_once_where_another_was_killed(instance: Instance) -> None:
    old = instance.members()
    with instance.connect() as line:
        line.say("hold")  # who holds nothing leaves when its supervisor is gone
        until(lambda: instance.row("accept")["in_flight"] == 1, 5, "it is held")
        instance.process.kill()
        instance.process.wait(5)
        instance.output_file.write_text("")
        instance.launch()
        instance.ready()
    assert "processes that a killed pingap had left behind" in instance.output()
    assert not any(is_alive(pid) for pid in old)
    with instance.connect() as line:
        assert int(line.ask("who")) == instance.pid("accept")


# -- scaling ---------------------------------------------------------------------------


def test_a_stage_is_scaled_up_and_down_while_it_runs(instance: Instance) -> None:
    done = instance.command("scale", "upstream=3")
    assert (done.returncode, done.stdout) == (0, "upstream: 1 → 3\n")
    assert [row["state"] for row in instance.ps() if row["stage"] == "upstream"] == ["ready"] * 3
    gone = instance.pid("upstream", 2)
    done = instance.command("scale", "upstream=1")
    assert (done.returncode, done.stdout) == (0, "upstream: 3 → 1, 2 finish what they hold and leave\n")
    until(lambda: len([row for row in instance.ps() if row["stage"] == "upstream"]) == 1, 5, "they are gone")
    assert not is_alive(gone)
    assert instance.row("upstream")["restarts"] == 0


def test_a_replica_that_is_scaled_away_finishes_what_it_holds(instance: Instance) -> None:
    instance.command("scale", "accept=2")
    there = instance.pid("accept", 1)
    lines = [instance.connect()]
    while int(lines[-1].ask("who")) != there:  # which replica takes a connection is the kernel's choice
        assert len(lines) < 400
        lines.append(instance.connect())
    line = lines[-1]
    line.say("hold")
    until(lambda: instance.row("accept", 1)["in_flight"] == 1, 3, "it holds a stream")
    instance.command("scale", "accept=1")
    until(lambda: instance.row("accept", 1)["state"] == "draining", 3, "it drains")
    assert line.ask("done") == "done"
    until(lambda: not is_alive(there), 5, "it is gone")
    for each in lines:
        each.close()


def test_with_reuse_port_each_replica_listens_for_itself_and_closes_when_it_leaves(launch: Launch) -> None:
    instance = launch("", server="reuse_port = true").ready()
    instance.command("scale", "accept=2")
    pids = set()
    for _ in range(40):
        with instance.connect() as line:
            pids.add(int(line.ask("who")))
    assert pids == {instance.pid("accept", 0), instance.pid("accept", 1)}
    instance.command("scale", "accept=1")
    until(lambda: len([row for row in instance.ps() if row["stage"] == "accept"]) == 1, 5, "it is gone")
    for _ in range(20):
        with instance.connect() as line:
            assert int(line.ask("who")) == instance.pid("accept", 0)


@pytest.mark.parametrize(
    ("what", "code", "reason"),
    [
        ("config=2", 1, "'config' cannot be scaled here: accept, routing, plugins, upstream can"),
        ("worker=2", 1, "'worker' cannot be scaled here: accept, routing, plugins, upstream can"),
        ("upstream=0", 2, "is not STAGE=N with N from 1 to 1024"),
        ("upstream", 2, "is not STAGE=N"),
    ],
)
def test_scaling_what_cannot_be_scaled_says_why(instance: Instance, what: str, code: int, reason: str) -> None:
    done = instance.command("scale", what)
    assert done.returncode == code and reason in done.stderr


def test_workers_are_scaled_when_colocated(launch: Launch) -> None:
    instance = launch(placement="colocated").ready()
    assert instance.command("scale", "worker=2").stdout == "worker: 1 → 2\n"
    assert len({row["pid"] for row in instance.ps() if row["stage"] == "routing"}) == 2
    assert instance.command("scale", "worker=1").returncode == 0
    until(lambda: len({row["pid"] for row in instance.ps() if row["stage"] == "routing"}) == 1, 5, "it is gone")


# -- signals and reload ------------------------------------------------------------------


def test_reload_tells_the_outcome(instance: Instance) -> None:
    done = instance.command("reload")
    assert (done.returncode, done.stdout) == (0, "generation 2 is in use\n")
    instance.write_config("[nonsense]\n")
    done = instance.command("reload")
    assert done.returncode == 1
    assert "the configuration was refused, generation 2 goes on:" in done.stderr and "nonsense: unknown section" in done.stderr


def test_a_reload_that_nobody_answers_ends_in_time(launch: Launch) -> None:
    instance = launch(actors={"config": "tests.supervisor.actors:Plain"}).ready()
    done = instance.command("reload")
    assert done.returncode == 1 and "no outcome within 4.5 s" in done.stderr


def test_usr1_reopens_logs(instance: Instance) -> None:
    instance.signal(signal.SIGUSR1)
    instance.wait_log("told reopen")


def test_how_long_a_drain_may_take_follows_the_running_configuration(instance: Instance) -> None:
    instance.write_config('[basic]\ngraceful_shutdown_timeout = "1s"\n')
    instance.command("reload")
    line = instance.connect()
    line.say("hold")
    until(lambda: instance.row("accept")["in_flight"] == 1, 3, "it holds a stream")
    began = time.monotonic()
    instance.signal(signal.SIGTERM)
    assert instance.wait() == 0
    assert 1 <= time.monotonic() - began < 4
    line.close()


# -- the end --------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_stop_refuses_new_connections_finishes_held_ones_and_ends_with_0(instance: Instance, number: int) -> None:
    line = instance.connect()
    line.say("hold")
    until(lambda: instance.row("accept")["in_flight"] == 1, 3, "it holds a stream")
    instance.signal(number)

    def is_refused() -> bool:
        try:
            instance.connect().close()
        except ConnectionRefusedError:
            return True
        return False

    until(is_refused, 3, "new connections are refused")
    assert line.ask("done") == "done"
    line.close()
    assert instance.wait(5) == 0
    assert list(instance.run_dir.iterdir()) == []


def test_a_second_term_ends_at_once(instance: Instance) -> None:
    line = instance.connect()
    line.say("hold")
    until(lambda: instance.row("accept")["in_flight"] == 1, 3, "it holds a stream")
    instance.signal(signal.SIGQUIT)
    instance.wait_log("stopping: requests in flight have 300 s")
    instance.signal(signal.SIGTERM)
    instance.wait_log("stopping sooner")
    time.sleep(SAME)
    began = time.monotonic()
    instance.signal(signal.SIGTERM)
    assert instance.wait() == 0
    assert time.monotonic() - began < 2
    line.close()


def test_a_second_down_joins_the_wait(instance: Instance) -> None:
    line = instance.connect()
    line.say("hold")
    until(lambda: instance.row("accept")["in_flight"] == 1, 3, "it holds a stream")
    asked = [instance.begin("down", "--timeout", "60s")]
    instance.wait_log("stopping: requests in flight have 60 s")
    asked += [instance.begin("down", *more) for more in ([], ["--graceful"], ["--timeout", "90"])]
    until(lambda: instance.log().count("stopping already") == 3, 10, "all have asked")
    assert all(one.poll() is None for one in asked)
    assert line.ask("done") == "done"
    line.close()
    for one in asked:
        assert one.communicate(timeout=10) == ("stopped\n", "") and one.returncode == 0
    assert instance.wait() == 0


NAMESPACE = ("unshare", *(() if os.geteuid() == 0 else ("-r",)), "--pid", "--fork", "--mount-proc", "--kill-child")


@pytest.mark.parametrize("where", ["outside", "beside"])
def test_down_waits_for_the_right_process_of_another_pid_namespace(launch: Launch, where: str) -> None:
    """The pid file says 1, which here is somebody who does not end. From beside no pid of it is known at all."""
    if subprocess.run([*NAMESPACE, "true"], check=False, capture_output=True).returncode:
        pytest.skip("pid namespaces are not to be had here")
    instance = launch(before=NAMESPACE).ready()
    assert (instance.run_dir / "pid").read_text() == "1\n"
    pid = supervisor_of(str(instance.run_dir))
    assert pid and pid in instance.members()
    line = instance.connect()
    line.say("hold")
    until(lambda: instance.row("accept")["in_flight"] == 1, 3, "it holds a stream")
    down = instance.begin("down", "--graceful", before=NAMESPACE if where == "beside" else ())
    instance.wait_log("stopping: requests in flight have")
    with pytest.raises(subprocess.TimeoutExpired):
        down.wait(0.5)
    assert line.ask("done") == "done"
    line.close()
    assert down.communicate(timeout=10) == ("stopped\n", "")
    until(lambda: not is_alive(pid), 2, "it has ended")
    instance.wait()


def test_an_idle_instance_stops_within_two_seconds(instance: Instance) -> None:
    began = time.monotonic()
    done = instance.command("down")
    assert (done.returncode, done.stdout) == (0, "stopped\n")
    assert time.monotonic() - began < 2
    assert instance.wait() == 0


def test_what_is_logged_at_the_end_is_still_written(instance: Instance) -> None:
    instance.signal(signal.SIGTERM)
    instance.wait()
    assert "stopping: requests in flight have 5 s" in instance.log()


def test_the_pid_file_names_the_supervisor_while_it_lives(launch: Launch) -> None:
    instance = launch(f'[basic]\npid_file = "/tmp/pgs-{os.getpid()}.pid"\n').ready()
    path = Path(f"/tmp/pgs-{os.getpid()}.pid")
    assert int(path.read_text()) == instance.process.pid
    instance.signal(signal.SIGTERM)
    instance.wait()
    assert not path.exists()


@pytest.mark.parametrize("args", [("ps",), ("scale", "upstream=2"), ("reload",), ("down",)])
def test_commands_say_so_when_nothing_runs(launch: Launch, args: tuple[str, ...]) -> None:
    instance = launch()
    instance.signal(signal.SIGKILL)
    instance.process.wait()
    done = instance.command(*args)
    assert done.returncode == 1
    assert f"no pingap is running in {instance.run_dir}" in done.stderr
