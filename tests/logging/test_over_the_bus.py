"""Logging and metrics over real sockets: events come in, lines, streams and a page come out, also after a restart."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from pingap import events
from pingap.bus.actor import Actor
from pingap.bus.kinds import LINES
from pingap.bus.members import Members
from pingap.bus.process import Process
from pingap.bus.seat import Seat
from pingap.config.model import Server, Snapshot
from pingap.config.parts import AccessLog, Listen
from pingap.rundir import RunDir
from pingap.stages.logging.actor import LoggingActor
from pingap.stages.messages import Affinity, Answered, Data, Response
from pingap.stages.metrics.actor import MetricsActor
from tests.kit.generations import Generation, blobs_of, value_of
from tests.kit.waiting import eventually
from tests.metrics.test_metrics_actor import routed
from tests.observability.samples import access, log

DEADLINE = 5.0


class Client(Actor):
    """Stands for accept and routing: emits events, asks for the page."""

    stage: ClassVar[str] = "accept"

    def __init__(self, context: Any) -> None:
        super().__init__(context)
        self.pages: list[bytes] = []

    def receivers(self) -> dict[type, Callable[[Any], None]]:
        return {
            Response: lambda answer: self.pages.append(answer.body),
            Data: lambda data: self.pages.append(data.payload),
            Answered: lambda answered: None,
        }

    def figures(self) -> dict[str, float]:
        return {"in_flight": 3}


class Config(Actor):
    """Stands for config: publishes one committed generation."""

    stage: ClassVar[str] = "config"

    async def start(self) -> None:
        generation: Generation = (1, self.context.settings["snapshot"], {})
        self.context.publish("config", value_of(generation, oldest=1), blobs_of(generation))


class World:
    """Processes of one run dir, all on this loop; the test is their supervisor."""

    def __init__(self, run_dir: str) -> None:
        self.run_dir = run_dir
        self.processes: dict[str, Process] = {}
        self.rows: dict[str, tuple[Any, ...]] = {}
        self.seq = self.newest = 0

    async def start(self, stage: str, factory: Any, settings: dict[str, Any] | None = None) -> Any:
        self.newest += 1
        endpoint = f"ipc://{self.run_dir}/{stage}.0.{self.newest}"
        seat = Seat(self.newest, stage, 0, endpoint, factory, settings or {})
        process = self.processes[stage] = Process(self.run_dir, [seat], asyncio.get_running_loop())
        self.rows[stage] = (seat.id, stage, 0, endpoint, "ready")
        self._announce()
        await process.actors[seat.id].start()
        return process.actors[seat.id]

    def kill(self, stage: str) -> None:
        """As kill -9: nothing is flushed."""
        self.processes.pop(stage).link.close()
        del self.rows[stage]
        self._announce()

    def _announce(self) -> None:
        self.seq += 1
        for process in self.processes.values():
            process._take_members(Members.of(self.seq, self.newest, self.rows.values()))

    async def close(self) -> None:
        for process in self.processes.values():
            for actor in process.actors.values():
                await actor.stop()
            process.link.close()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    path = f"/tmp/pingap-test-{os.getpid()}-bus"
    held = RunDir(path)
    made = World(held.own.path)
    yield made
    await made.close()
    held.release()
    shutil.rmtree(path, ignore_errors=True)


async def until(is_so: Callable[[], bool], doing: Callable[[], None] = lambda: None) -> None:
    """Waits for a condition of other actors' making."""

    def looks() -> bool:
        found = is_so()
        if not found:
            doing()
        return found

    await eventually(looks, DEADLINE, 0.02)


async def test_events_reach_the_file_the_consumers_and_the_metrics_page_also_after_a_restart(world: World, tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    server = Server(addr=(Listen("127.0.0.1", 1),), access_log=AccessLog("{status}", str(path)), prometheus_metrics="/metrics")
    settings = {"log": str(tmp_path / "app.log"), "level": None}
    await world.start("config", Config, {"snapshot": Snapshot(servers={"web": server})})
    await world.start("logging", LoggingActor, settings)
    metrics = await world.start("metrics", MetricsActor)
    client = await world.start("accept", Client)

    # Members are told at once what is wanted: an access log and metrics are configured.
    await until(lambda: client.context.wanted == {"access", "count", "log"})

    def emit() -> None:
        client.context.emit(access(status=201))
        client.context.emit((LINES, "web", 1, "201"))

    stream = events.astream(os.path.dirname(world.run_dir))
    await until(lambda: metrics.figures()["events"] > 0, emit)
    event = await asyncio.wait_for(_next(stream, emit), DEADLINE)
    assert event.status == 201
    await until(lambda: path.exists() and path.read_text().startswith("201\n"))

    client.context.count("connections_refused", 2)
    client.context.ship_counts(client.figures())

    def scrape() -> None:
        me = client.context.id
        client.context.send(metrics.context.id, routed(sid=me << 32, affinity=Affinity(me, 0, 0)))

    await until(lambda: b"pingap_accept_connections_refused_total 2.0" in b"".join(client.pages), scrape)
    assert b'pingap_http_requests_current{location="",server="web"} 3.0' in client.pages[-1]

    # The successor finds the members, and the consumers find the successor.
    counted = metrics.figures()["events"]
    world.kill("logging")
    await world.start("logging", LoggingActor, settings)
    await until(lambda: metrics.figures()["events"] > counted, emit)
    while event.status != 202:
        event = await asyncio.wait_for(_next(stream, lambda: client.context.emit(access(status=202))), DEADLINE)
    client.context.emit((LINES, "web", 1, "202"))
    await until(lambda: "202\n" in path.read_text())
    await stream.aclose()


async def _next(stream: Any, doing: Callable[[], None]) -> Any:
    following = asyncio.ensure_future(anext(stream))
    await until(following.done, doing)
    return following.result()


async def test_records_of_the_logging_stage_itself_reach_its_log(world: World, tmp_path: Path) -> None:
    await world.start("config", Config, {"snapshot": Snapshot(servers={"web": Server(addr=(Listen("127.0.0.1", 1),))})})
    actor = await world.start("logging", LoggingActor, {"log": str(tmp_path / "app.log"), "level": "what"})
    await until(lambda: (tmp_path / "app.log").exists() and "word=what" in (tmp_path / "app.log").read_text())
    client = await world.start("accept", Client)
    client.context.emit(log("from afar"))
    await until(lambda: "from afar" in (tmp_path / "app.log").read_text())
    assert actor.figures()["lines"] >= 2
