"""The discovery actor with real backends on loopback."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from time import monotonic, time
from typing import Any

import dns.message
import pytest

from pingap.bus.members import Members
from pingap.config.model import Snapshot, Upstream
from pingap.config.parts import Backend, DnsAddress, HealthCheck
from pingap.stages.discovery import actor as module
from pingap.stages.discovery import watch
from pingap.stages.discovery.actor import DiscoveryActor
from pingap.stages.discovery.core import Discovery
from pingap.stages.discovery.dns import refresh as dns_refresh
from pingap.stages.discovery.gate import CheckGate
from pingap.stages.discovery.plan import CheckTarget
from pingap.stages.discovery.urgent import MOST
from pingap.stages.discovery.words import Resolved
from pingap.stages.lookups import Address, Lookups
from pingap.stages.messages import Accepted
from tests.discovery.dns_peer import answer, dns_peer, framed
from tests.discovery.origin import OK, Origin, listening, origin
from tests.kit.context import FakeContext
from tests.kit.generations import say_config
from tests.kit.waiting import eventually, free_port

pytestmark = pytest.mark.slow

BUSY = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"
FAST = HealthCheck("http", "x", "/", check_frequency=0.02, failure=2, success=2, read_timeout=0.5)


def upstream(*ports: int, check: HealthCheck = FAST) -> Upstream:
    return Upstream(addrs=tuple(Backend("127.0.0.1", port) for port in ports), health_check=check)


class Run:
    def __init__(self, run_dir: Path | None = None) -> None:
        self.context = FakeContext("discovery", 5)
        if run_dir:
            self.context.run_dir = str(run_dir)
        self.context.members = Members.of(1, 9, [(2, "config", 0, "", "ready")])
        self.actor = DiscoveryActor(self.context)
        self.number = 0

    def configure(self, **upstreams: Upstream) -> None:
        self.number += 1
        say_config(self.context, (self.number, Snapshot(upstreams=upstreams), {}))

    @property
    def value(self) -> dict[str, Any] | None:
        values = self.context.published.get("health")
        return values[-1] if values else None

    def logs(self, level: str) -> list[tuple[str, str]]:
        """What was said of backends."""
        return [(message, fields["addr"]) for at, message, fields in self.context.logged if at == level and "addr" in fields]

    async def until(self, is_so: Callable[[], object], seconds: float = 5) -> None:
        await eventually(is_so, seconds, said=lambda: (self.value, self.context.logged))


@asynccontextmanager
async def running(run_dir: Path | None = None, **upstreams: Upstream) -> AsyncIterator[Run]:
    run = Run(run_dir)
    await run.actor.start()
    try:
        run.configure(**upstreams)
        yield run
    finally:
        await run.actor.stop()


async def test_it_accepts_the_configuration_and_is_ready_when_there_is_nothing_to_check() -> None:
    async with running() as run:
        assert type(run.context.sent[0][1]) is Accepted
        assert run.context.is_ready
        assert run.value == {}


async def test_a_dead_backend_is_found_at_once_without_waiting_for_the_next_round() -> None:
    slow = HealthCheck(check_frequency=60)
    async with origin() as backend:
        dead = free_port()
        async with running(api=upstream(backend.port, dead, check=slow)) as run:
            assert run.context.is_ready
            await run.until(lambda: run.value == {"api": {backend.address: True, f"127.0.0.1:{dead}": False}}, 2)
            assert run.logs("warn") == [("backend is unhealthy", f"127.0.0.1:{dead}")]
            assert run.actor.figures()["unhealthy"] == 1


async def test_a_restarted_stage_never_calls_a_dead_backend_healthy(tmp_path: Path) -> None:
    dead = free_port()
    verdict = {"api": {f"127.0.0.1:{dead}": False}}
    async with running(tmp_path, api=upstream(dead)) as run:
        await run.until(lambda: run.value == verdict)
    async with running(tmp_path, api=upstream(dead)) as again:
        assert again.context.published["health"] == [verdict]
        assert again.context.is_ready
    (tmp_path / "pid").write_text("another run")
    async with running(tmp_path, api=upstream(dead)) as other:
        assert other.context.published["health"] == [{}]


async def test_a_damaged_keepsake_is_told_and_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / module.HEALTH).write_bytes(b"\xc1")
    async with running(tmp_path) as run:
        assert run.value == {}
        assert [level for level, message, _ in run.context.logged if module.HEALTH in message] == ["warn"]


async def test_many_verdicts_are_published_together() -> None:
    async with origin() as backend, running(None, **{f"u{n}": upstream(backend.port) for n in range(50)}) as run:
        await run.until(lambda: run.value and len(run.value) == 50)
        assert len(run.context.published["health"]) < 20


async def test_a_backend_that_falls_ill_and_recovers_is_published_and_logged_each_time() -> None:
    async with origin() as backend, running(api=upstream(backend.port)) as run:
        await run.until(lambda: run.value == {"api": {backend.address: True}})
        well = backend.answer
        backend.answer = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"
        await run.until(lambda: run.value == {"api": {backend.address: False}})
        backend.answer = well
        await run.until(lambda: run.value == {"api": {backend.address: True}})
        assert [value.get("api") for value in run.context.published["health"]] == [
            None,
            {backend.address: True},
            {backend.address: False},
            {backend.address: True},
        ]
        assert run.logs("warn")[-1] == ("backend is unhealthy", backend.address)
        assert run.logs("info") == [("backend is healthy again", backend.address)]


async def test_names_that_nobody_answers_cost_no_healthy_backend_its_verdict() -> None:
    over = threading.Event()

    def silent(host: str, family: int) -> list[Address]:
        if host == "good.example":
            return [Address(socket.AF_INET, ("127.0.0.1", 0))]
        over.wait(20)
        return []

    names = [f"dead{number}.example" for number in range(70)]
    check = HealthCheck(check_frequency=0.05, connection_timeout=0.1, failure=1, parallel=True)
    dead = Upstream(addrs=tuple(Backend(name, 80) for name in names), health_check=check)
    try:
        async with origin() as backend, running() as run:
            run.actor.lookups = Lookups(asyncio.get_running_loop(), silent, most=8)
            named = Upstream(addrs=(Backend("good.example", backend.port),), health_check=check)
            run.configure(dead=dead, good=upstream(backend.port, check=check), named=named)
            await run.until(lambda: run.actor.figures()["checks"] > 200 and run.value and "dead" in run.value)
            assert run.value and run.value["good"] == {backend.address: True}
            assert True not in run.value["dead"].values(), "what was answered by nobody is no backend"
            assert len(run.value["dead"]) == 8, "of the others nothing is known: nobody could be asked"
            assert not any(not is_healthy for is_healthy in run.value.get("named", {}).values())
    finally:
        over.set()


async def test_the_addresses_of_a_name_are_checked_each_published_and_looked_up_again_when_none_is_left() -> None:
    found = ["127.0.0.1", "127.0.0.2"]
    asked: list[str] = []

    def resolve(host: str, family: int) -> list[Address]:
        asked.append(host)
        return [Address(socket.AF_INET, (ip, 0)) for ip in found]

    async with origin() as backend, running() as run:
        run.actor.lookups = Lookups(asyncio.get_running_loop(), resolve)
        name, port = f"many.example:{backend.port}", backend.port
        run.configure(api=Upstream(addrs=(Backend("many.example", port),), health_check=FAST))

        def told() -> list[str]:
            return [host for host, _, _ in run.context.published["backends"][-1].get("api", {}).get(name, ())]

        verdict = {"api": {f"127.0.0.1:{port}": True, f"127.0.0.2:{port}": False}}
        await run.until(lambda: run.value == verdict)
        await run.until(lambda: told() == ["127.0.0.1", "127.0.0.2"])
        count = run.actor.figures()["checks"]
        await run.until(lambda: run.actor.figures()["checks"] > count + 6)
        assert asked == ["many.example"], "one of its addresses is well"
        found[:] = ["127.0.0.3"]
        backend.answer = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"
        await run.until(lambda: told() == ["127.0.0.3"])
        assert run.value == {"api": {f"127.0.0.3:{port}": False}}
        found[:] = ["127.0.0.1"]
        backend.answer = OK
        await run.until(lambda: run.value == {"api": {f"127.0.0.1:{port}": True}})
        assert told() == ["127.0.0.1"]


async def test_a_backend_that_does_not_answer_delays_no_word_on_the_others() -> None:
    check = HealthCheck("http", "x", "/", read_timeout=30)
    async with origin() as backend, origin(b"") as silent, running(api=upstream(backend.port, silent.port, check=check)) as run:
        await run.until(lambda: run.value == {"api": {backend.address: True}}, 2)


async def test_a_reload_leaves_unchanged_checks_alone_and_takes_up_and_drops_others() -> None:
    kept = HealthCheck("http", "x", "/", check_frequency=0.02, reuse=True)
    async with origin() as one, origin() as two, running(one=upstream(one.port, check=kept)) as run:
        await run.until(lambda: len(one.requests) > 2)
        run.configure(one=upstream(one.port, check=kept), two=upstream(two.port))
        await run.until(lambda: run.value == {"one": {one.address: True}, "two": {two.address: True}})
        run.configure(one=upstream(one.port, check=kept))
        await run.until(lambda: run.value == {"one": {one.address: True}})
        await run.until(lambda: not two.open)
        asked, more = len(two.requests), len(one.requests) + 3
        await run.until(lambda: len(one.requests) > more)
        assert len(two.requests) == asked
        assert one.connections == 1, "its connection lived through both reloads"


async def test_a_reload_while_checks_wait_for_their_turn_stops_nobodys_checks() -> None:
    check = HealthCheck("http", "x", "/", check_frequency=0.05, read_timeout=30, parallel=True)
    with socket.create_server(("0.0.0.0", 0), backlog=128) as silent:
        addrs = tuple(Backend(f"127.0.1.{number}", silent.getsockname()[1]) for number in range(1, 41))
        async with origin() as backend, running() as run:
            run.actor.gate = CheckGate(asyncio.get_running_loop(), 16)
            run.configure(api=Upstream(addrs=addrs, health_check=check))
            await run.until(lambda: run.actor.gate.waiting > 20)
            under_way = run.actor.gate.used
            run.configure(api=upstream(backend.port, check=check), other=upstream(backend.port, check=check))
            await run.until(lambda: run.value == {name: {backend.address: True} for name in ("api", "other")})
            asked = len(backend.requests)
            await run.until(lambda: len(backend.requests) > asked + 4)
            await run.until(lambda: run.actor.gate.used < under_way and not run.actor.gate.waiting)
            assert run.logs("error") == []


async def test_rounds_that_break_off_are_told_and_started_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "AGAIN", 0.02)
    faults = 3
    real = Discovery.lost

    def lost(core: Discovery, upstream: str) -> list[CheckTarget]:
        nonlocal faults
        if faults:
            faults -= 1
            raise KeyError(upstream)
        return real(core, upstream)

    monkeypatch.setattr(Discovery, "lost", lost)
    async with origin() as backend, running(api=upstream(backend.port)) as run:
        await run.until(lambda: not faults)
        asked = len(backend.requests)
        await run.until(lambda: len(backend.requests) > asked + 3)
        backend.answer = BUSY
        await run.until(lambda: run.value == {"api": {backend.address: False}})
        said = [fields for _, message, fields in run.context.logged if message == "checking broke off, and is started anew"]
        assert said == 3 * [{"upstream": "api", "error": "KeyError('api')"}]


async def test_a_kept_connection_to_an_address_that_a_name_had_is_closed() -> None:
    found = ["127.0.0.2", "127.0.0.1"]

    def resolve(host: str, family: int) -> list[Address]:
        return [Address(socket.AF_INET, (ip, 0)) for ip in found]

    kept = HealthCheck("http", "x", "/", check_frequency=0.02, failure=1, reuse=True)
    async with origin() as backend, running() as run:
        run.actor.lookups = Lookups(asyncio.get_running_loop(), resolve)
        name = Backend("many.example", backend.port)
        run.configure(api=Upstream(addrs=(name,), health_check=kept))
        await run.until(lambda: run.value and len(run.value["api"]) == 2 and backend.open == 1)
        found[:] = ["127.0.0.3"]
        run.actor.feed(Resolved("api", name.address, (Backend("127.0.0.3", backend.port),), 0.0))
        await run.until(lambda: backend.open == 0 and run.actor.kept.count == 0)


async def test_stopping_closes_what_is_under_way_and_what_is_kept() -> None:
    async with origin(b"") as silent, origin() as kept:
        reuse = HealthCheck("http", "x", "/", reuse=True)
        async with running(a=upstream(silent.port), b=upstream(kept.port, check=reuse)) as run:
            await run.until(lambda: silent.requests and kept.requests)
        await run.until(lambda: silent.open + kept.open == 0)


class Slow(Origin):
    """Says how many of its kind were asked at the same time, first round aside."""

    now = most = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.requests.append(await reader.readuntil(b"\r\n\r\n"))
            Slow.now += 1
            if len(self.requests) > 1:
                Slow.most = max(Slow.most, Slow.now)
            await asyncio.sleep(0.02)
            writer.write(self.answer)
            await writer.drain()
            Slow.now -= 1
        finally:
            writer.close()


@pytest.mark.parametrize(("parallel", "most"), [(False, 1), (True, 3)])
async def test_backends_are_checked_one_after_the_other_or_all_at_once_as_configured(parallel: bool, most: int) -> None:
    Slow.now = Slow.most = 0
    check = HealthCheck("http", "x", "/", check_frequency=0.6, parallel=parallel)
    one, two, three = Slow(), Slow(), Slow()
    async with (
        listening(one),
        listening(two),
        listening(three),
        running(api=upstream(one.port, two.port, three.port, check=check)) as run,
    ):
        await run.until(lambda: all(len(each.requests) > 2 for each in (one, two, three)))
    assert Slow.most == most


# -- backends taken out by hand ----------------------------------------------------------------------


def ask(run: Run, word: str, *args: Any) -> tuple[bool, Any]:
    """What the operator is answered."""
    run.context.reported.clear()
    run.actor.told(word, (7, *args))
    ((kind, answer),) = run.context.reported
    assert (kind, answer["asked"]) == ("answer", 7)
    return answer["ok"], answer["value"]


async def test_a_drained_backend_is_published_at_once_and_told() -> None:
    one, other = free_port(), free_port()
    address = f"127.0.0.1:{one}"
    async with running(api=upstream(one, other)) as run:
        ok, answer = ask(run, "upstream-drain", "api", address, False)
        assert ok and answer["changed"]
        assert run.context.published["drains"] == [{}, {"api": (address,)}]
        assert ("info", "a backend is taken out by hand", {"upstream": "api", "addr": address}) in run.context.logged
        assert [notice[1] for notice in run.context.noticed] == ["backend_status"]
        assert ask(run, "upstreams", "api")[1][0]["backends"][0]["state"] == "drained"
        assert ask(run, "upstream-drain", "api", address, False)[0] and len(run.context.published["drains"]) == 2
        assert ask(run, "upstream-enable", "api", address)[0]
        assert run.context.published["drains"][-1] == {}


async def test_questions_that_cannot_be_answered_are_refused() -> None:
    run = Run()
    await run.actor.start()
    assert ask(run, "upstreams") == (False, "the discovery stage has only begun, and knows no configuration yet: ask again in a moment")
    run.configure(api=upstream(free_port()))
    assert ask(run, "upstream-drain", "api")[0] is False
    assert ask(run, "upstream-drain", "api", "x", False)[0] is False
    run.context.reported.clear()
    run.actor.told("reopen", (8,))
    assert run.context.reported == []
    await run.actor.stop()


async def test_a_drain_outlives_the_stage_and_a_reload_but_not_the_backend(tmp_path: Path) -> None:
    one, other, third = free_port(), free_port(), free_port()
    drained = {"api": (f"127.0.0.1:{one}",)}
    async with running(tmp_path, api=upstream(one, other)) as run:
        ask(run, "upstream-drain", "api", f"127.0.0.1:{one}", True)
    async with running(tmp_path, api=upstream(one, other)) as again:
        assert again.context.published["drains"] == [drained]
        again.configure(api=upstream(third, one))
        await again.until(lambda: ask(again, "upstreams")[1][0]["backends"][0]["address"] == f"127.0.0.1:{third}")
        assert again.context.published["drains"] == [drained]
        again.configure(api=upstream(third, other))
        await again.until(lambda: again.context.published["drains"][-1] == {})
        assert any(message == "a backend that was taken out by hand has left" for _, message, _ in again.context.logged)
        again.configure(api=upstream(one, other))
        assert again.context.published["drains"][-1] == {}, "it comes back as any other"
    (tmp_path / "pid").write_text("another run")
    async with running(tmp_path, api=upstream(one, other)) as fresh:
        assert fresh.context.published["drains"] == [{}]


async def test_one_that_hangs_is_overtaken_and_holds_up_no_round() -> None:
    """One after the other is not one in place of the other."""
    check = HealthCheck("http", "x", "/", check_frequency=0.1, read_timeout=30, failure=1)
    async with origin() as backend, origin() as silent, running(api=upstream(silent.port, backend.port, check=check)) as run:
        await run.until(lambda: run.value == {"api": {backend.address: True, silent.address: True}})
        silent.answer = b""
        await run.until(lambda: silent.tasks and silent.open)
        asked, more = len(silent.requests), len(backend.requests) + 5
        await run.until(lambda: len(backend.requests) > more)
        assert len(silent.requests) <= asked + 1, "it is not asked again while it hangs"
        backend.answer = BUSY
        await run.until(lambda: run.value == {"api": {backend.address: False, silent.address: True}}, 3)


async def test_of_thousands_of_suspected_backends_few_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """One report may name as many, and the loop has other things to do."""
    looked: list[str] = []
    real = Discovery.suspect

    def suspect(core: Discovery, upstream: str, address: str) -> CheckTarget | None:
        looked.append(address)
        return real(core, upstream, address)

    monkeypatch.setattr(Discovery, "suspect", suspect)
    addrs = tuple(Backend(f"127.1.{number >> 8}.{number & 255}", 1) for number in range(3000))
    async with running(api=Upstream(addrs=addrs, health_check=HealthCheck(check_frequency=60))) as run:
        for addr in addrs:
            run.actor.check_now("api", addr.address)
            run.actor.check_now("gone", addr.address)
        assert MOST <= len(looked) < 2 * MOST


async def test_a_suspected_backend_is_not_left_to_the_next_round() -> None:
    check = HealthCheck("http", "x", "/", check_frequency=2, failure=3)
    async with origin() as backend, running(api=upstream(backend.port, check=check)) as run:
        await run.until(lambda: run.value == {"api": {backend.address: True}})
        backend.answer = BUSY
        run.actor.check_now("api", backend.address)
        began = monotonic()
        await run.until(lambda: run.value == {"api": {backend.address: False}})
        assert monotonic() - began < 3, "in rounds that would take four seconds or more"
        assert len(backend.requests) >= 4


async def test_a_backend_that_requests_do_not_reach_is_checked_at_once_and_once_a_second() -> None:
    slow = HealthCheck(check_frequency=60, failure=1)
    async with running() as run:
        async with origin() as backend:
            run.configure(api=upstream(backend.port, check=slow))
            await run.until(lambda: run.value == {"api": {backend.address: True}})
            before = run.actor.checks
            for _ in range(50):
                run.actor.check_now("api", backend.address)
                run.actor.check_now("api", "10.0.0.1:1")
                run.actor.check_now("gone", backend.address)
            await run.until(lambda: run.actor.checks == before + 1)
        # It has gone now; the next report comes a second later.
        async with asyncio.timeout(5):
            while run.value != {"api": {backend.address: False}}:
                run.actor.check_now("api", backend.address)
                await asyncio.sleep(0.05)
        assert run.actor.checks == before + 2
        run.actor.check_now("api", backend.address)
        assert run.actor.figures()["checks_under_way"] == 0, "that it is ill is known"


# -- notices ---------------------------------------------------------------------------------------


def told(run: Run, category: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Level, message and fields."""
    return [(level, text, fields) for level, at, text, fields in run.context.noticed if at == category]


