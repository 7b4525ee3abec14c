"""A real Docker engine: what it lists, its events, and what becomes of an upstream while it is restarted, frozen, or away."""

from __future__ import annotations

import asyncio
import gc
import threading
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest

from pingap.stages.discovery.containers import engine as engine_module
from pingap.stages.discovery.containers.engine import Engine, EngineFailed
from pingap.stages.discovery.containers.listing import DockerHost, Labelled, Listing, backends_of
from pingap.stages.discovery.containers.watch import EngineWatches
from tests.e2e.certificate import chained
from tests.kit.dockerd import IMAGE, Dockerd
from tests.kit.waiting import eventually, free_port, until

# The SDK leaves a socket to the collector when the engine ends just as it connects.
LEFT = r"ignore:unclosed <socket.socket .*family=1,:ResourceWarning"
pytestmark = [pytest.mark.processes, pytest.mark.filterwarnings(LEFT)]


@contextmanager
def engine(host: str) -> Iterator[Engine]:
    made = Engine(host)
    try:
        yield made
    finally:
        made.interrupt()
        made.close()


@pytest.fixture(scope="module")
def dockerd() -> Iterator[Dockerd]:
    with Dockerd() as running:
        yield running
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def docker(dockerd: Dockerd) -> Iterator[Dockerd]:
    yield dockerd
    dockerd.clear()


def web(listing: Listing, port: int = 80) -> dict[str, int]:
    found = backends_of(listing.containers, Labelled("app", "web", port), listing.host)
    return {backend.address: backend.weight for backend in found.backends}


def test_what_a_real_engine_lists(docker: Dockerd) -> None:
    docker.run(labels={"app": "web"}, name="plain")
    docker.run(labels={"app": "web", "pingap.port": "81", "pingap.weight": "5"}, name="own")
    docker.run(labels={"app": "other", "pingap.port": "82"})
    docker.run(labels={"app": "web", "pingap.port": "83"}, network_mode="none", name="alone")
    docker.run(labels={"app": "web", "pingap.port": "84"}, network_mode="container:plain")
    paused = docker.run(labels={"app": "web", "pingap.port": "85"})
    with engine(docker.host) as one:
        assert web(one.listing()) == {"127.0.0.1:80": 1, "127.0.0.1:81": 5, "127.0.0.1:84": 1, "127.0.0.1:85": 1}
        paused.pause()
        assert "127.0.0.1:85" not in web(one.listing())
        paused.unpause()
        assert "127.0.0.1:85" in web(one.listing())
        paused.kill()
        assert "127.0.0.1:85" not in web(one.listing())
        remarks = backends_of(one.listing().containers, Labelled("app", "web"), DockerHost()).remarks
    assert [remark.split()[1] for remark in remarks] == ["alone", "plain"]


