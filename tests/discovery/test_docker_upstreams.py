"""The discovery actor with upstreams that have Docker: an engine that does what the test says, real backends on loopback."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pingap.config.model import Upstream
from pingap.config.parts import Backend, HealthCheck
from pingap.stages.discovery.containers import source as source_module
from pingap.stages.discovery.containers import sources
from pingap.stages.discovery.containers import watch as watch_module
from pingap.stages.discovery.containers.engine import EngineFailed
from pingap.stages.discovery.containers.listing import DockerHost, FoundContainers, Labelled, Listing, containers_of
from pingap.stages.discovery.containers.source import ContainerSource
from pingap.stages.discovery.containers.watch import EngineWatches
from tests.discovery.origin import origin
from tests.discovery.scripted_engine import Host
from tests.discovery.test_discovery_actor import Run, running
from tests.kit.waiting import eventually, until

CHECK = HealthCheck("tcp", "x", check_frequency=0.05, failure=1)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    made = Host()
    made.running = containers()
    monkeypatch.setattr(watch_module, "GATHER", 0.01)
    monkeypatch.setattr(watch_module, "AGAIN", 0.02)
    monkeypatch.setattr(sources, "EngineWatches", lambda loop: EngineWatches(loop, made.make))
    yield made
    until(lambda: not any(thread.name.endswith("of Docker") for thread in threading.enumerate()), 5, "its threads have ended")


def containers(*ports: int, **labels: str) -> Listing:
    """In the host's network, each at a port of its own."""
    found: list[dict[str, Any]] = [
        {
            "Id": f"id{port}",
            "Names": [f"/c{port}"],
            "State": "running",
            "Labels": {"app": "web", "pingap.port": str(port), **{f"pingap.{name}": value for name, value in labels.items()}},
            "HostConfig": {"NetworkMode": "host"},
        }
        for port in ports
    ]
    return Listing(tuple(containers_of(json.dumps(found).encode())), DockerHost())


def docker(*entries: str, frequency: float | None = 0.05) -> Upstream:
    """entries: labels without port."""
    addrs = tuple(Backend(entry, 0) for entry in entries or ("app=web",))
    return Upstream(addrs=addrs, discovery="docker", update_frequency=frequency, health_check=CHECK)


def backends(run: Run) -> dict[str, dict[str, list[tuple[Any, ...]]]]:
    """The topic, in the order of the addresses."""
    value = run.context.published["backends"][-1]
    return {name: {entry: sorted(map(tuple, found)) for entry, found in entries.items()} for name, entries in value.items()}


def notices(run: Run) -> list[Any]:
    return [one for one in run.context.noticed if one[1] == "service_discover_fail"]


async def test_what_runs_is_published_with_its_weight_once_it_is_judged(host: Host) -> None:
    async with origin() as one, origin() as other, running(web=docker()) as run:
        await run.until(lambda: backends(run) == {"web": {"app=web": []}})  # nothing runs: that is known
        host.running = containers(one.port, other.port, weight="5")
        both = sorted([("127.0.0.1", one.port, 5), ("127.0.0.1", other.port, 5)])
        await run.until(lambda: backends(run) == {"web": {"app=web": both}})
        assert run.value == {"web": {one.address: True, other.address: True}}
        host.running = containers(other.port)
        await run.until(lambda: backends(run) == {"web": {"app=web": [("127.0.0.1", other.port, 1)]}})
        host.running = containers()
        await run.until(lambda: backends(run) == {"web": {"app=web": []}})


@pytest.mark.slow
async def test_an_engine_that_fails_changes_nothing_and_is_told_once(host: Host) -> None:
    async with origin() as one:
        host.running = containers(one.port)
        async with running(web=docker(), shop=docker()) as run:
            known = {name: {"app=web": [("127.0.0.1", one.port, 1)]} for name in ("web", "shop")}
            await run.until(lambda: backends(run) == known)
            host.failure = EngineFailed("permission denied")
            before = host.lists
            await run.until(lambda: notices(run))
            await run.until(lambda: host.lists > before + 5)
            assert backends(run) == known
            told = [part for _, _, message, _ in notices(run) for part in message.split("; ")]
            assert sorted(told) == [f"{name}: app=web: permission denied" for name in ("shop", "web")]
            host.failure = None
            await run.until(lambda: any(text == "backends can be found out again" for _, text, _ in run.context.logged))
            assert len({id(engine) for engine in host.listening}) <= 1  # one watch for both