async def test_each_turn_of_a_backend_is_a_notice_and_so_is_an_upstream_that_has_none_left() -> None:
    async with origin() as backend, running(api=upstream(backend.port)) as run:
        await run.until(lambda: run.value == {"api": {backend.address: True}})
        backend.answer = BUSY
        await run.until(lambda: told(run, "upstream_status"))
        name = f"upstream api({backend.address})"
        fields = {"upstream": "api", "addr": backend.address, "title": "Upstream backend status changed"}
        reason = "answered with status 503"
        assert told(run, "backend_status") == [
            ("error", f"{name} becomes unhealthy: {reason}", fields | {"state": "unhealthy", "reason": reason})
        ]
        assert told(run, "upstream_status") == [
            ("error", "api", {"title": "Upstream unhealthy", "state": "unhealthy", "upstreams": ("api",), "count": 1})
        ]
        backend.answer = OK
        await run.until(lambda: len(told(run, "upstream_status")) == 2)
        assert told(run, "backend_status")[1:] == [("info", f"{name} becomes healthy", fields | {"state": "healthy", "reason": ""})]
        assert told(run, "upstream_status")[1] == (
            "info",
            "api",
            {"title": "Upstream healthy", "state": "healthy", "upstreams": ("api",), "count": 1},
        )


