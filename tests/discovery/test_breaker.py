"""The breaker of the discovery actor: reports in, topics, log lines and notices out."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pingap.bus.members import Members
from pingap.config.model import Snapshot, Upstream
from pingap.config.parts import Backend, Balance, HealthCheck
from pingap.stages import keepsake
from pingap.stages.discovery import breaker
from pingap.stages.discovery.actor import DiscoveryActor
from pingap.stages.lookups import Address, Lookups
from pingap.stages.messages import BackendReport
from tests.discovery.circuit_play import Counted
from tests.discovery.origin import origin
from tests.kit.context import FakeContext
from tests.kit.generations import say_config
from tests.kit.waiting import eventually

ADDRESS = "127.0.0.1:1"
API = Upstream(
    addrs=(Backend("127.0.0.1", 1),),
    algo=Balance("least_conn"),
    health_check=HealthCheck(check_frequency=60),
    circuit_break_max_consecutive_failures=3,
    circuit_break_half_open_consecutive_success_threshold=2,
    circuit_break_open_duration=0.05,
)


class Run:
    """The actor, with two replicas of upstream."""

    def __init__(self, run_dir: Path) -> None:
        self.context = FakeContext("discovery", 5)
        self.context.run_dir = str(run_dir)
        self.actor = DiscoveryActor(self.context)
        self.number = 0
        self.of = {11: Counted(), 12: Counted()}
        self.there(11, 12)

    def there(self, *replicas: int) -> None:
        rows = [(2, "config", 0, "", "ready"), *((one, "upstream", one, "", "ready") for one in replicas)]
        self.context.members = Members.of(1, 12, rows)
        self.actor.members_changed(self.context.members, frozenset())

    def configure(self, upstream: Upstream) -> None:
        self.number += 1
        say_config(self.context, (self.number, Snapshot(upstreams={"api": upstream}), {}))

    def report(self, replica: int, address: str = ADDRESS) -> None:
        self.actor.receivers()[BackendReport](BackendReport(replica, (self.of[replica].row("api", address),)))

    def bad(self, replica: int, count: int) -> None:
        self.of[replica].bad(count)
        self.report(replica)

    def last(self, topic: str) -> Any:
        return self.context.published[topic][-1]

    @property
    def told(self) -> Any:
        return self.last("circuits").get("api", {}).get(ADDRESS)

    def lines(self) -> list[tuple[str, str, str]]:
        return [(level, text, fields.get("reason", "")) for level, text, fields in self.context.logged if "circuit" in text]


@asynccontextmanager
async def running(run_dir: Path, upstream: Upstream = API) -> AsyncIterator[Run]:
    run = Run(run_dir)
    try:
        await run.actor.start()
        for replica in run.of:
            run.actor.receivers()[BackendReport](BackendReport(replica, (), True))  # discovery is new to it
        run.configure(upstream)
        yield run
    finally:
        await run.actor.stop()


@pytest.fixture(autouse=True)
def pid(tmp_path: Path) -> None:
    (tmp_path / "pid").write_text("1\n")


async def test_it_opens_at_once_is_tried_and_closes(tmp_path: Path) -> None:
    async with running(tmp_path) as run:
        assert run.context.published["circuits"] == [{}]
        run.bad(11, 2)
        run.bad(12, 1)
        assert run.told == (1, 0, {}), "nobody waits for a timer"
        await eventually(lambda: run.told[0] == 2)
        assert run.told[2] == {11: 1, 12: 1}
        run.of[11].probed(run.told[1], 0, 1)
        run.report(11)
        assert run.told == (1, 0, {})
        await eventually(lambda: run.told[0] == 2)
        for replica in (11, 12):
            run.of[replica].probed(run.told[1], 1)
            run.report(replica)
        assert run.told is None
        assert run.lines() == [
            ("warn", "circuit is open: the backend gets no requests", "3 failures in a row"),
            ("info", "circuit is half-open: the backend is tried", ""),
            ("info", "circuit is open again", "a probe failed"),
            ("info", "circuit is half-open: the backend is tried", ""),
            ("info", "circuit is closed again", ""),
        ]
        # That it is tried in vain is told to no pager: it may be every ten seconds.
        assert [(level, text) for level, _, text, _ in run.context.noticed] == [
            ("error", f"upstream api({ADDRESS}): the circuit is open: 3 failures in a row"),
            ("info", f"upstream api({ADDRESS}): the circuit is closed"),
        ]


async def test_a_restart_goes_on_with_what_is_open(tmp_path: Path) -> None:
    slow = replace(API, circuit_break_open_duration=60)
    async with running(tmp_path, slow) as run:
        run.bad(11, 3)
    async with running(tmp_path, slow) as again:
        assert again.context.published["circuits"] == [{"api": {ADDRESS: (1, 0, {})}}]
    (tmp_path / "pid").write_text("another run")
    async with running(tmp_path, slow) as other:
        assert other.context.published["circuits"] == [{}]


@pytest.mark.parametrize("junk", [{"api": 5}, {"api": {ADDRESS: [7, 1.0]}}, {"api": {ADDRESS: [1, "x"]}}, {"api": {ADDRESS: None}}])
async def test_a_keepsake_of_another_shape_opens_nothing(tmp_path: Path, junk: Any) -> None:
    keepsake.save(str(tmp_path), breaker.CIRCUITS, junk)
    async with running(tmp_path) as run:
        assert run.context.published["circuits"] == [{}]


async def test_a_reload_without_a_breaker_closes_what_is_open(tmp_path: Path) -> None:
    async with running(tmp_path, replace(API, circuit_break_open_duration=60)) as run:
        run.bad(11, 3)
        run.configure(Upstream(addrs=API.addrs, health_check=API.health_check))
        await eventually(lambda: run.told is None)


async def test_loads_are_told_together_and_to_several_replicas_only(tmp_path: Path) -> None:
    async with running(tmp_path) as run:
        for count in range(1, 6):
            for replica in (11, 12):
                run.of[replica].in_flight = count
                run.report(replica)
        await eventually(lambda: run.last("loads") == {"api": {ADDRESS: {11: 5, 12: 5}}})
        assert len(run.context.published["loads"]) <= 3
        run.there(12)
        await eventually(lambda: run.last("loads") == {})


async def test_a_backend_that_could_not_be_reached_is_checked_at_once(tmp_path: Path) -> None:
    async with origin() as backend:
        api = Upstream(addrs=(Backend("127.0.0.1", backend.port),), health_check=HealthCheck(failure=1, check_frequency=60))
        async with running(tmp_path, api) as run:
            await eventually(lambda: run.last("health") == {"api": {backend.address: True}})
            checks = run.actor.checks
            for unreachable in (1, 2, 3):
                run.of[11].unreachable = unreachable
                run.of[11].bad()
                run.report(11, address=backend.address)
            await eventually(lambda: run.actor.checks > checks)
            assert run.actor.checks == checks + 1, "once a second"


async def test_a_backend_that_is_found_later_has_a_circuit(tmp_path: Path) -> None:
    def resolve(host: str, family: int) -> list[Address]:
        return [Address(socket.AF_INET, ("127.0.0.1", 0))]

    async with origin() as backend, running(tmp_path) as run:
        run.actor.lookups = Lookups(asyncio.get_running_loop(), resolve)
        run.configure(replace(API, addrs=(Backend("app.example", backend.port),), circuit_break_open_duration=60))
        await eventually(lambda: run.last("backends"))
        run.of[11].bad(3)
        run.report(11, address=backend.address)
        assert run.last("circuits") == {"api": {backend.address: (1, 0, {})}}


async def test_figures_are_shown(tmp_path: Path) -> None:
    async with running(tmp_path, replace(API, circuit_break_open_duration=60)) as run:
        run.of[12].good(7)
        run.report(12)
        run.bad(11, 3)
        run.actor.told("upstreams", (1,))
        _, answer = run.context.reported[-1]
        backend = answer["value"][0]["backends"][0]
        assert (backend["circuit"], backend["requests"], backend["window"]["failures"]) == ("open", 10, 3)
        assert 59 < backend["open_for"] <= 60


async def test_the_keepsake_is_written_when_what_it_holds_has_changed_and_not_with_each_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[Any] = []
    save = keepsake.save

    def counted(run_dir: str, name: str, plain: Any) -> int:
        saved.extend([plain] if name == breaker.CIRCUITS else ())
        return save(run_dir, name, plain)

    monkeypatch.setattr(keepsake, "save", counted)
    async with running(tmp_path) as run:
        run.bad(11, 3)
        await eventually(lambda: run.told[0] == 2)
        assert run.told[2] == {11: 1, 12: 1}
        run.there(12)
        assert run.told[2] == {12: 1}
        assert len(saved) == 2, "open, half-open"
        (tmp_path / breaker.CIRCUITS).unlink()
        run.actor._breaker.keep()
        assert len(saved) == 3
