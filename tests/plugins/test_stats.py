"""stats: the figures of pingap as a client reads them, and how they come together."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from pingap.config.problems import Note, Problem
from pingap.plugin import Overloaded
from pingap.stages.messages import Cancel, Done, FiguresAsk, FiguresTold, Recall, Response, Routed
from pingap.stages.plugins import checking, making
from pingap.stages.plugins import figures as asking
from pingap.stages.plugins.builtin import machine, stats
from pingap.stages.plugins.builtin.machine import MachineFigures, machine_figures, size_text, uptime_text
from pingap.stages.plugins.counts import RequestCounts
from pingap.stages.plugins.host import PROCESSES
from tests.plugins.script import ACCEPT, CONFIG, OTHER, PLUGINS, ROUTING, SID, UPSTREAM, Stage, lines

KEYS = [
    *("processing", "accepted", "location_processing", "location_accepted", "hostname", "version", "rustc_version"),
    *("start_time", "uptime", "memory_mb", "memory", "total_memory", "used_memory", "arch", "cpus", "physical_cpus"),
    *("threads", "fd_count", "tcp_count", "tcp6_count"),
]
SECTION = {"category": "stats", "path": "/stats"}
EVERYBODY = (ACCEPT, ROUTING, PLUGINS, UPSTREAM, CONFIG)


async def until(is_so: Callable[[], Any]) -> None:
    async with asyncio.timeout(10):
        while not is_so():
            await asyncio.sleep(0.005)


async def answered(stage: Stage, sid: int = SID, told: dict[int, tuple[int, int]] | None = None, target: str = "/stats") -> Response:
    """The answer of the plugin, when actors have told these numbers."""
    stage.give(stage.request(target, sid=sid))
    asked: list[int] = []
    while True:
        await until(lambda: stage.context.sent)
        for to, envelope in stage.sent():
            if isinstance(envelope, Response):
                assert sorted(asked) == sorted(told or {ACCEPT: (0, 0)})
                return envelope
            assert isinstance(envelope, FiguresAsk)
            assert envelope.location == "l"
            asked.append(to)
            stage.give(FiguresTold(to, envelope.ticket, *(told or {ACCEPT: (0, 0)})[to]))


@pytest.mark.parametrize("step", ["request", "proxy_upstream", None])
async def test_it_answers_with_all_keys_in_their_order(step: str | None) -> None:
    async with Stage({"p": SECTION | ({"step": step} if step else {})}) as stage:
        answer = await answered(stage, told={ACCEPT: (70, 3)})
        assert (answer.status, answer.ended) == (200, True)
        assert "content-type: application/json; charset=utf-8" in lines(answer.headers)
        assert "cache-control: private, no-cache" in lines(answer.headers)
        said = json.loads(answer.body)
        assert [*said] == KEYS
        assert {key: said[key] for key in KEYS[:4]} == {
            "processing": 3,
            "accepted": 70,
            "location_processing": 1,
            "location_accepted": 1,
        }
        assert said["hostname"] == socket.gethostname()
        assert said["arch"] == platform.machine()
        assert said["rustc_version"].endswith(platform.python_version())
        own = psutil.Process()
        assert said["start_time"] == int(own.create_time())
        assert said["memory_mb"] > 10
        assert said["memory"] == f"{float(said['memory'].split()[0]):.1f} MiB"
        assert said["cpus"] == os.cpu_count()
        assert 0 < said["physical_cpus"] <= said["cpus"]
        assert said["threads"] >= 2
        assert said["fd_count"] >= 3
        assert said["total_memory"] == size_text(psutil.virtual_memory().total)
        assert said["used_memory"].endswith("iB")


async def test_it_answers_at_its_path_alone_whatever_the_method() -> None:
    async with Stage({"p": SECTION}) as stage:
        for target in ("/", "/stats/", "/statsx"):
            assert isinstance(await stage.one(stage.request(target)), Routed)
        assert (await answered(stage, target="/stats?pretty", sid=SID + 1)).status == 200


async def test_the_built_in_one_needs_no_section() -> None:
    async with Stage({}, names=["pingap:stats"]) as stage:
        assert [*json.loads((await answered(stage)).body)] == KEYS


async def test_numbers_are_those_of_all_replicas() -> None:
    async with Stage({"p": SECTION}) as stage:
        stage.members(*EVERYBODY, OTHER, 9)  # 9: one more accept actor
        said = json.loads((await answered(stage, told={ACCEPT: (70, 3), 9: (30, 2), OTHER: (40, 4)})).body)
        assert [said[key] for key in KEYS[:4]] == [5, 100, 5, 41]


async def test_requests_of_the_location_are_counted_until_they_end() -> None:
    async with Stage({"p": SECTION}) as stage:

        def told() -> tuple[int, int]:
            (said,) = stage.feed(FiguresAsk(OTHER, 5, "l"))
            assert (said.teller, said.ticket) == (PLUGINS, 5)
            return said.accepted, said.processing

        assert told() == (0, 0)
        for number in range(3):
            routed = await stage.one(stage.request("/x", sid=SID + number))
            assert PLUGINS in routed.watchers, "accept tells of its end"
        assert told() == (3, 3)
        stage.give(Done(SID), Cancel(SID + 1, "client"), Done(SID + 1))
        assert told() == (3, 1)
        stage.feed(Recall(SID + 2, ACCEPT))
        assert told() == (3, 0)
        await stage.one(stage.request("/x", sid=SID + 3))
        stage.members(ROUTING, PLUGINS, UPSTREAM, CONFIG)
        assert told() == (4, 0), "whoever would tell of its end is gone"
        assert (stage.feed(FiguresAsk(OTHER, 5, "elsewhere"))[0].accepted) == 0


async def test_where_no_plugin_wants_it_nothing_is_counted() -> None:
    async with Stage({"p": {"category": "ping", "path": "/ping"}}) as stage:
        routed = await stage.one(stage.request("/x"))
        assert routed.watchers == ()
        assert stage.feed(FiguresAsk(OTHER, 5, "l"))[0].accepted == 0


async def test_who_is_silent_leaves_nulls_and_nobody_waits_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "LONGEST", 0.05)
    async with Stage({"p": SECTION}) as stage:
        stage.give(stage.request("/stats"))
        await until(lambda: any(isinstance(envelope, Response) for _, envelope in stage.context.sent))
        said = json.loads(stage.out()[-1].body)
        assert [said[key] for key in KEYS[:4]] == [None, None, 1, 1]
        stage.members(*EVERYBODY, OTHER)
        stage.context.stuck = {OTHER}
        said = json.loads((await answered(stage, told={ACCEPT: (2, 1)}, sid=SID + 1)).body)
        assert [said[key] for key in KEYS[:4]] == [1, 2, None, None]


async def test_who_dies_while_he_is_asked_is_not_waited_for() -> None:
    async with Stage({"p": SECTION}) as stage:
        stage.members(*EVERYBODY, OTHER)
        stage.give(stage.request("/stats"))
        await until(lambda: len([one for _, one in stage.context.sent if isinstance(one, FiguresAsk)]) == 2)
        ticket = stage.out()[0].ticket
        stage.give(FiguresTold(ACCEPT, ticket, 9, 1), FiguresTold(ACCEPT, ticket, 9, 1), FiguresTold(ACCEPT, ticket + 1, 9, 1))
        stage.members(*EVERYBODY)
        await until(lambda: stage.context.sent)
        said = json.loads(stage.out()[0].body)
        assert [said[key] for key in KEYS[:4]] == [1, 9, 1, 1]


async def test_many_who_ask_at_once_are_one_question_to_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    real = machine_figures

    def counted(pids: list[int]) -> MachineFigures:
        calls.append(len(pids))
        return real(pids)

    monkeypatch.setattr(stats, "machine_figures", counted)
    async with Stage({"p": SECTION}) as stage:
        stage.give(*[stage.request("/stats", sid=SID + number) for number in range(20)])
        await asyncio.sleep(0)
        stage.give(Cancel(SID, "the one that began it leaves"))
        await until(lambda: len([one for _, one in stage.context.sent if isinstance(one, FiguresAsk)]) == 19)
        stage.give(*[FiguresTold(ACCEPT, one.ticket, 1, 1) for one in stage.out()])
        await until(lambda: len(stage.context.sent) == 19)
        assert {envelope.status for envelope in stage.out()} == {200}
        assert (await answered(stage, sid=SID + 30)).status == 200, "and what it has said is fresh for a while"
        assert len(calls) == 1
        monkeypatch.setattr(stats, "FRESH", -1.0)
        assert (await answered(stage, sid=SID + 31)).status == 200
    assert len(calls) == 2


async def test_a_system_that_does_not_answer_is_a_503(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "LONGEST", 0.05)
    monkeypatch.setattr(stats, "machine_figures", lambda pids: time.sleep(0.3))
    async with Stage({"p": SECTION}) as stage:
        stage.give(stage.request("/stats"))
        await until(lambda: stage.context.sent)
        assert stage.out()[0].status == 503


async def test_a_system_that_fails_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(pids: list[int]) -> MachineFigures:
        raise Overloaded("no")

    monkeypatch.setattr(stats, "machine_figures", fails)
    async with Stage({"p": SECTION}) as stage:
        stage.give(stage.request("/stats"))
        await until(lambda: stage.context.sent)
        assert stage.out()[0].status == 503
        monkeypatch.setattr(stats, "machine_figures", machine_figures)
        assert (await answered(stage, sid=SID + 1)).status == 200


async def test_a_plugin_of_anybody_may_ask(tmp_path: Path) -> None:
    """On the public API, with `counts_requests` in its class."""
    code = """
