"""One Docker host under watch, with an engine that does what the test says."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from pingap.stages.discovery.containers import watch as module
from pingap.stages.discovery.containers.engine import EngineFailed
from pingap.stages.discovery.containers.listing import Listing
from pingap.stages.discovery.containers.watch import EngineWatches
from tests.discovery.scripted_engine import Host, ScriptedEngine, listing
from tests.kit.waiting import eventually


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GATHER", 0.02)
    monkeypatch.setattr(module, "AGAIN", 0.01)
    monkeypatch.setattr(module, "MOST_PAUSE", 0.04)


class Ear:
    def __init__(self, frequency: float = 60.0) -> None:
        self.frequency = frequency
        self.said: list[str] = []

    def listed(self, listing: Listing) -> None:
        self.said.append(",".join(container.id for container in listing.containers))

    def unlisted(self, reason: str) -> None:
        self.said.append(f"failed: {reason}")

    async def until(self, said: str) -> None:
        await eventually(lambda: self.said and self.said[-1] == said, said=lambda: self.said)


@asynccontextmanager
async def hearing(watches: EngineWatches, *ears: Ear, host: str = "") -> AsyncIterator[list[asyncio.Task[None]]]:
    tasks = [asyncio.create_task(watches.hear(host, ear)) for ear in ears]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def watches(host: Host) -> EngineWatches:
    return EngineWatches(asyncio.get_running_loop(), host.make)


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.endswith("of Docker")]


async def test_a_list_is_told_at_first_and_again_at_an_event() -> None:
    host, ear = Host(), Ear()
    async with hearing(watches(host), ear):
        await ear.until("one")
        await eventually(lambda: host.listening)
        host.running = listing("two")
        host.event()
        await ear.until("two")


async def test_events_that_come_together_are_one_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GATHER", 0.2)
    host, ear = Host(), Ear()
    async with hearing(watches(host), ear):
        await eventually(lambda: host.listening and host.lists >= 2)  # the second because events have begun
        host.running = listing("two")
        before = host.lists
        for _ in range(50):
            host.event()
        await ear.until("two")
        assert host.lists <= before + 2  # the first may have come while a list was under way


async def test_an_event_that_comes_while_the_list_is_under_way_is_not_lost() -> None:
    host, ear = Host(), Ear()
    async with hearing(watches(host), ear):
        await eventually(lambda: host.listening and len(ear.said) >= 2)
        host.gate.clear()
        host.event()
        before = host.lists
        await eventually(lambda: host.lists == before + 1)
        host.event()
        host.gate.set()
        await eventually(lambda: host.lists == before + 2)


async def test_without_events_there_is_a_list_from_time_to_time() -> None:
    host, ear, rare = Host(), Ear(frequency=0.02), Ear(frequency=60)
    host.has_events = False
    async with hearing(watches(host), rare, ear):
        await ear.until("one")
        host.running = listing("two")
        await ear.until("two")
        await rare.until("two")
        assert not any("failed" in said for said in ear.said)


async def test_who_joins_with_a_shorter_pause_does_not_wait_for_the_end_of_the_longer_one() -> None:
    host, rare, ear = Host(), Ear(frequency=60), Ear(frequency=0.02)
    host.has_events = False
    shared = watches(host)
    async with hearing(shared, rare):
        await eventually(lambda: host.lists == 2)  # the second as events cannot be followed
        async with hearing(shared, ear):
            await ear.until("one")
            host.running = listing("two")
            await ear.until("two")


async def test_who_has_lost_all_gets_a_new_list_unless_the_last_one_is_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    host, ear = Host(), Ear()
    host.has_events = False
    shared = watches(host)
    async with hearing(shared, ear):
        await eventually(lambda: len(ear.said) == 2)  # the second as events cannot be followed
        shared.hurry("")
        shared.hurry("unix:///of/another")
        await asyncio.sleep(0.1)
        assert host.lists == 2
        monkeypatch.setattr(module, "FRESH", 0.0)
        shared.hurry("")
        await eventually(lambda: host.lists == 3)


async def test_failures_are_told_each_time_and_retried_without_end() -> None:
    host, ear = Host(), Ear()
    host.failure = EngineFailed("gone")
    host.has_events = False
    async with hearing(watches(host), ear) as tasks:
        await eventually(lambda: ear.said.count("failed: gone") >= 10, said=lambda: ear.said)
        host.failure = ZeroDivisionError("a fault")
        await ear.until("failed: ZeroDivisionError: a fault")
        host.failure = None
        await ear.until("one")
        assert not tasks[0].done()
    lists = [engine for engine in host.engines if engine.closed]
    assert len(lists) >= 10  # each failure had its own, which is closed


async def test_events_that_end_are_a_reason_to_look_and_are_followed_again() -> None:
    host, ear = Host(), Ear()
    async with hearing(watches(host), ear):
        await ear.until("one")
        await eventually(lambda: host.listening)
        await asyncio.sleep(0.02)  # they lasted for longer than a failure
        host.running = listing("two")
        host.end_events()
        await ear.until("two")
        await eventually(lambda: host.listening)
        host.running = listing("three")
        host.event()
        await ear.until("three")


async def test_events_that_cannot_be_followed_are_a_reason_to_look_once() -> None:
    host, ear = Host(), Ear()
    host.has_events = False
    async with hearing(watches(host), ear):
        await eventually(lambda: host.lists == 2)
        tries = len(host.engines)
        await eventually(lambda: len(host.engines) > tries + 3)
        assert host.lists == 2


async def test_events_are_followed_again_as_soon_as_a_list_has_come_after_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    jitter = [1e6]  # so long events would wait by themselves
    monkeypatch.setattr(random, "uniform", lambda low, high: jitter.pop() if jitter else 1.0)
    host, ear = Host(), Ear(frequency=0.02)
    host.has_events = False
    async with hearing(watches(host), ear):
        await eventually(lambda: not jitter)
        host.has_events = True
        host.failure = EngineFailed("gone")
        await ear.until("failed: gone")
        assert not host.listening
        host.failure = None
        await eventually(lambda: host.listening)


async def test_upstreams_share_the_watch_of_a_host_and_who_comes_late_hears_at_once() -> None:
    host, ear, late = Host(), Ear(), Ear()
    shared = watches(host)
    async with hearing(shared, ear) as [task]:
        await ear.until("one")
        await eventually(lambda: host.listening)
        async with hearing(shared, late):
            await asyncio.sleep(0)
            assert late.said == ["one"]
            task.cancel()
            host.running = listing("two")
            host.event()
            await late.until("two")
            assert len(host.engines) == 2  # one lists, one follows
        await eventually(lambda: not threads())
    assert all(engine.closed == 1 for engine in host.engines)
    async with hearing(shared, ear):  # and it can begin again
        await ear.until("two")


async def test_two_hosts_are_two_watches() -> None:
    made: list[str] = []
    host = Host()

    def make(docker_host: str) -> ScriptedEngine:
        made.append(docker_host)
        return host.make(docker_host)

    both = EngineWatches(asyncio.get_running_loop(), make)
    one, other = Ear(), Ear()
    async with hearing(both, one, host="unix:///a"), hearing(both, other, host="unix:///b"):
        await one.until("one")
        await other.until("one")
    assert sorted(set(made)) == ["unix:///a", "unix:///b"]


async def test_a_call_that_does_not_end_is_told_and_no_second_thread_waits_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST", 0.05)
    host, ear = Host(), Ear()
    host.gate.clear()
    async with hearing(watches(host), ear):
        await eventually(lambda: len(ear.said) >= 4)
        assert ear.said[0] == "failed: no answer within 0.05 s"
        assert threads().count("containers of Docker") == 1
        host.gate.set()
        await ear.until("one")
    await eventually(lambda: not threads())


async def test_a_fault_of_a_listener_ends_the_watch_aloud_and_the_next_one_begins_anew() -> None:
    class Broken(Ear):
        def listed(self, listing: Listing) -> None:
            raise KeyError("a fault")

    host, ear = Host(), Ear()
    shared = watches(host)
    async with hearing(shared, Broken()) as [task]:
        with pytest.raises(KeyError):
            await asyncio.wait_for(asyncio.shield(task), 5)
    async with hearing(shared, ear):
        await ear.until("one")
    await eventually(lambda: not threads())
