"""Discovery by Docker with a real engine: backends in containers that come and go under load."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from tests.e2e.harness import Pingap, site
from tests.e2e.load import Load
from tests.kit.dockerd import Dockerd
from tests.kit.waiting import free_port, until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def dockerd() -> Iterator[Dockerd]:
    # So that an engine that is away takes no container with it.
    with Dockerd("--live-restore") as running:
        yield running


@pytest.fixture
def docker(dockerd: Dockerd) -> Iterator[Dockerd]:
    yield dockerd
    dockerd.clear()


def serve(docker: Dockerd, name: str, **labels: str) -> Any:
    """A container that answers with its name."""
    port = free_port()
    script = f"echo {name} >/tmp/index.html; exec httpd -f -p 127.0.0.1:{port} -h /tmp"
    return docker.run("sh", "-c", script, labels={"app": "web", "pingap.port": str(port), **labels}, name=name)


def config(docker: Dockerd, addrs: str = '"app=web"', more: str = "") -> str:
    upstream = f'discovery = "docker"\ndocker_host = "{docker.host}"\nhealth_check = "tcp://web?check_frequency=1s"\n{more}'
    return site([], upstream=upstream).replace("addrs = []", f"addrs = [{addrs}]")


def names(pingap: Pingap, requests: int = 12) -> set[str]:
    answers = [pingap.get("/index.html") for _ in range(requests)]
    assert {answer.status for answer in answers} == {200}
    return {answer.body.decode().strip() for answer in answers}


def test_containers_are_taken_away_and_added_under_load_without_a_failed_request(docker: Dockerd) -> None:
    containers = [serve(docker, f"c{number}") for number in range(3)]
    with Pingap(config(docker)) as pingap:
        until(lambda: names(pingap) == {"c0", "c1", "c2"}, 10, "all three are used")
        with Load(pingap.port, target=lambda number: "/index.html", expect=None) as load:
            for container in containers[:2]:
                load.advance(100)
                container.remove(force=True)
            load.advance(200)
            serve(docker, "c3")
            until(lambda: names(pingap) == {"c2", "c3"}, 10, "the new one is used")
            load.advance(100)
            tally = load.stop()
        assert tally.failed == tally.dropped == tally.refused == tally.hung == 0, tally


def test_an_engine_that_is_away_costs_no_request_and_is_told_until_it_is_back(docker: Dockerd) -> None:
    serve(docker, "stays")
    with Pingap(config(docker)) as pingap:
        until(lambda: names(pingap, 1) == {"stays"}, 10, "it is used")
        with Load(pingap.port, target=lambda number: "/index.html", expect=None) as load:
            docker.stop()
            until(lambda: "backends cannot be found out; those that are known stay" in pingap.output(), 10, "the failure is told")
            time.sleep(2)  # it is away for longer than the first few tries
            docker.start()
            until(lambda: "backends can be found out again" in pingap.output(), 30, "it is back")
            serve(docker, "new")
            until(lambda: names(pingap) == {"stays", "new"}, 10, "the new one is used")
            tally = load.stop()
        assert tally.failed == tally.dropped == tally.refused == tally.hung == 0, tally


def test_without_a_container_requests_are_answered_503_at_once_and_the_first_one_ends_that(docker: Dockerd) -> None:
    with Pingap(config(docker)) as pingap:
        until(lambda: pingap.get().status == 503, 10, "the engine has said that there is none")
        began = time.monotonic()
        assert pingap.get().status == 503
        assert time.monotonic() - began < 1
        container = serve(docker, "first")
        until(lambda: pingap.get("/index.html").status == 200, 10, "the first container is used")
        container.pause()
        until(lambda: _status(pingap) == 503, 10, "a paused one is none")
        container.unpause()
        until(lambda: pingap.get("/index.html").status == 200, 10, "and used again")


def _status(pingap: Pingap) -> int:
    """0 without an answer within a second: of a paused container that has a request already."""
    with pingap.client(timeout=1) as client, suppress(TimeoutError):
        return client.get("/index.html").status
    return 0


def test_weights_and_what_is_left_out(docker: Dockerd) -> None:
    serve(docker, "light", **{"pingap.weight": "1"})
    serve(docker, "heavy", **{"pingap.weight": "9"})
    docker.run(labels={"app": "web"}, name="portless")
    with Pingap(config(docker)) as pingap:
        until(lambda: names(pingap, 20) == {"light", "heavy"}, 10, "both are used")
        answers = [pingap.get("/index.html").body.decode().strip() for _ in range(100)]
        assert 5 <= answers.count("light") <= 15
        until(lambda: "container portless has no TCP port" in pingap.output(), 5, "what is left out is told")
        assert pingap.output().count("container portless has no TCP port") == 1


def test_who_has_no_such_upstream_never_loads_the_library(docker: Dockerd) -> None:
    serve(docker, "one")
    with Pingap(config(docker)) as pingap:
        until(lambda: names(pingap, 1) == {"one"}, 10, "it is used")
        loaded = {name for name, pid in pingap.stage_pids().items() if "requests" in _modules(pid)}
        assert loaded <= {"discovery.0"}


def _modules(pid: int) -> str:
    """What a process has mapped; the SDK's requests brings charset_normalizer, which is compiled."""
    with open(f"/proc/{pid}/maps") as maps:
        return "requests" if "charset_normalizer" in maps.read() else ""


def test_a_socket_that_is_not_there_is_noted_by_check(tmp_path: Any) -> None:
    text = config_without_engine(f"unix://{tmp_path}/none")
    pingap = Pingap(text)
    done = subprocess.run(
        [*pingap.argv[:1], "check", "-c", str(pingap.config)], capture_output=True, text=True, check=False, env=pingap.env
    )
    pingap.discard()
    assert done.returncode == 0
    assert f"{tmp_path}/none" in done.stdout + done.stderr


def config_without_engine(host: str) -> str:
    return (
        site([], upstream=f'discovery = "docker"\ndocker_host = "{host}"')
        .replace("addrs = []", 'addrs = ["app=web:80"]')
        .replace("{port}", "0")
    )