@pytest.mark.slow
def test_a_container_is_a_backend_only_while_its_own_check_passes(docker: Dockerd) -> None:
    second = 1_000_000_000
    check = {"test": ["CMD", "test", "-e", "/tmp/ok"], "interval": second // 2, "timeout": second, "retries": 2, "start_period": 0}
    container = docker.run(labels={"app": "web"}, healthcheck=check)
    with engine(docker.host) as one:
        assert web(one.listing()) == {}  # starting
        container.exec_run(["touch", "/tmp/ok"])
        until(lambda: web(one.listing()), 20, "healthy", every=0.1)
        container.exec_run(["rm", "/tmp/ok"])
        until(lambda: not web(one.listing()), 20, "unhealthy", every=0.1)


def test_what_happens_to_a_container_is_an_event(docker: Dockerd) -> None:
    heard: list[int] = []
    with engine(docker.host) as one:

        def follow() -> None:
            with suppress(EngineFailed):
                one.follow(lambda: heard.append(1))

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        until(lambda: heard, 5, "begun")
        container = docker.client.containers.create(IMAGE, ["sleep", "1000"], network_mode="none", stop_signal="SIGKILL")
        for what in ("start", "pause", "unpause", "kill", "start", "stop", "remove"):
            before = len(heard)
            getattr(container, what)()
            until(lambda before=before: len(heard) > before, 5, f"an event of {what}")  # type: ignore[misc]
        one.interrupt()
        thread.join(5)
        assert not thread.is_alive()


class Ear:
    """An upstream that wants what has the label app=web."""

    frequency = 60.0

    def __init__(self) -> None:
        self.said: list[object] = []
        """Ports of backends, or the reason of a failure."""

    def listed(self, listing: Listing) -> None:
        self.said.append({int(address.rpartition(":")[2]) for address in web(listing)})

    def unlisted(self, reason: str) -> None:
        self.said.append(reason)

    async def until(self, expected: set[int], seconds: float = 10) -> None:
        await eventually(lambda: self.said and self.said[-1] == expected, seconds, said=lambda: self.said)


@asynccontextmanager
async def heard(host: str, *ears: Ear) -> AsyncIterator[None]:
    watches = EngineWatches(asyncio.get_running_loop())
    tasks = [asyncio.create_task(watches.hear(host, ear)) for ear in ears]
    try:
        yield
        assert not any(task.done() for task in tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await eventually(lambda: not any(one.name.endswith("of Docker") for one in threading.enumerate()), 5, said=threading.enumerate)


def labelled(port: int) -> dict[str, str]:
    return {"app": "web", "pingap.port": str(port)}


async def test_containers_come_and_go_by_their_events(docker: Dockerd) -> None:
    ear = Ear()
    first = await asyncio.to_thread(docker.run, labels=labelled(81))
    async with heard(docker.host, ear):
        await ear.until({81})
        second = await asyncio.to_thread(docker.run, labels=labelled(82))
        await ear.until({81, 82})
        for act, expected in (
            (first.pause, {82}),
            (first.unpause, {81, 82}),
            (second.kill, {81}),
            (second.start, {81, 82}),
            (second.stop, {81}),
        ):
            await asyncio.to_thread(act)
            await ear.until(expected)
        await asyncio.to_thread(first.remove, force=True)
        await ear.until(set())
    assert all(isinstance(said, set) for said in ear.said)


@pytest.mark.slow
async def test_an_engine_that_is_restarted_or_away_for_long_is_followed_again(docker: Dockerd) -> None:
    ear, other = Ear(), Ear()
    await asyncio.to_thread(docker.run, labels=labelled(81), restart_policy={"Name": "always"})
    async with heard(docker.host, ear, other):
        await ear.until({81})
        for seconds in (0.0, 4.0):
            await asyncio.to_thread(docker.stop)
            await eventually(lambda: isinstance(ear.said[-1], str), 10, said=lambda: ear.said)
            assert "Docker does not run" in str(ear.said[-1]) or "nobody listens" in str(ear.said[-1])
            await asyncio.sleep(seconds)
            await asyncio.to_thread(docker.start)
            await ear.until({81}, 20)
            await other.until({81})
            # and its events are heard again, at once
            container = await asyncio.to_thread(docker.run, labels=labelled(82))
            await ear.until({81, 82}, 5)
            await asyncio.to_thread(container.remove, force=True)
            await ear.until({81}, 5)


@pytest.mark.slow
async def test_an_engine_that_hangs_is_told_and_followed_again(docker: Dockerd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "ANSWER", 0.5)
    ear = Ear()
    ear.frequency = 0.2
    await asyncio.to_thread(docker.run, labels=labelled(81))
    async with heard(docker.host, ear):
        await ear.until({81})
        docker.freeze()
        try:
            await eventually(lambda: ear.said[-1] == f"no answer from {docker.host} within 0.5 s", 10, said=lambda: ear.said)
        finally:
            docker.thaw()
        await ear.until({81}, 20)


async def test_an_engine_over_tls_is_asked_with_the_certificate_that_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key, root = chained("localhost")
    for name, text in (("cert.pem", certificate), ("key.pem", key), ("ca.pem", root)):
        (tmp_path / name).write_text(text)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):  # the SDK's library would trust those instead
        monkeypatch.delenv(name, raising=False)
    port = free_port()
    files = [f"--tlscacert={tmp_path}/ca.pem", f"--tlscert={tmp_path}/cert.pem", f"--tlskey={tmp_path}/key.pem"]
    with Dockerd("-H", f"tcp://127.0.0.1:{port}", "--tlsverify", *files) as docker:
        host = f"tcp://localhost:{port}"
        for value in ("", str(tmp_path)):
            monkeypatch.setenv("DOCKER_CERT_PATH", value)
            monkeypatch.setenv("DOCKER_TLS_VERIFY", "1" if value else "")
            with engine(host) as one:
                if value:
                    assert one.listing() == Listing((), DockerHost())
                else:
                    with pytest.raises(EngineFailed):
                        await asyncio.to_thread(one.listing)
        ear = Ear()
        async with heard(host, ear):
            await ear.until(set())
            await asyncio.to_thread(docker.run, labels=labelled(81))
            await ear.until({81})
