"""Connections to backends as operators know them: how long they are kept, which changes cost them, and who waits for one."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from tests.e2e.harness import Pingap
from tests.e2e.origins import Exchange, Origin
from tests.kit.waiting import until

UNCHECKED = 'health_check = "tcp://x?check_frequency=600s&failure=1000"'


def tell_port(exchange: Exchange) -> None:
    """The answer names the connection."""
    exchange.reply(str(exchange.sock.getpeername()[1]).encode())


@pytest.fixture
def told() -> Iterator[Origin]:
    server = Origin(tell_port)
    yield server
    server.stop()


def text(port: int, *, kept: str = "", brief: str = "", remark: str = "") -> str:
    return f"""
[servers.plain]
addr = "127.0.0.1:{{port}}"
locations = ["kept", "brief"]
[locations.kept]
path = "/kept"
upstream = "kept"
remark = "{remark}"
[locations.brief]
path = "/brief"
upstream = "brief"
[upstreams.kept]
addrs = ["127.0.0.1:{port}"]
{UNCHECKED}
{kept}
[upstreams.brief]
addrs = ["127.0.0.1:{port}"]
{UNCHECKED}
{brief}
"""


def test_a_reload_costs_the_connections_of_upstreams_that_it_changes_and_no_others(placement: str, told: Origin) -> None:
    with Pingap(text(told.port), placement) as proxy:

        def reloads(**changes: str) -> None:
            proxy.write_config(text(told.port, **changes))
            assert proxy.command("reload").returncode == 0

        kept, brief = proxy.get("/kept").body, proxy.get("/brief").body
        assert (proxy.get("/kept").body, proxy.get("/brief").body) == (kept, brief)
        reloads(remark="a location changes")
        assert (proxy.get("/kept").body, proxy.get("/brief").body) == (kept, brief)
        reloads(remark="a location changes", brief='read_timeout = "7s"')
        assert proxy.get("/kept").body == kept
        assert proxy.get("/brief").body != brief


def test_an_idle_connection_is_closed_when_its_time_is_up(placement: str, told: Origin) -> None:
    with Pingap(text(told.port, brief='idle_timeout = "500ms"\nenable_tracer = true'), placement) as proxy:
        first = proxy.get("/brief").body
        assert proxy.get("/brief").body == first
        until(lambda: told.open == 0, 5, "the connection is closed")
        assert proxy.get("/brief").body != first
        until(lambda: "by=pingap why=idle_timeout" in proxy.output(), 3, "the log says so")
        assert f"local_port={first.decode()}" in proxy.output()


def test_at_the_cap_a_bounded_number_waits_and_not_for_long(placement: str) -> None:
    release = threading.Event()

    def waits(exchange: Exchange) -> None:
        release.wait(10)
        exchange.reply(b"served")

    origin = Origin(waits)
    try:
        limits = 'max_connections = 1\nmax_pending = 1\npending_timeout = "600ms"'
        with Pingap(text(origin.port, kept=limits), placement) as proxy:
            holder, second, third = (proxy.client() for _ in range(3))
            holder.request("/kept")
            origin.wait("/kept")
            began = time.monotonic()
            for client in (second, third):
                client.request("/kept")
            answers = [client.response() for client in (second, third)]
            assert [answer.status for answer in answers] == [503, 503]
            assert 0.6 <= time.monotonic() - began < 5, "one of them has waited its time"
            assert all(answer.get("retry-after") for answer in answers)
            release.set()
            assert holder.response().body == b"served"
            assert proxy.get("/kept").body == b"served", "the place is free"
            for client in (holder, second, third):
                client.close()
    finally:
        release.set()
        origin.stop()