from pingap.plugin import CONTINUE, Exchange, Plugin, Result, reply
class Shows(Plugin):
    counts_requests = True
    def start(self, host):
        self.host = host
    async def request(self, exchange: Exchange) -> Result:
        return reply(200, repr(tuple(await self.host.figures(exchange.location))) + repr(len(self.host.processes())))
"""
    (tmp_path / "shows.py").write_text(code)
    async with Stage({"p": {"category": "python", "path": str(tmp_path / "shows.py")}}) as stage:
        assert (await answered(stage, told={ACCEPT: (8, 2)}, target="/")).body == b"(8, 2, 1, 1)1"


def test_the_key_of_the_references_example_is_taken_for_the_one_that_works() -> None:
    section: dict[str, Any] = {"category": "stats", "value": "/stats"}
    (note,) = checking.Checker()("p", section)
    assert isinstance(note, Note)
    assert (note.path, section["path"]) == ("plugins.p.value", "/stats")
    section = {"category": "stats", "value": "/stats", "path": "/other"}
    (note,) = checking.Checker()("p", section)
    assert (note.path, section) == ("plugins.p.value", {"category": "stats", "path": "/other"})


@pytest.mark.parametrize(
    ("section", "path"), [({}, "path"), ({"path": ""}, "path"), ({"path": "/s", "step": "response"}, "step"), ({"path": "/s", "x": 1}, "x")]
)
def test_mistakes_are_refused(section: dict[str, Any], path: str) -> None:
    problems = [one for one in checking.Checker()("p", {"category": "stats"} | section) if isinstance(one, Problem)]
    assert [problem.path for problem in problems] == [f"plugins.p.{path}"]


def test_counts_of_locations_that_a_configuration_no_longer_has_are_forgotten() -> None:
    counts = RequestCounts()
    counts.begin(1 << 32, "a")
    counts.begin(1 << 32, "a")
    counts.begin(2 << 32, "b")
    counts.end(2 << 32)
    counts.keep(["c"])
    assert (counts.of("a"), counts.of("b")) == ((1, 1), (0, 0))
    counts.forget({1})
    assert counts.of("a") == (1, 0)
    counts.keep([])
    assert counts.of("a") == (0, 0)


def test_the_figures_of_processes_are_sums_and_one_that_has_ended_counts_for_nothing() -> None:
    one, two = machine_figures([os.getpid()]), machine_figures([os.getpid(), os.getpid(), 2**22 + 1])
    assert two.threads >= 2
    assert two.descriptors == 2 * one.descriptors
    assert two.memory > 1.9 * one.memory
    assert abs(one.started - psutil.Process().create_time()) < 1
    assert machine_figures([]).started > time.time() - 60


def test_connections_are_counted_as_the_network_namespace_has_them() -> None:
    before = machine_figures([]).tcp
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(20)]
    try:
        assert before + 10 < machine_figures([]).tcp
    finally:
        for listener in listeners:
            listener.close()
    assert machine._lines("/proc/nothing") == 0


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (2_899_102_925, "2.7 GiB"), (1 << 40, "1.0 TiB"), ((1 << 40) - 1, "1024.0 GiB")],
)
def test_sizes_read_as_the_references(size: int, text: str) -> None:
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (3723, "1h 2m 3s"), (86_400, "1day"), (2 * 86_400 + 5, "2days 5s"), (31_557_600 * 2 + 2_630_016, "2years 1month")],
)
def test_uptimes_read_as_the_references(seconds: int, text: str) -> None:
    assert uptime_text(seconds) == text


@pytest.mark.processes
async def test_processes_are_those_that_the_supervisor_has_written_down_and_their_children(tmp_path: Path) -> None:
    child = subprocess.Popen(["sleep", "60"])
    try:
        async with Stage({"p": SECTION}) as stage:
            host = stage.actor._host("p", making.make("p", SECTION, stage.actor.guard))
            assert host.processes() == [os.getpid()]
            stage.context.run_dir = str(tmp_path)
            (tmp_path / PROCESSES).write_text(f"supervisor {2**22 + 1} 17\n{os.getpid()} 18\n{child.pid} 19\n")
            found = host.processes()
            assert found[:3] == [2**22 + 1, os.getpid(), child.pid]
            assert len(found) == len(set(found))
            (tmp_path / PROCESSES).write_text(f"supervisor {os.getpid()} 17\n")
            assert child.pid in host.processes()
            (tmp_path / PROCESSES).write_text("x\n")
            assert host.processes() == [os.getpid()]
    finally:
        child.kill()
        child.wait()
