"""The outages: three nginx backends, what happens to one of them, and how it ends."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.outages.containers import NginxContainers
from bench.outages.proxies import Behind
from bench.peer_files import CannotDo
from tests.e2e.faulty_nginx import FaultyNginx
from tests.kit.dnsmasq import Dnsmasq
from tests.kit.dockerd import Dockerd
from tests.kit.waiting import free_port, until

HOSTS = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
NAME = "app.test"
TTL = 2
"""Seconds that an answer of DNS may be kept."""

BAD = 2
"""The index of the backend that it happens to."""


@dataclass(slots=True)
class Scene:
    """What stands behind the proxy."""

    origins: list[FaultyNginx]
    behind: Behind
    names: Dnsmasq | None = None
    containers: NginxContainers | None = None

    @property
    def bad(self) -> FaultyNginx:
        return self.origins[BAD]

    def tell(self, count: int) -> None:
        """DNS says so many of the backends from now on."""
        assert self.names is not None
        self.names.say({NAME: HOSTS[:count]})

    def run(self, is_running: bool) -> None:
        """Docker starts or stops the container of the bad one."""
        assert self.containers is not None
        (self.containers.start if is_running else self.containers.stop)(self.bad.name)


@contextmanager
def static(root: Path) -> Iterator[Scene]:
    port = free_port()
    with ExitStack() as stack:
        origins = [FaultyNginx(root / f"b{number}", f"b{number}", host, port) for number, host in enumerate(HOSTS)]
        for origin in origins:
            stack.callback(origin.close)
        yield Scene(origins, Behind(root, tuple(origin.address for origin in origins)))


@contextmanager
def named(root: Path) -> Iterator[Scene]:
    """DNS tells two of them at first."""
    need("dnsmasq")
    with static(root) as scene, Dnsmasq(root, f"--local-ttl={TTL}", records={NAME: HOSTS[:2]}) as names:
        behind = Behind(root, scene.behind.addresses, "dns", (f"{NAME}:{scene.bad.port}",), names.port)
        yield Scene(scene.origins, behind, names)


@contextmanager
def contained(root: Path) -> Iterator[Scene]:
    """In containers on the host's network, each with a label of its own, for they differ in their ports."""
    need("dockerd")
    with ExitStack() as stack:
        origins = [FaultyNginx(root / f"b{number}", f"b{number}", inside=None) for number in range(len(HOSTS))]
        for origin in origins:
            stack.callback(origin.close)
        engine = stack.enter_context(Dockerd())
        containers = NginxContainers(engine)
        for origin in origins:
            containers.run(origin.name, {"app": origin.name}, origin.root, origin.command)
            until(origin.is_up, 10, f"the container {origin.name} accepts connections")
        entries = tuple(f"app={origin.name}:{origin.port}" for origin in origins)
        behind = Behind(root, tuple(origin.address for origin in origins), "docker", entries, docker=engine.host)
        yield Scene(origins, behind, containers=containers)


def need(program: str) -> None:
    if os.geteuid() != 0 or shutil.which(program) is None:
        raise CannotDo(f"needs {program}, and root")


@dataclass(frozen=True, slots=True)
class Scenario:
    what: str
    stage: Callable[[Path], AbstractContextManager[Scene]]
    gone: Callable[[Scene], None]
    """The backend goes bad or leaves."""
    back: Callable[[Scene], None]
    """It is well again, or joins."""
    joins_first: bool = False


SCENARIOS: dict[str, Scenario] = {
    "killed": Scenario("SIGKILL, restarted later", static, lambda s: s.bad.kill(), lambda s: s.bad.start()),
    "slow": Scenario("every answer takes 2 s", static, lambda s: s.bad.set("slow"), lambda s: s.bad.set("slow", False)),
    "500s": Scenario("answers 500, health checks pass", static, lambda s: s.bad.set("fails"), lambda s: s.bad.set("fails", False)),
    "stopped": Scenario("SIGSTOP, SIGCONT later", static, lambda s: s.bad.freeze(), lambda s: s.bad.thaw()),
    "DNS": Scenario("added to the records, taken out later", named, lambda s: s.tell(2), lambda s: s.tell(3), joins_first=True),
    "Docker": Scenario("docker stop, started later", contained, lambda s: s.run(False), lambda s: s.run(True)),
}
