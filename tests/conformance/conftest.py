"""One pingap for all of these tests: for each engine a plain listener, one with TLS, and one that is soon out of patience."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from dataclasses import dataclass

import pytest

from tests.conformance.backend import backend
from tests.conformance.peer import Peer
from tests.e2e.certificate import section
from tests.e2e.harness import Pingap, site
from tests.e2e.origins import Origin
from tests.http2.wire import ENGINES
from tests.kit.waiting import free_port

IMPATIENT = """
downstream_read_timeout = "1s"
downstream_write_timeout = "1s"
header_timeout = "1s"
"""

ELSEWHERE = os.environ.get("CONFORMANCE_PORT")
"""The port of another server to play the cases against, to see whether they are right."""


@dataclass(frozen=True, slots=True)
class Server:
    """Where one engine listens."""

    engine: str
    port: int
    tls: int
    impatient: int
    instance: Pingap | None
    origin: Origin

    def peer(self, settings: bytes = b"", *, raw: bool = False, tls: bool = False) -> Peer:
        return Peer(self.tls if tls else self.port, tls=tls, settings=settings, raw=raw)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows the end of what its instances said."""
    report = yield
    if report.failed:
        for instance in Pingap.running:
            report.sections.append((f"output of {' '.join(instance.argv[1:])}", instance.output()[-4000:]))
    return report


def listeners(ports: dict[str, int]) -> str:
    """Servers for each engine on these ports: NAME, NAME-tls, NAME-impatient; and old-tls, without HTTP/2."""
    more = section("test", "test.local")
    for engine in ("h2", "ngh2"):
        for name, lines in (("", ""), ("-tls", "global_certificates = true"), ("-impatient", IMPATIENT)):
            more += f"""
[servers.{engine}{name}]
addr = "127.0.0.1:{ports[engine + name]}"
locations = ["all"]
enabled_h2 = true
http2_engine = "{engine}"
{lines}
"""
    return (
        more
        + f"""
[servers.old-tls]
addr = "127.0.0.1:{ports["old-tls"]}"
locations = ["all"]
global_certificates = true
"""
    )


def free_ports() -> dict[str, int]:
    names = [engine + name for engine in ("h2", "ngh2") for name in ("", "-tls", "-impatient")]
    return {name: free_port() for name in (*names, "old-tls")}


@pytest.fixture(scope="session")
def conformance_origin() -> Iterator[Origin]:
    server = backend()
    yield server
    server.stop()
    assert not server.errors, server.errors


@pytest.fixture(scope="session")
def ports() -> dict[str, int]:
    return free_ports()


@pytest.fixture(scope="session")
def instance(conformance_origin: Origin, ports: dict[str, int]) -> Iterator[Pingap | None]:
    """The server on the instance's own port speaks HTTP/1.1 only."""
    if ELSEWHERE:
        yield None
        return
    with Pingap(site([conformance_origin.port], more=listeners(ports)), "split") as running:
        yield running


@pytest.fixture(scope="session")
def colocated(conformance_origin: Origin) -> Iterator[tuple[Pingap, dict[str, int]]]:
    ports = free_ports()
    with Pingap(site([conformance_origin.port], more=listeners(ports)), "colocated") as running:
        yield running, ports


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def server(instance: Pingap | None, engine: str, ports: dict[str, int], conformance_origin: Origin) -> Server:
    if ELSEWHERE:
        return Server(engine, int(ELSEWHERE), 0, 0, None, conformance_origin)
    return Server(engine, ports[engine], ports[f"{engine}-tls"], ports[f"{engine}-impatient"], instance, conformance_origin)
