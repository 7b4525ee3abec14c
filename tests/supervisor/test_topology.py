"""Which processes a configuration and a command line lead to."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pingap import topology
from pingap.config.model import Basic, Server, Snapshot, Stage
from pingap.config.parts import Listen
from pingap.stages.itinerary import CHALLENGE, METRICS, OPTIONS
from pingap.topology import COLOCATED, BadOptions, Options

SERVER = {"web": Server(addr=(Listen("127.0.0.1", 80),))}


def shape(snapshot: Snapshot, options: Options) -> dict[str, int]:
    return {role.name: role.replicas for role in topology.roles(snapshot, options)}


def test_split_runs_each_stage_in_a_process_of_its_own() -> None:
    assert shape(Snapshot(servers=SERVER), Options()) == dict.fromkeys(
        ("logging", "config", "discovery", "metrics", "acme", "accept", "routing", "plugins", "upstream"), 1
    )


def test_colocated_runs_the_request_path_in_workers() -> None:
    roles = topology.roles(Snapshot(servers=SERVER), Options(placement=COLOCATED, workers=2))
    worker = next(role for role in roles if role.name == "worker")
    assert worker.stages == ("accept", "routing", "plugins", "upstream") and worker.replicas == 2
    assert {role.name for role in roles} == {"logging", "config", "discovery", "metrics", "acme", "worker"}


def test_the_demo_is_there_when_asked_for() -> None:
    assert "demo" in shape(Snapshot(servers=SERVER), Options(has_demo=True))


def test_threads_are_replicas_of_accept_or_workers_and_0_is_one_a_cpu() -> None:
    three = Snapshot(basic=Basic(threads=3), servers=SERVER)
    assert shape(three, Options())["accept"] == 3 and shape(three, Options())["routing"] == 1
    assert shape(three, Options(placement=COLOCATED))["worker"] == 3
    assert shape(Snapshot(basic=Basic(threads=0), servers=SERVER), Options())["accept"] == len(os.sched_getaffinity(0))


def test_scale_wins_over_the_stage_section_which_wins_over_threads() -> None:
    snapshot = Snapshot(basic=Basic(threads=3), servers=SERVER, stages={"accept": Stage(replicas=2)})
    assert shape(snapshot, Options())["accept"] == 2
    assert shape(snapshot, Options(scale={"accept": 5}))["accept"] == 5


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (Options(scale={"logging": 2}), "--scale logging: with placement split these can be scaled: accept, routing, plugins, upstream"),
        (Options(scale={"worker": 2}), "--scale worker: with placement split"),
        (Options(scale={"accept": 2}, placement=COLOCATED), "--scale accept: with placement colocated these can be scaled: worker"),
        (Options(workers=2), "--workers goes with --placement colocated"),
    ],
)
def test_what_does_not_go_together_is_refused(options: Options, reason: str) -> None:
    with pytest.raises(BadOptions) as refused:
        topology.roles(Snapshot(servers=SERVER), options)
    assert reason in str(refused.value)


def test_settings_without_effect_are_named() -> None:
    snapshot = Snapshot(servers=SERVER, stages={"upstream": Stage(replicas=2, cpus=(0,)), "accept": Stage(replicas=2)})
    assert topology.without_effect(snapshot, Options()) == []
    assert [note.split()[0] for note in topology.without_effect(snapshot, Options(placement=COLOCATED))] == [
        "stages.upstream.replicas",
        "stages.upstream.cpus",
    ]


def test_an_endpoint_on_tcp_gives_each_replica_a_port() -> None:
    snapshot = Snapshot(servers=SERVER, stages={"upstream": Stage(endpoint="tcp://127.0.0.1:7000")})
    assert topology.endpoint("/run", snapshot, "upstream", 2, 17) == "tcp://127.0.0.1:7002"
    assert topology.endpoint("/run", snapshot, "accept", 2, 17) == "ipc:///run/accept.2.17"
    snapshot = Snapshot(servers=SERVER, stages={"upstream": Stage(endpoint="tcp://[fd00::2]:7000")})
    assert topology.endpoint("/run", snapshot, "upstream", 2, 17) == "tcp://[fd00::2]:7002"


def test_accept_and_plugins_in_a_worker_are_told_their_crew() -> None:
    (worker,) = [role for role in topology.roles(Snapshot(servers=SERVER), Options(placement=COLOCATED)) if role.name == "worker"]
    settings = topology.settings("accept", worker, (5, 6, 7, 8), Options(), None)
    assert settings == {"crew": {"routing": 6, "plugins": 7, "upstream": 8}}
    assert topology.settings("plugins", worker, (5, 6, 7, 8), Options(), None) == settings


def test_the_config_stage_follows_changes_unless_it_is_told_not_to() -> None:
    role = next(role for role in topology.roles(Snapshot(servers=SERVER), Options()) if role.name == "config")
    for follows in (True, False):
        assert topology.settings("config", role, (3,), Options(follows=follows), None)["follows"] is follows


def test_each_internal_destination_is_answered_by_one_stage_of_which_routing_is_told() -> None:
    names = [name for row in topology.ROWS for name in row.answers]
    assert sorted(names) == sorted({CHALLENGE, METRICS, OPTIONS}) == sorted(topology.destinations())
    role = next(role for role in topology.roles(Snapshot(servers=SERVER), Options()) if role.name == "routing")
    destinations = {"metrics": "metrics", "challenge": "acme", "options": "routing"}
    assert topology.settings("routing", role, (3,), Options(), None) == {"destinations": destinations}


@pytest.mark.parametrize(
    ("text", "is_disabled"), [("1", True), ("yes", True), ("0", False), ("False", False), ("no", False), ("off", False)]
)
def test_the_variable_that_switches_acme_off_is_read_like_others(monkeypatch: pytest.MonkeyPatch, text: str, is_disabled: bool) -> None:
    monkeypatch.setenv("PINGAP_DISABLE_ACME", text)
    (role,) = [role for role in topology.roles(Snapshot(servers=SERVER), Options()) if role.name == "acme"]
    assert topology.settings("acme", role, (5,), Options(), None)["is_disabled"] is is_disabled


@pytest.mark.processes
def test_what_few_need_is_not_imported_for_all_processes() -> None:
    """Ten milliseconds of each start for `cryptography`, a quarter of a second for the others."""
    few = "{'cryptography', 'OpenSSL', 'acme', 'josepy', 'requests', 'urllib3', 'urllib.request'}"
    code = f"import sys\nfor name in {topology.modules()!r}: __import__(name)\nprint(sorted({few} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
