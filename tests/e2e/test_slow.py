"""slowhttptest in its four ways, plain and over TLS: others are served throughout, and pingap ends what it should."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.certificate import section
from tests.e2e.client import Client
from tests.e2e.harness import Pingap, site
from tests.e2e.origins import Nginx, Origin
from tests.kit.peers import needs
from tests.kit.waiting import free_port, until

pytestmark = pytest.mark.alone

ATTACKERS = 200
PATIENCE = 5.0
"""Seconds that an ordinary request may take while they are at it: generous, for a busy machine, and a quarter of what they want to hold."""

SERVER = """
header_timeout = "1s"
keepalive_timeout = "1s"
downstream_read_timeout = "1s"
downstream_write_timeout = "1s"
"""


@pytest.fixture(scope="module")
def tls_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def proxy(placement: str, nginx: Nginx, shared_origin: Origin, tls_port: int) -> Iterator[Pingap]:
    more = f"""
[locations.reads]
upstream = "reads"
path = "/reads"
[upstreams.reads]
addrs = ["127.0.0.1:{shared_origin.port}"]
[servers.secure]
addr = "127.0.0.1:{tls_port}"
global_certificates = true
locations = ["all", "reads"]
{SERVER}
{section("test", "test.local")}
"""
    text = site([nginx.port], server=SERVER, more=more, locations='["all", "reads"]')
    with Pingap(text, placement) as instance:
        yield instance


HEADS = ("-H", "-i", "10", "-x", "24")
"""A header line now and then, never the last."""
BODIES = ("-B", "-i", "10", "-s", "200000", "-x", "24")
READS = ("-X", "-w", "512", "-y", "1024", "-n", "30", "-z", "32", "-k", "3")
"""Asks for a large file three times and takes hardly any of it."""
DRIPS = ("-H", "-i", "1", "-x", "24")


@pytest.mark.parametrize(
    ("way", "scheme", "path"),
    [
        pytest.param(HEADS, "http", "/", id="heads"),
        pytest.param(DRIPS, "https", "/", id="dripping heads, TLS"),
        pytest.param(BODIES, "http", "/reads", id="bodies"),
        pytest.param(READS, "http", "/big/file", id="reads"),
        pytest.param(READS, "https", "/big/file", id="reads, TLS"),
    ],
)
def test_slow_clients_are_ended_and_keep_nobody_out(proxy: Pingap, tls_port: int, way: tuple[str, ...], scheme: str, path: str) -> None:
    needs("slowhttptest")
    port = tls_port if scheme == "https" else proxy.port
    url = f"{scheme}://127.0.0.1:{port}{path}"
    argv = ["slowhttptest", *way, "-c", str(ATTACKERS), "-r", str(ATTACKERS), "-l", "20", "-p", "3", "-u", url]
    attack = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    slowest, most, left, served = 0.0, 0, 0, 0
    began = time.monotonic()
    try:
        # Not by what the attacker says: one that does not read does not see that it was reset.
        while attack.poll() is None and time.monotonic() - began < 15 and not (most > ATTACKERS / 2 and left < 5):
            with Client(port, timeout=PATIENCE, tls=scheme == "https") as client:
                for _ in range(5):
                    before = connections(port)
                    asked = time.monotonic()
                    assert client.get("/small").status == 200
                    slowest = max(slowest, time.monotonic() - asked)
                    left = connections(port)
                    most = max(most, left)
                    served += max(before, left) > ATTACKERS / 2  # while they were connected
            left = connections(port)
            time.sleep(0.02)
        left = connections(port)
    finally:
        attack.kill()
        attack.wait(5)
    assert most > ATTACKERS / 2, "that was an attack"
    assert left < 5, "pingap has ended them while they would have gone on"
    assert served, "a proxy that they keep busy answers nobody before it has ended them"
    assert slowest < PATIENCE, f"{slowest:.2f} s"
    until(lambda: proxy.row("accept").in_flight == 0, 5, "nothing of the attack is left")


def connections(port: int) -> int:
    """Established ones, as the kernel knows them."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return sum(fields[1].endswith(f":{port:04X}") and fields[3] == "01" for fields in map(str.split, lines))


def test_bodies_that_drip_are_let_go_on_and_keep_nobody_out(proxy: Pingap) -> None:
    """The time-out is on silence: whoever moves, however slowly, is not cut off (docs/protocols.md)."""
    needs("slowhttptest")
    argv = ["slowhttptest", "-B", "-c", str(ATTACKERS), "-r", str(ATTACKERS), "-i", "1", "-s", "200000", "-l", "3", "-u"]
    attack = subprocess.Popen([*argv, f"http://127.0.0.1:{proxy.port}/reads"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with proxy.client(timeout=3) as client:
            while attack.poll() is None:
                asked = time.monotonic()
                assert client.get("/small").status == 200
                assert time.monotonic() - asked < PATIENCE
                with contextlib.suppress(subprocess.TimeoutExpired):
                    attack.wait(0.1)
    finally:
        attack.kill()
        attack.wait(5)
    until(lambda: proxy.row("accept").in_flight == 0, 5, "nothing of the attack is left")
