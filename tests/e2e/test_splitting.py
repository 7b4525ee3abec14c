"""traffic_splitting in two processes: the share holds over both, a client has one outcome in both, and a dead canary is seen."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.e2e.harness import Pingap, site
from tests.e2e.origins import Exchange, Origin
from tests.kit.waiting import free_port, until

REPLICAS = 2


def _canary(exchange: Exchange) -> None:
    exchange.read_body()
    exchange.reply(b"canary")


def _origin(exchange: Exchange) -> None:
    exchange.read_body()
    exchange.reply(b"origin")


@pytest.fixture(scope="module")
def proxy() -> Iterator[Pingap]:
    origin, canary = Origin(_origin), Origin(_canary)
    shares = {
        "share": 'upstream = "canary"\nweight = 25',
        "sticky": 'upstream = "canary"\nweight = 40\nstickiness = true\nsticky_cookie = "device"',
        "dead": 'upstream = "dead"\nweight = 100\nstickiness = true\nsticky_header = "X-Group"\nmatcher = "^beta$"',
    }
    more = "".join(
        f'[locations.{name}]\npath = "/{name}"\nupstream = "origin"\nplugins = ["{name}"]\n'
        f'[plugins.{name}]\ncategory = "traffic_splitting"\n{keys}\n'
        for name, keys in shares.items()
    )
    more += f'[upstreams.canary]\naddrs = ["127.0.0.1:{canary.port}"]\n[upstreams.dead]\naddrs = ["127.0.0.1:{free_port()}"]\n'
    pingap = Pingap(site([origin.port], more=more, locations='["share", "sticky", "dead"]'))
    try:
        with pingap:
            assert pingap.command("scale", f"plugins={REPLICAS}").returncode == 0
            yield pingap
    finally:
        origin.stop()
        canary.stop()


def test_each_process_deals_its_share(proxy: Pingap) -> None:
    found: Counter[bytes] = Counter()
    for _ in range(20):
        with proxy.client() as client:
            found.update(client.get("/share").body for _ in range(25))
    assert found.total() == found[b"origin"] + found[b"canary"] == 500
    # Of 100 requests of one process 25: in all 125, or, when each has begun another hundred, 100 and what is of those.
    assert 100 <= found[b"canary"] <= 150
    until(lambda: min(row.requests for row in proxy.ps() if row.stage == "plugins") > 25, 10, "both had many of them")


def test_a_client_has_the_same_outcome_in_each_process(proxy: Pingap) -> None:
    for _ in range(8):
        with proxy.client() as client:
            for number in range(20):
                device = f"device-{number}"
                outcome = b"canary" if zlib.crc32(device.encode()) % 100 < 40 else b"origin"
                assert client.get("/sticky", headers={"Cookie": f"device={device}"}).body == outcome


def test_a_canary_that_is_dead_is_seen_and_does_no_harm_to_others(proxy: Pingap) -> None:
    for _ in range(10):
        with proxy.client() as client:
            assert client.get("/dead", headers={"X-Group": "beta"}).status in (502, 503)
        with proxy.client() as client:
            answer = client.get("/dead", headers={"X-Group": "stable"})
            assert (answer.status, answer.body) == (200, b"origin")