async def test_a_rack_that_dies_is_one_notice_of_its_upstreams() -> None:
    names = [f"u{number:03}" for number in range(150)]
    async with origin() as backend, running(None, **{name: upstream(backend.port) for name in names}) as run:
        await run.until(lambda: run.value and len(run.value) == 150)
        backend.answer = BUSY
        await run.until(lambda: sum(fields["count"] for _, _, fields in told(run, "upstream_status")) == 150)
        assert len(told(run, "backend_status")) == 150
        assert len(told(run, "upstream_status")) <= 3
        assert all(len(fields["upstreams"]) <= 100 for _, _, fields in told(run, "upstream_status"))


async def test_a_restarted_stage_does_not_tell_again_that_an_upstream_is_down(tmp_path: Path) -> None:
    dead = free_port()
    async with running(tmp_path, api=upstream(dead)) as run:
        await run.until(lambda: told(run, "upstream_status"))
    async with running(tmp_path, api=upstream(dead)) as again:
        await again.until(lambda: again.actor.checks > 3)
        assert again.actor.core.down() == ["api"]
        again.actor._look_at_downs()
        assert told(again, "upstream_status") == []


async def test_what_is_known_of_the_last_check_is_shown() -> None:
    dead = free_port()
    async with running(api=upstream(dead)) as run:
        await run.until(lambda: run.value == {"api": {f"127.0.0.1:{dead}": False}})
        run.actor.told("upstreams", (7,))
        (backend,) = run.context.reported[-1][1]["value"][0]["backends"]
        assert backend["check"]["error"].startswith("cannot connect")
        assert abs(backend["check"]["time"] - time()) < 60
        assert 0 <= backend["check"]["seconds"] < 5