async def test_what_was_known_is_used_after_a_restart_of_the_stage_though_the_engine_is_away(host: Host, tmp_path: Path) -> None:
    async with origin() as one:
        host.running = containers(one.port)
        known = {"web": {"app=web": [("127.0.0.1", one.port, 1)]}}
        async with running(tmp_path, web=docker()) as run:
            await run.until(lambda: backends(run) == known)
            await run.until((tmp_path / "backends.last").exists)
        host.failure = EngineFailed("it does not exist")
        async with running(tmp_path, web=docker()) as again:
            assert backends(again) == known
            await again.until(lambda: notices(again))
            assert backends(again) == known


async def test_an_engine_that_never_answered_leaves_nothing_to_wait_for(host: Host) -> None:
    host.failure = EngineFailed("it does not exist")
    async with running(web=docker()) as run:
        await run.until(lambda: backends(run) == {"web": {"app=web": []}})


async def test_a_container_that_is_left_out_is_told_once_until_that_changes(host: Host) -> None:
    async with origin() as one, running(web=docker()) as run:
        host.running = containers(one.port, network="front")

        def told() -> list[dict[str, Any]]:
            return [fields for _, text, fields in run.context.logged if text == "a container with the label is no backend"]

        await run.until(told)
        before = host.lists
        await run.until(lambda: host.lists > before + 3)
        [fields] = told()
        assert (fields["upstream"], fields["entry"]) == ("web", "app=web") and f"container c{one.port} is not in the network" in fields[
            "reason"
        ]
        host.running = containers(one.port)
        await run.until(lambda: run.value == {"web": {one.address: True}})
        host.running = containers(one.port, network="front")
        await run.until(lambda: len(told()) == 2)


async def test_an_upstream_that_leaves_the_configuration_ends_its_threads(host: Host) -> None:
    async with origin() as one:
        host.running = containers(one.port)
        async with running(web=docker(), other=docker("app")) as run:
            await run.until(lambda: len(backends(run)) == 2)
            run.configure(other=docker("app"))
            await run.until(lambda: list(backends(run)) == ["other"])
            run.configure()
            await run.until(lambda: all(engine.closed for engine in host.engines))
            run.configure(web=docker())
            await run.until(lambda: backends(run) == {"web": {"app=web": [("127.0.0.1", one.port, 1)]}})


@pytest.mark.processes
def test_a_process_without_such_an_upstream_loads_no_library_for_it() -> None:
    script = "import sys, pingap.stages.discovery.actor; print(*sorted({'docker', 'requests', 'urllib3', 'dns'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout == "\n"


async def test_a_long_list_is_gone_through_in_a_thread_and_the_last_word_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop has requests' circuits and checks to see to."""
    threads: list[threading.Thread] = []
    may_go = threading.Event()

    def derived(containers: Any, *_: Any) -> FoundContainers:
        threads.append(threading.current_thread())
        may_go.wait(5)
        return FoundContainers((Backend("127.0.0.1", len(containers), 1),))

    monkeypatch.setattr(source_module, "backends_of", derived)
    monkeypatch.setattr(watch_module, "GATHER", 60)  # there is one list
    told: list[Any] = []

    class Ear:
        def found(self, entry: str, backends: Iterable[Backend]) -> None:
            told.append([backend.port for backend in backends])

        def failed(self, entry: str, reason: str) -> None:
            told.append(reason)

    host = Host()
    watches = EngineWatches(asyncio.get_running_loop(), host.make)
    entries = [("app", Labelled("app"))]
    source = ContainerSource(Ear(), watches, "", entries, frequency=60, ipv4_only=False, remark=lambda *_: None)
    host.running = Listing(tuple(containers(*range(1, 302)).containers), DockerHost())
    task = asyncio.create_task(source.run())
    try:
        await eventually(lambda: threads)
        assert threads[0] is not threading.main_thread()
        source.listed(Listing(host.running.containers[:250], DockerHost()))
        source.unlisted("gone")
        may_go.set()
        await eventually(lambda: "gone" in told, said=lambda: told)
        assert told[:2] == [[301], "gone"]
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
