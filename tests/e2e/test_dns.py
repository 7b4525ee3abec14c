"""Backends that DNS brings and takes away, with a real DNS server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.harness import Pingap, site
from tests.e2e.load import Load
from tests.e2e.origins import Exchange, Origin
from tests.kit.dnsmasq import Dnsmasq
from tests.kit.waiting import until

NAME = "app.test"


@pytest.fixture
def origins() -> Iterator[list[Origin]]:
    """Three at one port, each at an address of its own: 127.0.0.1 to 127.0.0.3."""
    with ExitStack() as stack:
        found: list[Origin] = []
        for number in range(1, 4):
            found.append(Origin(port=found[0].port if found else 0, host=f"127.0.0.{number}"))
            stack.callback(found[-1].stop)
        yield found


def followed(server: Dnsmasq, port: int, more: str = "") -> str:
    """The configuration of a proxy whose backends are those of NAME."""
    keys = f'discovery = "dns"\ndns_server = "{server.address}"\nupdate_frequency = "200ms"\n{more}'
    return site([]).replace("addrs = []", f'addrs = ["{NAME}:{port}"]\n{keys}')


def test_records_that_change_under_load_cost_no_request(placement: str, origins: list[Origin], tmp_path: Path) -> None:
    first, second, third = origins
    goes_on = threading.Event()

    def slow(exchange: Exchange) -> None:
        goes_on.wait(20)
        exchange.reply(b"slow")

    first.on["/slow"] = slow
    with (
        Dnsmasq(tmp_path, records={NAME: ["127.0.0.1"]}) as server,
        Pingap(followed(server, first.port), placement) as proxy,
        proxy.client() as patient,
        Load(proxy.port) as load,
    ):
        patient.request("/slow")
        first.wait("/slow")
        server.say({NAME: ["127.0.0.1", "127.0.0.2"]})
        until(lambda: len(second.requests) > 20, 10, f"the added backend is used ({load.tally})")

        server.say({NAME: ["127.0.0.2", "127.0.0.3"]})
        until(lambda: len(third.requests) > 20, 10, f"another one is used ({load.tally})")
        load.settle()
        before = len(first.requests)
        load.advance(100)
        assert len(first.requests) == before, "the removed backend gets nothing new"
        goes_on.set()
        assert patient.response().body == b"slow", "and ends what it has begun"

        server.stop()
        until(lambda: "backends cannot be found out; those that are known stay" in proxy.output(), 10, "the failure is told")
        assert f"127.0.0.1:{server.port}: Connection refused" in proxy.output(), "with the server and its error"
        counts = len(second.requests), len(third.requests)
        load.advance(300)
        assert len(second.requests) - counts[0] > 100
        assert len(third.requests) - counts[1] > 100

        server.write({NAME: ["127.0.0.1"]})
        server.start()
        before = len(first.requests)
        until(lambda: len(first.requests) > before + 20, 15, f"what DNS says now is used ({load.tally})")
        until(lambda: "backends can be found out again" in proxy.output(), 5, "that is told, too")
    tally = load.tally
    assert (tally.failed, tally.dropped, tally.refused, tally.hung) == (0, 0, 0, 0), str(tally)
    assert not tally.mixed_up


def test_a_name_that_a_reload_brings_is_looked_up_at_once(placement: str, origins: list[Origin], tmp_path: Path) -> None:
    first = origins[0]
    with Dnsmasq(tmp_path, "--srv-host=_http._tcp.app.test,one.test," + str(first.port), records={"one.test": ["127.0.0.1"]}) as server:
        text = followed(server, first.port)
        hourly = text.replace('"200ms"', '"1h"').replace(f"{NAME}:{first.port}", "_http._tcp.app.test")
        with Pingap(site([first.port]), placement) as proxy:
            assert proxy.get("/before").status == 200
            proxy.write_config(hourly)
            assert proxy.command("reload").returncode == 0
            assert proxy.get("/after").status == 200
            assert server.asked("_http._tcp.app.test") == 1