@pytest.mark.slow
async def test_names_of_an_upstream_with_dns_are_its_backends_as_long_as_nothing_else_is_known() -> None:
    answers = True

    def reply(question: dns.message.Message, is_tcp: bool) -> list[bytes]:
        if not answers:
            return [framed(answer(question, rcode=2), is_tcp)]
        return [framed(answer(question, *(["api.test 0 A 127.0.0.1"] if question.question[0].rdtype.name == "A" else [])), is_tcp)]

    async with origin() as backend, dns_peer(reply) as peer, running() as run:
        settings = Upstream(
            addrs=(Backend("api.test", backend.port, 3), Backend("127.0.0.2", backend.port)),
            discovery="dns",
            dns_server=(DnsAddress("127.0.0.1", peer.port),),
            update_frequency=0.1,
            health_check=FAST,
        )
        run.configure(api=settings)
        name, address = f"api.test:{backend.port}", f"127.0.0.2:{backend.port}"
        whole = {"api": {name: (("127.0.0.1", backend.port, 3),), address: (("127.0.0.2", backend.port, 1),)}}
        await eventually(lambda: run.context.published["backends"][-1] == whole, said=lambda: run.context.published["backends"][-1])
        answers = False
        await run.until(lambda: told(run, "service_discover_fail"))
        level, message, fields = told(run, "service_discover_fail")[0]
        assert (level, fields) == ("warn", {"upstreams": ("api",), "count": 1})
        assert f"api.test A: 127.0.0.1:{peer.port}: SERVFAIL" in message
        asked = len(peer.questions)
        await run.until(lambda: len(peer.questions) > asked + 8)
        assert run.context.published["backends"][-1] == whole
        assert len(told(run, "service_discover_fail")) == 1
        answers = True
        await run.until(lambda: any(message == "backends can be found out again" for _, message, _ in run.context.logged))


async def test_a_name_whose_backends_are_all_dead_is_looked_up_long_before_its_time_to_live_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns_refresh, "LOST", 0.1)
    address = "127.0.0.3"

    def reply(question: dns.message.Message, is_tcp: bool) -> list[bytes]:
        return [framed(answer(question, f"api.test 3600 A {address}"), is_tcp)]

    async with origin() as backend, dns_peer(reply) as peer, running() as run:
        entry = Backend("api.test", backend.port)
        server = (DnsAddress("127.0.0.1", peer.port),)
        run.configure(api=Upstream(addrs=(entry,), discovery="dns", dns_server=server, ipv4_only=True, health_check=FAST))
        await run.until(lambda: run.value == {"api": {f"127.0.0.3:{backend.port}": False}})
        address = "127.0.0.1"
        await run.until(lambda: run.value == {"api": {f"127.0.0.1:{backend.port}": True}})


async def test_a_reload_or_a_restart_while_aaaa_cannot_be_asked_for_costs_no_address(tmp_path: Path) -> None:
    fails = False

    def reply(question: dns.message.Message, is_tcp: bool) -> list[bytes]:
        is_v6 = question.question[0].rdtype.name == "AAAA"
        if is_v6 and fails:
            return [framed(answer(question, rcode=2), is_tcp)]
        return [framed(answer(question, f"api.test 0 {'AAAA ::1' if is_v6 else 'A 127.0.0.1'}"), is_tcp)]

    async with origin() as backend, dns_peer(reply) as peer:
        entry = Backend("api.test", backend.port)
        server = (DnsAddress("127.0.0.1", peer.port),)
        first = Upstream(addrs=(entry,), discovery="dns", dns_server=server, update_frequency=60, health_check=FAST)
        both = {"api": {entry.address: (("127.0.0.1", backend.port, 1), ("::1", backend.port, 1))}}
        async with running(tmp_path, api=first) as run:
            await run.until(lambda: run.context.published["backends"][-1] == both)
            fails, asked = True, len(peer.questions)
            run.configure(api=replace(first, update_frequency=0.1))
            await run.until(lambda: len(peer.questions) > asked + 8)
            assert run.context.published["backends"][-1] == both
        asked = len(peer.questions)
        async with running(tmp_path, api=replace(first, update_frequency=0.1)) as run:
            await run.until(lambda: len(peer.questions) > asked + 8)
            assert run.context.published["backends"][-1] == both


@pytest.mark.processes
def test_who_has_no_upstream_with_dns_loads_nothing_of_it() -> None:
    code = "import sys, pingap.stages.discovery.actor; sys.exit('dns' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
